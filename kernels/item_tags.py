"""Item tags as of a query: how fast an item sells and whether faster than before, when in the year and week it sells,
which price band of its category it is in, and what share of its price is margin.

In: order lines sorted by item and time, prices, ItemLimits. Out: one row of ITEM_TAGS for each query. Called by
training/features/item_tags.py.
"""

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.checks import InvalidInput, check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry
from kernels.family import Feature

N_MONTHS, N_WEEKDAYS, N_BANDS = 12, 7, 5
HALF_LIFE_DAYS, SLOW_HALF_LIFE_DAYS = 28.0, 91.0
# Fewer lines say nothing of a trend; so many units are expected of every month and weekday before the item's own count.
FEWEST_LINES, PRIOR_UNITS = 5, 20.0
# An item's first week counts as a whole one: one sale on its first day is not seven a week.
LEAST_SPAN_DAYS = 7.0
DAY_S = 86_400.0

_LINES, _FIRST_S, _FAST, _SLOW, _MONTHS = 0, 1, 2, 3, 4
_WEEKDAYS = _MONTHS + N_MONTHS
N_SUMS = _WEEKDAYS + N_WEEKDAYS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _tag(name: str, unit: str, neutral: float, meaning: str, width: int = 1) -> Feature:
    return Feature(name, unit, "float32", width, "item_tags", neutral, meaning)


ITEM_TAGS: tuple[Feature, ...] = (
    _tag("price_band", "band", 0.0, "fifth of its category's prices, 1 the cheapest; 0 if it or they are unknown"),
    _tag("units_per_week", "units", 0.0, "sold a week, each sale worth half as much after every 28 days"),
    _tag("sales_trend", "ratio", np.nan, "units_per_week over the same with 91 days; NaN below five lines"),
    _tag("month_index", "ratio", np.nan, "sales in each month over what the shop's seasons expect", N_MONTHS),
    _tag("weekday_index", "ratio", np.nan, "sales on each weekday, Monday first, over the shop's", N_WEEKDAYS),
    _tag("margin_share", "share", np.nan, "price less cost over price; NaN if either is unknown"),
)
N_ITEM_TAGS = sum(tag.width for tag in ITEM_TAGS)


def item_tag_columns() -> tuple[str, ...]:
    """Return the name of every column of `item_tags`, in order.

    returns  N_ITEM_TAGS names; a column of a wide tag is called name[index]
    """
    return tuple(
        tag.name if tag.width == 1 else f"{tag.name}[{index}]" for tag in ITEM_TAGS for index in range(tag.width)
    )


@dataclass(frozen=True)
class ItemLimits:
    """Where each category's prices part into bands; fitted on the items sold before `train_until_s`.

    train_until_s  seconds since the epoch
    price_edges    (n_categories + 1) rows of N_BANDS - 1 ascending micros; row 0, the whole shop's, is also that of a
                   category with too few items; a row is empty where no price was known
    """

    train_until_s: int
    price_edges: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Check lengths and order once."""
        check(len(self.price_edges) > 0, "price_edges must have a row for the whole shop, got none")
        for category, edges in enumerate(self.price_edges):
            is_row = len(edges) in (0, N_BANDS - 1) and list(edges) == sorted(edges)
            check(is_row, f"price_edges must be {N_BANDS - 1} ascending micros, got {edges} (category {category})")

    def to_json(self) -> bytes:
        """The limits as a file's content."""
        return json.dumps({"train_until_s": self.train_until_s, "price_edges": self.price_edges}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "ItemLimits":
        """Read what `to_json` wrote.

        content  of the file
        raises   InvalidInput  if it is not JSON or a number is missing
        """
        try:
            read = json.loads(content)
            edges = tuple(tuple(float(edge) for edge in row) for row in read["price_edges"])
            return cls(int(read["train_until_s"]), edges)
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"item limits must be those of this version, got {error!r}") from error


