"""What shoppers and items declare, as numbers: bands in their order, names by codes of the training window.

In: canonical tables shoppers and items. Out: encoded columns beside their ids. Called by training/features/fitted.py
and frames.py. A code of 0 is a value that the training window did not have; a missing value is null, never a code.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from training.sources.tables import Shop

SHOPPER_BANDS = ("age_band", "income_band", "household_size", "n_children")
SHOPPER_NAMES = ("gender", "occupation")
ITEM_NAMES = ("category", "department", "brand")
_NUMBER = r"[$€£¥]?\s*(\d[\d,]*(?:\.\d+)?)\s*([kKmM]?)"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|–|—|to)\s*{_NUMBER}")
_OPEN_BEFORE, _OPEN_AFTER = (
    r"over|above|more than|at least|from|>=?|≥",
    r"\+|plus|(?:and|or) (?:over|above|up|more|older)",
)
_BELOW_BEFORE, _BELOW_AFTER = r"under|below|less than|up to|<=?|≤", r"(?:and|or) (?:under|less|younger|fewer)"
_AT_LEAST = re.compile(rf"(?:{_OPEN_BEFORE})\s*{_NUMBER}|{_NUMBER}\s*(?:{_OPEN_AFTER})")
_BELOW = re.compile(rf"(?:{_BELOW_BEFORE})\s*{_NUMBER}|{_NUMBER}\s*(?:{_BELOW_AFTER})")
_ALONE = re.compile(_NUMBER)
_WORTH = {"": 1.0, "k": 1e3, "m": 1e6}


@dataclass(frozen=True)
class Band:
    """A range of numbers, both ends included; None is open.

    low   ≤ high where both are known
    high  the largest value
    """

    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """The middle, or the only end."""
        known = [end for end in (self.low, self.high) if end is not None]
        return sum(known) / len(known)


def band_of(text: str) -> Band | None:
    """Read a band such as 35-44, 50-74K, 5+, under 15K or 3; None if it is no range.

    text  as declared; thousands may be parted by commas, K and M count for both ends of a range
    """
    text = text.strip().lower().removesuffix("years").strip()
    if found := _RANGE.fullmatch(text):
        low, low_unit, high, high_unit = found.groups()
        first, last = _number(low, low_unit or high_unit), _number(high, high_unit)
        return Band(first, last) if first <= last else None
    for pattern, is_low in ((_AT_LEAST, True), (_BELOW, False)):
        if found := pattern.fullmatch(text):
            number, unit = [group for group in found.groups() if group is not None][:2]
            end = _number(number, unit)
            return Band(end, None) if is_low else Band(None, end)
    if found := _ALONE.fullmatch(text):
        return Band(*[_number(*found.groups())] * 2)
    return None


@dataclass(frozen=True)
class Codes:
    """Which code each declared value has.

    values          column -> values in the order of their codes, from 1; bands ascend, names are sorted
    train_until_s   of the shoppers and items seen before it
    """

    values: Mapping[str, tuple[str, ...]]
    train_until_s: int

    def code(self, column: str) -> pl.Expr:
        """Code of a column's values: 0 for one the training window did not have, null for a missing one."""
        places = {value: place for place, value in enumerate(self.values[column], start=1)}
        return (
            pl.col(column)
            .replace_strict(places, default=pl.when(pl.col(column).is_not_null()).then(0), return_dtype=pl.Int32)
            .alias(f"{column}_code")
        )


def fit_codes(shop: Shop, train_until_s: int) -> Codes:
    """Give codes to what shoppers and items seen before the end of training declare.

    train_until_s  end of the training window, excluded
    """
    shoppers = shop.shoppers.filter(
        pl.col("shopper_id").is_in(_seen(shop, "shopper_id", train_until_s).implode())
        | (pl.col("signed_up_s") < train_until_s).fill_null(value=False)
    )
    items = shop.items.filter(pl.col("item_id").is_in(_seen(shop, "item_id", train_until_s).implode()))
    values = {column: _ordered(shoppers[column]) for column in (*SHOPPER_BANDS, *SHOPPER_NAMES)}
    return Codes(values | {column: _ordered(items[column]) for column in ITEM_NAMES}, train_until_s)


def shopper_attributes(shoppers: pl.DataFrame, codes: Codes, at_s: int) -> pl.DataFrame:
    """Encode what shoppers declare.

    shoppers  canonical
    at_s      the moment of the query; an account opened later has no age yet
    returns   shopper_id, a _code for every attribute, a _value for every band, signed_up_days; NaN where unknown
    """
    bands = [
        pl.col(name).replace_strict(_values(shoppers[name]), default=None, return_dtype=pl.Float32)
        .fill_null(float("nan")).alias(f"{name}_value")
        for name in SHOPPER_BANDS
    ]  # fmt: skip
    days = (pl.lit(at_s) - pl.col("signed_up_s")).cast(pl.Float64) / 86_400
    return shoppers.select(
        "shopper_id",
        *(codes.code(name) for name in (*SHOPPER_BANDS, *SHOPPER_NAMES)),
        *bands,
        pl.when(days >= 0).then(days).fill_null(float("nan")).cast(pl.Float32).alias("signed_up_days"),
    )


def item_attributes(items: pl.DataFrame, codes: Codes) -> pl.DataFrame:
    """Encode what the shop says of items.

    items    canonical
    returns  item_id, a _code for category, department and brand, price in currency units; NaN where unknown
    """
    price = (pl.col("price_micros") / 1e6).cast(pl.Float32).fill_null(float("nan"))
    return items.select("item_id", *(codes.code(name) for name in ITEM_NAMES), price.alias("price"))


def _number(digits: str, unit: str) -> float:
    return float(digits.replace(",", "")) * _WORTH[unit.lower()]


def _seen(shop: Shop, column: str, until_s: int) -> pl.Series:
    tables = (shop.events,) if column == "item_id" else (shop.events, shop.exposures, shop.outcomes)
    seen = [table.filter(pl.col("time_s") < until_s)[column].drop_nulls() for table in tables]
    return pl.concat(seen).unique()


def _ordered(values: pl.Series) -> tuple[str, ...]:
    return tuple(sorted(values.drop_nulls().unique().to_list(), key=_place))


def _place(value: str) -> tuple[bool, float, float, str]:
    """Bands by where they begin, an open beginning first; what is no band comes behind, by name."""
    band = band_of(value)
    if band is None:
        return (True, 0.0, 0.0, value)
    low = float("-inf") if band.low is None else band.low
    return (False, low, float("inf") if band.high is None else band.high, value)


def _values(values: pl.Series) -> dict[str, float]:
    declared: Sequence[str] = values.drop_nulls().unique().to_list()
    return {value: band.value for value in declared if (band := band_of(value)) is not None}
