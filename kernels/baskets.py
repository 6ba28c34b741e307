"""Baskets: how large and how varied an order is. The open order counts with the lines it has so far.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import ORDER, Ledger
from kernels.running import pushed, spread
from kernels.spend import MICROS, UNITS_PER_MICRO

_LINES, _UNITS, _CATEGORIES = 0, 1, 2  # over all orders, the open one included
_CLOSED, _SPEND_MEAN, _SPEND_SQUARES = 3, 4, 5  # over the orders before the open one
_HAS_ORDER, _OPEN_LINES, _OPEN_SPEND, _OPEN_SEEN = 6, 7, 8, 9
# 64 categories as two masks: a float64 slot keeps 53 bits exactly, not 64.
_MASK_BITS = 32


@inlined
def update(state, event):
    """Add one order line to the open order or begin the next; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER:
        return
    if event.begins_order:
        if state[_HAS_ORDER] > 0.0:
            state[_CLOSED], state[_SPEND_MEAN], state[_SPEND_SQUARES] = pushed(
                state[_CLOSED], state[_SPEND_MEAN], state[_SPEND_SQUARES], state[_OPEN_SPEND] * UNITS_PER_MICRO
            )
        state[_HAS_ORDER] = 1.0
        state[_OPEN_LINES:] = 0.0
    state[_LINES] += 1.0
    state[_UNITS] += event.quantity
    state[_OPEN_LINES] += 1.0
    state[_OPEN_SPEND] += event.paid
    if event.category >= 0:
        slot = np.int64(event.category)
        place = _OPEN_SEEN + slot // _MASK_BITS
        bit = np.int64(1) << (slot % _MASK_BITS)
        seen = np.int64(state[place])
        state[place] = float(seen | bit)
        state[_CATEGORIES] += seen & bit == 0


@inlined
def read(state, moment, out):  # noqa: ARG001 - every family is read alike
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    out[:] = 0.0
    if state[_HAS_ORDER] == 0.0:
        return
    n_orders, mean, squares = pushed(
        state[_CLOSED], state[_SPEND_MEAN], state[_SPEND_SQUARES], state[_OPEN_SPEND] / MICROS
    )
    out[0] = state[_LINES] / n_orders
    out[1] = state[_UNITS] / n_orders
    out[2] = state[_CATEGORIES] / n_orders
    out[3] = mean
    out[4] = spread(n_orders, squares)
    out[5] = state[_OPEN_LINES]
    out[6] = state[_OPEN_SPEND] / MICROS


def _per_order(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, unit, "float32", 1, "baskets", 0.0, f"{meaning}; 0 without an order")


FAMILY = Family(
    (
        _per_order("basket_lines_mean", "lines", "mean lines in an order"),
        _per_order("basket_units_mean", "units", "mean units in an order"),
        _per_order("basket_categories_mean", "categories", "mean different categories in an order"),
        _per_order("basket_spend_mean", "currency units", "mean paid for an order, refunds not taken away"),
        _per_order("basket_spend_std", "currency units", "spread of it, 0 for one order"),
        _per_order("last_basket_lines", "lines", "lines in the latest order"),
        _per_order("last_basket_spend", "currency units", "paid for the latest order"),
    ),
    11,
    update,
    read,
)


def baskets(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return what each shopper's orders look like as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.baskets
    """
    return answers(FAMILY, ledger, shopper, at_s)
