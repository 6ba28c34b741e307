"""Price and coupon sensitivity: how much of the shopper's buying is discounted. Decayed with a half-life of 91 days.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import ORDER, Ledger
from kernels.spend import MICROS

_LIST, _DISCOUNT, _LINES, _DISCOUNTED, _WITH_COUPON = range(5)


@inlined
def update(state, event):
    """Add one order line's prices; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER:
        return
    worth = event.worth.of_91
    state[_LIST] += (event.paid + event.discount + event.coupon) * worth
    state[_DISCOUNT] += event.discount * worth
    state[_LINES] += worth
    # Products, not branches: whether a line is discounted is a coin that no processor guesses.
    state[_DISCOUNTED] += worth * (event.discount > 0.0)
    state[_WITH_COUPON] += worth * (event.coupon > 0.0)


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    out[:] = 0.0
    n_lines = state[_LINES]
    if n_lines == 0.0:
        return
    # A ratio of two sums that decay alike does not change while nothing happens: only the coupons decay until at_s.
    if state[_LIST] > 0.0:
        out[0] = state[_DISCOUNT] / state[_LIST]
    out[1] = state[_DISCOUNTED] / n_lines
    out[2] = state[_WITH_COUPON] / n_lines
    out[3] = state[_WITH_COUPON] * moment.worth.of_91
    out[4] = state[_LIST] / n_lines / MICROS


def _price(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, unit, "float32", 1, "prices", 0.0, f"{meaning}; 0 without an order")


FAMILY = Family(
    (
        _price("discount_depth_hl91d", "share", "the shop's discount over list price, weighted by list price"),
        _price("discounted_line_share_hl91d", "share", "lines with a shop discount among order lines"),
        _price("coupon_line_share_hl91d", "share", "lines with a coupon among order lines"),
        _price("coupons_hl91d", "lines", "lines with a coupon, halved after every 91 days"),
        _price("line_price_hl91d", "currency units", "mean list price of a line: paid, discount and coupon together"),
    ),
    5,
    update,
    read,
    {91: range(5)},
)


def prices(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return how much each shopper buys at a discount as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.prices
    """
    return answers(FAMILY, ledger, shopper, at_s)
