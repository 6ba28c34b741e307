"""Running columns: for every event, what its shopper had done up to and with it.

In: a ledger. Out: one value per event, or an update of one shopper's state by one event that writes the same values.
training and the online store call them. All loops go over shoppers in blocks of about equally many events.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.amounts import (
    N_ROWS,
    Amounts,
    blank_unknown,
    check_amounts,
    fill_signed,
    is_unknown,
    signed_amount,
    zero_starts,
)
from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.ledger import CART, EXPOSURE, ORDER, REDEMPTION, REFUND, VIEW, Ledger
from kernels.parallel import block_edges, row_edges, spread
from kernels.powers import multiply_add

N_KINDS = REDEMPTION

# The state of one shopper: whether there was an event, its time, events by kind, spend.
_HAS_EVENT, _LAST_S, _COUNTS, _SPEND = 0, 1, 2, 2 + N_KINDS
N_STATE = 3 + N_KINDS
# What an update writes: gap, events by kind, spend.
N_COLUMNS = 2 + N_KINDS


def gaps_s(ledger: Ledger) -> NDArray[np.float32]:
    """Return the seconds since the shopper's event before, in the ledger's order.

    ledger   events of all shoppers
    returns  (n_events,) float32  ≥ 0; NaN at a shopper's first event
    source   reference.streams.gaps_s
    """
    gap_s = np.empty(ledger.n_events, np.float32)
    _gaps(block_edges(ledger.offsets), plain(ledger.offsets), plain(ledger.time_s), gap_s)
    return gap_s


def kind_counts(ledger: Ledger) -> NDArray[np.int32]:
    """Return how many events of each kind the shopper has so far, this one included.

    ledger   events of all shoppers
    returns  (n_events, N_KINDS) int32  column k counts kind k + 1
    source   reference.streams.kind_counts
    """
    counts = np.empty((ledger.n_events, N_KINDS), np.int32)
    _count(block_edges(ledger.offsets), plain(ledger.offsets), plain(ledger.kind), counts)
    return counts


def running_spend(ledger: Ledger, amount: Amounts) -> NDArray[np.float64]:
    """Return what the shopper has spent so far: order lines less refunds, this event included.

    ledger   events of all shoppers
    amount   (n_events,) int64 or float64  micros, as ledger.paid_micros; NaN is an amount that nobody knows
    returns  (n_events,) float64  micros; NaN at a line of unknown amount, which later sums leave out
    raises   InvalidInput         if amount has another type or length
    source   reference.streams.running_spend
    """
    check_amounts(ledger, amount)
    spend, edges = np.empty(ledger.n_events), block_edges(ledger.offsets)
    buffers = np.empty((edges.size - 1, 2, N_ROWS))
    _spend(edges, plain(ledger.offsets), plain(ledger.kind), plain(amount), buffers, spend)
    return spend


def price_bands(item: NDArray[np.int32], band_of_item: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the price band of each event's item.

    item          (n_events,) int32  vocabulary index, as ledger.item
    band_of_item  (n_items,) int8    by vocabulary index; fitted on the training window, 0 where no price is known
    returns       (n_events,) int8   0 for an item that the vocabulary of the bands does not hold
    raises        InvalidInput       if a type differs or there is no band for item 0
    source        reference.streams.price_bands
    """
    check_array("item", item, np.int32)
    check_array("band_of_item", band_of_item, np.int8)
    check(band_of_item.size > 0, "band_of_item must have a band for item 0, got none")
    band = np.empty(item.size, np.int8)
    _bands(row_edges(item.size), plain(item), plain(band_of_item), band)
    return band


def empty_state() -> NDArray[np.float64]:
    """Return the state of a shopper without events.

    returns  (N_STATE,) float64
    """
    return np.zeros(N_STATE)


