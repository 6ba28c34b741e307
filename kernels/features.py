"""FEATURES: the one list that training, server and config.pbtxt share, and the doors that compute it.

Offline, `features_at` sweeps a ledger; online, `apply_event` and `read_states` work on one row of state for each
shopper. Both go through the same `_step` and `_write`, so they are equal bit for bit.
"""

from operator import index

import numpy as np
from numpy.typing import NDArray

from kernels import (
    baskets,
    categories,
    clock,
    contacts,
    frequency,
    prices,
    recency,
    sequences,
    sessions,
    spend,
    week,
)
from kernels.checks import InvalidInput, check, check_array, plain
from kernels.compiled import entry, inlined
from kernels.family import Family, Feature, check_queries, half_lives_of, sweep
from kernels.ledger import CART, ORDER, RANGES, REFUND, TIME_LIMIT_S, VIEW, Ledger
from kernels.ledger import N_CATEGORIES as N_CATEGORIES
from kernels.parallel import LEAST_EVENTS, in_blocks

N_OFFER_GROUPS = 16
N_ARMS = 4
N_TOP_ITEMS = 20
HISTORY = sequences.HISTORY

FAMILIES: tuple[Family, ...] = (
    recency.FAMILY,
    frequency.FAMILY,
    spend.FAMILY,
    baskets.FAMILY,
    sessions.FAMILY,
    prices.FAMILY,
    week.FAMILY,
    contacts.FAMILY,
    categories.FAMILY,
    sequences.FAMILY,
)
FEATURES: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in family.features)
N_FEATURES = sum(feature.width for feature in FEATURES if feature.dtype == "float32")
N_STATE = clock.N_STATE + sum(family.n_state for family in FAMILIES)


def columns() -> tuple[str, ...]:
    """Return the name of every float32 column, in the order in which `features_at` writes them.

    returns  N_FEATURES names; a column of a wide feature is called name[index]
    """
    return tuple(
        feature.name if feature.width == 1 else f"{feature.name}[{index}]"
        for feature in FEATURES
        if feature.dtype == "float32"
        for index in range(feature.width)
    )


