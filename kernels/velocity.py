"""How fast a key is being used, as of every event: a device, an address, a card or a shopper, for judging risk.

In: events grouped by key, in time order within a key, or one event at a time with its key's state. Out: counts and
spend over windows, shoppers seen, seconds since the event before. training.risk and the online store call them. An
event never counts itself: its row tells what the events above it in the group had made, those of the same second too.
Memory per key is bounded: only its last RING events are ever in a window, and shoppers are counted up to MOST_SHOPPERS.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, is_ascending, plain
from kernels.compiled import entry
from kernels.ledger import MONEY_LIMIT_MICROS
from kernels.parallel import block_edges, spread

WINDOWS_S = (3_600, 86_400, 7 * 86_400, 30 * 86_400)
N_WINDOWS = len(WINDOWS_S)
# RING lines at the ledger's limit of money are 10^18 micros: sums stay exact in 64 bits.
RING = 1_000
MOST_SHOPPERS = 64
_KEPT = RING + 1
_HOUR, _DAY, _WEEK, _MONTH = WINDOWS_S


@dataclass(frozen=True)
class KeyedEvents:
    """Events that name a key of one kind, grouped by key.

    offsets       (n_keys + 1,) int64  key i owns events offsets[i] to offsets[i + 1]
    time_s        (n_events,) int64    seconds since the epoch, ascending within a key
    shopper       (n_events,) int64    who
    spend_micros  (n_events,) int64    what the event adds to spend, in [0, MONEY_LIMIT_MICROS]
    raises        InvalidInput         if an array has another type, length, order or range
    """

    offsets: NDArray[np.int64]
    time_s: NDArray[np.int64]
    shopper: NDArray[np.int64]
    spend_micros: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check every array once; the loops behind it trust them."""
        for name in ("offsets", "time_s", "shopper", "spend_micros"):
            check_array(name, getattr(self, name), np.int64)
        n_events = self.time_s.size
        for name in ("shopper", "spend_micros"):
            size = getattr(self, name).size
            check(size == n_events, f"{name} must have n_events {n_events} values, got {size}")
        check(
            self.offsets.size >= 1 and self.offsets[0] == 0 and is_ascending(self.offsets), "offsets must ascend from 0"
        )
        check(self.offsets[-1] == n_events, f"offsets must end with n_events {n_events}, got {self.offsets[-1]}")
        descends = np.flatnonzero(self.time_s[1:] < self.time_s[:-1]) + 1
        check(bool(np.isin(descends, self.offsets).all()), "time_s must ascend within a key")
        if n_events:
            least, most = int(self.spend_micros.min()), int(self.spend_micros.max())
            check(least >= 0, f"spend_micros must be ≥ 0, got {least}")
            check(most <= MONEY_LIMIT_MICROS, f"spend_micros must be ≤ {MONEY_LIMIT_MICROS}, got {most}")


@dataclass(frozen=True)
class Velocity:
    """What stood before each event, on its key.

    n_events          (n_events, N_WINDOWS) int32  events less than each of WINDOWS_S ago
    spend_micros      (n_events, N_WINDOWS) int64  their spend
    n_shoppers        (n_events,) int32            different shoppers ever, up to MOST_SHOPPERS
    since_previous_s  (n_events,) float32          seconds since the key's event before; NaN at its first
    """

    n_events: NDArray[np.int32]
    spend_micros: NDArray[np.int64]
    n_shoppers: NDArray[np.int32]
    since_previous_s: NDArray[np.float32]


@dataclass(frozen=True)
class KeyState:
    """What is kept of one key between its events.

    ring      (2, RING + 1) int64     times and spend of its last events, overwritten in turn; one more than
                                      a window may hold, which says what to take off
    shoppers  (MOST_SHOPPERS,) int64  different shoppers, in order of first appearance
    numbers   (n,) int64              events ever, shoppers, then for each window its first event's number and its spend
    """

    ring: NDArray[np.int64]
    shoppers: NDArray[np.int64]
    numbers: NDArray[np.int64]


def velocity(events: KeyedEvents) -> Velocity:
    """Return what stood before each event on its key, in one pass.

    events   grouped by key
    returns  Velocity, rows in the order of the events
    source   reference.velocity
    """
    n_events = events.time_s.size
    told = Velocity(
        np.empty((n_events, N_WINDOWS), np.int32),
        np.empty((n_events, N_WINDOWS), np.int64),
        np.empty(n_events, np.int32),
        np.empty(n_events, np.float32),
    )
    edges = block_edges(events.offsets)
    seen = np.empty((edges.size - 1, MOST_SHOPPERS), np.int64)
    columns = (plain(events.offsets), plain(events.time_s), plain(events.shopper), plain(events.spend_micros))
    _velocity(edges, columns, seen, (told.n_events, told.spend_micros, told.n_shoppers, told.since_previous_s))
    return told


