"""Declared bands are read as people write them; codes are those of the training window."""

import polars as pl
import pytest

from tests.shops.generate import FIRST_S, WEEK_S
from training.features.attributes import Band, band_of, fit_codes, item_attributes, shopper_attributes
from training.sources import tables
from training.sources.tables import Shop, shop_of

UNTIL_S = FIRST_S + 4 * WEEK_S


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("35-44", Band(35, 44)), ("50-74K", Band(50_000, 74_000)), ("$50,000 – $74,999", Band(50_000, 74_999)),
        ("5+", Band(5, None)), ("65 and over", Band(65, None)), ("over 250k", Band(250_000, None)),
        ("250K+", Band(250_000, None)), ("Under 15K", Band(None, 15_000)), ("<25", Band(None, 25)),
        ("18 to 24 years", Band(18, 24)), ("3", Band(3, 3)), ("1.5-2M", Band(1_500_000, 2_000_000)),
        ("None/Unknown", None), ("", None), ("44-35", None), ("A", None), ("1-2-3", None),
    ],
)  # fmt: skip
def test_bands_are_read_as_people_write_them(text: str, band: Band | None) -> None:
    assert band_of(text) == band


def test_a_band_is_worth_its_middle_or_its_only_end() -> None:
    assert [Band(35, 44).value, Band(5, None).value, Band(None, 15).value] == [39.5, 5, 15]


def shop_with(shoppers: dict[str, list[object]], items: dict[str, list[object]]) -> Shop:
    """Shoppers and items of which the first three were seen before UNTIL_S, and the others from it on."""
    ids = list(zip(shoppers["shopper_id"], items["item_id"], strict=True))
    events = pl.DataFrame(
        {
            "shopper_id": [who for who, _ in ids],
            "item_id": [what for _, what in ids],
            "time_s": [UNTIL_S - 1 if place < 3 else UNTIL_S for place in range(len(ids))],
            "kind": ["view"] * len(ids),
        }
    )
    held = {"events": events, "shoppers": pl.DataFrame(shoppers), "items": pl.DataFrame(items)}
    return shop_of({name: tables.whole(tables.TABLES[name], frame) for name, frame in held.items()}, "declared")


SHOP = shop_with(
    {
        "shopper_id": ["a", "b", "c", "d", "e"],
        "age_band": ["65+", "19-24", None, "25-44", "19-24"],
        "gender": ["F", "M", "F", "X", None],
        "signed_up_s": [FIRST_S, None, UNTIL_S + WEEK_S, None, None],
    },
    {
        "item_id": ["p", "q", "r", "s", "t"],
        "category": ["Tea", "Bread", None, "Fruit", "Tea"],
        "price_micros": [2_500_000, None, 1, 1, 1],
    },
)


def test_codes_ascend_with_the_band_and_keep_unknown_and_missing_apart() -> None:
    told = shopper_attributes(SHOP.shoppers, fit_codes(SHOP, UNTIL_S), UNTIL_S)
    # 25-44 came after the training window: 0. Null is missing. 19-24 comes before 65+.
    assert told["age_band_code"].to_list() == [2, 1, None, 0, 1]
    assert told["gender_code"].to_list() == [1, 2, 1, 0, None]
    assert told["age_band_value"].fill_nan(None).to_list() == [65.0, 21.5, None, 34.5, 21.5]


def test_a_sign_up_counts_from_its_own_time_on() -> None:
    told = shopper_attributes(SHOP.shoppers, fit_codes(SHOP, UNTIL_S), UNTIL_S)
    assert told["signed_up_days"].fill_nan(None).to_list() == [28.0, None, None, None, None]


def test_items_have_codes_and_a_price() -> None:
    told = item_attributes(SHOP.items, fit_codes(SHOP, UNTIL_S))
    assert told["category_code"].to_list() == [2, 1, None, 0, 2]
    assert told["brand_code"].to_list() == [None] * 5
    assert told["price"].fill_nan(None).to_list()[:2] == [2.5, None]


def test_codes_do_not_change_with_what_comes_later() -> None:
    early = shop_of({**SHOP.tables(), "events": SHOP.events.filter(pl.col("time_s") < UNTIL_S)}, "declared")
    assert fit_codes(early, UNTIL_S) == fit_codes(SHOP, UNTIL_S)
