"""Item history: the last items the shopper ordered, the latest last. What the recommendation model reads.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import ORDER, Ledger

HISTORY = 50
_ITEMS, _RING = 0, 1


@inlined
def update(state, event):
    """Remember the item of one order line; an unknown item, index 0, leaves no trace; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER or event.item == 0:
        return
    state[_RING + np.int64(state[_ITEMS]) % HISTORY] = event.item
    state[_ITEMS] += 1.0


@inlined
def read(state, moment, out):  # noqa: ARG001 - every family is read alike
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) int32  every column is written
    """
    n_items = np.int64(state[_ITEMS])
    for back in range(HISTORY):
        out[HISTORY - 1 - back] = 0
        if back < n_items:
            out[HISTORY - 1 - back] = np.int32(state[_RING + (n_items - 1 - back) % HISTORY])


FAMILY = Family(
    (
        Feature(
            "item_history", "item index", "int32", HISTORY, "sequences", 0,
            "items of the last order lines, the latest last, padded with 0 on the left",
        ),
    ),
    HISTORY + 1,
    update,
    read,
)  # fmt: skip


def sequences(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return the items each shopper ordered last as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) int32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.sequences
    """
    return answers(FAMILY, ledger, shopper, at_s)
