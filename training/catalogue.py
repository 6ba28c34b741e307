"""What the shop is, for the strategy: slots, offers, typical spend, placements' evidence, and the items by index.

In: a Dataset. Out: catalogue.json and items.parquet of the model repository. Called by training/export.py.
"""

from dataclasses import asdict

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from kernels.features import N_CATEGORIES
from training.dataset import TRAIN, WEEK_S, Dataset, first_event_s, weekly_grid
from training.labels import bought_categories
from training.lift import placement_lift

PLACED_SHARE = 0.2
# Whole words, as shops name their categories.
AGE_RESTRICTED = r"(?i)\b(cigarettes?|cigars?|tobacco|vapes?|beers?|ales?|wines?|liquors?|spirits?|alcohol|lottery)\b"


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
            "offers": _offers(dataset),
            "category_spend_micros": category_spend_micros(dataset),
            "ad_slots": ad_slots(dataset),
            "placements": {channel: {**asdict(lift), "n": lift.n_sales} for channel, lift in lifts.items()},
        },
        option=orjson.OPT_INDENT_2,
    )


def items_table(dataset: Dataset) -> pl.DataFrame:
    """Return every item of the shop with its index in the vocabulary, 0 for one outside of it.

    returns  item_index Int32, item_id, title, category (slot, Int16), price_micros Int64, is_showable; vocabulary first
    """
    items = dataset.shop.items
    is_showable = pl.col("category").is_in(placed_categories(dataset, "content"))
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
            is_showable.fill_null(False).alias("is_showable"),
        )
        .sort(pl.col("item_index") == 0, "item_index", "item_id")
    )


def ad_slots(dataset: Dataset) -> list[int]:
    """Return the category slots that an ad can be for."""
    categories = dataset.vocabulary.categories
    return sorted(categories.index(name) for name in placed_categories(dataset, "ads") if name in categories)


def placed_categories(dataset: Dataset, channel: str) -> list[str]:
    """Return the categories for which a channel's lift holds and which may be promoted to anybody.

    A lift measured on groceries in a mailer says nothing about fuel: a category counts once PLACED_SHARE of its lines
    before the end of training were of items that the channel placed. Age-restricted goods never count.
    channel  ads or content
    """
    shop, until_s = dataset.shop, dataset.splits.train_until_s
    placed = shop.placements.filter((pl.col("channel") == channel) & (pl.col("week_starts_s") < until_s))
    lines = (
        shop.events.filter((pl.col("kind") == "order") & (pl.col("time_s") < until_s))
        .select("item_id", pl.col("item_id").is_in(placed["item_id"].unique().implode()).alias("is_placed"))
        .join(shop.items.select("item_id", "category"), on="item_id", how="inner")
        .group_by("category")
        .agg(pl.col("is_placed").mean())
        .filter((pl.col("is_placed") >= PLACED_SHARE) & ~pl.col("category").str.contains(AGE_RESTRICTED))
    )
    return lines["category"].drop_nulls().sort().to_list()


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


def _offers(dataset: Dataset) -> list[dict[str, str | int | float | None]]:
    """Every offer, with what gives it its part of a group's redemptions and of a campaign's effect."""
    shop, vocabulary = dataset.shop, dataset.vocabulary
    groups, slots = vocabulary.group_slots(shop.offers["category"]), vocabulary.category_slots(shop.offers["category"])
    usual = usual_category_prob(dataset)
    wider = np.array(
        [
            vocabulary.offer_groups[group] != vocabulary.categories[slot]
            for group, slot in zip(groups, slots, strict=True)
        ]
    )
    offers = shop.offers.with_columns(
        pl.Series("offer_group", groups),
        pl.Series("slot", slots),
        # The last slot is many categories at once: buying in it says nothing about one of them.
        pl.Series("usual_prob", np.where(wider & (slots < N_CATEGORIES - 1), usual[slots], 0.0)),
    )
    offers = offers.join(_group_shares(offers), on="offer_group", how="left").join(
        _arm_redemptions(dataset), on="arm", how="left"
    )
    return (
        offers.sort("starts_s", "offer_id")
        .select(
            "offer_id", "campaign_id", "arm", "offer_group", pl.col("slot").alias("category"), "kind", "title",
            "discount_micros", "starts_s", "ends_s", "usual_prob",
            pl.col("group_share").fill_null(1.0), pl.col("arm_redemptions").fill_null(0.0),
        )
        .to_dicts()
    )  # fmt: skip


def usual_category_prob(dataset: Dataset) -> NDArray[np.float64]:
    """Return the share of shopper-weeks of the training window with a purchase in each category.

    returns  (N_CATEGORIES,) float64
    """
    grid = weekly_grid(dataset.splits)
    weeks = grid[dataset.splits.part(grid, WEEK_S) == TRAIN]
    known = first_event_s(dataset.ledger)[:, None] < weeks[None, :]
    bought = bought_categories(dataset, weeks)[known]
    return bought.mean(axis=0, dtype=np.float64) if bought.size else np.zeros(N_CATEGORIES)


def _group_shares(offers: pl.DataFrame) -> pl.DataFrame:
    """One over the mean number of offers of a group in the campaigns with any: its redemptions are theirs together."""
    sizes = offers.group_by("offer_group", "campaign_id").len("n_offers")
    return sizes.group_by("offer_group").agg((1.0 / pl.col("n_offers").mean()).alias("group_share"))


def _arm_redemptions(dataset: Dataset) -> pl.DataFrame:
    """Redemptions per shopper who was sent a campaign of each arm, training window."""
    shop, until_s = dataset.shop, dataset.splits.train_until_s
    arms = shop.offers.select("campaign_id", "arm").unique()
    sent = (
        shop.exposures.filter(pl.col("time_s") < until_s)
        .select("shopper_id", "campaign_id")
        .unique()
        .join(arms, on="campaign_id", how="inner")
        .group_by("arm")
        .len("n_sent")
    )
    redeemed = (
        shop.outcomes.filter((pl.col("kind") == "redemption") & (pl.col("time_s") < until_s))
        .join(shop.offers.select("offer_id", "arm"), on="offer_id", how="inner")
        .unique(["shopper_id", "offer_id"])
        .group_by("arm")
        .len("n_redeemed")
    )
    both = sent.join(redeemed, on="arm", how="inner")
    return both.select("arm", (pl.col("n_redeemed") / pl.col("n_sent")).alias("arm_redemptions"))
