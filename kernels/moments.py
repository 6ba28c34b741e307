"""Running mean and standard deviation of what a shopper pays for a line, as of every event (Welford's recurrence).

In: a ledger and amounts. Out: two values per event, or an update of one shopper's state that returns the same two.
training and the online store call them.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import ORDER, Ledger
from kernels.parallel import block_edges, spread
from kernels.streams import Amounts, check_amounts

# The state of one shopper: how many known amounts, their mean, the sum of their squared deviations from it.
N_STATE = 3
# Roots are taken of at least so many rows at a time: eight in one instruction, while the rows are in a near cache.
_ROWS = 1024
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
    _moments(block_edges(ledger.offsets), plain(ledger.offsets), plain(ledger.kind), plain(amount), mean, std)
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
    mean, variance = _apply(state, kind, float(amount))
    return mean, math.sqrt(variance)


@njit(nogil=True, inline="always")
def _step(count, mean, squares, is_line, amount):
    is_known = is_line and amount == amount
    # A row that adds nothing has weight 0 and goes through the same instructions: kinds come in no order to predict.
    value = amount if is_known else 0.0
    count += 1.0 if is_known else 0.0
    size = np.uint64(count)
    reciprocal = _RECIPROCALS[size] if size < _RECIPROCALS.size else 1.0 / count
    away = value - mean
    mean += away * (reciprocal if is_known else 0.0)
    squares += away * (value - mean) if is_known else 0.0
    has_value = count > 0.0 and (is_known or not is_line)
    return count, mean, squares, (mean if has_value else np.nan), (squares * reciprocal if has_value else np.nan)


@njit(nogil=True)
def _moments_of(first, last, offsets, kind, amount, mean, std):
    done = offsets[first]
    for who in range(first, last):
        count = centre = squares = 0.0
        for row in range(offsets[who], offsets[who + 1]):
            count, centre, squares, mean[row], std[row] = _step(
                count, centre, squares, kind[row] == ORDER, float(amount[row])
            )
        if offsets[who + 1] - done >= _ROWS or who == last - 1:
            for row in range(done, offsets[who + 1]):
                std[row] = math.sqrt(std[row])
            done = offsets[who + 1]


@spread
def _moments(edges, offsets, kind, amount, mean, std):
    for block in prange(edges.size - 1):
        _moments_of(edges[block], edges[block + 1], offsets, kind, amount, mean, std)


@entry
def _apply(state, kind, amount):
    state[0], state[1], state[2], mean, variance = _step(state[0], state[1], state[2], kind == ORDER, amount)
    return mean, variance
