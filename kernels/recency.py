"""Recency: days since the shopper's last view, cart, order and refund, and since the first event of any kind.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import CART, ORDER, REFUND, VIEW, Ledger
from kernels.running import days_since

CAP_DAYS = 365.0
TENURE_CAP_DAYS = 3650.0
_KINDS = (VIEW, CART, ORDER, REFUND)  # in the order of their numbers
_HAS_EVENT, _FIRST_S, _HAPPENED, _LAST_S = 0, 1, 2, 6


@inlined
def update(state, event):
    """Note the time of one event; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if state[_HAS_EVENT] == 0.0:
        state[_HAS_EVENT] = 1.0
        state[_FIRST_S] = event.now_s
    place = event.kind - VIEW
    if place < len(_KINDS):
        state[_HAPPENED + place] = 1.0
        state[_LAST_S + place] = event.now_s


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    at_s = moment.now_s
    for place in range(len(_KINDS)):
        happened = state[_HAPPENED + place] > 0.0
        out[place] = days_since(at_s, state[_LAST_S + place], happened, CAP_DAYS)
        out[len(_KINDS) + place] = state[_HAPPENED + place]
    out[2 * len(_KINDS)] = 0.0
    if state[_HAS_EVENT] > 0.0:
        out[2 * len(_KINDS)] = days_since(at_s, state[_FIRST_S], True, TENURE_CAP_DAYS)


def _days(name: str, of: str) -> Feature:
    return Feature(
        name, "days", "float32", 1, "recency", CAP_DAYS, f"days since the last {of}, capped; the cap if never"
    )


def _flag(name: str, of: str) -> Feature:
    return Feature(name, "0 or 1", "float32", 1, "recency", 0.0, f"1 if there ever was {of}")


FAMILY = Family(
    (
        _days("view_recency_days", "view"),
        _days("cart_recency_days", "item put in the cart"),
        _days("order_recency_days", "order"),
        _days("refund_recency_days", "refund"),
        _flag("has_viewed", "a view"),
        _flag("has_carted", "an item put in the cart"),
        _flag("has_ordered", "an order"),
        _flag("has_refunded", "a refund"),
        Feature("tenure_days", "days", "float32", 1, "recency", 0.0, "days since the first event, capped; 0 before it"),
    ),
    10,
    update,
    read,
)


def recency(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return how long ago each shopper last did what, as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.recency
    """
    return answers(FAMILY, ledger, shopper, at_s)
