"""The log keeps what it acknowledged, whatever happens to the process, and cuts what it did not."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.feedback import HEADER, FeedbackLog, framed, payloads_of, read_log, segments_of
from server.problems import LogUnavailable

# Writes one record after another and prints its number once it is acknowledged.
WRITER = """
import itertools, sys
from pathlib import Path
from server.feedback import FeedbackLog
log = FeedbackLog(Path(sys.argv[1]), segment_mib=1)
for number in itertools.count():
    log.append("event", [{"event_id": str(number), "filler": "x" * 2000}]).result()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@contextmanager
def opened(folder: Path, segment_mib: int = 64) -> Iterator[FeedbackLog]:
    """A log, closed at the end."""
    log = FeedbackLog(folder, segment_mib)
    try:
        yield log
    finally:
        log.close()


def event_ids(folder: Path) -> list[object]:
    """Ids of the events in a log."""
    return [record["event_id"] for record in read_log(folder)]


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    n_wanted = 1200  # beyond one segment of a MiB
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(next(writer.stdout)) for _ in range(n_wanted)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert len(segments_of(tmp_path)) > 1
    with opened(tmp_path) as log:
        log.append("event", [{"event_id": "after"}]).result()
    kept = event_ids(tmp_path)
    assert kept[: len(acknowledged)] == [str(number) for number in acknowledged]
    assert kept[-1] == "after"


@given(cut=st.integers(1, 60))
def test_a_torn_tail_is_cut_and_the_log_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    with opened(folder) as log:
        for name in ("a", "b"):
            log.append("event", [{"event_id": name, "filler": "x" * 60}]).result()
    (segment,) = segments_of(folder)
    os.truncate(segment, segment.stat().st_size - cut)
    assert event_ids(folder) == ["a"]
    with opened(folder) as log:
        log.append("event", [{"event_id": "c"}]).result()
    assert event_ids(folder) == ["a", "c"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(LogUnavailable, match="must have one writer, got a second"):
        FeedbackLog(tmp_path)
    with opened(tmp_path) as log:
        log.append("event", [{"event_id": "a"}]).result()
    assert event_ids(tmp_path) == ["a"]


def test_an_altered_record_ends_what_is_read(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for name in ("a", "b"):
            log.append("event", [{"event_id": name}]).result()
    (segment,) = segments_of(tmp_path)
    altered = bytearray(segment.read_bytes())
    altered[-3] ^= 1
    segment.write_bytes(altered)
    assert event_ids(tmp_path) == ["a"]


def test_waiting_writers_share_a_commit_and_keep_their_order(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        done = [log.append("event", [{"event_id": f"{number}"}]) for number in range(500)]
        for future in done:
            future.result()
    assert event_ids(tmp_path) == [f"{number}" for number in range(500)]


def test_a_repeated_record_is_read_once(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append("event", [{"event_id": "a"}, {"event_id": "a"}]).result()
        log.append("outcome", [{"event_id": "a"}]).result()
    assert [(record["kind"], record["event_id"]) for record in read_log(tmp_path)] == [("event", "a"), ("outcome", "a")]


@pytest.mark.parametrize("n_stuck", [0, 2])  # how often the disk does not even let the half be cut off
def test_a_disk_that_refuses_is_said_and_leaves_whole_records_only(
    n_stuck: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, n_refused = os.ftruncate, iter(range(n_stuck))

    def ftruncate(file: int, size: int) -> None:
        if next(n_refused, None) is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        cut(file, size)

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(tmp_path) as log:
        log.append("event", [{"event_id": "a"}]).result()
        try:
            # A file size limit makes the kernel refuse a write half way, as a full disk does.
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            with pytest.raises(LogUnavailable, match=r"must take \d+ bytes, got: File too large"):
                log.append("event", [{"event_id": "b", "filler": "x" * 2000}]).result()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        if n_stuck:
            with pytest.raises(LogUnavailable, match="got: Input/output error"):
                log.append("event", [{"event_id": "b"}]).result()
        log.append("event", [{"event_id": "c"}]).result()
    assert event_ids(tmp_path) == ["a", "c"]


@given(payloads=st.lists(st.binary(max_size=50), max_size=5), tail=st.binary(max_size=HEADER.size - 1))
def test_framed_payloads_come_back(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], tail: bytes
) -> None:
    segment = tmp_path_factory.mktemp("log") / "1.log"
    segment.write_bytes(b"".join(framed(payload) for payload in payloads) + tail)
    assert list(payloads_of(segment)) == payloads
