"""What a placement does to an item's sales: the evidence behind the channels ads and content.

In: a shop's events and placements. Out: one rate ratio per channel with its 95 % interval. The exporter calls it and
publishes the ratios in the catalogue.

An item's rate in a store and week is its sales over all the store's sales that week: a busy week is no credit to a
placement. Weeks with the placement are set against weeks without it within the same item and store (raw), and also
within the same state of the other placement and of the item's price (adjusted), so that a price cut's effect is not
credited to the placement that announced it. Strata are pooled by Mantel and Haenszel.

What this cannot show: placements were not randomised. A shop features what it expects to sell, in season and in stock,
and the strata take out only what is constant for an item and store, the other placement, and a price cut. The ratio
compares weeks, so sales brought forward from later weeks or taken from sister items count in full, and it says nothing
about one shopper's response.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.sources.tables import WEEK_S, Shop

CHANNELS = ("ads", "content")
# Half an item's lines below list price make its week a price-cut week.
CUT_SHARE = 0.5
# An item sold in fewer of the weeks between its first and last sale has no known price in most of them, and many
# of its empty weeks are weeks it was not stocked. On complete_journey 0.25 gives 1.65 (ads) and 1.58 (content), 0.5
# gives 1.61 and 1.56, 0.9 gives 1.50 and 1.44.
FEWEST_WEEKS_SHARE = 0.5
# Items counted at a time: about 100 MB for 100 stores and a year of weeks.
CHUNK = 256
N_BOOTSTRAPS = 1_000
SEED = 20_170_101

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lift:
    """The effect of one placement on an item's sales rate.

    lift          rate with the placement over rate without, adjusted
    lower, upper  95 % interval: bootstrap over items, percentiles
    raw_lift      before adjusting for the other placement and price cuts
    n_strata      strata in which both arms were seen
    n_sales       sales in them
    """

    lift: float
    lower: float
    upper: float
    raw_lift: float
    n_strata: int
    n_sales: int


@dataclass(frozen=True)
class _Counts:
    """Traffic and sales of some items by store and by what held that week; axes: ads, content, price cut (0 no, 1 yes).

    traffic  (n_items, n_stores, 2, 2, 2) float64  sales of all the store's items, summed over weeks
    sales    (n_items, n_stores, 2, 2, 2) float64  sales of the item itself
    """

    traffic: Floats
    sales: Floats


def placement_lift(shop: Shop, until_s: int) -> dict[str, Lift]:
    """Return the lift of each channel that has placements and, in some stratum, weeks with and without them.

    shop     canonical tables; events without a store and stores without placements are left out
    until_s  only weeks that end by then are used
    returns  channel -> lift; a channel without evidence is absent
    source   Greenland & Robins 1985, "Estimation of a common effect parameter from sparse follow-up data", eq. for the
             Mantel-Haenszel rate ratio; Efron & Tibshirani 1993, ch. 13, percentile intervals (items are the clusters)
    """
    parts: dict[str, list[Floats]] = {channel: [] for channel in CHANNELS}
    for counts in _counted(shop, until_s):
        for axis, channel in enumerate(CHANNELS):
            parts[channel].append(_item_sums(counts, axis))
    lifts = {channel: _pooled(np.concatenate(sums)) for channel, sums in parts.items() if sums}
    return {channel: lift for channel, lift in lifts.items() if lift is not None}


def _weeks(shop: Shop, until_s: int) -> pl.DataFrame:
    """Weeks that placements know and that end in time, numbered `w` from 0."""
    starts = shop.placements.select("week", "week_starts_s").unique("week").sort("week_starts_s")
    return starts.filter(pl.col("week_starts_s") + WEEK_S <= until_s).with_row_index("w")


def _weekly_sales(shop: Shop, weeks: pl.DataFrame, stores: pl.DataFrame) -> pl.DataFrame:
    """Lines sold, `n`, and those at a cut price, `n_cut`, of every item `item_id` in store `s` and week `w`."""
    lines = (
        shop.events.lazy()
        .filter(pl.col("kind") == "order")
        .join(stores.lazy(), on="store_id")
        .select("item_id", "s", "time_s", (pl.col("discount_micros") > 0).alias("is_cut"))
        .sort("time_s")
        .join_asof(weeks.lazy().select("w", "week_starts_s"), left_on="time_s", right_on="week_starts_s")
        .filter(pl.col("time_s") < pl.col("week_starts_s") + WEEK_S)
    )
    return lines.group_by("item_id", "s", "w").agg(pl.len().alias("n"), pl.col("is_cut").sum().alias("n_cut")).collect()


def _steady_items(sold: pl.DataFrame, placements: pl.DataFrame) -> pl.DataFrame:
    """Items ever placed and sold in enough weeks, numbered `i` from 0."""
    n_weeks = pl.col("w").n_unique()
    span = pl.col("w").max() - pl.col("w").min() + 1
    items = sold.group_by("item_id").agg(((n_weeks > 1) & (n_weeks >= FEWEST_WEEKS_SHARE * span)).alias("is_steady"))
    placed = placements.select("item_id").unique()
    return items.filter("is_steady").join(placed, on="item_id").select("item_id").sort("item_id").with_row_index("i")


def _counted(shop: Shop, until_s: int) -> Iterator[_Counts]:
    weeks = _weeks(shop, until_s)
    stores = shop.placements.select("store_id").unique().sort("store_id").with_row_index("s")
    sold = _weekly_sales(shop, weeks, stores)
    placements = shop.placements.join(weeks.select("week", "w"), on="week").join(stores, on="store_id")
    items = _steady_items(sold, placements)
    traffic = np.zeros((stores.height, weeks.height))
    busy = sold.group_by("s", "w").agg(pl.col("n").sum())
    traffic[busy["s"], busy["w"]] = busy["n"]
    for first in range(0, items.height, CHUNK):
        chunk = items.slice(first, CHUNK).with_columns(pl.col("i") - first)
        yield _counts(sold.join(chunk, on="item_id"), placements.join(chunk, on="item_id"), traffic, chunk.height)


def _counts(sold: pl.DataFrame, placements: pl.DataFrame, traffic: Floats, n_items: int) -> _Counts:
    n_stores, n_weeks = traffic.shape
    sales = np.zeros((n_items, n_stores, n_weeks))
    sales[sold["i"], sold["s"], sold["w"]] = sold["n"]
    n_cut = np.zeros((n_items, n_weeks))
    np.add.at(n_cut, (sold["i"].to_numpy(), sold["w"].to_numpy()), sold["n_cut"].to_numpy())
    is_live, is_cut = _prices(sales.sum(axis=1), n_cut)
    # ads, content and price cut as the three bits of the week's state
    state = np.repeat(is_cut[:, None, :].astype(np.int64), n_stores, axis=1)
    for bit, channel in ((4, "ads"), (2, "content")):
        rows = placements.filter(pl.col("channel") == channel).unique(["i", "s", "w"])
        state[rows["i"], rows["s"], rows["w"]] += bit
    cell = state + 8 * np.arange(n_items * n_stores).reshape(n_items, n_stores, 1)
    seen = np.broadcast_to(traffic * is_live[:, None, :], sales.shape)
    shape = (n_items, n_stores, 2, 2, 2)
    counted = [np.bincount(cell.ravel(), part.ravel(), int(np.prod(shape))) for part in (seen, sales)]
    return _Counts(*(part.reshape(shape).astype(np.float64) for part in counted))


def _prices(n_sold: Floats, n_cut: Floats) -> tuple[Bools, Bools]:
    """Weeks between an item's first and last sale, and weeks at a cut price.

    n_sold, n_cut  (n_items, n_weeks)       lines sold anywhere, and those below list price
    returns        (n_items, n_weeks) bool, twice
    """
    sold = n_sold > 0
    is_live = np.maximum.accumulate(sold, axis=1) & np.maximum.accumulate(sold[:, ::-1], axis=1)[:, ::-1]
    # A week without a sale keeps the price of the last week with one.
    last = np.maximum.accumulate(np.where(sold, np.arange(sold.shape[1]), 0), axis=1)
    return is_live, np.take_along_axis(n_cut >= CUT_SHARE * np.maximum(n_sold, 1), last, axis=1)


def _item_sums(counts: _Counts, axis: int) -> Floats:
    """Mantel-Haenszel sums by item: raw numerator and denominator, then adjusted, then strata and sales in the latter.

    axis     of the channel among the states
    returns  (n_items, 6) float64
    """
    n_items, n_stores = counts.traffic.shape[:2]
    by_state = [
        np.moveaxis(part, 2 + axis, 2).reshape(n_items, n_stores, 2, 4) for part in (counts.traffic, counts.sales)
    ]
    raw = _stratum_sums(*(part.sum(axis=3, keepdims=True) for part in by_state))
    return np.column_stack([raw[:, :2], _stratum_sums(*by_state)])


def _stratum_sums(traffic: Floats, sales: Floats) -> Floats:
    """Sums over the strata of an item of a·T0/T and b·T1/T, the number of strata, and their sales.

    With the placement a sales over T1 of traffic, without it b over T0; T = T0 + T1. A stratum counts if both are seen.
    traffic, sales  (n_items, n_stores, 2, n_states)  without the placement, then with it
    returns         (n_items, 4) float64
    """
    t0, t1 = traffic[:, :, 0], traffic[:, :, 1]
    b, a = sales[:, :, 0], sales[:, :, 1]
    seen = (t0 > 0) & (t1 > 0) & (a + b > 0)
    share = np.divide(1.0, t0 + t1, out=np.zeros_like(t0), where=seen)
    terms = (a * t0 * share, b * t1 * share, seen, (a + b) * seen)
    return np.column_stack([term.sum(axis=(1, 2)) for term in terms]).astype(np.float64)


def _pooled(sums: Floats) -> Lift | None:
    raw_above, raw_below, above, below, strata, sales = sums.sum(axis=0)
    if below <= 0 or raw_below <= 0:
        return None
    n_items = len(sums)
    weights = np.random.default_rng(SEED).multinomial(n_items, np.full(n_items, 1 / n_items), N_BOOTSTRAPS)
    drawn = weights @ sums[:, 2:4]
    drawn = drawn[drawn[:, 1] > 0]
    lower, upper = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Lift(float(above / below), float(lower), float(upper), float(raw_above / raw_below), int(strata), int(sales))
