"""Events and spend so far, each worth half as much after every half-life, as of every event.

In: a ledger and a half-life. Out: two values per event, or an update of one shopper's state that returns the same two.
training and the online store call them. The powers of two of many gaps are computed side by side in vector registers;
only the recurrence over them goes event by event, for two halves of a thread's shoppers at once.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.amounts import (
    N_ROWS,
    Amounts,
    blank_unknown,
    check_amounts,
    fill_signed,
    is_unknown,
    signed_amount,
    zero_starts,
)
from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import Ledger
from kernels.parallel import block_edges, spread
from kernels.powers import exp2, multiply_add

# The state of one shopper: whether there was an event, its time, decayed count, decayed spend.
N_STATE = 4


def decayed_sums(
    ledger: Ledger, amount: Amounts, half_life_s: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the shopper's events and spend so far, this event included, each halved after every half-life since.

    ledger       events of all shoppers
    amount       (n_events,) int64 or float64  micros, as ledger.paid_micros; NaN is an amount that nobody knows
    half_life_s  seconds, > 0 and finite
    returns      (n_events,) float32 twice     events, ≥ 1; then micros of order lines less refunds, NaN at a line of
                                               unknown amount, which later rows leave out
    raises       InvalidInput                  if amount has another type or length, or half_life_s is out of range
    source       reference.streams.decayed_sums
    """
    check_amounts(ledger, amount)
    _check_half_life(half_life_s)
    count, spend = np.empty(ledger.n_events, np.float32), np.empty(ledger.n_events, np.float32)
    edges = block_edges(ledger.offsets, per_thread=2)
    columns = (plain(ledger.offsets), plain(ledger.time_s), plain(ledger.kind), plain(amount))
    _decay(edges, columns, -1.0 / half_life_s, np.empty((edges.size // 2, 2, 2, N_ROWS)), (count, spend))
    return count, spend


def empty_state() -> NDArray[np.float64]:
    """Return the state of a shopper without events.

    returns  (N_STATE,) float64
    """
    return np.zeros(N_STATE)


def apply_event(
    state: NDArray[np.float64], time_s: int, kind: int, amount: float, half_life_s: float
) -> tuple[np.float32, np.float32]:
    """Take one event into a shopper's state in constant time; return decayed count and spend as of it.

    state        (N_STATE,) float64  of the shopper, changed in place
    time_s       seconds, not before the last event's
    kind         of kernels.ledger
    amount       micros; NaN is unknown
    half_life_s  seconds, > 0 and finite; the same for all events
    returns      the very values that decayed_sums has for the event
    raises       InvalidInput        if the state has another size or half_life_s is out of range
    """
    check_array("state", state, np.float64)
    check(state.size == N_STATE, f"state must have {N_STATE} values, got {state.size}")
    _check_half_life(half_life_s)
    count, spend = _apply(state, float(time_s), kind, float(amount), -1.0 / half_life_s)
    return np.float32(count), np.float32(spend)


def _check_half_life(half_life_s: float) -> None:
    check(0.0 < half_life_s < math.inf, f"half_life_s must be > 0 and finite, got {half_life_s}")


@njit(nogil=True, inline="always")
def _worth(gap_s, rate):
    # A shopper's first event follows another shopper's last one: that gap may be below 0, and is never used.
    return exp2(min(np.float64(gap_s) * rate, 0.0))


@njit(nogil=True)
def _fill_worths(now_s, before_s, rate, worths):
    for row in range(worths.size):
        worths[row] = _worth(now_s[row] - before_s[row], rate)


@njit(nogil=True)
def _fill(shopper, rows, columns, rate, buffer):
    """Fill a run's worths and amounts; return the first shopper after it."""
    offsets, time_s, kind, amount = columns
    worths = buffer[0, : rows.stop - rows.start]
    # The ledger's first event has none before it; elsewhere the buffer is filled from its start, where it is aligned.
    skipped = 1 if rows.start == 0 else 0
    begin = rows.start + skipped
    _fill_worths(time_s[begin : rows.stop], time_s[begin - 1 : rows.stop - 1], rate, worths[skipped:])
    fill_signed(kind[rows], amount[rows], buffer[1, : rows.stop - rows.start])
    return zero_starts(offsets, shopper, rows.start, worths)


@njit(nogil=True)
def _sum_two(one, other, sums, told, rows, other_rows):
    """Carry two runs of equal length on side by side: one waits for its own last sum while the other works."""
    n_one, spent_one, n_other, spent_other = sums
    count_one, spend_one, count_other, spend_other = (
        told[0][rows],
        told[1][rows],
        told[0][other_rows],
        told[1][other_rows],
    )
    for row in range(count_one.size):
        n_one = multiply_add(n_one, one[0, row], 1.0)
        n_other = multiply_add(n_other, other[0, row], 1.0)
        spent_one = multiply_add(spent_one, one[0, row], one[1, row])
        spent_other = multiply_add(spent_other, other[0, row], other[1, row])
        count_one[row], spend_one[row] = n_one, spent_one
        count_other[row], spend_other[row] = n_other, spent_other
    return n_one, spent_one, n_other, spent_other


@njit(nogil=True)
def _sum_one(buffer, n_events, spent, count, spend):
    for row in range(count.size):
        n_events = multiply_add(n_events, buffer[0, row], 1.0)
        spent = multiply_add(spent, buffer[0, row], buffer[1, row])
        count[row], spend[row] = n_events, spent
    return n_events, spent


@njit(nogil=True)
def _decay_block(first, middle, last, columns, rate, buffers, told):
    offsets = columns[0]
    begin, other_begin, end = offsets[first], offsets[middle], offsets[last]
    shopper, other = first, middle
    n_together = min(other_begin - begin, end - other_begin)
    sums = (0.0, 0.0, 0.0, 0.0)
    for done in range(0, n_together, N_ROWS):
        n_rows = min(N_ROWS, n_together - done)
        rows = slice(begin + done, begin + done + n_rows)
        other_rows = slice(other_begin + done, other_begin + done + n_rows)
        shopper = _fill(shopper, rows, columns, rate, buffers[0])
        other = _fill(other, other_rows, columns, rate, buffers[1])
        sums = _sum_two(buffers[0], buffers[1], sums, told, rows, other_rows)
    _finish(shopper, (begin + n_together, other_begin), sums[0], sums[1], columns, rate, buffers[0], told)
    _finish(other, (other_begin + n_together, end), sums[2], sums[3], columns, rate, buffers[1], told)
    blank_unknown(columns[2][begin:end], columns[3][begin:end], told[1][begin:end])


@njit(nogil=True)
def _finish(shopper, span, n_events, spent, columns, rate, buffer, told):
    for begin in range(span[0], span[1], N_ROWS):
        rows = slice(begin, min(begin + N_ROWS, span[1]))
        shopper = _fill(shopper, rows, columns, rate, buffer)
        n_events, spent = _sum_one(buffer, n_events, spent, told[0][rows], told[1][rows])


@spread
def _decay(edges, columns, rate, buffers, told):
    for half in prange(edges.size // 2):
        block = 2 * half
        _decay_block(edges[block], edges[block + 1], edges[block + 2], columns, rate, buffers[half], told)


@entry
def _apply(state, time_s, kind, amount, rate):
    worth = _worth(time_s - state[1], rate) if state[0] else 0.0
    state[2] = multiply_add(state[2], worth, 1.0)
    state[3] = multiply_add(state[3], worth, signed_amount(kind, amount))
    state[0] = 1.0
    state[1] = time_s
    return state[2], (np.nan if is_unknown(kind, amount) else state[3])
