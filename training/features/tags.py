"""Shopper tags: limits fitted on what happened before the end of training, and the tags of any query beside them.

In: a Dataset. Out: TagLimits (tags.json), tags as kernels.tags computes them, and how well the probability of churn
held on the validation window. Called by training/features/assembly.py and training/export.py.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels import metrics
from kernels.channels import Contacts, channel_counts
from kernels.features import N_CATEGORIES, columns
from kernels.ledger import ORDER
from kernels.tag_limits import CHANNELS, N_CHURN_INPUTS, N_SCORES, TagLimits, tag_columns
from kernels.tags import churn_inputs, price_numbers, tags
from training.calibrate import fit_platt
from training.dataset import DAY_S, TRAIN, VALID, WEEK_S, Dataset, Rows, first_event_s, weekly_grid
from training.sources.tables import InvalidTable, Shop
from training.vocabulary import EVERYTHING_ELSE, Vocabulary

# Shopper-weeks that the probability of churn is fitted on; seven numbers need no more.
MOST_QUERIES = 100_000
N_KNOTS = 41
MOST_CHURN_WEEKS = 13
# Shares of a shopper's gaps between orders, over the expected one, that are no sign of leaving.
AT_RISK_QUANTILE, LAPSED_QUANTILE, CHURN_QUANTILE = 0.80, 0.95, 0.90
# Without a second order in the whole training window nobody's rhythm is known.
USUAL_GAP_DAYS, USUAL_AT_RISK_DUE, USUAL_LAPSED_DUE = 28.0, 2.0, 4.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ChurnCheck:
    """How the probability of churn did on shopper-weeks after the end of training, beside a constant.

    n                       shopper-weeks with their whole look-ahead in the validation window; 0 if they, or those of
                            training, are none, and then every figure below is NaN, null in features.json
    n_shoppers              shoppers among them
    churn_share             share in which no order came
    brier                   mean squared error of the probability
    brier_of_base_rate      the same of the training window's share, said of everybody
    calibration_error       expected calibration error
    calibration_error_of_base_rate  the same of the training window's share
    """

    n: int
    n_shoppers: int
    churn_share: float
    brier: float
    brier_of_base_rate: float
    calibration_error: float
    calibration_error_of_base_rate: float


@dataclass(frozen=True)
class OrderTimes:
    """When each shopper's orders began, sorted.

    shopper  (n_orders,) int64  ascending
    time_s   (n_orders,) int64  ascending within a shopper
    """

    shopper: Ints
    time_s: Ints

    def gaps_days(self) -> tuple[Ints, Floats]:
        """Days between an order and the next of the same shopper.

        returns  (n_gaps,) int64 shopper and (n_gaps,) float64 days
        """
        is_next = self.shopper[1:] == self.shopper[:-1]
        return self.shopper[1:][is_next], np.diff(self.time_s)[is_next] / DAY_S

    def has_order_within(self, shopper: Ints, at_s: Ints, seconds: int) -> NDArray[np.bool_]:
        """Whether an order begins in [at_s, at_s + seconds).

        shopper  (n,) int64
        at_s     (n,) int64
        returns  (n,) bool
        """
        if self.time_s.size == 0:
            return np.zeros(shopper.size, np.bool_)
        first_s = min(int(self.time_s.min()), int(at_s.min(initial=self.time_s[0])))
        width = max(int(self.time_s.max()), int(at_s.max(initial=0))) - first_s + seconds + 1
        keys = self.shopper * width + (self.time_s - first_s)
        asked = shopper * width + (at_s - first_s)
        return np.searchsorted(keys, asked) < np.searchsorted(keys, asked + seconds)


def order_times(dataset: Dataset) -> OrderTimes:
    """Return when orders began: lines of one key, or of one second where there is no key, are one order."""
    ledger = dataset.ledger
    shopper = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    line = np.flatnonzero(ledger.kind == ORDER)
    who, when, key = shopper[line], ledger.time_s[line], ledger.order[line]
    begins = np.ones(line.size, np.bool_)
    begins[1:] = (who[1:] != who[:-1]) | (key[1:] != key[:-1]) | ((key[1:] == 0) & (when[1:] != when[:-1]))
    return OrderTimes(who[begins], when[begins])


def contacts_of(shop: Shop, vocabulary: Vocabulary) -> Contacts:
    """Return every exposure, and every redemption under its offer's channel, sorted by shopper and time."""
    sent = shop.exposures.select("shopper_id", "time_s", "channel", pl.lit(False).alias("is_answer"))
    answered = (
        shop.outcomes.filter(pl.col("kind") == "redemption")
        .join(shop.offers.select("offer_id", "channel"), on="offer_id", how="inner")
        .select("shopper_id", "time_s", "channel", pl.lit(True).alias("is_answer"))
    )
    both = (
        pl.concat([sent, answered])
        .join(vocabulary.shopper_index, on="shopper_id", how="inner")
        .sort("shopper", "time_s", "is_answer", "channel")
    )
    places = {channel: place for place, channel in enumerate(CHANNELS)}
    n_shoppers = len(vocabulary.shopper_ids)
    offsets = np.zeros(n_shoppers + 1, np.int64)
    np.cumsum(np.bincount(both["shopper"].to_numpy(), minlength=n_shoppers), out=offsets[1:])
    channel = both["channel"].replace_strict(places, return_dtype=pl.Int8) if both.height else both["shopper"]
    return Contacts(
        offsets, both["time_s"].to_numpy(), channel.to_numpy().astype(np.int8), both["is_answer"].to_numpy()
    )


