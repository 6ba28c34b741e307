"""What a feature family is, and the one loop that drives update and read functions over a ledger, event by event."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels import clock
from kernels.checks import check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry, inlined
from kernels.ledger import ORDER, REFUND, TIME_LIMIT_S, Ledger

Bare = Callable[..., object]


@dataclass(frozen=True)
class Feature:
    """One named group of columns that a family computes.

    name     of the columns; a column of a wide feature is called name[index]
    unit     of the values
    dtype    float32, or int32 for item indexes
    width    number of columns
    kernel   the file in kernels/ that computes it
    neutral  value when nothing relevant has happened
    meaning  what the value says, for reports and reasons
    """

    name: str
    unit: str
    dtype: str
    width: int
    kernel: str
    neutral: float
    meaning: str


@dataclass(frozen=True, eq=False)
class Family:
    """A group of features that share a slice of the state.

    features  in the order in which `read` writes them
    n_state   float64 slots in the slice; all zero before the first event
    update    bare function (state, event) that takes in one clock.Event in O(1)
    read      bare function (state, moment, out) that writes every column of `out` as of a clock.Moment
    halving   half-life in days, one of clock.Worth's -> slots of the sums that halve after it
    """

    features: tuple[Feature, ...]
    n_state: int
    update: Bare
    read: Bare
    halving: Mapping[int, Iterable[int]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Number of columns of all features."""
        return sum(feature.width for feature in self.features)


def half_lives_of(families: Sequence[Family]) -> NDArray[np.int8]:
    """Return after how many days each slot of a state halves.

    families  whose slices follow the clock's in the state
    returns   (n_state,) int8  0 for a slot that does not
    """
    half_lives = np.zeros(clock.N_STATE + sum(family.n_state for family in families), np.int8)
    begin = clock.N_STATE
    for family in families:
        for days, slots in family.halving.items():
            half_lives[[begin + slot for slot in slots]] = days
        begin += family.n_state
    return half_lives


def check_queries(ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> None:
    """Pass when queries can be answered in one sweep over the ledger.

    ledger   whose shoppers are asked about
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  as-of times, ascending within a shopper
    raises   InvalidInput
    """
    check_array("shopper", shopper, np.int64)
    check_array("at_s", at_s, np.int64)
    if shopper.size == at_s.size and _is_in_order(plain(shopper), plain(at_s), ledger.n_shoppers):
        return
    # One pass has found a fault; the slow way says which, in words.
    check(shopper.size == at_s.size, f"at_s must have n_queries {shopper.size} values, got {at_s.size}")
    check_each("shopper", shopper, (shopper >= 0) & (shopper < ledger.n_shoppers), f"in [0, {ledger.n_shoppers})")
    check_each("at_s", at_s, np.abs(at_s) <= TIME_LIMIT_S, f"in [{-TIME_LIMIT_S}, {TIME_LIMIT_S}]")
    check(is_ascending(shopper), "shopper must ascend; sort the queries by shopper, then time")
    ascends = np.ones(at_s.size, np.bool_)
    ascends[1:] = (at_s[1:] >= at_s[:-1]) | (shopper[1:] != shopper[:-1])
    check_each("at_s", at_s, ascends, "ascending within a shopper")


@entry
def _is_in_order(shopper, at_s, n_shoppers):
    before, before_s = 0, -TIME_LIMIT_S
    for row in range(shopper.size):
        if shopper[row] != before:
            before_s = -TIME_LIMIT_S
        if shopper[row] < before or shopper[row] >= n_shoppers or at_s[row] < before_s or at_s[row] > TIME_LIMIT_S:
            return False
        before, before_s = shopper[row], at_s[row]
    return True


def answers(family: Family, ledger: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.generic]:
    """Answer queries with one family's features; the body of every family's own door.

    family   which features
    ledger   events of all shoppers
    shopper  (n_queries,) int64  shopper indexes, ascending
    at_s     (n_queries,) int64  as-of times, ascending within a shopper; events at the very second count
    returns  (n_queries, width) of the features' dtype
    raises   InvalidInput        if a query names an unknown shopper or descends
    """
    check_queries(ledger, shopper, at_s)
    out = np.zeros((shopper.size, family.width), family.features[0].dtype)
    scratch = np.zeros(clock.N_STATE + family.n_state)
    drive = _driver(family)
    drive(ledger.columns, plain(shopper), plain(at_s), scratch, out)
    return out


@inlined
def sweep(step, write, columns, shopper, at_s, state, out):
    """Apply each shopper's events in time order, and write a row of answers at each query's time.

    step     bare function (state, line), a line being one value from each column of the ledger; what moves no money has
             only a time and a kind
    write    bare function (state, at_s, out, row)
    columns  tuple of offsets and the ledger's columns
    shopper  (n_queries,) int64  ascending
    at_s     (n_queries,) int64  ascending within a shopper
    state    (n_state,) float64  scratch, overwritten
    out      whatever `write` fills
    """
    offsets, time_s, kind, item, category, order, quantity, paid, discount, coupon = columns
    row = 0
    while row < shopper.size:
        who = shopper[row]
        event = offsets[who]
        end = offsets[who + 1]
        state[:] = 0.0
        while row < shopper.size and shopper[row] == who:
            while event < end and time_s[event] <= at_s[row]:
                # Most events are views: seven columns that no family asks them for are not worth loading.
                line = (time_s[event], kind[event], np.int32(0), np.int16(-1), 0, 0.0, 0, 0, 0)
                if kind[event] == ORDER or kind[event] == REFUND:
                    line = (
                        time_s[event], kind[event], item[event], category[event], order[event],
                        quantity[event], paid[event], discount[event], coupon[event],
                    )  # fmt: skip
                step(state, line)
                event += 1
            write(state, at_s[row], out, row)
            row += 1


@cache
def _driver(family: Family) -> Bare:
    update, read, half_lives = family.update, family.read, half_lives_of([family])

    # Not cached on disk: numba cannot tell one closure from another there. features.py, which serves, caches its own.
    @njit(nogil=True)
    def step(state, line):
        moment, moved_years = clock.advance(state[: clock.N_STATE], line[0])
        if moved_years > 0.0:
            clock.rescale(state, half_lives, clock.worth_of(-moved_years))
        update(state[clock.N_STATE :], clock.event_of(state[: clock.N_STATE], moment, line))

    @njit(nogil=True)
    def write(state, at_s, out, row):
        read(state[clock.N_STATE :], clock.moment_of(state[: clock.N_STATE], at_s), out[row])

    @njit(nogil=True)
    def drive(columns, shopper, at_s, state, out):
        sweep(step, write, columns, shopper, at_s, state, out)

    return cast(Bare, drive)
