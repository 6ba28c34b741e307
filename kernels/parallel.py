"""Loops spread over threads: a cached `prange` entry, and blocks of shoppers that hold about equally many events.

In: a loop over blocks, or the offsets of a ledger. Out: the loop compiled for all threads, or the edges of its blocks.
The streaming kernels call both; how many threads there are is numba's own setting, NUMBA_NUM_THREADS.
"""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import numpy as np
from numba import config, get_num_threads, njit
from numpy.typing import NDArray

from kernels.compiled import sources_digest

Arguments = ParamSpec("Arguments")

# Waking a thread takes some 10 µs: below this many events a second one costs more than it saves.
_LEAST_EVENTS = 1 << 15
_ENTERED = threading.Lock()


def spread(loop: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Return the loop compiled with its `prange` on all threads, its machine code cached under a digest of all kernels.

    loop     a function that numba can compile; its `prange` runs over blocks that share nothing they write
    returns  same signature, one caller at a time; the plain function when NUMBA_DISABLE_JIT is set
    """
    if config.DISABLE_JIT:
        return loop
    dispatcher = njit(nogil=True, parallel=True)(loop)
    users_choice = config.CACHE_DIR
    try:
        config.CACHE_DIR = users_choice or str(_CACHE)
        dispatcher.enable_caching()
    except RuntimeError:  # a read-only installation: its sources do not change, so numba's own places are safe
        config.CACHE_DIR = users_choice
        dispatcher.enable_caching()
    finally:
        config.CACHE_DIR = users_choice

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
    n_blocks = per_thread * (get_num_threads() if n_events >= _LEAST_EVENTS else 1)
    shares = np.arange(1, n_blocks, dtype=np.int64) * n_events // n_blocks
    return np.concatenate([[0], np.searchsorted(offsets[:-1], shares), [n_shoppers]]).astype(np.int64)


def row_edges(n_rows: int) -> NDArray[np.int64]:
    """Cut rows that need nothing of each other into one block for each thread.

    n_rows   how many there are
    returns  (n_blocks + 1,) int64  block b is rows edges[b] to edges[b + 1]; a single block if there are few
    """
    n_blocks = get_num_threads() if n_rows >= _LEAST_EVENTS else 1
    return np.arange(n_blocks + 1, dtype=np.int64) * n_rows // n_blocks


_FOLDER = Path(__file__).parent
_CACHE = _FOLDER / "__pycache__" / f"numba-{sources_digest(_FOLDER)}"
