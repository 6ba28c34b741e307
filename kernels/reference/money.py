"""Twins of spend, baskets and prices: how much, and at which price. tests/kernels compares them with the kernels."""

import math

from kernels.ledger import ORDER, REFUND, Ledger
from kernels.reference.history import history, mean, of_kind, orders, std, worth

MICROS = 1_000_000


def spend(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of spend.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    events = of_kind(history(ledger, shopper, at_s), ORDER, REFUND)
    lines = [event.paid / MICROS for event in of_kind(events, ORDER)]
    amounts = [(event.time_s, event.paid / MICROS * (1 if event.kind == ORDER else -1)) for event in events]
    return [
        math.fsum(amount for _, amount in amounts),
        *(
            math.fsum(amount * worth(at_s, time_s, half_life_days) for time_s, amount in amounts)
            for half_life_days in (7, 28, 91)
        ),
        math.fsum(event.paid / MICROS for event in of_kind(events, REFUND)),
        mean(lines),
        std(lines),
    ]


def baskets(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of baskets.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    found = orders(history(ledger, shopper, at_s))
    if not found:
        return [0.0] * 7
    paid = [math.fsum(line.paid / MICROS for line in lines) for lines in found]
    return [
        mean([len(lines) for lines in found]),
        mean([math.fsum(line.quantity for line in lines) for lines in found]),
        mean([len({line.category for line in lines} - {-1}) for lines in found]),
        mean(paid),
        std(paid),
        len(found[-1]),
        paid[-1],
    ]


def prices(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of prices.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    lines = of_kind(history(ledger, shopper, at_s), ORDER)
    if not lines:
        return [0.0] * 5
    worths = [worth(lines[-1].time_s, line.time_s, 91) for line in lines]

    def decayed(values: list[float]) -> float:
        return math.fsum(weight * value for weight, value in zip(worths, values, strict=True))

    list_price = decayed([line.paid + line.discount + line.coupon for line in lines])
    with_coupon = [float(line.coupon > 0) for line in lines]
    return [
        decayed([line.discount for line in lines]) / list_price if list_price > 0 else 0.0,
        decayed([float(line.discount > 0) for line in lines]) / math.fsum(worths),
        decayed(with_coupon) / math.fsum(worths),
        math.fsum(worth(at_s, line.time_s, 91) * has for line, has in zip(lines, with_coupon, strict=True)),
        list_price / math.fsum(worths) / MICROS,
    ]
