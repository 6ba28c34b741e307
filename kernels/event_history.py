"""What a shopper did last, as the encoder reads it: item, kind, seconds since the event before, and price.

In: what shoppers did, and queries; or one event at a time with the shopper's ring. Out: four columns, latest last,
zeros on the left of what is shorter. Training reads ledgers, the online store keeps rings: equal bit for bit.
behaviour.py tells events in buckets, for tables that leave this system.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.compiled import entry, inlined
from kernels.ledger import REFUND, VIEW, Ledger
from kernels.parallel import row_edges, spread

LENGTH = 200
# Half octaves of a unit's list price from a quarter of a currency unit on; 0 is no price.
N_PRICES = 16
QUARTER_MICROS = 250_000.0
LONGEST_GAP_S = 2**31 - 1

# A shopper's last events, each overwritten when LENGTH others have come; clock is events ever and time of the last.
RING = np.dtype(
    [
        ("clock", "<i8", (2,)),
        ("item", "<i4", (LENGTH,)),
        ("gap_s", "<i4", (LENGTH,)),
        ("kind", "i1", (LENGTH,)),
        ("price", "i1", (LENGTH,)),
    ]
)
COLUMNS = ("item", "kind", "gap_s", "price")

Rings = NDArray[np.void]


@dataclass(frozen=True)
class EventHistory:
    """The last events before each query.

    item   (n, LENGTH) int32  vocabulary index; 0 is unknown or none
    kind   (n, LENGTH) int8   VIEW, CART, ORDER or REFUND; 0 is no event
    gap_s  (n, LENGTH) int32  seconds since the shopper's event before; 0 at the first
    price  (n, LENGTH) int8   half octave of a unit's list price, below N_PRICES; 0 where nothing was paid
    """

    item: NDArray[np.int32]
    kind: NDArray[np.int8]
    gap_s: NDArray[np.int32]
    price: NDArray[np.int8]


def history_at(deeds: Ledger, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> EventHistory:
    """Return what shoppers did last as of each query.

    deeds    what shoppers did, of Ledger.deeds
    shopper  (n_queries,) int64  shopper indexes, in any order
    at_s     (n_queries,) int64  seconds; events at the very second count
    returns  EventHistory of n_queries rows
    raises   InvalidInput        if a query names an unknown shopper or lengths differ
    source   reference.event_history
    """
    check_array("shopper", shopper, np.int64)
    check_array("at_s", at_s, np.int64)
    check(shopper.size == at_s.size, f"at_s must have n_queries {shopper.size} values, got {at_s.size}")
    check_each("shopper", shopper, (shopper >= 0) & (shopper < deeds.n_shoppers), f"in [0, {deeds.n_shoppers})")
    told = EventHistory(
        np.zeros((shopper.size, LENGTH), np.int32), np.zeros((shopper.size, LENGTH), np.int8),
        np.zeros((shopper.size, LENGTH), np.int32), np.zeros((shopper.size, LENGTH), np.int8),
    )  # fmt: skip
    out = (told.item, told.kind, told.gap_s, told.price)
    _histories(row_edges(shopper.size), deeds.columns, plain(shopper), plain(at_s), out)
    return told


def price_steps(deeds: Ledger) -> NDArray[np.int8]:
    """Return the price of every event, as EventHistory tells it.

    deeds    events of all shoppers
    returns  (n_events,) int8
    source   reference.event_history
    """
    steps = np.zeros(deeds.n_events, np.int8)
    _prices(deeds.columns, steps)
    return steps


def rings_of(deeds: Ledger) -> Rings:
    """Return every shopper's ring after all events.

    deeds    what shoppers did, of Ledger.deeds
    returns  (n_shoppers,) RING
    """
    rings = np.zeros(deeds.n_shoppers, RING)
    n_events = np.diff(deeds.offsets)
    last = deeds.offsets[1:] - 1
    told = history_at(deeds, np.arange(deeds.n_shoppers), np.full(deeds.n_shoppers, np.iinfo(np.int64).max))
    place = (np.arange(LENGTH) + n_events[:, None]) % LENGTH
    for name in COLUMNS:
        np.put_along_axis(rings[name], place, getattr(told, name), axis=1)
    rings["clock"][:, 0] = n_events
    rings["clock"][n_events > 0, 1] = deeds.time_s[last[n_events > 0]]
    return rings


def read_rings(rings: Rings) -> EventHistory:
    """Return the last events of each ring, latest last: what `history_at` gives after the same events.

    rings    (n,) RING
    returns  EventHistory of n rows
    """
    place = (np.arange(LENGTH) + rings["clock"][:, :1]) % LENGTH
    return EventHistory(*(np.take_along_axis(rings[name], place, axis=1) for name in COLUMNS))


def apply_event(ring: Rings, time_s: int, kind: int, item: int, quantity: float, listed_micros: int) -> None:
    """Take what a shopper did into the ring, in place and in O(1); a late event counts as if it came with the last one.

    ring           (1,) RING  writable
    time_s         seconds since the epoch, UTC
    kind           VIEW, CART, ORDER or REFUND
    item           vocabulary index; 0 is unknown or none
    quantity       units on the line
    listed_micros  paid and all discounts of the line, micros
    raises         InvalidInput  if the kind is another
    """
    check(VIEW <= kind <= REFUND, f"kind must be in [{VIEW}, {REFUND}], got {kind}")
    own = ring[0]
    columns = (own["item"], own["kind"], own["gap_s"], own["price"])
    _apply(columns, own["clock"], time_s, kind, item, float(quantity), float(listed_micros))


@inlined
def _price_step(quantity, listed_micros):
    step = 0
    if listed_micros > 0.0:
        of_unit = listed_micros / max(quantity, 1.0)
        step = min(max(2 + math.floor(2.0 * math.log2(max(of_unit, 1.0) / QUARTER_MICROS)), 1), N_PRICES - 1)
    return np.int8(step)


@inlined
def _gap(now_s, before_s):
    return np.int32(min(now_s - before_s, LONGEST_GAP_S))


@inlined
def n_until(first, end, time_s, at_s):
    """Return where the events after a time begin.

    first, end  events of one shopper
    time_s      (n_events,) int64  ascending between first and end
    at_s        seconds; events at that very second come before
    returns     in [first, end]
    """
    while first < end:
        middle = (first + end) // 2
        if time_s[middle] <= at_s:
            first = middle + 1
        else:
            end = middle
    return first


@spread
def _histories(edges, columns, shopper, at_s, told):
    offsets, time_s, kind, item, _, _, quantity, paid, discount, coupon = columns
    items, kinds, gaps, prices = told
    for block in prange(edges.size - 1):
        for row in range(edges[block], edges[block + 1]):
            first = offsets[shopper[row]]
            end = n_until(first, offsets[shopper[row] + 1], time_s, at_s[row])
            for event in range(max(first, end - LENGTH), end):
                place = event + LENGTH - end
                items[row, place] = item[event]
                kinds[row, place] = kind[event]
                prices[row, place] = _price_step(
                    quantity[event], float(paid[event]) + float(discount[event]) + float(coupon[event])
                )
                if event > first:
                    gaps[row, place] = _gap(time_s[event], time_s[event - 1])


@entry
def _prices(columns, steps):
    quantity, paid, discount, coupon = columns[6:]
    for event in range(steps.size):
        steps[event] = _price_step(quantity[event], float(paid[event]) + float(discount[event]) + float(coupon[event]))


@entry
def _apply(columns, clock, time_s, kind, item, quantity, listed_micros):
    items, kinds, gaps, prices = columns
    place = clock[0] % items.size
    now_s = time_s
    gap = np.int32(0)
    if clock[0] > 0:
        now_s = max(time_s, clock[1])
        gap = _gap(now_s, clock[1])
    items[place] = item
    kinds[place] = kind
    gaps[place] = gap
    prices[place] = _price_step(quantity, listed_micros)
    clock[0] += 1
    clock[1] = now_s