def apply_event(state: NDArray[np.float64], time_s: int, kind: int, amount: float) -> NDArray[np.float64]:
    """Take one event into a shopper's state in constant time; return its running columns.

    state    (N_STATE,) float64  of the shopper, changed in place
    time_s   seconds, not before the last event's
    kind     of kernels.ledger
    amount   micros; NaN is unknown
    returns  (N_COLUMNS,) float64  gap_s, the counts by kind, spend; the very values of the functions over a ledger
    raises   InvalidInput        if the state has another size or the kind is unknown
    """
    check_array("state", state, np.float64)
    check(state.size == N_STATE, f"state must have {N_STATE} values, got {state.size}")
    check(VIEW <= kind <= REDEMPTION, f"kind must be in [{VIEW}, {REDEMPTION}], got {kind}")
    columns = np.empty(N_COLUMNS)
    _apply(state, float(time_s), kind, float(amount), columns)
    return columns


@njit(nogil=True)
def _gaps_of(now_s, before_s, gap_s):
    for row in range(gap_s.size):
        gap_s[row] = np.float32(now_s[row] - before_s[row])


@spread
def _gaps(edges, offsets, time_s, gap_s):
    for block in prange(edges.size - 1):
        begin, end = offsets[edges[block]], offsets[edges[block + 1]]
        if begin < end:
            _gaps_of(time_s[begin + 1 : end], time_s[begin : end - 1], gap_s[begin + 1 : end])
        for who in range(edges[block], edges[block + 1]):
            if offsets[who] < offsets[who + 1]:
                gap_s[offsets[who]] = np.nan


@njit(nogil=True)
def _count_of(kind, counts):
    views = carts = orders = refunds = exposures = redemptions = np.int32(0)
    for row in range(kind.size):
        views += np.int32(kind[row] == VIEW)
        carts += np.int32(kind[row] == CART)
        orders += np.int32(kind[row] == ORDER)
        refunds += np.int32(kind[row] == REFUND)
        exposures += np.int32(kind[row] == EXPOSURE)
        redemptions += np.int32(kind[row] == REDEMPTION)
        counts[row, 0], counts[row, 1], counts[row, 2] = views, carts, orders
        counts[row, 3], counts[row, 4], counts[row, 5] = refunds, exposures, redemptions


@spread
def _count(edges, offsets, kind, counts):
    for block in prange(edges.size - 1):
        for who in range(edges[block], edges[block + 1]):
            rows = slice(offsets[who], offsets[who + 1])
            _count_of(kind[rows], counts[rows])


@njit(nogil=True)
def _sum_of(kept, signed, total, spend):
    for row in range(spend.size):
        total = multiply_add(total, kept[row], signed[row])
        spend[row] = total
    return total


@njit(nogil=True)
def _spend_of(first, last, offsets, kind, amount, buffers, spend):
    total = 0.0
    for begin in range(offsets[first], offsets[last], N_ROWS):
        rows = slice(begin, min(begin + N_ROWS, offsets[last]))
        kept, signed = buffers[0, : rows.stop - begin], buffers[1, : rows.stop - begin]
        kept[:] = 1.0
        first = zero_starts(offsets, first, begin, kept)
        fill_signed(kind[rows], amount[rows], signed)
        total = _sum_of(kept, signed, total, spend[rows])
        blank_unknown(kind[rows], amount[rows], spend[rows])


@spread
def _spend(edges, offsets, kind, amount, buffers, spend):
    for block in prange(edges.size - 1):
        _spend_of(edges[block], edges[block + 1], offsets, kind, amount, buffers[block], spend)


@njit(nogil=True)
def _bands_of(item, band_of_item, band):
    n_items = np.uint32(band_of_item.size)
    for row in range(item.size):
        at = np.uint32(item[row])
        band[row] = band_of_item[at] if at < n_items else 0


@spread
def _bands(edges, item, band_of_item, band):
    for block in prange(edges.size - 1):
        rows = slice(edges[block], edges[block + 1])
        _bands_of(item[rows], band_of_item, band[rows])


@entry
def _apply(state, time_s, kind, amount, columns):
    columns[0] = np.float32(time_s - state[_LAST_S]) if state[_HAS_EVENT] else np.nan
    state[_HAS_EVENT] = 1.0
    state[_LAST_S] = time_s
    state[_COUNTS + kind - 1] += 1.0
    state[_SPEND] += signed_amount(kind, amount)
    columns[1 : 1 + N_KINDS] = state[_COUNTS : _COUNTS + N_KINDS]
    columns[1 + N_KINDS] = np.nan if is_unknown(kind, amount) else state[_SPEND]
