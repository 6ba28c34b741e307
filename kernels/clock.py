"""The head of every state: when the last event was and which order is open. Families are told by an Event."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from kernels.ledger import ORDER

N_STATE = 5
_N_EVENTS, _LAST_S, _N_LINES, _ORDER_KEY, _ORDER_S = range(N_STATE)


class Event(NamedTuple):
    """One event as every family's update takes it; a named tuple because numba reads no dataclass.

    now_s         the time that counts, float64 seconds
    kind          event kind of kernels.ledger
    item          vocabulary index; 0 is unknown or none
    category      slot; -1 is none
    begins_order  whether this is the first line of an order
    quantity      units on the line
    paid          micros, float64
    discount      micros, float64
    coupon        micros, float64
    """

    now_s: float
    kind: int
    item: int
    category: int
    begins_order: bool
    quantity: float
    paid: float
    discount: float
    coupon: float


@njit(nogil=True)
def advance(clock, line):
    """Move the clock to an event.

    clock    (N_STATE,) float64  changed in place
    line     tuple of one value from each column of the ledger
    returns  Event; an earlier time than the last event's counts as the last event's, and a line continues the order of
             the line before it if it has the same key or, without a key, the same second
    """
    time_s, kind, item, category, order, quantity, paid, discount, coupon = line
    now_s = float(time_s)
    begins = False
    if clock[_N_EVENTS] > 0.0:
        now_s = max(now_s, clock[_LAST_S])
    clock[_N_EVENTS] += 1.0
    clock[_LAST_S] = now_s
    if kind == ORDER:
        is_same = clock[_ORDER_KEY] == float(order) and (order != 0 or clock[_ORDER_S] == now_s)
        begins = clock[_N_LINES] == 0.0 or not is_same
        clock[_N_LINES] += 1.0
        clock[_ORDER_KEY] = float(order)
        clock[_ORDER_S] = now_s
    return Event(
        now_s, np.int64(kind), np.int64(item), np.int64(category), begins,
        float(quantity), float(paid), float(discount), float(coupon),
    )  # fmt: skip


@njit(nogil=True)
def read_time(clock, at_s):
    """Return the time as of which a state is read: never before its last event.

    clock    (N_STATE,) float64
    at_s     seconds
    returns  float64 seconds
    """
    now_s = float(at_s)
    if clock[_N_EVENTS] > 0.0:
        now_s = max(now_s, clock[_LAST_S])
    return now_s


@njit(nogil=True)
def hour_of(time_s):
    """Return the hour of the day, UTC, with its fraction.

    time_s   seconds since the epoch
    returns  in [0, 24)
    """
    return (time_s - math.floor(time_s / 86_400.0) * 86_400.0) / 3_600.0


@njit(nogil=True)
def weekday_of(time_s):
    """Return the day of the week, UTC: 0 is Monday.

    time_s   seconds since the epoch, which began on a Thursday
    returns  whole number in [0, 6]
    """
    days = math.floor(time_s / 86_400.0) + 3.0
    return days - math.floor(days / 7.0) * 7.0
