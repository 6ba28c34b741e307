"""Every family equals its definition, one by one, and says what it must at the edges."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from kernels import (
    baskets,
    categories,
    contacts,
    features,
    frequency,
    prices,
    recency,
    reference,
    sequences,
    sessions,
    spend,
    week,
)
from kernels.checks import InvalidInput
from kernels.ledger import CART, EXPOSURE, REDEMPTION, REFUND, VIEW, empty_ledger
from tests.kernels.ledgers import EXAMPLES, START_S, Case, cases, ledger_from, order_line

DAY_S = 86_400
FAMILIES = (baskets, categories, contacts, frequency, prices, recency, sequences, sessions, spend, week)


def name_of(module: ModuleType) -> str:
    """A family's name is its file's."""
    return module.__name__.removeprefix("kernels.")


@pytest.mark.parametrize("module", FAMILIES, ids=name_of)
@EXAMPLES
@given(case=cases())
def test_family_equals_its_definition(module: ModuleType, case: Case) -> None:
    computed = getattr(module, name_of(module))(case.ledger, case.shopper, case.at_s)
    twin = getattr(reference, name_of(module))
    defined = [twin(case.ledger, int(who), int(at_s)) for who, at_s in zip(case.shopper, case.at_s, strict=True)]
    # float32 keeps 6e-8 of a value; sums of thousands that cancel keep 1e-12 of their size, here below 1e-6.
    assert_allclose(computed, np.array(defined).reshape(computed.shape), rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("module", FAMILIES, ids=name_of)
def test_family_is_neutral_without_events(module: ModuleType) -> None:
    computed = getattr(module, name_of(module))(empty_ledger(1), np.zeros(1, np.int64), np.zeros(1, np.int64))
    neutral = [feature.neutral for feature in module.FAMILY.features for _ in range(feature.width)]
    assert computed.tolist() == [neutral]


@pytest.mark.parametrize("module", FAMILIES, ids=name_of)
def test_family_is_finite_whatever_the_ledger_admits(module: ModuleType) -> None:
    most = {"quantity": 1e9, "discount_micros": 10**15, "coupon_micros": 10**15, "category": 63, "item": 2**31 - 1}
    edges = [-(2**52), -1, 0, 2**52]
    ledger = ledger_from([order_line(time_s, 10**15, order=time_s % 7, **most) for time_s in edges])
    computed = getattr(module, name_of(module))(ledger, np.zeros(4, np.int64), np.array(edges))
    assert np.isfinite(computed).all()


@pytest.mark.parametrize("module", FAMILIES, ids=name_of)
def test_family_is_the_same_slice_of_all_features(module: ModuleType) -> None:
    ledger = ledger_from([order_line(START_S + day * DAY_S, order=day, item=day) for day in range(5)])
    shopper, at_s = np.zeros(1, np.int64), np.array([START_S + 40 * DAY_S])
    computed = getattr(module, name_of(module))(ledger, shopper, at_s)
    every, history = features.features_at(ledger, shopper, at_s)
    own = [feature.kernel == name_of(module) for feature in features.FEATURES for _ in range(feature.width)]
    assert np.array_equal(computed, np.hstack([every, history.astype(np.float32)])[:, own])


def test_an_order_spread_over_lines_is_one_order() -> None:
    ledger = ledger_from([order_line(START_S + line, 2_000_000, order=9, category=line) for line in range(3)])
    computed = baskets.baskets(ledger, np.zeros(2, np.int64), np.array([START_S + 1, START_S + 9]))
    lines, categories_, spent = computed[:, 0], computed[:, 2], computed[:, 3]
    assert (lines.tolist(), categories_.tolist(), spent.tolist()) == ([2, 3], [2, 3], [4, 6])


def test_lines_without_an_order_are_one_order_if_they_share_a_second() -> None:
    ledger = ledger_from([order_line(START_S, order=0), order_line(START_S, order=0), order_line(START_S + 1, order=0)])
    computed = frequency.frequency(ledger, np.zeros(1, np.int64), np.array([START_S + 1]))
    assert computed[0, 0] == 2


def test_a_refund_lowers_spend_and_is_no_order() -> None:
    ledger = ledger_from([order_line(START_S, 5_000_000), order_line(START_S + 1, 2_000_000, kind=REFUND)])
    shopper, at_s = np.zeros(1, np.int64), np.array([START_S + 1])
    assert spend.spend(ledger, shopper, at_s)[0, 0] == 3
    assert frequency.frequency(ledger, shopper, at_s)[0, 0] == 1


def test_a_session_ends_after_more_than_thirty_minutes() -> None:
    kinds = {"kind": VIEW}
    joined = ledger_from([order_line(START_S, **kinds), order_line(START_S + 1_800, **kinds)])
    parted = ledger_from([order_line(START_S, **kinds), order_line(START_S + 1_801, **kinds)])
    shopper, at_s = np.zeros(1, np.int64), np.array([START_S + 1_801])
    assert [sessions.sessions(ledger, shopper, at_s)[0, 0] for ledger in (joined, parted)] == [1, 2]


def test_a_cart_counts_as_live_only_while_the_session_may_go_on() -> None:
    ledger = ledger_from([order_line(START_S, kind=CART)])
    computed = sessions.sessions(ledger, np.zeros(2, np.int64), np.array([START_S + 1_800, START_S + 1_801]))
    assert computed[:, 8].tolist() == [1, 0]


def test_a_redemption_without_a_known_exposure_counts_over_one() -> None:
    ledger = ledger_from([order_line(START_S, kind=REDEMPTION), order_line(START_S, kind=REDEMPTION)])
    assert contacts.contacts(ledger, np.zeros(1, np.int64), np.array([START_S]))[0, 6] == 2
    ledger = ledger_from([order_line(START_S, kind=kind) for kind in (EXPOSURE, EXPOSURE, REDEMPTION)])
    assert contacts.contacts(ledger, np.zeros(1, np.int64), np.array([START_S]))[0, 6] == 0.5


def test_one_order_line_is_half_worth_after_a_half_life() -> None:
    ledger = ledger_from([order_line(START_S, category=7)])
    later = categories.categories(ledger, np.zeros(1, np.int64), np.array([START_S + 14 * DAY_S]))
    assert later[0, 7] == 0.5


def test_history_keeps_the_last_items_and_skips_unknown_ones() -> None:
    ledger = ledger_from([order_line(START_S + at, item=at % 60) for at in range(121)])
    computed = sequences.sequences(ledger, np.zeros(1, np.int64), np.array([START_S + 1_000]))
    assert computed[0].tolist() == list(range(10, 60))


def test_saturday_evening_is_weekend_and_evening() -> None:
    saturday_six_pm = int(np.datetime64("2017-03-04T18:00:00", "s").astype(np.int64))
    computed = week.week(ledger_from([order_line(saturday_six_pm)]), np.zeros(1, np.int64), np.array([saturday_six_pm]))
    # sin and cos of 270° in double precision, kept in float32: 2e-16 instead of 0.
    assert_allclose(computed[0], [1, 1, -1, 0], atol=1e-7)


def test_queries_that_descend_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"at_s must be ascending within a shopper, got 1 \(at \[1\]\)"):
        recency.recency(empty_ledger(1), np.zeros(2, np.int64), np.array([2, 1]))
    with pytest.raises(InvalidInput, match="shopper must ascend"):
        recency.recency(empty_ledger(2), np.array([1, 0]), np.array([1, 1]))


def test_a_query_about_an_unknown_shopper_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"shopper must be in \[0, 1\), got 1"):
        prices.prices(empty_ledger(1), np.ones(1, np.int64), np.ones(1, np.int64))


def test_a_sum_outlives_the_landmark_it_was_counted_from() -> None:
    ledger = ledger_from([order_line(START_S + year * 365 * DAY_S, order=year, category=7) for year in range(25)])
    at_s = START_S + 24 * 365 * DAY_S
    counted = frequency.frequency(ledger, np.zeros(1, np.int64), np.array([at_s]))[0]
    worths = [0.5 ** ((24 - year) * 365 / 91) for year in range(25)]
    assert counted[0] == 25
    assert_allclose(counted[3], sum(worths), rtol=1e-7)  # kept in float32
