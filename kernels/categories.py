"""Category affinity: what the shopper buys from each category slot, how lately, and how broadly.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import N_CATEGORIES, ORDER, Ledger
from kernels.recency import CAP_DAYS
from kernels.running import days_since

_LINES_14, _LINES_91, _LAST_S, _LINES, _BREADTH = (place * N_CATEGORIES for place in range(5))


@inlined
def update(state, event):
    """Count one order line in its category; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != ORDER or event.category < 0:
        return
    slot = np.int64(event.category)
    state[_BREADTH] += state[_LINES + slot] == 0.0
    state[_LINES + slot] += 1.0
    state[_LINES_14 + slot] += event.worth.of_14
    state[_LINES_91 + slot] += event.worth.of_91
    state[_LAST_S + slot] = event.now_s


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    worth = moment.worth
    for slot in range(N_CATEGORIES):
        is_bought = state[_LINES + slot] > 0.0
        out[slot] = state[_LINES_14 + slot] * worth.of_14
        out[N_CATEGORIES + slot] = state[_LINES_91 + slot] * worth.of_91
        out[2 * N_CATEGORIES + slot] = days_since(moment.now_s, state[_LAST_S + slot], is_bought, CAP_DAYS)
    out[3 * N_CATEGORIES] = state[_BREADTH]


def _by_slot(name: str, unit: str, neutral: float, meaning: str) -> Feature:
    return Feature(name, unit, "float32", N_CATEGORIES, "categories", neutral, meaning)


FAMILY = Family(
    (
        _by_slot("category_lines_hl14d", "lines", 0.0, "order lines of the category, halved after every 14 days"),
        _by_slot(
            "category_lines_hl91d", "lines", 0.0, "order lines of the category, halved after every 91 days; 0 if never"
        ),
        _by_slot(
            "category_recency_days", "days", CAP_DAYS, "days since the category was bought, capped; the cap if never"
        ),
        Feature("category_breadth", "categories", "float32", 1, "categories", 0.0, "different categories ever bought"),
    ),
    4 * N_CATEGORIES + 1,
    update,
    read,
    {14: range(_LINES_14, _LINES_91), 91: range(_LINES_91, _LAST_S)},
)


def categories(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return each shopper's affinity to every category slot as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.categories
    """
    return answers(FAMILY, ledger, shopper, at_s)