@dataclass(frozen=True)
class ItemLines:
    """Every order line, those of an item ascending in time.

    offsets  (n_items + 1,) int64   item i owns lines offsets[i] to offsets[i + 1]
    time_s   (n_lines,) int64       seconds since the epoch, UTC
    month    (n_lines,) int8        0 to 11, in the shop's own days
    weekday  (n_lines,) int8        0 to 6, Monday first, in the shop's own days
    units    (n_lines,) float64     sold, ≥ 0
    raises   InvalidInput           if a column has another type or length, a value out of range, or time descends
    """

    offsets: Ints
    time_s: Ints
    month: NDArray[np.int8]
    weekday: NDArray[np.int8]
    units: Floats

    def __post_init__(self) -> None:
        """Check every column once; the loop behind trusts them."""
        dtypes = {"time_s": np.int64, "month": np.int8, "weekday": np.int8, "units": np.float64}
        check_array("offsets", self.offsets, np.int64)
        for name, dtype in dtypes.items():
            check_array(name, getattr(self, name), dtype)  # type: ignore[arg-type]  # numpy's stub wants one type
            n_values = getattr(self, name).size
            check(n_values == self.time_s.size, f"{name} must have n_lines {self.time_s.size} values, got {n_values}")
        check(self.offsets.size >= 1 and self.offsets[0] == 0, "offsets must begin with 0")
        is_whole = is_ascending(self.offsets) and self.offsets[-1] == self.time_s.size
        check(is_whole, f"offsets must ascend to n_lines {self.time_s.size}, got {self.offsets[-1]}")
        for name, values, n_values in (("month", self.month, N_MONTHS), ("weekday", self.weekday, N_WEEKDAYS)):
            check_each(name, values, (values >= 0) & (values < n_values), f"in [0, {n_values})")
        check_each("units", self.units, (self.units >= 0) & np.isfinite(self.units), "≥ 0 and finite")
        descends = np.flatnonzero(self.time_s[1:] < self.time_s[:-1]) + 1
        inside = descends[~np.isin(descends, self.offsets)]
        if inside.size:
            raise InvalidInput(f"time_s must ascend within an item, got a descent (at [{int(inside[0])}])")


def item_sums(lines: ItemLines, item: Ints, at_s: Ints) -> Floats:
    """Add up each item's sales as of each query: lines at that very second count.

    lines    of all items
    item     (n_queries,) int64  item indexes, ascending
    at_s     (n_queries,) int64  seconds since the epoch, ascending within an item
    returns  (n_queries, N_SUMS) float64  lines, first time, decayed units twice, units by month and by weekday
    raises   InvalidInput        if a query names an unknown item or descends
    source   reference.item_sums
    """
    check_array("item", item, np.int64)
    check_array("at_s", at_s, np.int64)
    check(item.size == at_s.size, f"at_s must have n_queries {item.size} values, got {at_s.size}")
    n_items = lines.offsets.size - 1
    check_each("item", item, (item >= 0) & (item < n_items), f"in [0, {n_items})")
    check(is_ascending(item), "item must ascend; sort the queries by item, then time")
    ascends = np.ones(at_s.size, np.bool_)
    ascends[1:] = (at_s[1:] >= at_s[:-1]) | (item[1:] != item[:-1])
    check_each("at_s", at_s, ascends, "ascending within an item")
    sums = np.zeros((item.size, N_SUMS))
    columns = (plain(lines.offsets), plain(lines.time_s), plain(lines.month), plain(lines.weekday), plain(lines.units))
    _item_sums(columns, plain(item), plain(at_s), sums)
    return sums


@dataclass(frozen=True)
class Priced:
    """What an item costs, beside its category; NaN where it is unknown.

    category     (n,) int64    row of ItemLimits.price_edges; 0 is unknown
    price_micros (n,) float64  of one unit
    cost_micros  (n,) float64  to the shop
    """

    category: Ints
    price_micros: Floats
    cost_micros: Floats


