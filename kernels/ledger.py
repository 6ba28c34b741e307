"""The ledger: every event of every shopper as columns, sorted by shopper and time. All families read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import InvalidInput, check, check_array, check_each, is_ascending, plain
from kernels.sorting import gathered, is_sorted, offsets_of, sorted_places

VIEW, CART, ORDER, REFUND, EXPOSURE, REDEMPTION = 1, 2, 3, 4, 5, 6
N_CATEGORIES = 64
# 53 bits hold every whole number exactly in float64, the type of a state's slots.
TIME_LIMIT_S = 2**52
KEY_LIMIT = 2**52
# A billion currency units on one line is a fault of the source; squares of what is below stay finite in float32.
MONEY_LIMIT_MICROS = 10**15
QUANTITY_LIMIT = 1e9

Column = NDArray[np.integer] | NDArray[np.floating]

COLUMNS: Mapping[str, type[np.generic]] = {
    "time_s": np.int64,
    "kind": np.int8,
    "item": np.int32,
    "category": np.int16,
    "order": np.int64,
    "quantity": np.float64,
    "paid_micros": np.int64,
    "discount_micros": np.int64,
    "coupon_micros": np.int64,
}

RANGES: Mapping[str, tuple[float, float]] = {
    "time_s": (-TIME_LIMIT_S, TIME_LIMIT_S),
    "kind": (VIEW, REDEMPTION),
    "item": (0, 2**31 - 1),
    "category": (-1, N_CATEGORIES - 1),
    "order": (0, KEY_LIMIT),
    "quantity": (-QUANTITY_LIMIT, QUANTITY_LIMIT),
    "paid_micros": (0, MONEY_LIMIT_MICROS),
    "discount_micros": (0, MONEY_LIMIT_MICROS),
    "coupon_micros": (0, MONEY_LIMIT_MICROS),
}


@dataclass(frozen=True)
class Ledger:
    """All events of all shoppers, those of a shopper ascending in time.

    offsets          (n_shoppers + 1,) int64  shopper i owns events offsets[i] to offsets[i + 1]
    time_s           (n_events,) int64    seconds since the epoch, UTC
    kind             (n_events,) int8     VIEW, CART, ORDER (one line of it), REFUND, EXPOSURE or REDEMPTION
    item             (n_events,) int32    vocabulary index; 0 is unknown or none
    category         (n_events,) int16    slot below N_CATEGORIES; -1 is none
    order            (n_events,) int64    key shared by the lines of one order; 0 is none
    quantity         (n_events,) float64  units on the line
    paid_micros      (n_events,) int64    paid for the line after every discount; on a refund, what was given back
    discount_micros  (n_events,) int64    the shop's discount on the line
    coupon_micros    (n_events,) int64    coupon discount on the line
    raises           InvalidInput         if a column has another type or length, a value out of range, or time descends
    """

    offsets: NDArray[np.int64]
    time_s: NDArray[np.int64]
    kind: NDArray[np.int8]
    item: NDArray[np.int32]
    category: NDArray[np.int16]
    order: NDArray[np.int64]
    quantity: NDArray[np.float64]
    paid_micros: NDArray[np.int64]
    discount_micros: NDArray[np.int64]
    coupon_micros: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check every column once; the loops behind it trust them."""
        columns: dict[str, Column] = {name: getattr(self, name) for name in COLUMNS}
        _check_columns(columns, columns["time_s"].size)
        check_array("offsets", self.offsets, np.int64)
        check(self.offsets.size >= 1 and self.offsets[0] == 0, "offsets must begin with 0")
        check(is_ascending(self.offsets), "offsets must ascend")
        check(
            self.offsets[-1] == self.time_s.size,
            f"offsets must end with n_events {self.time_s.size}, got {self.offsets[-1]}",
        )
        descends = np.flatnonzero(self.time_s[1:] < self.time_s[:-1]) + 1
        inside = descends[~np.isin(descends, self.offsets)]
        if inside.size:
            at = int(inside[0])
            raise InvalidInput(
                f"time_s must ascend within a shopper, got {self.time_s[at]} after {self.time_s[at - 1]} (at [{at}])"
            )

    @cached_property
    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """Offsets, then the columns of COLUMNS, contiguous and writable: what compiled loops take."""
        return (plain(self.offsets), *(plain(getattr(self, name)) for name in COLUMNS))

    @cached_property
    def deeds(self) -> "Ledger":
        """Only what shoppers did: views, carts, order lines and refunds; what was sent to them is left out."""
        kept = self.kind <= REFUND
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])[self.offsets]
        return Ledger(offsets, **{name: getattr(self, name)[kept] for name in COLUMNS})

    @property
    def n_shoppers(self) -> int:
        """Number of shoppers, those without events included."""
        return int(self.offsets.size - 1)

    @property
    def n_events(self) -> int:
        """Number of events of all shoppers."""
        return int(self.time_s.size)


