"""Running mean and standard deviation of what a shopper pays for a line, as of every event (Welford's recurrence).

In: a ledger and amounts. Out: two values per event, or an update of one shopper's state that returns the same two.
training and the online store call them.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.amounts import N_ROWS, Amounts, check_amounts, zero_starts
from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import ORDER, Ledger
from kernels.parallel import block_edges, spread
from kernels.powers import multiply_add

# The state of one shopper: how many known amounts, their mean, the sum of their squared deviations from it.
N_STATE = 3
# A division each would be the slowest instruction of the loop; longer samples divide.
_RECIPROCALS = np.concatenate([[0.0], 1.0 / np.arange(1.0, 512.0)])


def running_moments(ledger: Ledger, amount: Amounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and population standard deviation of the shopper's order lines so far, this event included.

    ledger   events of all shoppers
    amount   (n_events,) int64 or float64  micros, as ledger.paid_micros; NaN is an amount that nobody knows
    returns  (n_events,) float64 twice     micros; NaN before the first known amount, and at a line of unknown amount,
                                           which later rows leave out
    raises   InvalidInput                  if amount has another type or length
    source   reference.streams.running_moments; Welford 1962
    """
    check_amounts(ledger, amount)
    mean, std = np.empty(ledger.n_events), np.empty(ledger.n_events)
    edges = block_edges(ledger.offsets)
    columns = (plain(ledger.offsets), plain(ledger.kind), plain(amount))
    _moments(edges, columns, np.empty((edges.size - 1, 4, N_ROWS)), mean, std)
    return mean, std


def empty_state() -> NDArray[np.float64]:
    """Return the state of a shopper without events.

    returns  (N_STATE,) float64
    """
    return np.zeros(N_STATE)


def apply_event(state: NDArray[np.float64], kind: int, amount: float) -> tuple[float, float]:
    """Take one event into a shopper's state in constant time; return mean and standard deviation as of it.

    state    (N_STATE,) float64  of the shopper, changed in place
    kind     of kernels.ledger
    amount   micros; NaN is unknown
    returns  the very values that running_moments has for the event
    raises   InvalidInput        if the state has another size
    """
    check_array("state", state, np.float64)
    check(state.size == N_STATE, f"state must have {N_STATE} values, got {state.size}")
    mean, std = _apply(state, kind, float(amount))
    return float(mean), float(std)


@njit(nogil=True, inline="always")
def _step(count, mean, squares, kept, is_known, amount):
    # Factors of 0 or 1 rather than branches: a shopper's first row keeps nothing, a row that adds nothing has weight 0.
    count = multiply_add(count, kept, is_known)
    size = np.uint32(count)
    reciprocal = _RECIPROCALS[size] if size < _RECIPROCALS.size else 1.0 / count
    away = multiply_add(-mean, kept, amount)
    mean = multiply_add(away, reciprocal * is_known, mean * kept)
    squares = multiply_add(away * is_known, amount - mean, squares * kept)
    return count, mean, squares, squares * reciprocal


@njit(nogil=True, inline="always")
def _is_known(kind, amount):
    return 1.0 if (kind == ORDER) & (amount == amount) else 0.0


@njit(nogil=True)
def _fill(kind, amount, is_known, value):
    for row in range(value.size):
        is_known[row] = _is_known(kind[row], amount[row])
        # What is not known has weight 0, and a NaN times 0 would still be NaN.
        value[row] = np.float64(amount[row]) if amount[row] == amount[row] else 0.0


@njit(nogil=True)
def _steps(buffers, sample, mean, variance):
    count, centre, squares = sample
    kept, is_known, value = buffers
    for row in range(mean.size):
        count, centre, squares, variance[row] = _step(count, centre, squares, kept[row], is_known[row], value[row])
        mean[row] = centre if count > 0.0 else np.nan
    return count, centre, squares


@njit(nogil=True)
def _roots(mean, variance, std):
    for row in range(std.size):
        std[row] = math.sqrt(variance[row]) if mean[row] == mean[row] else np.nan


@njit(nogil=True)
def _blank(kind, amount, mean, std):
    for row in range(mean.size):
        if (kind[row] == ORDER) & (amount[row] != amount[row]):
            mean[row] = std[row] = np.nan


@njit(nogil=True)
def _moments_of(first, last, columns, buffers, mean, std):
    offsets, kind, amount = columns
    sample = (0.0, 0.0, 0.0)
    for begin in range(offsets[first], offsets[last], N_ROWS):
        rows = slice(begin, min(begin + N_ROWS, offsets[last]))
        size = rows.stop - begin
        kept, is_known, value = buffers[0, :size], buffers[1, :size], buffers[2, :size]
        kept[:] = 1.0
        first = zero_starts(offsets, first, begin, kept)
        _fill(kind[rows], amount[rows], is_known, value)
        sample = _steps((kept, is_known, value), sample, mean[rows], buffers[3, :size])
        # Eight roots in one instruction.
        _roots(mean[rows], buffers[3, :size], std[rows])
        _blank(kind[rows], amount[rows], mean[rows], std[rows])


@spread
def _moments(edges, columns, buffers, mean, std):
    for block in prange(edges.size - 1):
        _moments_of(edges[block], edges[block + 1], columns, buffers[block], mean, std)


@entry
def _apply(state, kind, amount):
    is_known = _is_known(kind, amount)
    value = amount if amount == amount else 0.0
    state[0], state[1], state[2], variance = _step(state[0], state[1], state[2], 1.0, is_known, value)
    if state[0] == 0.0 or (kind == ORDER and is_known == 0.0):
        return np.nan, np.nan
    return state[1], math.sqrt(variance)
