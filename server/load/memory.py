"""How much memory a server's processes hold while load is on them.

In: the id of a process. Out: samples over time and their growth. Called by profiles.py and the benchmarks.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PERIOD_S = 5.0
PROC = Path("/proc")
MIB = 2**20
# What smaps_rollup calls them, by what a sample calls them.
FIELDS = {
    "rss_mib": ("Rss",),
    "pss_mib": ("Pss",),
    "uss_mib": ("Private_Clean", "Private_Dirty"),
    "own_mib": ("Anonymous",),
}


@dataclass(frozen=True)
class Sample:
    """Memory of a process and all it started, together, in MiB.

    rss_mib  in memory, shared pages counted for each process
    pss_mib  shared pages divided by those who share them
    uss_mib  pages of one process alone; mapped files that nobody else maps are among them
    own_mib  pages that are no file's: what a leak would grow, and no cache of the store
    largest_mib  the largest own_mib of one process
    """

    at_s: float
    n_processes: int
    rss_mib: float
    pss_mib: float
    uss_mib: float
    own_mib: float
    largest_mib: float


def family_of(pid: int) -> list[int]:
    """A process and all that it started, as far as they run."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            # The name stands in brackets and may hold anything; the parent is the second field behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended since it was listed
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def sampled(pid: int, at_s: float) -> Sample:
    """The memory of a process and its descendants now."""
    totals, largest, n_processes = dict.fromkeys(FIELDS, 0.0), 0.0, 0
    for member in family_of(pid):
        try:
            lines = (PROC / str(member) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # ended since it was listed
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        if not kib:
            continue  # ended, but nobody has asked for its status yet
        n_processes += 1
        for name, parts in FIELDS.items():
            totals[name] += sum(kib.get(part, 0) for part in parts) / 1024
        largest = max(largest, kib.get("Anonymous", 0) / 1024)
    return Sample(at_s, n_processes, **totals, largest_mib=largest)


def growth_percent(samples: list[Sample]) -> float:
    """How much own_mib grows in the second half, by the straight line through it, in percent of its level there.

    samples  in order of time; NaN with fewer than three in the second half
    """
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return float("nan")
    times, own = np.array([sample.at_s for sample in half]), np.array([sample.own_mib for sample in half])
    slope = float(np.polynomial.Polynomial.fit(times, own, 1).convert().coef[-1]) if np.ptp(own) else 0.0
    return 100.0 * slope * float(np.ptp(times)) / float(own.mean())


@dataclass
class Watch:
    """Samples so far."""

    samples: list[Sample] = field(default_factory=list)


@contextmanager
def watched(pid: int | None, period_s: float = PERIOD_S) -> Iterator[Watch]:
    """For the length of the block, sample a process and all that it starts.

    pid  None watches nothing: a gateway on another machine
    """
    watch, stop, began_s = Watch(), threading.Event(), time.monotonic()

    def look() -> None:
        while pid is not None:
            watch.samples.append(sampled(pid, time.monotonic() - began_s))
            if stop.wait(period_s):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
