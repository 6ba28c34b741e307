"""What each worker paid out to each client, where all workers see it: a client's rate is then one for all of them.

In: a file that the workers of one gateway share, a worker's number. Out: for one client, what the others paid out.
Held by server/access/gate.py, asked by server/access/rates.py.
Format: rows of [client's tag uint64, rows paid float64 by worker 0, 1, ...]; a row without a tag is free.

Every number has one writer and is eight aligned bytes, so a read needs no lock and a worker killed at any moment leaves
nothing locked and nothing torn. Only who takes a free row holds a lock, of the kind that ends with its process.
"""

import fcntl
import hashlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from server.problems import WrongSettings

CELL_BYTES = 8
# Clients seen since the workers were first started; half a megabyte per worker, and only what is used is in memory.
ROWS = 65_536


@dataclass(frozen=True)
class Seat:
    """One worker's place among all of them."""

    path: Path
    worker: int
    n_workers: int


class Tally:
    """One client's row, seen from one worker."""

    __slots__ = ("_cells", "_first", "_mine", "_past", "_seen")

    def __init__(self, cells: "memoryview[float]", first: int, n_workers: int, mine: int) -> None:
        """Count from now on: what was paid before is past."""
        self._cells = cells
        self._first = first
        self._past = first + n_workers
        self._mine = mine
        self._seen = self._others()

    def add(self, n: int) -> None:
        """Tell the others what was just paid out; one thread at a time."""
        self._cells[self._mine] += n

    def paid_by_others(self) -> float:
        """Rows that the other workers paid out since this was last asked; one thread at a time."""
        before, self._seen = self._seen, self._others()
        return self._seen - before

    def _others(self) -> float:
        cells = self._cells
        return float(sum(cells[self._first : self._past]) - cells[self._mine])


class Tallies:
    """The workers' shared file."""

    def __init__(self, seat: Seat) -> None:
        """Open the file, or make it.

        raises  WrongSettings  if it cannot be made, or was made for another number of workers
        """
        self._seat = seat
        self._row_cells = 1 + seat.n_workers
        size = ROWS * self._row_cells * CELL_BYTES
        try:
            self._file = os.open(seat.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                found = os.fstat(self._file).st_size
                if found == 0:
                    os.ftruncate(self._file, size)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        except OSError as error:
            raise WrongSettings(f"the tally must be a file we can write, got {seat.path}: {error.strerror}") from None
        if found not in (0, size):
            rule = f"the tally must be of {seat.n_workers} workers, got a file of other size"
            raise WrongSettings(f"{rule}: remove {seat.path} while no worker runs")
        view = memoryview(mmap.mmap(self._file, size))
        self._tags, self._cells = view.cast("Q"), view.cast("d")

    def of(self, client: str) -> Tally | None:
        """A client's tally; None once there were more clients than rows: its rate then holds per worker."""
        tag = int.from_bytes(hashlib.blake2b(client.encode(), digest_size=8).digest(), "little") or 1
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            first = self._row_of(tag)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        if first is None:
            return None
        return Tally(self._cells, first + 1, self._seat.n_workers, first + 1 + self._seat.worker)

    def _row_of(self, tag: int) -> int | None:
        """The first cell of the tag's row, taken now where it has none."""
        for step in range(ROWS):
            first = (tag + step) % ROWS * self._row_cells
            if self._tags[first] in (0, tag):
                self._tags[first] = tag
                return first
        return None