def features_at(
    ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return every feature as of each query: events at that very second count, later ones do not.

    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within a shopper
    returns  (n_queries, N_FEATURES) float32 as `columns` names them, and (n_queries, HISTORY) int32 item history
    raises   InvalidInput        if a query names an unknown shopper or descends
    source   one function per family in kernels.reference
    """
    check_queries(ledger, shopper, at_s)
    features = np.empty((shopper.size, N_FEATURES), np.float32)
    history = np.empty((shopper.size, HISTORY), np.int32)
    columns, shopper, at_s = ledger.columns, plain(shopper), plain(at_s)

    def work(first: int, end: int) -> None:
        _features_sweep(
            columns, shopper[first:end], at_s[first:end], empty_state(), features[first:end], history[first:end]
        )

    if ledger.n_events < LEAST_EVENTS:
        work(0, shopper.size)
    else:
        in_blocks(_swept_before(ledger, shopper), work)
    return features, history


def _swept_before(ledger: Ledger, shopper: NDArray[np.int64]) -> NDArray[np.int64]:
    """Events swept before each query; a shopper's count at its last one, so that no cut falls between its queries."""
    n_events = np.diff(ledger.offsets)[shopper]
    n_events[:-1][shopper[1:] == shopper[:-1]] = 0
    return np.concatenate(([0], np.cumsum(n_events)))


def states_of(ledger: Ledger) -> NDArray[np.float64]:
    """Return every shopper's state after all events: what serving starts from.

    ledger   events of all shoppers
    returns  (n_shoppers, N_STATE) float64  a row is what `apply_event` continues and `read_states` reads
    """
    states = np.empty((ledger.n_shoppers, N_STATE))
    shopper = np.arange(ledger.n_shoppers)
    columns, at_s = ledger.columns, np.full(shopper.size, TIME_LIMIT_S)

    def work(first: int, end: int) -> None:
        _states_sweep(columns, shopper[first:end], at_s[first:end], empty_state(), states[first:end])

    in_blocks(ledger.offsets, work)
    return states


def empty_state() -> NDArray[np.float64]:
    """Return the state of a shopper without events.

    returns  (N_STATE,) float64  zeros; which slot is whose may change between releases
    """
    return np.zeros(N_STATE)


def apply_event(
    state: NDArray[np.float64],
    time_s: int,
    kind: int,
    item: int,
    category: int,
    order: int,
    quantity: float,
    paid_micros: int,
    discount_micros: int,
    coupon_micros: int,
) -> None:
    """Take one event into a shopper's state, in place and in O(1); a late event counts as if it came with the last one.

    state            (N_STATE,) float64  from `empty_state`, `states_of` or an earlier call; writable
    time_s           seconds since the epoch, UTC
    kind             event kind of kernels.ledger
    item             vocabulary index; 0 is unknown or none
    category         slot; -1 is none
    order            key shared by the lines of one order; 0 is none
    quantity         units on the line
    paid_micros      paid for the line after every discount; on a refund, what was given back
    discount_micros  the shop's discount on the line
    coupon_micros    coupon discount on the line
    raises           InvalidInput  if a value is out of range; the state is then unchanged
    """
    check_array("state", state, np.float64)
    check(state.shape == (N_STATE,), f"state must have N_STATE {N_STATE} slots, got {state.size}")
    check(state.flags.writeable, "state must be writable, got a read-only array; copy it first")
    event = (time_s, kind, item, category, order, quantity, paid_micros, discount_micros, coupon_micros)
    try:
        # Plain numbers, or numba would compile once more for each numpy type a caller comes with.
        is_taken = _apply(
            state, index(time_s), index(kind), index(item), index(category), index(order),
            float(quantity), index(paid_micros), index(discount_micros), index(coupon_micros),
        )  # fmt: skip
    except (OverflowError, TypeError):
        is_taken = False
    if not is_taken:
        _say_what_is_wrong(event)


def _say_what_is_wrong(event: tuple[float, ...]) -> None:
    for (name, (lowest, highest)), value in zip(RANGES.items(), event, strict=True):
        check(lowest <= value <= highest, f"{name} must be in [{lowest}, {highest}], got {value}")  # False for NaN too
    raise InvalidInput(f"time, kind, item, category, order and micros must be whole numbers, got {event}")


def read_states(states: NDArray[np.float64], at_s: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the features of a batch of states, bit for bit those of `features_at` over the same events.

    states   (batch, N_STATE) float64
    at_s     (batch,) int64  seconds since the epoch; a time before a state's last event counts as that event's
    returns  (batch, N_FEATURES) float32 as `columns` names them, and (batch, HISTORY) int32 item history
    raises   InvalidInput    if a shape or type is wrong or a state holds a value that is not finite
    """
    check_array("states", states, np.float64, n_dims=2)
    check_array("at_s", at_s, np.int64)
    check(states.shape[1] == N_STATE, f"states must have N_STATE {N_STATE} slots, got {states.shape[1]}")
    check(states.shape[0] == at_s.size, f"at_s must have batch {states.shape[0]} values, got {at_s.size}")
    check(bool(np.isfinite(states).all()), "states must be finite, got NaN or infinity")
    check(bool((np.abs(at_s) <= TIME_LIMIT_S).all()), f"at_s must be in [{-TIME_LIMIT_S}, {TIME_LIMIT_S}]")
    features = np.empty((at_s.size, N_FEATURES), np.float32)
    history = np.empty((at_s.size, HISTORY), np.int32)
    _read_rows(plain(states), plain(at_s), features, history)
    return features, history


_RANGES = tuple((float(lowest), float(highest)) for lowest, highest in RANGES.values())
# Where each family's slots and columns begin and end, in the order of FAMILIES.
_SLOT = tuple(int(end) for end in np.cumsum([clock.N_STATE] + [family.n_state for family in FAMILIES]))
_HALF_LIVES = half_lives_of(FAMILIES)
_COLUMN = tuple(int(end) for end in np.cumsum([0] + [family.width for family in FAMILIES[:-1]]))


@inlined
def _step(state, line):
    moment, moved_years = clock.advance(state[: _SLOT[0]], line[0])
    if moved_years > 0.0:
        clock.rescale(state, _HALF_LIVES, clock.worth_of(-moved_years))
    event = clock.event_of(state[: _SLOT[0]], moment, line)
    recency.update(state[_SLOT[0] : _SLOT[1]], event)
    # One branch on the kind, rather than one in every family: only the families that a kind concerns are asked.
    if event.kind == ORDER:
        _take_order_line(state, event)
    elif event.kind == VIEW or event.kind == CART:
        frequency.update(state[_SLOT[1] : _SLOT[2]], event)
        sessions.update(state[_SLOT[4] : _SLOT[5]], event)
    elif event.kind == REFUND:
        spend.update(state[_SLOT[2] : _SLOT[3]], event)
    else:
        contacts.update(state[_SLOT[7] : _SLOT[8]], event)


@inlined
def _take_order_line(state, event):
    frequency.update(state[_SLOT[1] : _SLOT[2]], event)
    spend.update(state[_SLOT[2] : _SLOT[3]], event)
    baskets.update(state[_SLOT[3] : _SLOT[4]], event)
    sessions.update(state[_SLOT[4] : _SLOT[5]], event)
    prices.update(state[_SLOT[5] : _SLOT[6]], event)
    week.update(state[_SLOT[6] : _SLOT[7]], event)
    categories.update(state[_SLOT[8] : _SLOT[9]], event)
    sequences.update(state[_SLOT[9] : _SLOT[10]], event)


@inlined
def _write(state, at_s, out, row):
    features, history = out
    columns = features[row]
    moment = clock.moment_of(state[: _SLOT[0]], at_s)
    recency.read(state[_SLOT[0] : _SLOT[1]], moment, columns[_COLUMN[0] : _COLUMN[1]])
    frequency.read(state[_SLOT[1] : _SLOT[2]], moment, columns[_COLUMN[1] : _COLUMN[2]])
    spend.read(state[_SLOT[2] : _SLOT[3]], moment, columns[_COLUMN[2] : _COLUMN[3]])
    baskets.read(state[_SLOT[3] : _SLOT[4]], moment, columns[_COLUMN[3] : _COLUMN[4]])
    sessions.read(state[_SLOT[4] : _SLOT[5]], moment, columns[_COLUMN[4] : _COLUMN[5]])
    prices.read(state[_SLOT[5] : _SLOT[6]], moment, columns[_COLUMN[5] : _COLUMN[6]])
    week.read(state[_SLOT[6] : _SLOT[7]], moment, columns[_COLUMN[6] : _COLUMN[7]])
    contacts.read(state[_SLOT[7] : _SLOT[8]], moment, columns[_COLUMN[7] : _COLUMN[8]])
    categories.read(state[_SLOT[8] : _SLOT[9]], moment, columns[_COLUMN[8] : _COLUMN[9]])
    sequences.read(state[_SLOT[9] : _SLOT[10]], moment, history[row])


@inlined
def _keep(state, at_s, out, row):  # noqa: ARG001 - called as `_write` is
    out[row, :] = state


@entry
def _features_sweep(columns, shopper, at_s, state, features, history):
    sweep(_step, _write, columns, shopper, at_s, state, (features, history))


@entry
def _states_sweep(columns, shopper, at_s, state, states):
    sweep(_step, _keep, columns, shopper, at_s, state, states)


@entry
def _apply(state, time_s, kind, item, category, order, quantity, paid, discount, coupon):
    """Take the event in, unless a value is out of range; say whether it was."""
    is_within = (
        _holds(0, time_s) and _holds(1, kind) and _holds(2, item) and _holds(3, category) and _holds(4, order)
        and _holds(5, quantity) and _holds(6, paid) and _holds(7, discount) and _holds(8, coupon)
    )  # fmt: skip
    if is_within:
        _step(state, (time_s, kind, item, category, order, quantity, paid, discount, coupon))
    return is_within


@inlined
def _holds(place, value):
    return _RANGES[place][0] <= value <= _RANGES[place][1]


@entry
def _read_rows(states, at_s, features, history):
    for row in range(at_s.size):
        _write(states[row], at_s[row], (features, history), row)
