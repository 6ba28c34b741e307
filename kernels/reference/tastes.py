"""Twins of categories, contacts and sequences: what, and after which contact. tests/kernels compares them."""

import math

from kernels.ledger import EXPOSURE, N_CATEGORIES, ORDER, REDEMPTION, Ledger
from kernels.reference.history import days_since, history, of_kind, worth


def categories(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of categories.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    lines = of_kind(history(ledger, shopper, at_s), ORDER)
    times = [[line.time_s for line in lines if line.category == slot] for slot in range(N_CATEGORIES)]
    return [
        *(math.fsum(worth(at_s, time_s, 14) for time_s in each) for each in times),
        *(math.fsum(worth(at_s, time_s, 91) for time_s in each) for each in times),
        *(days_since(at_s, each, 365.0) for each in times),
        sum(bool(each) for each in times),
    ]


def contacts(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of contacts.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    events = history(ledger, shopper, at_s)
    exposed = [event.time_s for event in of_kind(events, EXPOSURE)]
    redeemed = [event.time_s for event in of_kind(events, REDEMPTION)]
    return [
        math.fsum(worth(at_s, time_s, 28) for time_s in exposed),
        days_since(at_s, exposed, 365.0),
        float(bool(exposed)),
        math.fsum(worth(at_s, time_s, 91) for time_s in redeemed),
        days_since(at_s, redeemed, 365.0),
        float(bool(redeemed)),
        len(redeemed) / max(len(exposed), 1),
    ]


def sequences(ledger: Ledger, shopper: int, at_s: int) -> list[int]:
    """Define the columns of sequences.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    items = [line.item for line in of_kind(history(ledger, shopper, at_s), ORDER) if line.item != 0]
    return ([0] * 50 + items)[-50:]
