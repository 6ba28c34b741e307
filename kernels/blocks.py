"""Blocks of shoppers with about as many events each, done side by side on threads. Called by features.py and ledger.py.

A shopper is never cut in two, and blocks share nothing but their inputs: the same cut serves workers on other machines.
Threads and not `prange`: the loops give up the interpreter lock, a gateway calls them from many threads at once, which
numba's own pool refuses, and a parallel loop this long takes a minute to compile.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check

# Below this many events a block is done sooner than a thread is woken.
FEWEST_EVENTS = 50_000
BLOCKS_PER_THREAD = 4

_n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_n_threads(n_threads: int) -> None:
    """Use this many threads from now on, in this process; until then, as many as it has cores.

    n_threads  ≥ 1; 1 does everything in the caller's thread
    raises     InvalidInput
    """
    global _n_threads
    check(n_threads >= 1, f"n_threads must be ≥ 1, got {n_threads}")
    _n_threads = n_threads


def cuts(offsets: NDArray[np.int64], n_blocks: int) -> list[tuple[int, int]]:
    """Cut owners into runs that hold about as many events each.

    offsets   (n_owners + 1,) int64  ascending; owner i has events offsets[i] to offsets[i + 1]
    n_blocks  at most how many
    returns   (first, end) of each run, together all owners, none empty
    """
    n_owners = offsets.size - 1
    goals = np.linspace(0, float(offsets[-1]), n_blocks + 1)[1:-1]
    edges = np.unique(np.concatenate(([0], np.searchsorted(offsets, goals, "right") - 1, [n_owners])))
    return [(int(first), int(end)) for first, end in pairwise(edges)]


def in_blocks(offsets: NDArray[np.int64], work: Callable[[int, int], None]) -> None:
    """Do work for every owner, block by block, on as many threads as there are.

    offsets  (n_owners + 1,) int64  ascending; owner i has events offsets[i] to offsets[i + 1]
    work     called with (first, end) of a run of owners; writes where no other run does
    raises   whatever `work` raises
    """
    n_owners, n_events = offsets.size - 1, int(offsets[-1] - offsets[0])
    if _n_threads == 1 or n_events < 2 * FEWEST_EVENTS:
        work(0, n_owners)
        return
    runs = cuts(offsets - offsets[0], min(BLOCKS_PER_THREAD * _n_threads, n_events // FEWEST_EVENTS))
    for _ in _pool(_n_threads).map(lambda run: work(*run), runs):
        pass


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="kernels")
