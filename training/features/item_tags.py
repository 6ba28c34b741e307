"""Item tags: sales of every item as of a time, beside price bands fitted on the training window.

In: a shop's canonical tables. Out: ItemLimits, and tags as kernels.item_tags computes them. Called by
training/features/fitted.py and frames.py.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.item_tags import N_BANDS, ItemLimits, ItemLines, Priced, item_sums, item_tags
from training.sources.tables import Shop

# A category of fewer priced items takes the whole shop's bands.
FEWEST_ITEMS = 20

Ints = NDArray[np.int64]


def lines_of(shop: Shop) -> ItemLines:
    """Return every order line of the shop's items, sorted by item (its row in `shop.items`) and time.

    shop  canonical tables; a line of an item that `items` lacks is left out
    """
    rows = shop.items.select("item_id").with_row_index("row")
    local = pl.from_epoch("time_s", "s").dt.replace_time_zone("UTC").dt.convert_time_zone(shop.days.time_zone)
    lines = (
        shop.events.lazy()
        .filter(pl.col("kind") == "order")
        .select(
            "item_id", "time_s", "quantity",
            (local.dt.month() - 1).alias("month"), (local.dt.weekday() - 1).alias("weekday"),
        )
        .join(rows.lazy(), on="item_id", how="inner")
        .sort("row", "time_s", "quantity")
        .collect()
    )  # fmt: skip
    offsets = np.zeros(shop.items.height + 1, np.int64)
    np.cumsum(np.bincount(lines["row"].to_numpy(), minlength=shop.items.height), out=offsets[1:])
    return ItemLines(
        offsets, lines["time_s"].to_numpy(), lines["month"].to_numpy(), lines["weekday"].to_numpy(),
        lines["quantity"].to_numpy(),
    )  # fmt: skip


def typical_prices(shop: Shop, at_s: int) -> NDArray[np.float64]:
    """Return the price of one unit of each item in micros: declared, else the median of its order lines before a time.

    at_s     lines at or after it are not known yet
    returns  (n_items,) float64  in the order of `shop.items`; NaN where neither is known
    """
    paid = pl.col("paid_micros") + pl.col("discount_micros").fill_null(0) + pl.col("coupon_micros").fill_null(0)
    unpriced = shop.items.filter(pl.col("price_micros").is_null())["item_id"]
    seen = (
        shop.events.filter(
            (pl.col("kind") == "order") & (pl.col("time_s") < at_s) & (pl.col("quantity") > 0)
            & pl.col("item_id").is_in(unpriced.implode())
        )
        .group_by("item_id")
        .agg((paid / pl.col("quantity")).median().alias("seen_micros"))
    )  # fmt: skip
    priced = shop.items.join(seen, on="item_id", how="left", maintain_order="left")
    micros = pl.coalesce(pl.col("price_micros").cast(pl.Float64), "seen_micros").fill_null(float("nan"))
    return priced.select(micros.alias("micros"))["micros"].to_numpy()


def fit_item_limits(shop: Shop, category: Ints, train_until_s: int) -> ItemLimits:
    """Part the prices of the items that sold before the end of training into bands, category by category.

    category       (n_items,) int64  code of each of `shop.items`; 0 is unknown
    train_until_s  end of the training window, excluded
    """
    sold = shop.events.filter((pl.col("kind") == "order") & (pl.col("time_s") < train_until_s))["item_id"].unique()
    prices = typical_prices(shop, train_until_s)
    is_priced = shop.items["item_id"].is_in(sold.implode()).to_numpy() & ~np.isnan(prices)
    everything = _edges(prices[is_priced])
    rows = [everything]
    for code in range(1, int(category.max(initial=0)) + 1):
        own = prices[is_priced & (category == code)]
        rows.append(_edges(own) if own.size >= FEWEST_ITEMS else everything)
    return ItemLimits(train_until_s, tuple(rows))


def tags_at(shop: Shop, lines: ItemLines, category: Ints, limits: ItemLimits, at_s: int) -> NDArray[np.float32]:
    """Return the tags of every item as of a time, from what was known just before it.

    lines     of `lines_of`
    category  (n_items,) int64    code of each of `shop.items`
    returns   (n_items, N_ITEM_TAGS) float32  in the order of `shop.items`
    """
    n_items = shop.items.height
    before = np.full(n_items, at_s - 1)
    sums = item_sums(lines, np.arange(n_items), before)
    cost = shop.items["cost_micros"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    # A category that came after the training window has no bands of its own.
    known = np.where(category < len(limits.price_edges), category, 0)
    return item_tags(sums, before, _shop_sums(lines, at_s - 1), Priced(known, typical_prices(shop, at_s), cost), limits)


def _shop_sums(lines: ItemLines, at_s: int) -> NDArray[np.float64]:
    place = np.argsort(lines.time_s, kind="stable")
    together = ItemLines(
        np.array([0, place.size]), lines.time_s[place], lines.month[place], lines.weekday[place], lines.units[place]
    )
    return item_sums(together, np.zeros(1, np.int64), np.array([at_s]))


def _edges(prices: NDArray[np.float64]) -> tuple[float, ...]:
    if prices.size == 0:
        return ()
    return tuple(np.quantile(prices, np.arange(1, N_BANDS) / N_BANDS).tolist())
