"""Twin of event_history: the last events of one shopper from plain Python values."""

import math

from kernels.ledger import REFUND, Ledger
from kernels.reference.history import history


def event_history(ledger: Ledger, shopper: int, at_s: int, length: int) -> list[tuple[int, int, int, int]]:
    """Define one row of event_history.history_at, without its padding.

    ledger   events of all shoppers, exposures included
    shopper  index
    at_s     seconds; events at that very second count
    length   most events
    returns  (item, kind, gap_s, price) of each, latest last
    """
    deeds = [event for event in history(ledger, shopper, at_s) if event.kind <= REFUND]
    told = []
    for at, event in enumerate(deeds):
        listed = event.paid + event.discount + event.coupon
        price = 0
        if listed > 0:
            of_unit = listed / max(event.quantity, 1.0)
            price = min(max(2 + math.floor(2 * math.log2(max(of_unit, 1.0) / 250_000)), 1), 15)
        gap_s = 0 if at == 0 else min(event.time_s - deeds[at - 1].time_s, 2**31 - 1)
        told.append((event.item, event.kind, gap_s, price))
    return told[-length:]
