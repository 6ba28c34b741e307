"""Sessions: visits of the shopper. Views, cart changes and order lines no more than 30 minutes apart are one session.

In: events in time order. Out: the columns of FAMILY. Called by features.py for every event and read.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined
from kernels.family import Family, Feature, answers
from kernels.ledger import CART, ORDER, VIEW, Ledger

SESSION_GAP_S = 1_800.0
_SESSIONS, _SESSIONS_28, _EVENTS, _CLOSED_S, _WITH_ORDER, _START_S, _LAST_S, _OPEN_EVENTS, _OPEN_CARTS, _OPEN_ORDERS = (
    range(10)
)


@inlined
def update(state, event):
    """Continue the session or begin the next; see Family.update.

    state  (n_state,) float64  changed in place
    event  a clock.Event
    """
    if event.kind != VIEW and event.kind != CART and event.kind != ORDER:
        return
    if state[_SESSIONS] == 0.0 or event.now_s - state[_LAST_S] > SESSION_GAP_S:
        state[_CLOSED_S] += state[_LAST_S] - state[_START_S]
        state[_SESSIONS_28] += event.worth.of_28
        state[_SESSIONS] += 1.0
        state[_START_S] = event.now_s
        state[_OPEN_EVENTS:] = 0.0
    state[_LAST_S] = event.now_s
    state[_EVENTS] += 1.0
    state[_OPEN_EVENTS] += 1.0
    if event.kind == CART:
        state[_OPEN_CARTS] += 1.0
    if event.kind == ORDER:
        if state[_OPEN_ORDERS] == 0.0:
            state[_WITH_ORDER] += 1.0
        state[_OPEN_ORDERS] += 1.0


@inlined
def read(state, moment, out):
    """Write the family's columns as of a time; see Family.read.

    state  (n_state,) float64
    moment  a clock.Moment
    out    (width,) float32  every column is written
    """
    out[:] = 0.0
    n_sessions = state[_SESSIONS]
    if n_sessions == 0.0:
        return
    open_s = state[_LAST_S] - state[_START_S]
    out[0] = n_sessions
    out[1] = state[_SESSIONS_28] * moment.worth.of_28
    out[2] = state[_EVENTS] / n_sessions
    out[3] = (state[_CLOSED_S] + open_s) / n_sessions / 60.0
    out[4] = state[_WITH_ORDER] / n_sessions
    out[5] = state[_OPEN_EVENTS]
    out[6] = open_s / 60.0
    if moment.now_s - state[_LAST_S] <= SESSION_GAP_S:
        out[7] = 1.0
        out[8] = state[_OPEN_CARTS]


def _visit(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, unit, "float32", 1, "sessions", 0.0, f"{meaning}; 0 without a session")


FAMILY = Family(
    (
        _visit("n_sessions", "sessions", "sessions ever, the latest included"),
        _visit("sessions_hl28d", "sessions", "sessions, each worth half as much 28 days after it began"),
        _visit("session_events_mean", "events", "mean events in a session"),
        _visit("session_minutes_mean", "minutes", "mean time from a session's first event to its last"),
        _visit("session_order_share", "share", "sessions with an order among all"),
        _visit("last_session_events", "events", "events in the latest session"),
        _visit("last_session_minutes", "minutes", "length of the latest session so far"),
        _visit("is_in_session", "0 or 1", "1 if the latest session may still go on"),
        _visit("live_session_carts", "events", "items put in the cart in a session that may still go on"),
    ),
    10,
    update,
    read,
    {28: (_SESSIONS_28,)},
)


def sessions(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return how each shopper visits as of each query.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, width) float32  the columns of FAMILY
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   reference.sessions
    """
    return answers(FAMILY, ledger, shopper, at_s)