def tags_of(contacts: Contacts, rows: Rows, limits: TagLimits) -> NDArray[np.float32]:
    """Return the tags of queries, from what was known just before each.

    contacts  of the same shoppers
    rows      as Dataset.rows gives them
    returns   (n, N_TAGS) float32  columns of kernels.tag_limits.TAGS
    """
    return tags(rows.features, channel_counts(contacts, rows.shopper, rows.at_s - 1), limits)


def fit_tag_limits(dataset: Dataset, contacts: Contacts) -> TagLimits:
    """Fit every limit on what happened before the end of training; what comes later changes nothing.

    raises  InvalidTable  if nobody ordered before it
    """
    until_s = dataset.splits.train_until_s
    known = np.flatnonzero(first_event_s(dataset.ledger) < until_s)
    rows = dataset.rows(known, np.full(known.size, until_s))
    features = rows.features[rows.features[:, columns().index("has_ordered")] > 0]
    if features.size == 0:
        raise InvalidTable(f"events must hold an order before the end of training {until_s}, got none")
    share, price = _categories(dataset)
    promoted, position = price_numbers(features, price).T
    knots = [_quantiles(values, N_KNOTS) for values in (promoted, position)]
    typical_gap_days, at_risk_due, lapsed_due, churn_weeks = _rhythm(dataset)
    edges = [_edges(features[:, columns().index(name)]) for name in _SCORED]
    return TagLimits(
        train_until_s=until_s,
        recency_days=edges[0],
        frequency=edges[1],
        monetary=edges[2],
        category_share=tuple(share.tolist()),
        category_price=tuple(price.tolist()),
        promoted_share=knots[0],
        price_position=knots[1],
        sensitivity=_sensitivity_edges(promoted, position, knots),
        typical_gap_days=typical_gap_days,
        at_risk_due=at_risk_due,
        lapsed_due=lapsed_due,
        churn_weeks=churn_weeks,
        churn_coefficients=_fit_churn(dataset, typical_gap_days, churn_weeks),
        channel_rate=_channel_rates(contacts, until_s),
    )


def check_churn(dataset: Dataset, contacts: Contacts, limits: TagLimits) -> ChurnCheck:
    """Compare the probability of churn with what happened in the validation window."""
    _, base = _churn_cases(dataset, limits.churn_weeks, TRAIN)
    rows, happened = _churn_cases(dataset, limits.churn_weeks, VALID)
    if not len(rows) or not base.size:
        return ChurnCheck(0, 0, *[float("nan")] * 5)
    place = tag_columns().index("churn_prob")
    probs = tags_of(contacts, rows, limits)[:, place].astype(np.float64)
    constant = np.full(probs.size, base.mean())
    return ChurnCheck(
        n=len(rows),
        n_shoppers=int(np.unique(rows.shopper).size),
        churn_share=float(happened.mean()),
        brier=float(np.mean((probs - happened) ** 2)),
        brier_of_base_rate=float(np.mean((constant - happened) ** 2)),
        calibration_error=metrics.calibration_error(probs, happened),
        calibration_error_of_base_rate=metrics.calibration_error(constant, happened),
    )


_SCORED = ("order_recency_days", "orders_hl91d", "spend_hl91d")


