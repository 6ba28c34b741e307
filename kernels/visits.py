"""Sessions as of every event: which visit of the shopper it belongs to and what the visit has held so far.

In: a ledger and the gap that parts two visits. Out: one row per event, or an update of one shopper's state that writes
the same row. training and the online store call them. Views, cart changes and order lines make visits; a refund or a
contact does not, and its row shows the latest visit as it then stands.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import ORDER, REDEMPTION, VIEW, Ledger
from kernels.parallel import block_edges, spread

GAP_S = 1_800
COLUMNS = ("session_number", "session_position", "session_length_s", "session_views", "session_carts", "session_orders")
# The state of one shopper: the columns, then when the visit began and when its last event was.
N_STATE = len(COLUMNS) + 2
_LONGEST_S = 2**31 - 1


def session_columns(ledger: Ledger, gap_s: int = GAP_S) -> NDArray[np.int32]:
    """Return the session of every event as it stood just after the event.

    ledger   events of all shoppers
    gap_s    seconds, ≥ 0; a visit ends when more than these pass without an event of it
    returns  (n_events, n_columns) int32  COLUMNS: number of the visit from 1 (0: none yet), events in it so far,
                                          seconds since its first, then its views, cart changes and order lines
    raises   InvalidInput                 if gap_s is negative
    source   reference.streams.session_columns
    """
    check(gap_s >= 0, f"gap_s must be ≥ 0, got {gap_s}")
    columns = np.empty((ledger.n_events, len(COLUMNS)), np.int32)
    edges = block_edges(ledger.offsets)
    _sessions(edges, plain(ledger.offsets), plain(ledger.time_s), plain(ledger.kind), gap_s, columns)
    return columns


def empty_state() -> NDArray[np.int64]:
    """Return the state of a shopper without events.

    returns  (N_STATE,) int64
    """
    return np.zeros(N_STATE, np.int64)


def apply_event(state: NDArray[np.int64], time_s: int, kind: int, gap_s: int = GAP_S) -> NDArray[np.int32]:
    """Take one event into a shopper's state in constant time; return its session columns.

    state    (N_STATE,) int64  of the shopper, changed in place
    time_s   seconds, not before the last event's
    kind     of kernels.ledger
    gap_s    seconds, ≥ 0; the same for all events
    returns  (n_columns,) int32  the very row that session_columns has for the event
    raises   InvalidInput      if the state has another size, the kind is unknown or gap_s is negative
    """
    check_array("state", state, np.int64)
    check(state.size == N_STATE, f"state must have {N_STATE} values, got {state.size}")
    check(VIEW <= kind <= REDEMPTION, f"kind must be in [{VIEW}, {REDEMPTION}], got {kind}")
    check(gap_s >= 0, f"gap_s must be ≥ 0, got {gap_s}")
    row = np.empty(len(COLUMNS), np.int32)
    _apply(state, time_s, kind, gap_s, row)
    return row


@njit(nogil=True, inline="always")
def _step(visit, time_s, kind, gap_s):
    number, n_events, views, carts, orders, start_s, last_s = visit
    if kind <= ORDER:
        if number == 0 or time_s - last_s > gap_s:
            number += 1
            n_events = views = carts = orders = 0
            start_s = time_s
        n_events += 1
        views += kind == 1
        carts += kind == 2
        orders += kind == 3
        last_s = time_s
    return number, n_events, views, carts, orders, start_s, last_s


@spread
def _sessions(edges, offsets, time_s, kind, gap_s, columns):
    for block in prange(edges.size - 1):
        for who in range(edges[block], edges[block + 1]):
            visit = (0, 0, 0, 0, 0, 0, 0)
            for row in range(offsets[who], offsets[who + 1]):
                visit = _step(visit, time_s[row], kind[row], gap_s)
                columns[row, 0] = visit[0]
                columns[row, 1] = visit[1]
                columns[row, 2] = min(visit[6] - visit[5], _LONGEST_S)
                columns[row, 3] = visit[2]
                columns[row, 4] = visit[3]
                columns[row, 5] = visit[4]


@entry
def _apply(state, time_s, kind, gap_s, row):
    visit = (state[0], state[1], state[3], state[4], state[5], state[6], state[7])
    visit = _step(visit, time_s, kind, gap_s)
    state[0], state[1], state[3], state[4], state[5], state[6], state[7] = visit
    state[2] = min(state[7] - state[6], _LONGEST_S)
    row[:] = state[:6]
