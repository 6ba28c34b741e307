"""Parts that loops over events share: what money an event adds, where a shopper begins, a sum that rounds once.

In: a run of rows of a ledger. Out: buffers as long as the run, filled without a branch, so that eight rows go in one
instruction; kinds come in no order that a processor could guess. streams, moments and decays call them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each
from kernels.ledger import MONEY_LIMIT_MICROS, ORDER, REFUND, Ledger

Amounts = NDArray[np.int64] | NDArray[np.float64]
# Rows in a run: a few buffers of so many numbers stay in the nearest cache.
N_ROWS = 1024


def check_amounts(ledger: Ledger, amount: Amounts) -> None:
    """Pass when there is one amount of a known type and a possible size for each event.

    ledger  events of all shoppers
    amount  (n_events,) int64 or float64  micros; of a float column none is beyond MONEY_LIMIT_MICROS, NaN may be
    raises  InvalidInput
    """
    check_array("amount", amount, np.int64 if amount.dtype == np.int64 else np.float64)
    check(amount.size == ledger.n_events, f"amount must have n_events {ledger.n_events} values, got {amount.size}")
    if amount.dtype == np.float64:
        # An infinity would not be cleared by the factor 0 that parts two shoppers.
        is_possible = ~(np.abs(amount) > MONEY_LIMIT_MICROS)
        check_each("amount", amount, is_possible, f"NaN or in [{-MONEY_LIMIT_MICROS}, {MONEY_LIMIT_MICROS}]")


@njit(nogil=True, inline="always")
def signed_amount(kind, amount):
    """Return what an event adds to its shopper's spend.

    kind     of kernels.ledger
    amount   micros; NaN is unknown
    returns  the amount of an order line, less that of a refund, 0 of anything else or unknown
    """
    value = np.float64(amount)
    worth = value if kind == ORDER else (-value if kind == REFUND else 0.0)
    return worth if worth == worth else 0.0


@njit(nogil=True, inline="always")
def is_unknown(kind, amount):
    """Say whether an event moves money and nobody knows how much.

    kind     of kernels.ledger
    amount   micros; NaN is unknown
    returns  False for any whole number
    """
    return ((kind == ORDER) | (kind == REFUND)) & (amount != amount)


@njit(nogil=True)
def fill_signed(kind, amount, signed):
    """Write what each of a run of events adds to its shopper's spend.

    kind    (n_rows,) int8              of kernels.ledger
    amount  (n_rows,) int64 or float64  micros; NaN is unknown
    signed  (n_rows,) float64           filled
    """
    for row in range(signed.size):
        signed[row] = signed_amount(kind[row], amount[row])


@njit(nogil=True)
def blank_unknown(kind, amount, told):
    """Overwrite what is told of events of unknown amount with NaN.

    kind    (n_rows,) int8              of kernels.ledger
    amount  (n_rows,) int64 or float64  micros; NaN is unknown
    told    (n_rows,) of floats         changed in place
    """
    for row in range(told.size):
        if is_unknown(kind[row], amount[row]):
            told[row] = np.nan


@njit(nogil=True)
def zero_starts(offsets, shopper, begin, kept):
    """Write 0 at every shopper's first row of a run: what the shopper before had done counts for nothing.

    offsets  (n_shoppers + 1,) int64  of the ledger
    shopper  the first whose events begin at or after `begin`
    begin    ledger row of the run's first
    kept     (n_rows,) float64        changed in place
    returns  the first shopper whose events begin at or after the run's end
    """
    end = begin + kept.size
    while shopper < offsets.size - 1 and offsets[shopper] < end:
        if offsets[shopper] < offsets[shopper + 1]:
            kept[offsets[shopper] - begin] = 0.0
        shopper += 1
    return shopper
