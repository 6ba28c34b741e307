"""What happened after each query: categories and items bought, offers redeemed, money spent, and what was not seen.

In: a Dataset and a grid of moments. Out: dense label arrays with masks, or lists of items. Called by training/fit.py.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.features import N_ARMS, N_CATEGORIES, N_OFFER_GROUPS
from kernels.ledger import ORDER, REFUND
from training.dataset import DAY_S, WEEK_S, Dataset

REDEEM_HORIZON_S = 28 * DAY_S
SPEND_HORIZON_S = 28 * DAY_S
MICROS = 1_000_000

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class NextItems:
    """Items bought within a week of each query, as one list per query.

    offsets  (n + 1,) int64      query i owns items offsets[i] to offsets[i + 1]
    items    (n_items,) int32    vocabulary indexes, each once per query
    """

    offsets: Ints
    items: NDArray[np.int32]


def bought_categories(dataset: Dataset, grid: Ints) -> Bools:
    """Say which categories each shopper bought in each week of the grid.

    grid     (n_weeks,) int64  week starts, a week apart
    returns  (n_shoppers, n_weeks, N_CATEGORIES) bool
    """
    ledger = dataset.ledger
    bought = np.zeros((ledger.n_shoppers, grid.size, N_CATEGORIES), np.bool_)
    week = (ledger.time_s - grid[0]) // WEEK_S
    counts = (ledger.kind == ORDER) & (ledger.category >= 0) & (week >= 0) & (week < grid.size)
    bought[_shopper_of_event(dataset)[counts], week[counts], ledger.category[counts]] = True
    return bought


def redeemed_groups(dataset: Dataset, grid: Ints) -> Bools:
    """Say from which offer groups each shopper redeems within 28 days of each week start.

    grid     (n_weeks,) int64  week starts, a week apart
    returns  (n_shoppers, n_weeks, N_OFFER_GROUPS) bool
    """
    return _answered_groups(dataset, grid, "redemption")


def clicked_groups(dataset: Dataset, grid: Ints) -> Bools:
    """Say on which offer groups each shopper clicks within 28 days of each week start.

    grid     (n_weeks,) int64  week starts, a week apart
    returns  (n_shoppers, n_weeks, N_OFFER_GROUPS) bool
    """
    return _answered_groups(dataset, grid, "click")


def _answered_groups(dataset: Dataset, grid: Ints, kind: str) -> Bools:
    shop, vocabulary = dataset.shop, dataset.vocabulary
    answered = (
        shop.outcomes.filter(pl.col("kind") == kind)
        .join(shop.offers.select("offer_id", "category"), on="offer_id", how="inner")
        .join(vocabulary.shopper_index, on="shopper_id", how="inner")
    )
    shopper, group = answered["shopper"].to_numpy(), vocabulary.group_slots(answered["category"])
    week = (answered["time_s"].to_numpy() - grid[0]) // WEEK_S
    labels = np.zeros((len(vocabulary.shopper_ids), grid.size, N_OFFER_GROUPS), np.bool_)
    for back in range(REDEEM_HORIZON_S // WEEK_S):
        at = week - back
        counts = (group >= 0) & (at >= 0) & (at < grid.size)
        labels[shopper[counts], at[counts], group[counts]] = True
    return labels


def group_spend(dataset: Dataset, grid: Ints) -> tuple[Bools, NDArray[np.float32]]:
    """Say what each shopper buys from the categories of each offer group within 28 days of each week start.

    grid     (n_weeks,) int64  week starts, a week apart
    returns  (n_shoppers, n_weeks, N_OFFER_GROUPS) bool whether anything, and float32 what was paid less what was given
             back, currency units, 0 where more was given back; categories that no offer covers count in no group
    """
    shop, vocabulary = dataset.shop, dataset.vocabulary
    offered = shop.offers["category"].drop_nulls().unique()
    groups = pl.DataFrame({"category": offered, "group": vocabulary.group_slots(offered)})
    lines = (
        shop.events.filter(pl.col("kind").is_in(["order", "refund"]))
        .join(shop.items.select("item_id", "category"), on="item_id", how="inner")
        .join(groups.filter(pl.col("group") >= 0), on="category", how="inner")
        .join(vocabulary.shopper_index, on="shopper_id", how="inner")
    )
    week = (lines["time_s"].to_numpy() - grid[0]) // WEEK_S
    is_order = lines["kind"].to_numpy() == "order"
    paid = np.where(is_order, 1.0, -1.0) * lines["paid_micros"].to_numpy() / MICROS
    n_weeks, back = grid.size, REDEEM_HORIZON_S // WEEK_S
    spend = np.zeros((len(vocabulary.shopper_ids), n_weeks + back, N_OFFER_GROUPS), np.float32)
    bought = np.zeros(spend.shape, np.bool_)
    counts = (week >= 0) & (week < n_weeks + back - 1)
    at = (lines["shopper"].to_numpy()[counts], week[counts], lines["group"].to_numpy()[counts])
    np.add.at(spend, at, paid[counts].astype(np.float32))
    bought[tuple(axis[is_order[counts]] for axis in at)] = True
    ahead = [slice(first, first + n_weeks) for first in range(back)]
    total = sum((spend[:, weeks] for weeks in ahead[1:]), spend[:, ahead[0]])
    return np.logical_or.reduce([bought[:, weeks] for weeks in ahead]), np.maximum(total, 0.0)


def held_groups(dataset: Dataset, grid: Ints) -> Bools:
    """Say from which groups each shopper holds an offer, or is sent one in the week: elsewhere "if sent" is not seen.

    grid     (n_weeks,) int64  week starts, a week apart
    returns  (n_shoppers, n_weeks, N_OFFER_GROUPS) bool
    """
    shop, vocabulary = dataset.shop, dataset.vocabulary
    offers = shop.offers.select("campaign_id", "offer_id", "category", "starts_s", "ends_s")
    whole = shop.exposures.filter(pl.col("offer_id").is_null()).select("shopper_id", "time_s", "campaign_id")
    single = shop.exposures.filter(pl.col("offer_id").is_not_null()).select("shopper_id", "time_s", "offer_id")
    sent = pl.concat(
        [whole.join(offers, on="campaign_id", how="inner"), single.join(offers, on="offer_id", how="inner")],
        how="diagonal",
    )
    sent = sent.with_columns(pl.Series("group", vocabulary.group_slots(sent["category"])))
    sent = sent.select("shopper_id", "time_s", "ends_s", "group").unique()
    sent = sent.filter(pl.col("group") >= 0).join(vocabulary.shopper_index, on="shopper_id", how="inner")
    shopper, group = sent["shopper"].to_numpy(), sent["group"].to_numpy()
    time_s, ends_s = sent["time_s"].to_numpy(), sent["ends_s"].to_numpy()
    held = np.zeros((len(vocabulary.shopper_ids), grid.size, N_OFFER_GROUPS), np.bool_)
    for week, start_s in enumerate(grid):
        live = (time_s < start_s + WEEK_S) & (ends_s > start_s)
        held[shopper[live], week, group[live]] = True
    return held


def next_items(dataset: Dataset, shopper: Ints, at_s: Ints) -> NextItems:
    """List the vocabulary items that each query's shopper buys within a week of it.

    shopper  (n,) int64
    at_s     (n,) int64
    """
    ledger = dataset.ledger
    first, last = _event_range(dataset, shopper, at_s, at_s + WEEK_S)
    counts = (ledger.kind == ORDER) & (ledger.item > 0)
    lists = [np.unique(ledger.item[low:high][counts[low:high]]) for low, high in zip(first, last, strict=True)]
    offsets = np.concatenate([[0], np.cumsum([items.size for items in lists], dtype=np.int64)])
    return NextItems(offsets, np.concatenate([*lists, np.zeros(0, np.int32)]))


def spend_after(dataset: Dataset, shopper: Ints, at_s: Ints, horizon_s: int) -> NDArray[np.float64]:
    """Paid less refunded by each query's shopper from the query on.

    shopper    (n,) int64
    at_s       (n,) int64
    horizon_s  how far to look; the end is excluded
    returns    (n,) float64  currency units
    """
    ledger = dataset.ledger
    signs = (ledger.kind == ORDER).astype(np.int64) - (ledger.kind == REFUND)
    running = np.concatenate([[0], np.cumsum(signs * ledger.paid_micros)])
    first, last = _event_range(dataset, shopper, at_s, at_s + horizon_s)
    spent: NDArray[np.float64] = (running[last] - running[first]) / MICROS
    return spent


def _shopper_of_event(dataset: Dataset) -> Ints:
    return np.repeat(np.arange(dataset.ledger.n_shoppers), np.diff(dataset.ledger.offsets))


def _event_range(dataset: Dataset, shopper: Ints, from_s: Ints, until_s: Ints) -> tuple[Ints, Ints]:
    """Positions of the events of each query's shopper in [from_s, until_s)."""
    ledger = dataset.ledger
    # One key that ascends over the whole ledger turns every query into two binary searches.
    origin_s = int(ledger.time_s.min(initial=0))
    width = int(ledger.time_s.max(initial=0)) - origin_s + 2
    keys = _shopper_of_event(dataset) * width + (ledger.time_s - origin_s)
    low, high = (np.clip(times - origin_s, 0, width - 1) for times in (from_s, until_s))
    return np.searchsorted(keys, shopper * width + low), np.searchsorted(keys, shopper * width + high)


__all__ = [
    "MICROS",
    "N_ARMS",
    "NextItems",
    "bought_categories",
    "clicked_groups",
    "group_spend",
    "held_groups",
    "next_items",
    "redeemed_groups",
    "spend_after",
]
