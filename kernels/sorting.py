"""Events in any order in, the places that sort them by shopper and time out. Called by ledger.py.

A counting sort by shopper, then each shopper's events on their own, block by block: nothing here grows faster than the
events but the sort within one shopper.
"""

from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.compiled import entry
from kernels.parallel import in_blocks

# One whole number sorts by time, then kind, then place: 40 bits of seconds, 3 of kind, 20 of place within the shopper.
_PLACE_BITS, _KIND_BITS, _TIME_BITS = 20, 3, 40
# Runs of one second and one kind are mostly one order's lines; beyond this many, insertion would be too slow.
_LONGEST_INSERTION = 64

Ints = NDArray[np.int64]
Element = TypeVar("Element", bound=np.generic)


def offsets_of(shopper: Ints, n_shoppers: int) -> Ints:
    """Return where each shopper's events begin once they are sorted by shopper.

    shopper      (n_events,) int64  in [0, n_shoppers)
    n_shoppers   how many
    returns      (n_shoppers + 1,) int64
    """
    offsets = np.zeros(n_shoppers + 1, np.int64)
    np.cumsum(np.bincount(shopper, minlength=n_shoppers), out=offsets[1:])
    return offsets


def is_sorted(shopper: Ints, time_s: Ints, kind: NDArray[np.int8], order: Ints) -> bool:
    """Say whether events ascend by shopper, then time, then kind, then order.

    shopper, time_s  (n_events,) int64
    kind             (n_events,) int8
    order            (n_events,) int64
    returns          True for none and for one
    """
    return bool(_is_sorted(shopper, time_s, kind, order))


def sorted_places(shopper: Ints, offsets: Ints, time_s: Ints, kind: NDArray[np.int8], order: Ints) -> Ints:
    """Return the places that sort events by shopper, then time, then kind, then order; what still ties keeps its place.

    shopper  (n_events,) int64        in [0, n_shoppers)
    offsets  (n_shoppers + 1,) int64  from `offsets_of`
    time_s   (n_events,) int64
    kind     (n_events,) int8         in [0, 7]
    order    (n_events,) int64
    returns  (n_events,) int64
    source   np.lexsort((order, kind, time_s, shopper))
    """
    earliest, latest = int(time_s.min(initial=0)), int(time_s.max(initial=0))
    longest = int(np.diff(offsets).max(initial=0))
    if latest - earliest >= 1 << _TIME_BITS or longest >= 1 << _PLACE_BITS:
        return np.lexsort((order, kind, time_s, shopper))
    keys, places = np.empty((2, shopper.size), np.int64)
    _by_shopper(shopper, time_s, kind, offsets, (earliest, offsets[:-1].copy(), keys, places))

    def work(first: int, end: int) -> None:
        for run_first, run_end in _sort_shoppers(first, end, offsets, order, keys, places, np.empty(longest, np.int64)):
            run = places[run_first:run_end]
            run[:] = run[np.argsort(order[run], kind="stable")]

    in_blocks(offsets, work)
    return places


def gathered(column: NDArray[Element], places: Ints, offsets: Ints) -> NDArray[Element]:
    """Return a column's values in another order.

    column   (n_events,)
    places   (n_events,) int64
    offsets  (n_owners + 1,) int64  the cut for blocks
    returns  column[places]
    """
    out = np.empty_like(column)

    def work(first: int, end: int) -> None:
        rows = slice(offsets[first], offsets[end])
        _gather(column, places[rows], out[rows])

    in_blocks(offsets, work)
    return out


@entry
def _is_sorted(shopper, time_s, kind, order):
    for event in range(1, shopper.size):
        before = event - 1
        if shopper[event] != shopper[before]:
            if shopper[event] < shopper[before]:
                return False
        elif time_s[event] != time_s[before]:
            if time_s[event] < time_s[before]:
                return False
        elif kind[event] != kind[before]:
            if kind[event] < kind[before]:
                return False
        elif order[event] < order[before]:
            return False
    return True


@entry
def _by_shopper(shopper, time_s, kind, offsets, work):
    """Put each event's key and place beside those of its shopper: a counting sort, events read in their own order."""
    earliest, cursor, keys, places = work
    for event in range(shopper.size):
        who = shopper[event]
        here = cursor[who]
        cursor[who] += 1
        moment = ((time_s[event] - earliest) << _KIND_BITS) | kind[event]
        keys[here] = (moment << _PLACE_BITS) | (here - offsets[who])
        places[here] = event


@entry
def _gather(column, places, out):
    for row in range(places.size):
        out[row] = column[places[row]]


@entry
def _sort_shoppers(first, end, offsets, order, keys, places, scratch):
    """Sort the places of each shopper; return the long runs of one second and kind left to sort by order."""
    left = [(0, 0)]
    for who in range(first, end):
        begin, stop = offsets[who], offsets[who + 1]
        own, before = keys[begin:stop], places[begin:stop]
        if stop - begin < 2:
            continue
        own.sort()
        scratch[: own.size] = before
        run = 0
        for row in range(own.size + 1):
            if row < own.size:
                before[row] = scratch[own[row] & ((1 << _PLACE_BITS) - 1)]
                if own[row] >> _PLACE_BITS == own[run] >> _PLACE_BITS:
                    continue
            if row - run > _LONGEST_INSERTION:
                left.append((begin + run, begin + row))
            elif row - run > 1:
                _insert_by(order, before[run:row])
            run = row
    return left


@njit(nogil=True)
def _insert_by(order, places):
    """Sort few places by order, keeping ties in place."""
    for row in range(1, places.size):
        event = places[row]
        hole = row
        while hole > 0 and order[places[hole - 1]] > order[event]:
            places[hole] = places[hole - 1]
            hole -= 1
        places[hole] = event