def item_tags(sums: Floats, at_s: Ints, shop_sums: Floats, priced: Priced, limits: ItemLimits) -> NDArray[np.float32]:
    """Return every tag of each queried item; NaN where a tag is a number that is not known.

    sums       (n, N_SUMS) float64  of `item_sums`
    at_s       (n,) int64           the same queries
    shop_sums  (n, N_SUMS) or (1, N_SUMS) float64  of `item_sums` over all lines as if of one item, as of the same times
    priced     prices of the same items
    limits     fitted on the training window
    returns    (n, N_ITEM_TAGS) float32  columns of ITEM_TAGS
    raises     InvalidInput         if a shape is wrong or a category has no edges
    source     reference.item_tags
    """
    check_array("sums", sums, np.float64, n_dims=2)
    check_array("shop_sums", shop_sums, np.float64, n_dims=2)
    check(sums.shape == (at_s.size, N_SUMS), f"sums must have shape {(at_s.size, N_SUMS)}, got {sums.shape}")
    is_fitting = shop_sums.shape[1] == N_SUMS and shop_sums.shape[0] in (1, at_s.size)
    check(is_fitting, f"shop_sums must have shape {(at_s.size, N_SUMS)} or {(1, N_SUMS)}, got {shop_sums.shape}")
    n_rows = len(limits.price_edges)
    check_each("category", priced.category, (priced.category >= 0) & (priced.category < n_rows), f"in [0, {n_rows})")
    fast, slow = (_per_week(sums, at_s, place, days) for place, days in _RATES)
    with np.errstate(divide="ignore", invalid="ignore"):
        trend = np.where((sums[:, _LINES] >= FEWEST_LINES) & (slow > 0), fast / slow, np.nan)
        margin = np.where(priced.price_micros > 0, 1.0 - priced.cost_micros / priced.price_micros, np.nan)
    edges = np.array([row or _NO_EDGES for row in limits.price_edges])[priced.category]
    band = 1.0 + (edges < priced.price_micros[:, None]).sum(axis=1)
    is_banded = ~np.isnan(priced.price_micros) & ~np.isnan(edges).any(axis=1)
    columns = (
        np.where(is_banded, band, 0.0)[:, None],
        fast[:, None],
        trend[:, None],
        _season(sums, shop_sums, slice(_MONTHS, _WEEKDAYS)),
        _season(sums, shop_sums, slice(_WEEKDAYS, N_SUMS)),
        margin[:, None],
    )
    return np.hstack(columns).astype(np.float32)


_NO_EDGES = (np.nan,) * (N_BANDS - 1)
_RATES = ((_FAST, HALF_LIFE_DAYS), (_SLOW, SLOW_HALF_LIFE_DAYS))


def _per_week(sums: Floats, at_s: Ints, place: int, half_life_days: float) -> Floats:
    """Units a week: decayed units over the decayed weeks in which the item could be bought."""
    span_days = np.maximum((at_s - sums[:, _FIRST_S]) / DAY_S, LEAST_SPAN_DAYS)
    decayed_weeks = half_life_days / math.log(2.0) * (1.0 - 0.5 ** (span_days / half_life_days)) / 7.0
    return sums[:, place] / decayed_weeks


def _season(sums: Floats, shop_sums: Floats, part: slice) -> Floats:
    """Units beside those that the item would have sold had it followed the shop, both with PRIOR_UNITS more."""
    own, shops = sums[:, part], shop_sums[:, part]
    total = shops.sum(axis=1, keepdims=True)
    expected = own.sum(axis=1, keepdims=True) * shops / np.where(total > 0, total, 1.0)
    index: Floats = np.where(shops > 0, (own + PRIOR_UNITS) / (expected + PRIOR_UNITS), np.nan)
    return index


@entry
def _item_sums(columns, item, at_s, sums):
    offsets, time_s, month, weekday, units = columns
    running = np.zeros(sums.shape[1])
    fast_days_s = HALF_LIFE_DAYS * DAY_S
    slow_days_s = SLOW_HALF_LIFE_DAYS * DAY_S
    query = 0
    while query < item.size:
        who = item[query]
        line = offsets[who]
        end = offsets[who + 1]
        running[:] = 0.0
        last_s = np.int64(0)
        while query < item.size and item[query] == who:
            while line < end and time_s[line] <= at_s[query]:
                if running[_LINES] == 0.0:
                    running[_FIRST_S] = time_s[line]
                    last_s = time_s[line]
                age_s = time_s[line] - last_s
                running[_FAST] = running[_FAST] * 0.5 ** (age_s / fast_days_s) + units[line]
                running[_SLOW] = running[_SLOW] * 0.5 ** (age_s / slow_days_s) + units[line]
                running[_LINES] += 1.0
                running[_MONTHS + month[line]] += units[line]
                running[_WEEKDAYS + weekday[line]] += units[line]
                last_s = time_s[line]
                line += 1
            sums[query, :] = running
            if running[_LINES] > 0.0:
                age_s = at_s[query] - last_s
                sums[query, _FAST] *= 0.5 ** (age_s / fast_days_s)
                sums[query, _SLOW] *= 0.5 ** (age_s / slow_days_s)
            else:
                sums[query, _FIRST_S] = at_s[query]
            query += 1
