"""Spend: what the shopper paid, lately and ever, net of refunds, and what a line costs.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.family import Family, Feature, answers
from kernels.ledger import ORDER, REFUND, Ledger
from kernels.running import decay, pushed, spread

MICROS = 1e6
_NET, _REFUNDED, _NET_7, _NET_28, _NET_91, _COUNTED_S, _LINES, _LINE_MEAN, _LINE_SQUARES = range(9)


@njit(nogil=True)
def update(state, event):
    """Add one order line or take one refund away; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER and event.kind != REFUND:
        return
    gap_s = event.now_s - state[_COUNTED_S]
    if gap_s != 0.0:
        state[_NET_7] *= decay(gap_s, 7.0)
        state[_NET_28] *= decay(gap_s, 28.0)
        state[_NET_91] *= decay(gap_s, 91.0)
        state[_COUNTED_S] = event.now_s
    amount = event.paid
    if event.kind == REFUND:
        amount = -amount
        state[_REFUNDED] -= amount
    else:
        state[_LINES], state[_LINE_MEAN], state[_LINE_SQUARES] = pushed(
            state[_LINES], state[_LINE_MEAN], state[_LINE_SQUARES], amount / MICROS
        )
    state[_NET] += amount
    state[_NET_7] += amount
    state[_NET_28] += amount
    state[_NET_91] += amount


@njit(nogil=True)
def read(state, at_s, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    at_s   seconds, no earlier than the last event
    out    (width,) float32  every column is written
    """
    gap_s = at_s - state[_COUNTED_S]
    out[0] = state[_NET] / MICROS
    out[1] = state[_NET_7] * decay(gap_s, 7.0) / MICROS
    out[2] = state[_NET_28] * decay(gap_s, 28.0) / MICROS
    out[3] = state[_NET_91] * decay(gap_s, 91.0) / MICROS
    out[4] = state[_REFUNDED] / MICROS
    out[5] = state[_LINE_MEAN]
    out[6] = spread(state[_LINES], state[_LINE_SQUARES])


def _money(name: str, meaning: str) -> Feature:
    return Feature(name, "currency units", "float32", 1, "spend", 0.0, meaning)


FAMILY = Family(
    (
        _money("spend_total", "paid ever, less refunds"),
        _money(
            "spend_hl7d", "paid less refunds, each halved after every 7 days; below 0 if a late refund outweighs it"
        ),
        _money(
            "spend_hl28d", "paid less refunds, each halved after every 28 days; below 0 if a late refund outweighs it"
        ),
        _money(
            "spend_hl91d", "paid less refunds, each halved after every 91 days; below 0 if a late refund outweighs it"
        ),
        _money("refunds_total", "given back ever"),
        _money("line_spend_mean", "mean paid for an order line"),
        _money("line_spend_std", "spread of it; 0 below two lines"),
    ),
    9,
    update,
    read,
)


def spend(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return what each shopper has spent as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.spend
    """
    return answers(FAMILY, ledger, shopper, at_s)
