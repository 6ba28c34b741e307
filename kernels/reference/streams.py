"""Twins of streams, moments, decays and visits: per-event columns of one shopper, from plain lists.

Every twin takes the events of one shopper, earliest first, and returns one value or row per event. A kind is that of
kernels.ledger; an amount is micros, NaN where nobody knows it.
"""

import math
from collections.abc import Sequence

from kernels.ledger import CART, ORDER, REDEMPTION, REFUND, VIEW


def gaps_s(times_s: Sequence[int]) -> list[float]:
    """Define streams.gaps_s.

    times_s  seconds
    returns  seconds since the event before; NaN at the first
    """
    return [math.nan if at == 0 else float(now_s - times_s[at - 1]) for at, now_s in enumerate(times_s)]


def kind_counts(kinds: Sequence[int]) -> list[list[int]]:
    """Define streams.kind_counts.

    kinds    of the events
    returns  events of each kind so far
    """
    return [[list(kinds[: at + 1]).count(kind) for kind in range(VIEW, REDEMPTION + 1)] for at in range(len(kinds))]


def running_spend(kinds: Sequence[int], amounts: Sequence[float]) -> list[float]:
    """Define streams.running_spend.

    kinds    of the events
    amounts  micros
    returns  micros of order lines less refunds so far; NaN at a line of unknown amount
    """
    worth = _worths(kinds, amounts)
    return [
        math.nan if math.isnan(worth[at]) else math.fsum(each for each in worth[: at + 1] if not math.isnan(each))
        for at in range(len(worth))
    ]


def price_bands(items: Sequence[int], band_of_item: Sequence[int]) -> list[int]:
    """Define streams.price_bands.

    items         vocabulary indexes
    band_of_item  by vocabulary index
    returns       their bands; 0 beyond the last one
    """
    return [band_of_item[item] if item < len(band_of_item) else 0 for item in items]


def running_moments(kinds: Sequence[int], amounts: Sequence[float]) -> list[tuple[float, float]]:
    """Define moments.running_moments.

    kinds    of the events
    amounts  micros
    returns  mean and population standard deviation of the known order lines so far
    """
    rows = []
    for at in range(len(kinds)):
        known = [amounts[i] for i in range(at + 1) if kinds[i] == ORDER and not math.isnan(amounts[i])]
        if not known or (kinds[at] == ORDER and math.isnan(amounts[at])):
            rows.append((math.nan, math.nan))
            continue
        mean = math.fsum(known) / len(known)
        rows.append((mean, math.sqrt(math.fsum((each - mean) ** 2 for each in known) / len(known))))
    return rows


def decayed_sums(
    times_s: Sequence[int], kinds: Sequence[int], amounts: Sequence[float], half_life_s: float
) -> list[tuple[float, float]]:
    """Define decays.decayed_sums.

    times_s      seconds
    kinds        of the events
    amounts      micros
    half_life_s  seconds
    returns      events and spend so far, each halved after every half-life since
    """
    worths, rows = _worths(kinds, amounts), []
    for at, now_s in enumerate(times_s):
        weights = [0.5 ** ((now_s - then_s) / half_life_s) for then_s in times_s[: at + 1]]
        spend = math.fsum(
            weight * worth for weight, worth in zip(weights, worths, strict=False) if not math.isnan(worth)
        )
        rows.append((math.fsum(weights), math.nan if math.isnan(worths[at]) else spend))
    return rows


def session_columns(times_s: Sequence[int], kinds: Sequence[int], gap_s: int) -> list[list[int]]:
    """Define visits.session_columns.

    times_s  seconds
    kinds    of the events
    gap_s    seconds that part two visits when more of them pass
    returns  number, events, length in seconds, views, cart changes and orders of the latest visit, as of each event
    """
    visits: list[list[tuple[int, int]]] = []
    rows = []
    for now_s, kind in zip(times_s, kinds, strict=True):
        if kind in (VIEW, CART, ORDER):
            if not visits or now_s - visits[-1][-1][0] > gap_s:
                visits.append([])
            visits[-1].append((now_s, kind))
        latest = visits[-1] if visits else []
        made = [each for _, each in latest]
        length_s = latest[-1][0] - latest[0][0] if latest else 0
        rows.append([len(visits), len(latest), length_s, made.count(VIEW), made.count(CART), made.count(ORDER)])
    return rows


def _worths(kinds: Sequence[int], amounts: Sequence[float]) -> list[float]:
    sign = {ORDER: 1.0, REFUND: -1.0}
    return [amount * sign[kind] if kind in sign else 0.0 for kind, amount in zip(kinds, amounts, strict=True)]
