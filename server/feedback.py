"""The durable log: a record is acknowledged once it is on disk, and a crash loses nothing acknowledged.

In: JSON-able records. Out: segments of checked records, read back by `read_log`. Written by server/decide.py and the
feedback door; server/log_export.py makes Parquet of it.
Format: segments NNNNNNNN.log, each a run of [length uint32, CRC-32 of the payload uint32, payload]; a payload is a JSON
object or a block of decisions (decision_block.py). Every process that writes has a folder of its own below the log's.
"""

import fcntl
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Literal

import orjson

from server.decision_block import MAGIC, Record, rows_of
from server.problems import LogUnavailable

Kind = Literal["decision", "event", "exposure", "outcome"]
KINDS: tuple[Kind, ...] = ("decision", "event", "exposure", "outcome")

HEADER = struct.Struct("<II")
_logger = logging.getLogger(__name__)


class FeedbackLog:
    """Appends records to the newest segment; one fdatasync serves everybody who waits (group commit)."""

    def __init__(self, folder: Path, segment_mib: int = 64) -> None:
        """Open the folder's newest segment and cut a torn tail off it.

        raises  LogUnavailable  if another process writes there, or the disk refuses
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_mib * 2**20
        self._lock = _locked(folder)
        segments = segments_of(folder)
        newest = segments[-1] if segments else folder / f"{1:08d}.log"
        self._number = int(newest.stem)
        try:
            self._file = _opened(newest)
        except OSError as error:
            os.close(self._lock)
            raise LogUnavailable(f"the log in {folder} must open, got: {error.strerror}") from error
        self._whole_bytes: int | None = None  # of the newest segment, where more than that is in it
        self.n_bytes = self.n_groups = self.n_refused = 0
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._commit_groups, name="log-writer", daemon=True)
        self._thread.start()

    def append(self, kind: Kind, records: list[Record]) -> "Future[None]":
        """Append records; the future is done once they are on disk.

        raises  LogUnavailable  through the future, if the disk refuses: then nothing of this call counts
        """
        return self.append_block(b"".join(framed_record(kind, record) for record in records))

    def append_block(self, block: bytes) -> "Future[None]":
        """Append records that are framed already."""
        done: Future[None] = Future()
        with self._changed:
            if self._is_closed:
                done.set_exception(LogUnavailable(f"the log in {self._folder} must be open, got a closed one"))
                return done
            self._waiting.append((block, done))
            self._changed.notify()
        return done

    def _commit_groups(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                group, self._waiting = self._waiting, []
            block = b"".join([block for block, _ in group])
            problem = self._commit(block)
            self.n_groups += problem is None
            self.n_bytes += len(block) if problem is None else 0
            self.n_refused += problem is not None
            for _, done in group:
                if not done.set_running_or_notify_cancel():
                    continue  # the caller went away; the record stays, as one nobody was told of
                if problem is None:
                    done.set_result(None)
                else:
                    done.set_exception(problem)

    def _commit(self, group: bytes) -> LogUnavailable | None:
        try:
            self._take_back()
            start = os.lseek(self._file, 0, os.SEEK_END)
            if start and start + len(group) > self._segment_bytes:
                full, self._file = self._file, _opened(self._folder / f"{self._number + 1:08d}.log")
                os.close(full)
                self._number += 1
                start = 0
            written, self._whole_bytes = 0, start
            while written < len(group):
                written += os.write(self._file, memoryview(group)[written:])
            os.fdatasync(self._file)
        except OSError as error:
            with suppress(OSError):  # then the next group tries again, before it writes
                self._take_back()
            return LogUnavailable(f"the log in {self._folder} must take {len(group)} bytes, got: {error.strerror}")
        self._whole_bytes = None
        return None

    def _take_back(self) -> None:
        """Cut off what is half written: a later record must not stand behind a torn one.

        raises  OSError
        """
        if self._whole_bytes is not None:
            os.ftruncate(self._file, self._whole_bytes)
            self._whole_bytes = None

    def close(self) -> None:
        """Write what waits and let go of the file; closing again does nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        os.close(self._file)
        os.close(self._lock)


def _locked(folder: Path) -> int:
    """The folder, open and ours alone until it is closed or the process ends.

    raises  LogUnavailable
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise LogUnavailable(f"the log in {folder} must have one writer, got a second process") from None
    return opened


def _opened(segment: Path) -> int:
    file = os.open(segment, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        whole = sum(HEADER.size + len(payload) for payload in payloads_of(segment))
        size = os.fstat(file).st_size
        if size > whole:
            _logger.warning("%s: cut %d bytes of a torn tail", segment, size - whole)
            os.ftruncate(file, whole)
        os.fsync(file)
        folder = os.open(segment.parent, os.O_RDONLY)
        os.fsync(folder)  # a new segment's name must be as durable as what it holds
        os.close(folder)
    except OSError:
        os.close(file)
        raise
    return file


def framed(payload: bytes) -> bytes:
    """A payload as it stands in a segment."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def framed_record(kind: Kind, record: Record) -> bytes:
    """A record as it stands in a segment."""
    return framed(orjson.dumps({"kind": kind, **record}))


def segments_of(folder: Path) -> list[Path]:
    """The segments of one writer, oldest first."""
    return sorted(path for path in folder.glob("*.log") if path.stem.isdigit())


def writers_of(folder: Path) -> list[Path]:
    """The folders of a log that hold segments: its own, and one for each further process."""
    return [folder, *sorted(path for path in folder.glob("writer-*") if path.is_dir())]


def payloads_of(segment: Path) -> Iterator[bytes]:
    """The whole records of a segment, up to the first that is torn or altered."""
    with segment.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, checksum = HEADER.unpack(header)
            left -= HEADER.size + length
            if left < 0:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield payload


def read_log(folder: Path) -> Iterator[Record]:
    """Every record of a log, writer by writer in the order in which it was written, a repeated one only once."""
    known: set[tuple[object, object]] = set()
    for writer in writers_of(folder):
        for segment in segments_of(writer):
            for payload in payloads_of(segment):
                for record in records_of(payload):
                    name = (record["kind"], record.get("event_id") or record.get("decision_id"))
                    if name not in known:
                        known.add(name)
                        yield record


def records_of(payload: bytes) -> Iterator[Record]:
    """The records in a payload."""
    if payload.startswith(MAGIC):
        for record in rows_of(payload):
            yield {"kind": "decision"} | record
    else:
        yield orjson.loads(payload)
