"""Loops spread over threads: a cached `prange` entry, and blocks of shoppers that hold about equally many events.

In: a loop over blocks, or the offsets of a ledger. Out: the loop compiled for all threads, or its blocks done side by
side. Short streaming loops are spread; the sweep of features.py and the sort of a ledger go in blocks. A shopper is
never cut in two, and blocks share nothing but their inputs: the same cut serves workers on other machines. How many
threads there are is numba's own setting, NUMBA_NUM_THREADS.
"""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import ParamSpec

import numpy as np
from numba import config, get_num_threads
from numpy.typing import NDArray

from kernels.compiled import entry

Arguments = ParamSpec("Arguments")

# Waking a thread takes some 10 µs: below this many events a second one costs more than it saves.
LEAST_EVENTS = 1 << 15
_ENTERED = threading.Lock()


def spread(loop: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Return the loop compiled with its `prange` on all threads, its machine code cached under a digest of all kernels.

    loop     a function that numba can compile; its `prange` runs over blocks that share nothing they write
    returns  same signature, one caller at a time; the plain function when NUMBA_DISABLE_JIT is set
    """
    if config.DISABLE_JIT:
        return loop
    dispatcher = entry(loop, parallel=True)

    # numba's own work queue, the layer where OpenMP is not installed, ends the process if two threads enter it at once.
    @functools.wraps(loop)
    def one_at_a_time(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        with _ENTERED:
            dispatcher(*args, **kwargs)

    return one_at_a_time


def block_edges(offsets: NDArray[np.int64], per_thread: int = 1) -> NDArray[np.int64]:
    """Cut shoppers into blocks balanced by their events: one shopper may hold most of them.

    offsets     (n_shoppers + 1,) int64  shopper i owns events offsets[i] to offsets[i + 1]
    per_thread  blocks for each thread
    returns     (n_blocks + 1,) int64    block b is shoppers edges[b] to edges[b + 1]; blocks of one thread if there are
                                         few events
    """
    n_shoppers, n_events = offsets.size - 1, int(offsets[-1])
    n_blocks = per_thread * (get_num_threads() if n_events >= LEAST_EVENTS else 1)
    shares = np.arange(1, n_blocks, dtype=np.int64) * n_events // n_blocks
    return np.concatenate([[0], np.searchsorted(offsets[:-1], shares), [n_shoppers]]).astype(np.int64)


def row_edges(n_rows: int) -> NDArray[np.int64]:
    """Cut rows that need nothing of each other into one block for each thread.

    n_rows   how many there are
    returns  (n_blocks + 1,) int64  block b is rows edges[b] to edges[b + 1]; a single block if there are few
    """
    n_blocks = get_num_threads() if n_rows >= LEAST_EVENTS else 1
    return np.arange(n_blocks + 1, dtype=np.int64) * n_rows // n_blocks


def in_blocks(offsets: NDArray[np.int64], work: Callable[[int, int], None]) -> None:
    """Do work for every owner, block by block, on threads that several callers may share.

    offsets  (n_owners + 1,) int64  owner i has events offsets[i] to offsets[i + 1]
    work     called with (first, end) of a run of owners, outside of the interpreter's lock; writes where no other does
    raises   whatever `work` raises
    """
    # Threads and not `prange`: a gateway calls from many threads at once, and the features' loop takes a minute to
    # compile in parallel. Several blocks a thread, because shoppers differ in more than their number of events.
    edges = block_edges(offsets, per_thread=4)
    runs = [(int(first), int(end)) for first, end in pairwise(edges) if first < end]
    if int(offsets[-1]) < LEAST_EVENTS or get_num_threads() == 1:
        runs = [(0, offsets.size - 1)]
    if len(runs) == 1:
        work(*runs[0])
        return
    for _ in _pool(get_num_threads()).map(lambda run: work(*run), runs):
        pass


@functools.cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="kernels")
