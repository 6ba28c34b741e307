"""Time of week: when the shopper orders, in UTC. Orders halve after every 91 days; an order has its first line's time.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.clock import hour_of, weekday_of
from kernels.family import Family, Feature, answers
from kernels.ledger import Ledger
from kernels.running import decay

HALF_LIFE_DAYS = 91.0
SATURDAY = 5.0
EVENING_HOUR = 18.0
_ORDERS, _WEEKEND, _EVENING, _SIN, _COS, _COUNTED_S = range(6)


@njit(nogil=True)
def update(state, event):
    """Add the time of one order; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if not event.begins_order:
        return
    state[:_COUNTED_S] *= decay(event.now_s - state[_COUNTED_S], HALF_LIFE_DAYS)
    state[_COUNTED_S] = event.now_s
    hour = hour_of(event.now_s)
    state[_ORDERS] += 1.0
    if weekday_of(event.now_s) >= SATURDAY:
        state[_WEEKEND] += 1.0
    if hour >= EVENING_HOUR:
        state[_EVENING] += 1.0
    state[_SIN] += math.sin(hour * math.pi / 12.0)
    state[_COS] += math.cos(hour * math.pi / 12.0)


@njit(nogil=True)
def read(state, at_s, out):  # noqa: ARG001 - every family is read alike
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    at_s   seconds, no earlier than the last event
    out    (width,) float32  every column is written
    """
    # Ratios of sums that decay alike: they do not change between orders, so at_s has no say.
    out[:] = 0.0
    if state[_ORDERS] > 0.0:
        for place in range(4):
            out[place] = state[_WEEKEND + place] / state[_ORDERS]


def _when(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, unit, "float32", 1, "week", 0.0, f"{meaning}; 0 without an order")


FAMILY = Family(
    (
        _when("weekend_order_share_hl91d", "share", "orders on Saturday or Sunday, UTC"),
        _when("evening_order_share_hl91d", "share", "orders from 18:00 to 24:00, UTC"),
        _when("order_hour_sin_hl91d", "sine", "mean sine of the order's hour on a 24-hour circle, UTC"),
        _when("order_hour_cos_hl91d", "cosine", "mean cosine of the order's hour on a 24-hour circle, UTC"),
    ),
    6,
    update,
    read,
)


def week(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return when in the week each shopper orders as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.week
    """
    return answers(FAMILY, ledger, shopper, at_s)
