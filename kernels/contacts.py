"""Contacts: how often and how lately the shopper was sent something, and how often it was redeemed.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import EXPOSURE, REDEMPTION, Ledger
from kernels.recency import CAP_DAYS
from kernels.running import days_since

_EXPOSURES, _EXPOSURES_28, _EXPOSED_S, _REDEMPTIONS, _REDEMPTIONS_91, _REDEEMED_S = range(6)


@inlined
def update(state, event):
    """Count one exposure or redemption; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind == EXPOSURE:
        state[_EXPOSURES] += 1.0
        state[_EXPOSURES_28] += event.worth.of_28
        state[_EXPOSED_S] = event.now_s
    if event.kind == REDEMPTION:
        state[_REDEMPTIONS] += 1.0
        state[_REDEMPTIONS_91] += event.worth.of_91
        state[_REDEEMED_S] = event.now_s


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    out[0] = state[_EXPOSURES_28] * moment.worth.of_28
    out[1] = days_since(moment.now_s, state[_EXPOSED_S], state[_EXPOSURES] > 0.0, CAP_DAYS)
    out[2] = min(state[_EXPOSURES], 1.0)
    out[3] = state[_REDEMPTIONS_91] * moment.worth.of_91
    out[4] = days_since(moment.now_s, state[_REDEEMED_S], state[_REDEMPTIONS] > 0.0, CAP_DAYS)
    out[5] = min(state[_REDEMPTIONS], 1.0)
    # A redemption without a known exposure still counts, over one.
    out[6] = state[_REDEMPTIONS] / max(state[_EXPOSURES], 1.0)


def _contact(name: str, unit: str, neutral: float, meaning: str) -> Feature:
    return Feature(name, unit, "float32", 1, "contacts", neutral, meaning)


FAMILY = Family(
    (
        _contact("exposures_hl28d", "exposures", 0.0, "exposures, each worth half as much after every 28 days"),
        _contact("exposure_recency_days", "days", CAP_DAYS, "days since the last exposure, capped; the cap if never"),
        _contact("has_been_exposed", "0 or 1", 0.0, "1 if there ever was an exposure"),
        _contact("redemptions_hl91d", "redemptions", 0.0, "redemptions, each worth half as much after every 91 days"),
        _contact(
            "redemption_recency_days", "days", CAP_DAYS, "days since the last redemption, capped; the cap if never"
        ),
        _contact("has_redeemed", "0 or 1", 0.0, "1 if there ever was a redemption"),
        _contact("redemptions_per_exposure", "ratio", 0.0, "redemptions over exposures, over one if none is known"),
    ),
    6,
    update,
    read,
    {28: (_EXPOSURES_28,), 91: (_REDEMPTIONS_91,)},
)


def contacts(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return how each shopper was contacted and answered as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.contacts
    """
    return answers(FAMILY, ledger, shopper, at_s)
