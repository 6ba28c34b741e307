"""One shopper's past as plain Python values, and the sums that definitions are made of. The other twins call it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernels.ledger import ORDER, Ledger

DAY_S = 86_400


@dataclass(frozen=True)
class Happening:
    """One event of one shopper; the fields are the ledger's columns, money in micros."""

    time_s: int
    kind: int
    item: int
    category: int
    order: int
    quantity: float
    paid: int
    discount: int
    coupon: int


def history(ledger: Ledger, shopper: int, at_s: int) -> list[Happening]:
    """Return what a shopper did up to a time.

    ledger   events of all shoppers
    shopper  index
    at_s     seconds; events at that very second are in
    returns  events in the ledger's order
    """
    rows = range(int(ledger.offsets[shopper]), int(ledger.offsets[shopper + 1]))
    return [
        Happening(
            int(ledger.time_s[row]),
            int(ledger.kind[row]),
            int(ledger.item[row]),
            int(ledger.category[row]),
            int(ledger.order[row]),
            float(ledger.quantity[row]),
            int(ledger.paid_micros[row]),
            int(ledger.discount_micros[row]),
            int(ledger.coupon_micros[row]),
        )
        for row in rows
        if ledger.time_s[row] <= at_s
    ]


def of_kind(events: Iterable[Happening], *kinds: int) -> list[Happening]:
    """Return the events of some kinds.

    events   of one shopper
    kinds    of kernels.ledger
    returns  those events, in their order
    """
    return [event for event in events if event.kind in kinds]


def orders(events: Iterable[Happening]) -> list[list[Happening]]:
    """Return the lines of each order: a run of order lines with one key or, where there is no key, one second.

    events   of one shopper, in time order
    returns  one list of lines for each order, in time order
    """
    found: list[list[Happening]] = []
    for line in of_kind(events, ORDER):
        before = found[-1][-1] if found else None
        is_same = before is not None and before.order == line.order and (line.order or before.time_s == line.time_s)
        if is_same:
            found[-1].append(line)
        else:
            found.append([line])
    return found


def worth(at_s: int, time_s: int, half_life_days: float) -> float:
    """Return what one event is worth at a later time.

    at_s            seconds
    time_s          seconds, ≤ at_s
    half_life_days  days in which the worth halves
    returns         in [0, 1]
    """
    return float(0.5 ** ((at_s - time_s) / (half_life_days * DAY_S)))


def mean(values: Sequence[float]) -> float:
    """Return the mean; 0 of nothing.

    values   any number of them
    returns  their sum over their count
    """
    return math.fsum(values) / len(values) if values else 0.0


def std(values: Sequence[float]) -> float:
    """Return the population standard deviation; 0 of nothing.

    values   any number of them
    returns  ≥ 0
    """
    centre = mean(values)
    return math.sqrt(mean([(value - centre) ** 2 for value in values]))


def days_since(at_s: int, times_s: Sequence[int], cap_days: float) -> float:
    """Return days since the last of some times; the cap if there is none.

    at_s      seconds
    times_s   seconds, ascending
    cap_days  days
    returns   in [0, cap_days]
    """
    return min((at_s - times_s[-1]) / DAY_S, cap_days) if times_s else cap_days