def ledger_of(shopper: NDArray[np.int64], n_shoppers: int, columns: Mapping[str, Column]) -> Ledger:
    """Sort events into a ledger: by shopper, then time, then kind, then order; what still ties keeps its place.

    shopper     (n_events,) int64  index of each event's shopper, in [0, n_shoppers)
    n_shoppers  how many shoppers the ledger holds, those without events included
    columns     (n_events,) each   the columns of COLUMNS by name, unsorted
    returns     a checked Ledger; it shares the memory of columns that are in order already
    raises      InvalidInput       if a column is missing, unknown, of another type or length, or out of range
    """
    check(set(columns) == set(COLUMNS), f"columns must be {', '.join(COLUMNS)}, got {', '.join(columns)}")
    check_array("shopper", shopper, np.int64)
    if not _is_within(shopper, 0, n_shoppers - 1):
        check_each("shopper", shopper, (shopper >= 0) & (shopper < n_shoppers), f"in [0, {n_shoppers})")
    _check_columns(columns, shopper.size)
    shopper, offsets = plain(shopper), offsets_of(shopper, n_shoppers)
    # Any: a mapping cannot say which key has which element type; the Ledger's own door does.
    given: dict[str, Any] = {name: plain(columns[name]) for name in COLUMNS}
    keys = given["time_s"], given["kind"], given["order"]
    if is_sorted(shopper, *keys):
        return Ledger(offsets, **given)
    places = sorted_places(shopper, offsets, *keys)
    in_order: dict[str, Any] = {name: gathered(column, places, offsets) for name, column in given.items()}
    return Ledger(offsets, **in_order)


def order_key(order_id: str) -> int:
    """Return a stable name of an order that fits a state's slot; offline and online orders must meet under one key.

    order_id  as in the shop's events; empty is none
    returns   1 to KEY_LIMIT - 1; 0 for none
    """
    if not order_id:
        return 0
    digest = blake2b(order_id.encode(), digest_size=8, person=b"order").digest()
    return int.from_bytes(digest, "little") % (KEY_LIMIT - 1) + 1


def empty_ledger(n_shoppers: int) -> Ledger:
    """Return a ledger of shoppers without events.

    n_shoppers  how many
    returns     a Ledger whose every column is empty
    """
    return ledger_of(np.zeros(0, np.int64), n_shoppers, {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()})


def _is_within(values: Column, lowest: float, highest: float) -> bool:
    """Two passes that write nothing; NaN is within no range."""
    return not values.size or bool(values.min() >= lowest and values.max() <= highest)


def _check_columns(columns: Mapping[str, Column], n_events: int) -> None:
    for name, dtype in COLUMNS.items():
        check_array(name, columns[name], dtype)
        check(columns[name].size == n_events, f"{name} must have n_events {n_events} values, got {columns[name].size}")
    for name, (lowest, highest) in RANGES.items():
        values = columns[name]
        if _is_within(values, lowest, highest):
            continue
        check_each(name, values, (values >= lowest) & (values <= highest), f"in [{lowest}, {highest}]")
