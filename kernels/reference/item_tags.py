"""Twin of item tags: each from the whole history, without recursion. tests/kernels/test_item_tags.py compares them."""

import math
from collections.abc import Sequence

Line = tuple[int, int, int, int, float]


def item_sums(lines: Sequence[Line], item: int, at_s: int) -> list[float]:
    """Define the columns of item_sums.

    lines    (item, time_s, month, weekday, units) of all items
    item     index of one
    at_s     seconds; lines at that very second count
    returns  one value for each column
    """
    own = [line for line in lines if line[0] == item and line[1] <= at_s]

    def decayed(half_life_days: float) -> float:
        return math.fsum(units * 0.5 ** ((at_s - time_s) / (half_life_days * 86_400)) for _, time_s, _, _, units in own)

    return [
        len(own), min((line[1] for line in own), default=at_s), decayed(28), decayed(91),
        *(math.fsum(line[4] for line in own if line[2] == month) for month in range(12)),
        *(math.fsum(line[4] for line in own if line[3] == day) for day in range(7)),
    ]  # fmt: skip


def item_tags(
    sums: Sequence[float], at_s: int, shop_sums: Sequence[float], priced: tuple[float, float], edges: Sequence[float]
) -> list[float]:
    """Define the columns of ITEM_TAGS.

    sums       of one item
    at_s       seconds
    shop_sums  of all items together
    priced     micros of one unit: price and cost, NaN where unknown
    edges      between the price bands of the item's category; none where no price was known
    returns    one value for each column
    """
    price, cost = priced
    n_lines, first_s, fast, slow = sums[:4]
    days = max((at_s - first_s) / 86_400, 7)
    # The mean of an exponential's density over the days in which the item was for sale.
    rates = [
        units * 7 * math.log(2) / half_life / (1 - 2 ** (-days / half_life))
        for units, half_life in ((fast, 28), (slow, 91))
    ]
    return [
        0 if math.isnan(price) or not edges else 1 + sum(edge < price for edge in edges),
        rates[0],
        rates[0] / rates[1] if n_lines >= 5 and rates[1] else math.nan,
        *_season(sums[4:16], shop_sums[4:16]),
        *_season(sums[16:], shop_sums[16:]),
        1 - cost / price if price > 0 else math.nan,
    ]


def _season(own: Sequence[float], shops: Sequence[float]) -> list[float]:
    total, shop_total = sum(own), sum(shops)
    return [
        (mine + 20) / (total * theirs / shop_total + 20) if theirs else math.nan
        for mine, theirs in zip(own, shops, strict=True)
    ]
