"""Item tags equal their definition on random sales, and say what they must at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kernels.checks import InvalidInput
from kernels.item_tags import (
    ITEM_TAGS,
    N_ITEM_TAGS,
    N_SUMS,
    ItemLimits,
    ItemLines,
    Priced,
    item_sums,
    item_tag_columns,
    item_tags,
)
from kernels.reference import item_tags as reference
from tests.kernels.ledgers import EXAMPLES

DAY_S = 86_400
N_ITEMS = 3
EDGES = (1e6, 2e6, 3e6, 4e6)
LIMITS = ItemLimits(0, (EDGES, (5e5, 5e5, 6e5, 7e5), ()))
Line = tuple[int, int, int, int, float]
_LINE = st.tuples(
    st.integers(0, N_ITEMS - 1), st.sampled_from([0, 0, 1, 3_600, DAY_S, 40 * DAY_S, 900 * DAY_S]),
    st.integers(0, 11), st.integers(0, 6), st.sampled_from([0.0, 1.0, 2.5, 1_000.0]),
)  # fmt: skip


def lines_from(rows: list[Line]) -> ItemLines:
    """Lines of N_ITEMS items, in any order of items; times ascend."""
    rows = sorted(rows, key=lambda row: row[:2])
    table = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    offsets = np.searchsorted(np.array(table[0], np.int64), np.arange(N_ITEMS + 1)).astype(np.int64)
    return ItemLines(
        offsets, np.array(table[1], np.int64), np.array(table[2], np.int8), np.array(table[3], np.int8),
        np.array(table[4], np.float64),
    )  # fmt: skip


def priced(price: float = np.nan, cost: float = np.nan, category: int = 0) -> Priced:
    return Priced(np.array([category]), np.array([price]), np.array([cost]))


def tagged(rows: list[Line], at_s: int, of: Priced) -> dict[str, float]:
    """Tags of item 0; the shop is all the rows."""
    sums = item_sums(lines_from(rows), np.array([0]), np.array([at_s]))
    everything = item_sums(lines_from([(0, *row[1:]) for row in rows]), np.array([0]), np.array([at_s]))
    found = item_tags(sums, np.array([at_s]), everything, of, LIMITS)
    return dict(zip(item_tag_columns(), found[0].tolist(), strict=True))


@EXAMPLES
@given(gaps=st.lists(_LINE, max_size=15), after_s=st.integers(-1, 90 * DAY_S))
def test_item_tags_equal_their_definition(gaps: list[Line], after_s: int) -> None:
    now_s, rows = 0, []
    for item, gap_s, *others in gaps:
        now_s += gap_s
        rows.append((item, now_s, *others))
    asked = sorted({(item, at_s) for item in range(N_ITEMS) for at_s in (now_s // 2, now_s + after_s)})
    item, at_s = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    sums = item_sums(lines_from(rows), item, at_s)
    defined = [reference.item_sums(rows, *query) for query in asked]
    # A running sum of at most 15 terms against an exact one: a few last digits of float64.
    assert_allclose(sums, defined, rtol=1e-12, atol=1e-300)
    shop = [(0, *row[1:]) for row in rows]
    shop_sums = np.array([reference.item_sums(shop, 0, time_s) for _, time_s in asked])
    price, cost = 1.5e6, 9e5
    category = item % len(LIMITS.price_edges)
    prices = Priced(category, np.full(item.size, price), np.full(item.size, cost))
    computed = item_tags(sums, at_s, shop_sums, prices, LIMITS)
    expected = [
        reference.item_tags(own, at, all_, (price, cost), LIMITS.price_edges[item])
        for own, (item, at), all_ in zip(defined, asked, shop_sums, strict=True)
    ]
    assert_allclose(computed, expected, rtol=2e-7, atol=1e-30)  # float32 keeps 6e-8 of a value


def test_an_item_that_never_sold_is_neutral() -> None:
    found = list(tagged([], 0, priced()).values())
    assert_allclose(found, [tag.neutral for tag in ITEM_TAGS for _ in range(tag.width)])


def test_a_steady_item_sells_what_it_sells_and_has_no_trend() -> None:
    steady = [(0, day * DAY_S, 0, day % 7, 2.0) for day in range(400)]
    found = tagged(steady, 399 * DAY_S, priced())
    # Two a day; a day's worth is counted whole at its beginning, which adds half a day in 40.
    assert found["units_per_week"] == pytest.approx(14.0, rel=0.02)
    assert found["sales_trend"] == pytest.approx(1.0, abs=0.02)
    rising = [(0, day * DAY_S, 0, 0, 1.0 + 9.0 * (day > 370)) for day in range(400)]
    assert tagged(rising, 399 * DAY_S, priced())["sales_trend"] > 1.5


def test_a_young_item_is_judged_by_the_days_it_was_there() -> None:
    assert tagged([(0, 0, 0, 0, 7.0)], 0, priced())["units_per_week"] == pytest.approx(7.0, rel=0.1)
    assert np.isnan(tagged([(0, 0, 0, 0, 7.0)], 0, priced())["sales_trend"])


def test_a_season_is_told_against_the_shop_and_only_from_evidence() -> None:
    december = [(0, line, 11, 0, 10.0) for line in range(50)] + [(0, line, 5, 0, 10.0) for line in range(50)]
    june = [(1, line, 5, 0, 10.0) for line in range(100)]
    found = tagged(december + june, 100, priced())
    # 500 of 1000 units in December where the shop has 500 of 2000: (500 + 20) / (250 + 20).
    assert found["month_index[11]"] == pytest.approx(520 / 270)
    assert np.isnan(found["month_index[0]"])
    few = tagged([(0, 0, 11, 0, 1.0), *june], 100, priced())
    assert few["month_index[11]"] == pytest.approx(1.0, abs=0.06)


def test_a_price_band_is_that_of_the_items_category() -> None:
    for price, category, band in ((1e6, 0, 1), (1.1e6, 0, 2), (9e6, 0, 5), (5.5e5, 1, 3), (np.nan, 0, 0), (9e6, 2, 0)):
        assert tagged([], 0, priced(price, category=category))["price_band"] == band


def test_margin_is_unknown_without_a_cost_or_a_price() -> None:
    assert tagged([], 0, priced(4e6, 3e6))["margin_share"] == 0.25
    for price, cost in ((np.nan, 3e6), (4e6, np.nan), (0.0, 3e6)):
        assert np.isnan(tagged([], 0, priced(price, cost))["margin_share"])


def test_limits_come_back_from_their_file_as_they_were() -> None:
    assert ItemLimits.from_json(LIMITS.to_json()) == LIMITS
    with pytest.raises(InvalidInput, match="item limits must be those of this version"):
        ItemLimits.from_json(b"{}")
    with pytest.raises(InvalidInput, match=r"price_edges must be 4 ascending micros, got \(2.0, 1.0\) \(category 0\)"):
        ItemLimits(0, ((2.0, 1.0),))


def test_what_does_not_fit_is_refused() -> None:
    lines = lines_from([(0, 0, 0, 0, 1.0), (0, 5, 0, 0, 1.0)])
    with pytest.raises(InvalidInput, match=r"item must be in \[0, 3\), got 3"):
        item_sums(lines, np.array([3]), np.array([0]))
    with pytest.raises(InvalidInput, match=r"at_s must be ascending within an item"):
        item_sums(lines, np.array([0, 0]), np.array([1, 0]))
    with pytest.raises(InvalidInput, match=r"units must be ≥ 0 and finite, got nan"):
        lines_from([(0, 0, 0, 0, np.nan)])
    with pytest.raises(InvalidInput, match="time_s must ascend within an item"):
        ItemLines(lines.offsets, lines.time_s[::-1], lines.month, lines.weekday, lines.units)
    sums = np.zeros((1, N_SUMS))
    with pytest.raises(InvalidInput, match=r"category must be in \[0, 3\), got 3"):
        item_tags(sums, np.array([0]), sums, priced(category=3), LIMITS)
    assert item_tags(sums[:0], np.zeros(0, np.int64), sums, Priced(*[np.zeros(0, np.int64)] * 3), LIMITS).shape == (
        0, N_ITEM_TAGS,
    )  # fmt: skip
