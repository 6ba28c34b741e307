"""Spend: what the shopper paid, lately and ever, net of refunds, and what a line costs.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import ORDER, REFUND, Ledger
from kernels.running import pushed, spread

MICROS = 1e6
UNITS_PER_MICRO = 1e-6
_NET, _REFUNDED, _NET_7, _NET_28, _NET_91, _LINES, _LINE_MEAN, _LINE_SQUARES = range(8)


@inlined
def update(state, event):
    """Add one order line or take one refund away; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER and event.kind != REFUND:
        return
    amount = event.paid
    if event.kind == REFUND:
        amount = -amount
        state[_REFUNDED] -= amount
    else:
        state[_LINES], state[_LINE_MEAN], state[_LINE_SQUARES] = pushed(
            state[_LINES], state[_LINE_MEAN], state[_LINE_SQUARES], amount * UNITS_PER_MICRO
        )
    state[_NET] += amount
    state[_NET_7] += amount * event.worth.of_7
    state[_NET_28] += amount * event.worth.of_28
    state[_NET_91] += amount * event.worth.of_91


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    worth = moment.worth
    out[0] = state[_NET] / MICROS
    out[1] = state[_NET_7] * worth.of_7 / MICROS
    out[2] = state[_NET_28] * worth.of_28 / MICROS
    out[3] = state[_NET_91] * worth.of_91 / MICROS
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
    8,
    update,
    read,
    {7: (_NET_7,), 28: (_NET_28,), 91: (_NET_91,)},
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
