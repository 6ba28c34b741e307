"""Items are tagged from their own sales, with prices that were known at the time."""

import numpy as np
import polars as pl
import pytest

from kernels.item_tags import ItemLimits, item_tag_columns
from tests.shops.generate import DAY_S, FIRST_S, WEEK_S
from training.features.item_tags import fit_item_limits, lines_of, tags_at, typical_prices
from training.sources import tables
from training.sources.tables import Days, Shop, shop_of

UNTIL_S = FIRST_S + 10 * WEEK_S
ORDER = {"shopper_id": "s", "kind": "order", "quantity": 2.0, "paid_micros": 3_000_000, "discount_micros": 1_000_000}


def shop_with(lines: list[tuple[str, int]], prices: dict[str, int | None], time_zone: str = "UTC") -> Shop:
    """A shop of order lines of two units for 3.00 after a discount of 1.00."""
    events = pl.DataFrame([ORDER | {"item_id": item, "time_s": time_s} for item, time_s in lines])
    items = pl.DataFrame({"item_id": list(prices), "price_micros": list(prices.values())})
    held = {"events": tables.whole(tables.EVENTS, events), "items": tables.whole(tables.ITEMS, items)}
    return shop_of(held, "items", days=Days(time_zone))


def test_a_price_is_declared_or_the_median_of_what_was_seen_before() -> None:
    shop = shop_with([("seen", UNTIL_S - 1), ("later", UNTIL_S)], {"said": 7, "seen": None, "later": None})
    # Two units for 3.00 paid and 1.00 off: 2.00 each.
    np.testing.assert_array_equal(typical_prices(shop, UNTIL_S), [7.0, 2e6, np.nan])


def test_bands_are_those_of_the_category_where_it_is_large_enough() -> None:
    prices = {f"p{number}": 1_000_000 * (1 + number) for number in range(60)}
    shop = shop_with([(item, FIRST_S) for item in prices], prices)
    category = np.array([1] * 40 + [2] * 19 + [0])
    limits = fit_item_limits(shop, category, UNTIL_S)
    assert limits.price_edges[1] == tuple(np.quantile(np.arange(1, 41) * 1e6, (0.2, 0.4, 0.6, 0.8)))
    assert limits.price_edges[2] == limits.price_edges[0]


def test_items_that_sold_only_later_have_no_part_in_the_bands() -> None:
    prices = {"early": 1_000_000, "late": 900_000_000}
    shop = shop_with([("early", UNTIL_S - 1), ("late", UNTIL_S)], prices)
    assert fit_item_limits(shop, np.zeros(2, np.int64), UNTIL_S).price_edges == ((1e6,) * 4,)


def test_a_category_of_later_takes_the_whole_shops_bands() -> None:
    shop = shop_with([("old", FIRST_S), ("new", FIRST_S)], {"old": 1_000_000, "new": 5_000_000})
    limits = fit_item_limits(shop, np.array([1, 0]), UNTIL_S)
    tags = tags_at(shop, lines_of(shop), np.array([1, 9]), limits, UNTIL_S)
    assert tags[:, item_tag_columns().index("price_band")].tolist() == [1, 5]


def test_a_price_is_in_no_band_where_training_knew_no_prices() -> None:
    shop = shop_with([("old", UNTIL_S), ("new", UNTIL_S)], {"old": None, "new": 5_000_000})
    category = np.zeros(2, np.int64)
    limits = fit_item_limits(shop, category, UNTIL_S)
    assert limits.price_edges == ((),)
    tags = tags_at(shop, lines_of(shop), category, ItemLimits.from_json(limits.to_json()), UNTIL_S + 1)
    assert tags[:, item_tag_columns().index("price_band")].tolist() == [0, 0]


def test_a_month_is_the_shops_own() -> None:
    # 23:30 UTC on 31 January is February in Tokyo.
    shop = shop_with([("tea", FIRST_S + 31 * DAY_S - 1_800)], {"tea": 1}, "Asia/Tokyo")
    assert lines_of(shop).month.tolist() == [1]
    assert lines_of(shop).weekday.tolist() == [3]


def test_tags_know_nothing_of_the_second_of_the_query() -> None:
    shop = shop_with([("tea", FIRST_S), ("tea", UNTIL_S)], {"tea": 2_000_000})
    limits = fit_item_limits(shop, np.zeros(1, np.int64), UNTIL_S)
    rate = item_tag_columns().index("units_per_week")
    before, after = (
        tags_at(shop, lines_of(shop), np.zeros(1, np.int64), limits, at_s) for at_s in (UNTIL_S, UNTIL_S + 1)
    )
    assert before[0, rate] < after[0, rate]
    # One sale of two units, seventy days ago: 2 * 2^(-70/28) over 28 / ln 2 * (1 - 2^(-70/28)) / 7 weeks.
    worth = 2.0 ** (-70 / 28)
    assert before[0, rate] == pytest.approx(2 * worth / (28 / np.log(2) * (1 - worth) / 7), rel=1e-5)