def empty_state() -> KeyState:
    """Return the state of a key without events.

    returns  KeyState of zeros
    """
    return KeyState(
        np.zeros((2, RING + 1), np.int64), np.zeros(MOST_SHOPPERS, np.int64), np.zeros(2 + 2 * N_WINDOWS, np.int64)
    )


def apply_event(state: KeyState, time_s: int, shopper: int, spend_micros: int) -> Velocity:
    """Return what stands before one event on its key, and take the event into the key's state.

    state         of the key, changed in place, in constant time on average over its events
    time_s        seconds, not before the key's last event
    shopper       who
    spend_micros  what the event adds to spend, in [0, MONEY_LIMIT_MICROS]
    returns       Velocity of one row, the very row that `velocity` has for the event
    raises        InvalidInput  if spend_micros is out of range
    """
    check(
        0 <= spend_micros <= MONEY_LIMIT_MICROS,
        f"spend_micros must be in [0, {MONEY_LIMIT_MICROS}], got {spend_micros}",
    )
    told = Velocity(
        np.empty((1, N_WINDOWS), np.int32),
        np.empty((1, N_WINDOWS), np.int64),
        np.empty(1, np.int32),
        np.empty(1, np.float32),
    )
    out = (told.n_events, told.spend_micros, told.n_shoppers, told.since_previous_s)
    _apply(state.ring, state.shoppers, state.numbers, time_s, shopper, spend_micros, out)
    return told


@njit(nogil=True, inline="always")
def _met(seen, n_seen, shopper):
    """Number of shoppers after one more event; `seen` gains whoever is new."""
    if n_seen == MOST_SHOPPERS:
        return n_seen
    # Backwards: most often it is the shopper who came last.
    for place in range(n_seen - 1, -1, -1):
        if seen[place] == shopper:
            return n_seen
    seen[n_seen] = shopper
    return n_seen + 1


@njit(nogil=True, inline="always")
def _left(first, total, before_s, least, now, time_s, spend):
    """Move a window's first event past those too old, and past those that the ring no longer holds."""
    while first < now and (time_s[first] <= before_s or first < least):
        total -= spend[first]
        first += 1
    return first, total


@njit(nogil=True)
def _velocity_rows(begin, end, columns, seen, told):
    _, time_s, shopper, spend = columns
    n_events, sums, n_shoppers, since = told
    hour = day = week = month = begin
    in_hour = in_day = in_week = in_month = np.int64(0)
    n_seen = 0
    for row in range(begin, end):
        now_s, least = time_s[row], row - RING
        hour, in_hour = _left(hour, in_hour, now_s - _HOUR, least, row, time_s, spend)
        day, in_day = _left(day, in_day, now_s - _DAY, least, row, time_s, spend)
        week, in_week = _left(week, in_week, now_s - _WEEK, least, row, time_s, spend)
        month, in_month = _left(month, in_month, now_s - _MONTH, least, row, time_s, spend)
        n_events[row, 0], n_events[row, 1] = row - hour, row - day
        n_events[row, 2], n_events[row, 3] = row - week, row - month
        sums[row, 0], sums[row, 1], sums[row, 2], sums[row, 3] = in_hour, in_day, in_week, in_month
        n_shoppers[row] = n_seen
        since[row] = now_s - time_s[row - 1] if row > begin else np.nan
        n_seen = _met(seen, n_seen, shopper[row])
        in_hour += spend[row]
        in_day += spend[row]
        in_week += spend[row]
        in_month += spend[row]


@spread
def _velocity(edges, columns, seen, told):
    for block in prange(edges.size - 1):
        offsets = columns[0]
        for key in range(edges[block], edges[block + 1]):
            _velocity_rows(offsets[key], offsets[key + 1], columns, seen[block], told)


@entry
def _apply(ring, seen, numbers, time_s, shopper, spend, told):
    n_events, sums, n_shoppers, since = told
    now = numbers[0]
    for window in range(N_WINDOWS):
        first, total = numbers[2 + window], numbers[2 + N_WINDOWS + window]
        while first < now and (ring[0, first % _KEPT] <= time_s - WINDOWS_S[window] or first < now - RING):
            total -= ring[1, first % _KEPT]
            first += 1
        n_events[0, window] = now - first
        sums[0, window] = total
        numbers[2 + window] = first
        numbers[2 + N_WINDOWS + window] = total + spend
    n_shoppers[0] = numbers[1]
    since[0] = time_s - ring[0, (now - 1) % _KEPT] if now > 0 else np.nan
    numbers[1] = _met(seen, numbers[1], shopper)
    ring[0, now % _KEPT] = time_s
    ring[1, now % _KEPT] = spend
    numbers[0] = now + 1
