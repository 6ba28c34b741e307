"""Events and spend so far, each worth half as much after every half-life, as of every event.

In: a ledger and a half-life. Out: two values per event, or an update of one shopper's state that returns the same two.
training and the online store call them. The powers of two of many gaps are computed side by side in vector registers;
only the recurrence over them goes event by event.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import Ledger
from kernels.parallel import block_edges, spread
from kernels.streams import Amounts, check_amounts, signed_amount

# The state of one shopper: whether there was an event, its time, decayed count, decayed spend.
N_STATE = 4
# Powers are computed for so many events at a time: they fill half of the nearest cache.
_ROWS = 1024
# Taylor's coefficients of 2^f: for |f| ≤ 1/2 the first one left out is below 2^-56 of the sum.
_TERMS = tuple(math.log(2.0) ** power / math.factorial(power) for power in range(14))
# Adding this to a number below 2^51 leaves its nearest whole number in the low bits of the sum.
_TO_WHOLE = 1.5 * 2.0**52
_LEAST_POWER = -1021.0


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
    edges = block_edges(ledger.offsets)
    powers = np.empty((edges.size - 1, _ROWS))
    columns = (plain(ledger.offsets), plain(ledger.time_s), plain(ledger.kind), plain(amount))
    _decay(edges, columns, -1.0 / half_life_s, powers, count, spend)
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


def power_of_two(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2 to each power, as the kernel above computes it.

    power    (n,) float64  ≤ 0; NaN is kept
    returns  (n,) float64  within one unit in the last place of the true value; 0 below 2^-1021.5
    raises   InvalidInput  if a power is positive
    source   math.exp2
    """
    check_array("power", power, np.float64)
    check(not bool((power > 0.0).any()), "power must be ≤ 0")
    worth = np.empty(power.size)
    _powers(plain(power), worth)
    return worth


def _check_half_life(half_life_s: float) -> None:
    check(0.0 < half_life_s < math.inf, f"half_life_s must be > 0 and finite, got {half_life_s}")


@njit(nogil=True, inline="always")
def _exp2(power):
    bounded = power if power >= _LEAST_POWER else _LEAST_POWER  # NaN too: it has no whole part
    whole = (bounded + _TO_WHOLE) - _TO_WHOLE
    rest = bounded - whole
    square = rest * rest
    fourth = square * square
    # Pairs of terms, then pairs of pairs (Estrin); the constant 1 comes last, so that it rounds only once.
    low = (_TERMS[2] + _TERMS[3] * rest) + (_TERMS[4] + _TERMS[5] * rest) * square
    middle = (_TERMS[6] + _TERMS[7] * rest) + (_TERMS[8] + _TERMS[9] * rest) * square
    high = (_TERMS[10] + _TERMS[11] * rest) + (_TERMS[12] + _TERMS[13] * rest) * square
    tail = low + fourth * (middle + fourth * high)
    series = 1.0 + (_TERMS[1] * rest + square * tail)
    # The exponent of a float64 stands in bits 52 to 62, counted from 1023.
    scaled = series * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)
    return scaled if power >= _LEAST_POWER - 0.5 else (0.0 if power < 0.0 else power)


@njit(nogil=True, inline="always")
def _step(count, spend, worth, signed):
    return count * worth + 1.0, spend * worth + (signed if signed == signed else 0.0)


@njit(nogil=True)
def _decay_block(first, last, columns, rate, powers, count, spend):
    offsets, time_s, kind, amount = columns
    who = first
    n_so_far = spent = 0.0
    for begin in range(offsets[first], offsets[last], _ROWS):
        end = min(begin + _ROWS, offsets[last])
        for row in range(max(begin, 1), end):
            powers[row - begin] = _exp2(min(float(time_s[row] - time_s[row - 1]) * rate, 0.0))
        # At a shopper's first event what the one before had done is worth nothing.
        while who < last and offsets[who] < end:
            if offsets[who] < offsets[who + 1]:
                powers[offsets[who] - begin] = 0.0
            who += 1
        for row in range(begin, end):
            signed = signed_amount(kind[row], float(amount[row]))
            n_so_far, spent = _step(n_so_far, spent, powers[row - begin], signed)
            count[row] = n_so_far
            spend[row] = spent if signed == signed else np.nan


@spread
def _decay(edges, columns, rate, powers, count, spend):
    for block in prange(edges.size - 1):
        _decay_block(edges[block], edges[block + 1], columns, rate, powers[block], count, spend)


@entry
def _apply(state, time_s, kind, amount, rate):
    worth = _exp2(min((time_s - state[1]) * rate, 0.0)) if state[0] else 0.0
    signed = signed_amount(kind, amount)
    state[2], state[3] = _step(state[2], state[3], worth, signed)
    state[0] = 1.0
    state[1] = time_s
    return state[2], (state[3] if signed == signed else np.nan)


@entry
def _powers(power, worth):
    for i in range(power.size):
        worth[i] = _exp2(power[i])
