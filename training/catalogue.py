"""What the shop is, for the strategy: slots, offers, typical spend, placements' evidence, and the items by index.

In: a Dataset. Out: catalogue.json and items.parquet of the model repository. Called by training/export.py.
"""

from dataclasses import asdict

import numpy as np
import orjson
import polars as pl

from kernels.features import N_CATEGORIES
from training.dataset import WEEK_S, Dataset
from training.lift import placement_lift
from training.sources.tables import Shop
from training.vocabulary import Vocabulary


def catalogue_json(dataset: Dataset) -> bytes:
    """Return catalogue.json; equal for equal shops.

    dataset  its training window alone decides what is an average or an effect
    """
    shop, vocabulary = dataset.shop, dataset.vocabulary
    lifts = placement_lift(shop, dataset.splits.train_until_s)
    return orjson.dumps(
        {
            "shop": shop.name,
            "currency_code": shop.currency_code,
            "as_of_s": dataset.splits.last_s,
            "categories": vocabulary.categories,
            "offer_groups": vocabulary.offer_groups,
            "arms": vocabulary.arms,
            "offers": _offers(shop, vocabulary),
            "category_spend_micros": category_spend_micros(dataset),
            "placements": {channel: {**asdict(lift), "n": lift.n_sales} for channel, lift in lifts.items()},
        },
        option=orjson.OPT_INDENT_2,
    )


def items_table(dataset: Dataset) -> pl.DataFrame:
    """Return every item of the shop with its index in the vocabulary, 0 for one outside of it.

    returns  item_index Int32, item_id, title, category (slot, Int16), price_micros Int64; vocabulary first
    """
    items = dataset.shop.items
    slots = dataset.vocabulary.category_slots(items["category"])
    return (
        items.with_columns(pl.Series("slot", slots, dtype=pl.Int16))
        .join(dataset.vocabulary.item_index, on="item_id", how="left")
        .select(
            pl.col("item").fill_null(0).alias("item_index"),
            "item_id",
            "title",
            pl.col("slot").alias("category"),
            "price_micros",
        )
        .sort(pl.col("item_index") == 0, "item_index", "item_id")
    )


def category_spend_micros(dataset: Dataset) -> list[int]:
    """Return what a shopper pays in each category in a week with a purchase of it, on average in the training window.

    returns  N_CATEGORIES whole micros; 0 for a category that nobody bought
    """
    orders = dataset.shop.events.filter(
        (pl.col("kind") == "order") & (pl.col("time_s") < dataset.splits.train_until_s)
    ).join(dataset.shop.items.select("item_id", "category"), on="item_id", how="left")
    spent = (
        orders.select(
            "shopper_id",
            (pl.col("time_s") // WEEK_S).alias("week"),
            "paid_micros",
            pl.Series("slot", dataset.vocabulary.category_slots(orders["category"])),
        )
        .group_by("slot", "shopper_id", "week")
        .agg(pl.col("paid_micros").sum())
        .group_by("slot")
        .agg(pl.col("paid_micros").mean())
    )
    means = np.zeros(N_CATEGORIES)
    means[spent["slot"].to_numpy()] = spent["paid_micros"].to_numpy()
    return [int(micros) for micros in np.rint(means)]


def _offers(shop: Shop, vocabulary: Vocabulary) -> list[dict[str, str | int | None]]:
    offers = shop.offers.with_columns(
        pl.Series("offer_group", vocabulary.group_slots(shop.offers["category"])),
        pl.Series("slot", vocabulary.category_slots(shop.offers["category"])),
    ).sort("starts_s", "offer_id")
    return offers.select(
        "offer_id", "campaign_id", "arm", "offer_group", pl.col("slot").alias("category"), "kind",
        "title", "discount_micros", "starts_s", "ends_s",
    ).to_dicts()  # fmt: skip
