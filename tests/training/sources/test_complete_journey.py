"""The Complete Journey as canonical tables, against the package's own numbers."""

import polars as pl
import pytest

from training.sources import complete_journey
from training.sources.complete_journey_titles import category_of, category_title, item_title
from training.sources.tables import Shop


@pytest.fixture(scope="module")
def shop() -> Shop:
    return complete_journey.read(lambda _: None)


def packaged(name: str) -> pl.DataFrame:
    (path,) = (path for path in complete_journey.data_files() if path.stem == name)
    return pl.read_parquet(path)


def test_no_line_household_product_contact_or_redemption_is_lost(shop: Shop) -> None:
    assert shop.events.height == 1_469_307
    assert shop.shoppers.height == shop.events["shopper_id"].n_unique() == 2_469
    # 92,331 listed products, and 17 that only purchases name.
    assert shop.items.height == 92_331 + 17
    assert (shop.exposures.height, shop.outcomes.height) == (6_589, 2_102)
    assert shop.exposures["campaign_id"].n_unique() == 27


def test_money_adds_up_to_the_shelf_price_in_whole_cents(shop: Shop) -> None:
    lines = packaged("transactions")
    shelf = (lines.select(pl.sum_horizontal("sales_value", "retail_disc", "coupon_match_disc")) * 100).sum().item()
    got = shop.events.select(pl.sum_horizontal("paid_micros", "discount_micros", "coupon_micros")).sum().item()
    excess = lines.filter(pl.col("coupon_disc") > pl.col("sales_value"))
    beyond = ((excess["coupon_disc"] - excess["sales_value"]) * 100).sum()
    # Where a coupon exceeds what is left to pay, paid is 0 and the rest of the coupon stays on the line.
    assert got == round(shelf + beyond) * 10_000
    assert excess.height == 3_507
    assert shop.events["paid_micros"].min() == 0


def test_every_offer_knows_its_campaign_category_and_value(shop: Shop) -> None:
    assert shop.offers.null_count().sum_horizontal().item() == 0
    assert set(shop.offers["arm"]) == {"A", "B", "C"}
    assert shop.outcomes.join(shop.offers, on=["offer_id", "campaign_id"], how="anti").is_empty()


def test_a_redemption_is_timed_at_an_order_of_its_shopper_within_the_offer(shop: Shop) -> None:
    orders = shop.events.select("shopper_id", "time_s").unique()
    assert shop.outcomes.join(orders, on=["shopper_id", "time_s"], how="anti").is_empty()
    held = shop.outcomes.join(shop.offers, on="offer_id")
    assert held.filter(~pl.col("time_s").is_between("starts_s", "ends_s", closed="left")).is_empty()


def test_a_placement_week_holds_the_sales_that_the_till_counts_in_it(shop: Shop) -> None:
    lines = (
        packaged("transactions")
        .group_by("week")
        .agg(pl.col("transaction_timestamp").dt.epoch("s").min().alias("first_s"))
    )
    weeks = shop.placements.select("week", "week_starts_s").unique().join(lines, on="week")
    assert weeks.height == 53
    # Six hours and a little: the first sale of a Monday is at night, in the stores' zone; 53 starts after Christmas.
    late = weeks.filter((pl.col("first_s") - pl.col("week_starts_s")).is_between(0, 7 * 3600).not_())
    assert sorted(late["week"].to_list()) == [1, 53]


def test_fuel_is_counted_in_gallons_and_leaves_the_catch_all_category(shop: Shop) -> None:
    fuel = shop.items.filter(pl.col("category") == "Fuel")
    sold = shop.events.join(fuel, on="item_id", how="semi").filter(pl.col("quantity") > 1)
    per_gallon = (sold["paid_micros"].sum() + sold["coupon_micros"].sum()) / sold["quantity"].sum() / 1_000_000
    assert per_gallon == pytest.approx(2.4, abs=0.2)  # the price of a gallon in the stores' states in 2017


def test_labels_of_the_till_become_words() -> None:
    assert category_title("SALD DRSNG/SNDWCH SPRD") == "Salad Dressing/Sandwich Spreads"
    assert category_title("CONVENIENT BRKFST/WHLSM SNACKS") == "Convenient Breakfast/Wholesome Snacks"
    assert item_title("FRZN BREAKFAST PASTRY", "FRZN BREAKFAST FOODS", "11.5 OZ") == "Frozen Breakfast Pastry, 11.5 oz"
    assert item_title("PREMIUM", "ICE CREAM/MILK/SHERBTS", "56 OZ") == "Ice Cream/Milk/Sherbets (Premium), 56 oz"
    assert category_of("COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED") == "Fuel"


def test_no_title_keeps_an_abbreviation_of_the_till(shop: Shop) -> None:
    sold = shop.events.select("item_id").unique().join(shop.items, on="item_id")
    shouted = sold.filter(pl.col("title").str.contains(r"\b(Frzn|Drnk|Refrgratd|Brkfst|Snglserve|Sft|Mlk|Sald|Sprd)\b"))
    assert shouted.is_empty()
