"""Twins of recency, frequency, sessions and week: when and how often. tests/kernels compares them with the kernels."""

import math

import numpy as np

from kernels.ledger import CART, ORDER, REFUND, VIEW, Ledger
from kernels.reference.history import DAY_S, Happening, days_since, history, mean, of_kind, orders, std, worth


def recency(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of recency.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    events = history(ledger, shopper, at_s)
    times = [[event.time_s for event in of_kind(events, kind)] for kind in (VIEW, CART, ORDER, REFUND)]
    tenure = min((at_s - events[0].time_s) / DAY_S, 3650.0) if events else 0.0
    return [*(days_since(at_s, each, 365.0) for each in times), *(float(bool(each)) for each in times), tenure]


def frequency(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of frequency.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    events = history(ledger, shopper, at_s)
    starts = [lines[0].time_s for lines in orders(events)]
    gaps = [float(gap_s) / DAY_S for gap_s in np.diff(starts)]

    def decayed(times_s: list[int], half_life_days: float) -> float:
        return math.fsum(worth(at_s, time_s, half_life_days) for time_s in times_s)

    def times(kind: int) -> list[int]:
        return [event.time_s for event in of_kind(events, kind)]

    due = min((at_s - starts[-1]) / DAY_S / mean(gaps), 10.0) if mean(gaps) > 0 else 1.0
    return [
        len(starts),
        *(decayed(starts, half_life_days) for half_life_days in (7, 28, 91)),
        decayed(times(VIEW), 7),
        decayed(times(CART), 7),
        decayed(times(ORDER), 28),
        mean(gaps),
        std(gaps),
        due,
    ]


def sessions(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of sessions.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    visits: list[list[Happening]] = []
    for event in of_kind(history(ledger, shopper, at_s), VIEW, CART, ORDER):
        if visits and event.time_s - visits[-1][-1].time_s <= 30 * 60:
            visits[-1].append(event)
        else:
            visits.append([event])
    if not visits:
        return [0.0] * 9
    minutes = [(visit[-1].time_s - visit[0].time_s) / 60 for visit in visits]
    latest = visits[-1]
    is_live = at_s - latest[-1].time_s <= 30 * 60
    return [
        len(visits),
        math.fsum(worth(at_s, visit[0].time_s, 28) for visit in visits),
        mean([len(visit) for visit in visits]),
        mean(minutes),
        mean([float(any(event.kind == ORDER for event in visit)) for visit in visits]),
        len(latest),
        minutes[-1],
        float(is_live),
        len(of_kind(latest, CART)) * float(is_live),
    ]


def week(ledger: Ledger, shopper: int, at_s: int) -> list[float]:
    """Define the columns of week.FAMILY.

    ledger   events of all shoppers
    shopper  index of one
    at_s     seconds; events at that very second count
    returns  one value for each column
    """
    starts = [lines[0].time_s for lines in orders(history(ledger, shopper, at_s))]
    if not starts:
        return [0.0] * 4
    worths = [worth(starts[-1], start, 91) for start in starts]
    days = [np.datetime64(start, "s").astype("datetime64[D]") for start in starts]
    hours = [
        float((np.datetime64(start, "s") - day) / np.timedelta64(1, "h"))
        for start, day in zip(starts, days, strict=True)
    ]

    def share(values: list[float]) -> float:
        return math.fsum(weight * value for weight, value in zip(worths, values, strict=True)) / math.fsum(worths)

    return [
        share([float(not np.is_busday(day)) for day in days]),
        share([float(hour >= 18) for hour in hours]),
        share([math.sin(math.tau * hour / 24) for hour in hours]),
        share([math.cos(math.tau * hour / 24) for hour in hours]),
    ]
