"""Time of week: when the shopper orders, in UTC. Orders halve after every 91 days; an order has its first line's time.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.clock import round_the_clock, second_of_day, weekday_of
from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import Ledger

SATURDAY = 5
EVENING_S = 18 * 3_600
_ORDERS, _WEEKEND, _EVENING, _SIN, _COS = range(5)


@inlined
def update(state, event):
    """Add the time of one order; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if not event.begins_order:
        return
    worth = event.worth.of_91
    second = second_of_day(event.now_s)
    sine, cosine = round_the_clock(second)
    state[_ORDERS] += worth
    state[_WEEKEND] += worth * (weekday_of(event.now_s) >= SATURDAY)
    state[_EVENING] += worth * (second >= EVENING_S)
    state[_SIN] += sine * worth
    state[_COS] += cosine * worth


@inlined
def read(state, moment, out):  # noqa: ARG001 - every family is read alike
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    # Ratios of sums that decay alike: they do not change between orders, so the moment has no say.
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
    5,
    update,
    read,
    {91: range(5)},
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
