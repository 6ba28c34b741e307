"""Behaviour sequences: the last events of a shopper as item, kind, gap and price band, for models of sequences.

In: a ledger and queries. Out: four columns, newest last, padded with zeros on the left. training/features writes them
for models outside this system; our own encoder reads event_history.py. A gap is told as a bucket of its logarithm:
models embed it, and equal ratios of time matter equally.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.event_history import n_until
from kernels.ledger import Ledger
from kernels.parallel import row_edges, spread

LENGTH = 200
# 54 bits hold the longest gap that a ledger allows.
N_GAP_BUCKETS = 1 + 1 + 54


@dataclass(frozen=True)
class Sequences:
    """The last events before each query, the newest at the end of its row; where there are fewer, zeros stand first.

    item  (n_queries, length) int32  vocabulary index; 0 is unknown or none
    kind  (n_queries, length) int8   of kernels.ledger; 0 is no event
    gap   (n_queries, length) int8   bucket of the time since the event before: 0 at the shopper's first event, else
                                     1 + the bits of its seconds: 1 is no second, 2 one, 3 two or three, 4 four to seven
    band  (n_queries, length) int8   price band of the item; 0 is unknown
    """

    item: NDArray[np.int32]
    kind: NDArray[np.int8]
    gap: NDArray[np.int8]
    band: NDArray[np.int8]


def sequences_at(
    ledger: Ledger,
    band_of_item: NDArray[np.int8],
    shopper: NDArray[np.int64],
    at_s: NDArray[np.int64],
    length: int = LENGTH,
) -> Sequences:
    """Return each shopper's last events as of each query.

    ledger        events of all shoppers
    band_of_item  (n_items,) int8      price band by vocabulary index, fitted on the training window; 0 is unknown
    shopper       (n_queries,) int64   shopper indexes, in any order
    at_s          (n_queries,) int64   seconds; events at the very second count
    length        events in a row, > 0
    returns       Sequences of n_queries rows
    raises        InvalidInput         if a query names an unknown shopper or an argument has another type or length
    source        reference.behaviour.sequences_at
    """
    _check_bands(band_of_item, length)
    check_array("shopper", shopper, np.int64)
    check_array("at_s", at_s, np.int64)
    check(shopper.size == at_s.size, f"at_s must have n_queries {shopper.size} values, got {at_s.size}")
    check_each("shopper", shopper, (shopper >= 0) & (shopper < ledger.n_shoppers), f"in [0, {ledger.n_shoppers})")
    told = _empty(shopper.size, length)
    columns = tuple(plain(column) for column in (ledger.offsets, ledger.time_s, ledger.item, ledger.kind))
    out = (told.item, told.kind, told.gap, told.band)
    _sequences(row_edges(shopper.size), columns, plain(band_of_item), plain(shopper), plain(at_s), out)
    return told


def _empty(n_queries: int, length: int) -> Sequences:
    shape = (n_queries, length)
    return Sequences(
        np.zeros(shape, np.int32), np.zeros(shape, np.int8), np.zeros(shape, np.int8), np.zeros(shape, np.int8)
    )


def _check_bands(band_of_item: NDArray[np.int8], length: int) -> None:
    check_array("band_of_item", band_of_item, np.int8)
    check(band_of_item.size > 0, "band_of_item must have a band for item 0, got none")
    check(length > 0, f"length must be > 0, got {length}")


@njit(nogil=True, inline="always")
def _gap_bucket(gap_s):
    # A float64's exponent is the number of bits of a whole number less one, and takes no loop to find.
    bits = np.float64(gap_s).view(np.int64) >> 52
    return np.int8(bits - 1021 if gap_s > 0 else 1)


@njit(nogil=True, inline="always")
def _band(item, band_of_item):
    return band_of_item[item] if item < band_of_item.size else np.int8(0)


@njit(nogil=True)
def _copy_last(first, end, columns, band_of_item, row, told):
    _, time_s, item, kind = columns
    items, kinds, gaps, bands = told
    length = items.shape[1]
    begin = max(first, end - length)
    shift = length - end
    for event in range(begin, end):
        items[row, event + shift] = item[event]
        kinds[row, event + shift] = kind[event]
        bands[row, event + shift] = _band(item[event], band_of_item)
    for event in range(max(begin, first + 1), end):
        gaps[row, event + shift] = _gap_bucket(time_s[event] - time_s[event - 1])


@spread
def _sequences(edges, columns, band_of_item, shopper, at_s, told):
    for block in prange(edges.size - 1):
        for row in range(edges[block], edges[block + 1]):
            first, end = columns[0][shopper[row]], columns[0][shopper[row] + 1]
            until = n_until(first, end, columns[1], at_s[row])
            _copy_last(first, until, columns, band_of_item, row, told)
