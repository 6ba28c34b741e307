"""Frequency: how often the shopper views, fills the cart and orders, lately and ever, and how regular the orders are.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import CART, ORDER, VIEW, Ledger
from kernels.running import DAY_S, DAYS_PER_S, pushed, spread

RATIO_CAP = 10.0
_N_ORDERS, _ORDERS_7, _ORDERS_28, _ORDERS_91, _VIEWS_7, _CARTS_7, _LINES_28, _LAST_ORDER_S = range(8)
_GAPS, _GAP_DAYS, _GAP_SQUARES = 8, 9, 10


@inlined
def update(state, event):
    """Count one event; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind == VIEW:
        state[_VIEWS_7] += event.worth.of_7
    elif event.kind == CART:
        state[_CARTS_7] += event.worth.of_7
    elif event.kind == ORDER:
        state[_LINES_28] += event.worth.of_28
        if event.begins_order:
            _begin_order(state, event)


@inlined
def _begin_order(state, event):
    if state[_N_ORDERS] > 0.0:
        gap_days = (event.now_s - state[_LAST_ORDER_S]) * DAYS_PER_S
        state[_GAPS], state[_GAP_DAYS], state[_GAP_SQUARES] = pushed(
            state[_GAPS], state[_GAP_DAYS], state[_GAP_SQUARES], gap_days
        )
    state[_N_ORDERS] += 1.0
    state[_ORDERS_7] += event.worth.of_7
    state[_ORDERS_28] += event.worth.of_28
    state[_ORDERS_91] += event.worth.of_91
    state[_LAST_ORDER_S] = event.now_s


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    worth = moment.worth
    mean_days = state[_GAP_DAYS]
    out[0] = state[_N_ORDERS]
    out[1] = state[_ORDERS_7] * worth.of_7
    out[2] = state[_ORDERS_28] * worth.of_28
    out[3] = state[_ORDERS_91] * worth.of_91
    out[4] = state[_VIEWS_7] * worth.of_7
    out[5] = state[_CARTS_7] * worth.of_7
    out[6] = state[_LINES_28] * worth.of_28
    out[7] = mean_days
    out[8] = spread(state[_GAPS], state[_GAP_SQUARES])
    out[9] = 1.0
    if mean_days > 0.0:
        out[9] = min((moment.now_s - state[_LAST_ORDER_S]) / DAY_S / mean_days, RATIO_CAP)


def _count(name: str, meaning: str) -> Feature:
    return Feature(name, "events", "float32", 1, "frequency", 0.0, meaning)


FAMILY = Family(
    (
        _count("n_orders", "orders ever"),
        _count("orders_hl7d", "orders, each worth half as much after every 7 days"),
        _count("orders_hl28d", "orders, each worth half as much after every 28 days"),
        _count("orders_hl91d", "orders, each worth half as much after every 91 days"),
        _count("views_hl7d", "views, each worth half as much after every 7 days"),
        _count("carts_hl7d", "items put in the cart, each worth half as much after every 7 days"),
        _count("lines_hl28d", "order lines, each worth half as much after every 28 days"),
        Feature("order_gap_mean_days", "days", "float32", 1, "frequency", 0.0, "mean time between orders; 0 below two"),
        Feature("order_gap_std_days", "days", "float32", 1, "frequency", 0.0, "spread of it; 0 below three orders"),
        Feature(
            "order_due_ratio", "ratio", "float32", 1, "frequency", 1.0,
            "time since the last order over the mean time between orders, capped; 1 below two orders",
        ),
    ),
    11,
    update,
    read,
    {7: (_ORDERS_7, _VIEWS_7, _CARTS_7), 28: (_ORDERS_28, _LINES_28), 91: (_ORDERS_91,)},
)  # fmt: skip


def frequency(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return how often each shopper came, and how regularly, as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.frequency
    """
    return answers(FAMILY, ledger, shopper, at_s)
