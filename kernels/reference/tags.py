"""Twins of tags and channels: each tag from named features, in plain Python. tests/kernels/test_tags.py compares."""

import math
from collections.abc import Mapping, Sequence

from kernels.ledger import N_CATEGORIES
from kernels.tag_limits import CHANNELS, TagLimits

Row = Mapping[str, float]


def tags(row: Row, contacts: Sequence[float], limits: TagLimits) -> list[float]:
    """Define the columns of TAGS.

    row       feature name -> value, of one query
    contacts  contacts in each of CHANNELS, then answers
    limits    fitted on the training window
    returns   one value for each column
    """
    promoted, position = price_numbers(row, limits.category_price)
    slots, lifts = _affinities(row, limits.category_share)
    prices = [promoted, position, *_sensitivity(promoted, position, limits)]
    if not row["has_ordered"]:
        return [0, 0, 0, 0, *slots, *lifts, *prices, math.nan, math.nan, *_channel(contacts, limits.channel_rate), 0]
    scores = (
        5 - sum(edge < row["order_recency_days"] for edge in limits.recency_days),
        1 + sum(edge < row["orders_hl91d"] for edge in limits.frequency),
        1 + sum(edge < row["spend_hl91d"] for edge in limits.monetary),
    )
    inputs = churn_inputs(row, limits.typical_gap_days)
    logit = math.fsum(c * x for c, x in zip(limits.churn_coefficients, [*inputs, 1.0], strict=True))
    return [
        *scores, _tier(*scores), *slots, *lifts, *prices,
        _expected_gap(row, limits.typical_gap_days),
        1 / (1 + math.exp(-min(max(logit, -30), 30))),
        *_channel(contacts, limits.channel_rate),
        _lifecycle(row, limits),
    ]  # fmt: skip


def churn_inputs(row: Row, typical_gap_days: float) -> list[float]:
    """Define the inputs of the probability of churn.

    row               feature name -> value, of one query
    typical_gap_days  > 0
    returns           N_CHURN_INPUTS values
    """
    expected = _expected_gap(row, typical_gap_days)
    recency = row["order_recency_days"]
    logs = [recency, recency / expected, row["n_orders"], row["orders_hl28d"], row["orders_hl91d"]]
    return [*map(math.log1p, logs), math.log(expected)]


def price_numbers(row: Row, category_price: Sequence[float]) -> list[float]:
    """Define the share of promoted lines and the price position.

    row             feature name -> value, of one query
    category_price  (N_CATEGORIES,)  0 where unknown
    returns         two values; NaN below evidence
    """
    if row["n_orders"] * row["basket_lines_mean"] < 5:
        return [math.nan, math.nan]
    promoted = 1 - (1 - row["discounted_line_share_hl91d"]) * (1 - row["coupon_line_share_hl91d"])
    priced = {slot: price for slot, price in enumerate(category_price) if price > 0}
    lines = {slot: row[f"category_lines_hl91d[{slot}]"] for slot in priced}
    expected = math.fsum(lines[slot] * priced[slot] for slot in priced)
    return [promoted, row["line_price_hl91d"] * math.fsum(lines.values()) / expected if expected else math.nan]


def channel_counts(contacts: Sequence[tuple[int, int, int, bool]], shopper: int, at_s: int) -> list[float]:
    """Define the counts by channel.

    contacts  (shopper, time_s, channel, is_answer) of all shoppers
    shopper   index of one
    at_s      seconds; contacts at that very second count
    returns   contacts in each of CHANNELS, then answers
    """
    seen = [(channel, is_answer) for who, time_s, channel, is_answer in contacts if who == shopper and time_s <= at_s]
    return [seen.count((channel, is_answer)) for is_answer in (False, True) for channel in range(len(CHANNELS))]


def _expected_gap(row: Row, typical: float) -> float:
    n_gaps = max(row["n_orders"] - 1, 0)
    return (row["order_gap_mean_days"] * n_gaps + 2 * typical) / (n_gaps + 2)


def _tier(recency: int, frequency: int, monetary: int) -> int:
    if recency >= 4 and frequency >= 4 and monetary >= 4:
        return 1
    if recency >= 3 and frequency >= 4:
        return 2
    if recency >= 3 and monetary >= 4:
        return 3
    if recency >= 4:
        return 4
    if recency <= 2 and max(frequency, monetary) >= 4:
        return 5
    return 6 if recency == 3 else 7


def _affinities(row: Row, share: Sequence[float]) -> tuple[list[float], list[float]]:
    lines = [row[f"category_lines_hl91d[{slot}]"] for slot in range(N_CATEGORIES)]
    # From left to right, as the loop adds: lifts that tie must tie in both.
    total = sum(lines)
    found = []
    for slot in range(N_CATEGORIES):
        if share[slot] > 0 and lines[slot] >= 2:
            lift = (lines[slot] + 5 * share[slot]) / (total + 5) / share[slot]
            if lift >= 1.2:
                found.append((-lift, slot))
    found = sorted(found)[:5]
    n_none = 5 - len(found)
    return [slot for _, slot in found] + [-1.0] * n_none, [-lift for lift, _ in found] + [math.nan] * n_none


def _sensitivity(promoted: float, position: float, limits: TagLimits) -> list[float]:
    if math.isnan(promoted):
        return [math.nan, 0]
    rank = _rank(limits.promoted_share, promoted)
    if not math.isnan(position):
        rank = (rank + 1 - _rank(limits.price_position, position)) / 2
    low, high = limits.sensitivity
    return [rank, 1 if rank < low else 3 if rank > high else 2]


def _rank(knots: Sequence[float], value: float) -> float:
    return sum(1 if knot < value else 0.5 if knot == value else 0 for knot in knots) / max(len(knots), 1)


def _channel(contacts: Sequence[float], rate: Sequence[float]) -> list[float]:
    known = []
    for channel in range(len(CHANNELS)):
        sent, answered = contacts[channel], contacts[len(CHANNELS) + channel]
        if answered >= 2:
            known.append((-(answered + 10 * rate[channel]) / (max(sent, answered) + 10), channel))
    if not known:
        return [0, math.nan]
    best, channel = min(known)
    return [channel + 1, -best]


def _lifecycle(row: Row, limits: TagLimits) -> int:
    typical = limits.typical_gap_days
    recency, n_gaps = row["order_recency_days"], max(row["n_orders"] - 1, 0)
    due = recency / _expected_gap(row, typical)
    if due > limits.lapsed_due:
        return 4
    if due > limits.at_risk_due:
        return 3
    if n_gaps == 0:
        return 1
    gaps = [0.0]
    for days in (7, 28, 91):
        earlier = max(row[f"orders_hl{days}d"] - 0.5 ** (recency / days), 4e-6)
        gaps.append(-days * math.log2(earlier) - recency)
    before = (max(row["order_gap_mean_days"] * n_gaps - max(gaps), 0) + 2 * typical) / (n_gaps + 1)
    return 5 if max(gaps) > limits.lapsed_due * before else 2