def _edges(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(np.quantile(values.astype(np.float64), np.arange(1, N_SCORES) / N_SCORES).tolist())


def _quantiles(values: Floats, n_knots: int) -> tuple[float, ...]:
    known = values[~np.isnan(values)]
    return tuple(np.quantile(known, np.linspace(0, 1, n_knots)).tolist()) if known.size else ()


def _sensitivity_edges(promoted: Floats, position: Floats, knots: list[tuple[float, ...]]) -> tuple[float, ...]:
    """Terciles of the rank that kernels.tags gives training shoppers."""
    ranks = [_ranks(values, np.array(known)) for values, known in zip((promoted, position), knots, strict=True)]
    rank = np.where(np.isnan(position), ranks[0], (ranks[0] + 1.0 - ranks[1]) / 2)[~np.isnan(promoted)]
    return tuple(np.quantile(rank, (1 / 3, 2 / 3)).tolist()) if rank.size else (0.5, 0.5)


def _ranks(values: Floats, knots: Floats) -> Floats:
    between = np.searchsorted(knots, values, "left") + np.searchsorted(knots, values, "right")
    return between / (2.0 * max(knots.size, 1))


def _categories(dataset: Dataset) -> tuple[Floats, Floats]:
    """Share of order lines and mean list price, in currency units, of every category slot in the training window."""
    ledger = dataset.ledger
    line = np.flatnonzero(
        (ledger.kind == ORDER) & (ledger.time_s < dataset.splits.train_until_s) & (ledger.category >= 0)
    )
    slot = ledger.category[line].astype(np.int64)
    prices = (ledger.paid_micros[line] + ledger.discount_micros[line] + ledger.coupon_micros[line]) / 1e6
    n_lines = np.bincount(slot, minlength=N_CATEGORIES)
    price = np.bincount(slot, prices, N_CATEGORIES) / np.maximum(n_lines, 1)
    is_named = np.array([name not in ("", EVERYTHING_ELSE) for name in dataset.vocabulary.categories])
    return np.where(is_named, n_lines / max(line.size, 1), 0.0), price


def _rhythm(dataset: Dataset) -> tuple[float, float, float, int]:
    """Typical gap, the two limits of being due, and the weeks that churn looks ahead."""
    splits, orders = dataset.splits, order_times(dataset)
    before = orders.time_s < splits.train_until_s
    who, gaps = OrderTimes(orders.shopper[before], orders.time_s[before]).gaps_days()
    longest = max(1, (splits.train_until_s - splits.first_s) // (4 * WEEK_S))
    if gaps.size == 0:
        weeks = min(MOST_CHURN_WEEKS, longest, int(USUAL_GAP_DAYS) // 7)
        return USUAL_GAP_DAYS, USUAL_AT_RISK_DUE, USUAL_LAPSED_DUE, weeks
    typical = max(float(np.median(gaps)), 1.0 / 24.0)
    n_gaps, total = np.bincount(who), np.bincount(who, gaps)
    expected = (total + 2.0 * typical) / (n_gaps + 2.0)
    due = gaps / expected[who]
    at_risk = max(1.0, float(np.quantile(due, AT_RISK_QUANTILE)))
    lapsed = max(at_risk, float(np.quantile(due, LAPSED_QUANTILE)))
    weeks = int(np.ceil(np.quantile(gaps, CHURN_QUANTILE) / 7.0))
    return typical, at_risk, lapsed, max(1, min(weeks, MOST_CHURN_WEEKS, longest))


def _churn_cases(dataset: Dataset, churn_weeks: int, part: int) -> tuple[Rows, NDArray[np.bool_]]:
    """Shopper-weeks of a window, of shoppers who had ordered, and whether no order came in the weeks ahead."""
    grid = weekly_grid(dataset.splits)
    grid = grid[dataset.splits.part(grid, churn_weeks * WEEK_S) == part]
    orders = order_times(dataset)
    first_s = np.full(dataset.ledger.n_shoppers, np.iinfo(np.int64).max)
    np.minimum.at(first_s, orders.shopper, orders.time_s)
    shopper, week = np.nonzero(first_s[:, None] < grid[None, :])
    if shopper.size > MOST_QUERIES:
        kept = np.linspace(0, shopper.size - 1, MOST_QUERIES).astype(np.int64)
        shopper, week = shopper[kept], week[kept]
    at_s = grid[week]
    happened = ~orders.has_order_within(shopper, at_s, churn_weeks * WEEK_S)
    return dataset.rows(shopper, at_s), happened


def _fit_churn(dataset: Dataset, typical_gap_days: float, churn_weeks: int) -> tuple[float, ...]:
    rows, happened = _churn_cases(dataset, churn_weeks, TRAIN)
    share = (float(happened.sum()) + 0.5) / (happened.size + 1.0)
    prior = np.zeros(N_CHURN_INPUTS + 1)
    prior[-1] = np.log(share / (1.0 - share))
    return tuple(fit_platt(churn_inputs(rows.features, typical_gap_days), happened, prior).tolist())


def _channel_rates(contacts: Contacts, until_s: int) -> tuple[float, ...]:
    """Answers per contact in each channel, at most 1; a channel without contacts has the shop's rate."""
    before = contacts.time_s < until_s
    sent, answered = (
        np.bincount(contacts.channel[before & (contacts.is_answer == is_answer)], minlength=len(CHANNELS))
        for is_answer in (False, True)
    )
    overall = answered.sum() / max(sent.sum(), 1)
    rates = np.where(sent > 0, answered / np.maximum(sent, 1), overall)
    return tuple(np.minimum(rates, 1.0).tolist())
