"""Tags equal their definition on random histories, and say what they must at the edges."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kernels.channels import Contacts, channel_counts
from kernels.checks import InvalidInput
from kernels.features import N_CATEGORIES, N_FEATURES, columns, features_at
from kernels.ledger import empty_ledger
from kernels.reference import tags as reference
from kernels.tag_limits import CHANNELS, LIFECYCLES, N_TAGS, TAGS, TIERS, TagLimits, tag_columns
from kernels.tags import churn_inputs, price_numbers, tags
from tests.kernels.ledgers import EXAMPLES, START_S, Case, cases, ledger_from, order_line

DAY_S = 86_400
WHO, NOBODY = np.zeros(1, np.int64), np.zeros((1, 2 * len(CHANNELS)), np.float32)
LIMITS = TagLimits(
    train_until_s=START_S,
    recency_days=(3.0, 10.0, 40.0, 90.0),
    frequency=(0.4, 1.0, 2.0, 5.0),
    monetary=(0.5, 90.0, 400.0, 1_000.0),
    category_share=(0.4, *[0.0] * 30, 0.2, 0.1, *[0.0] * 30, 0.0),
    category_price=(310.0, *[0.0] * 30, 520.0, 130.0, *[0.0] * 30, 470.0),
    promoted_share=(0.0, 0.0, 0.37, 1.0),
    price_position=(0.37, 0.81, 1.13, 2.71),
    sensitivity=(0.31, 0.62),
    typical_gap_days=9.3,
    at_risk_due=1.7,
    lapsed_due=3.3,
    churn_weeks=4,
    churn_coefficients=(0.3, 0.9, -0.4, -0.2, 0.1, 0.25, -1.0),
    channel_rate=(0.02, 0.1, 0.01, 0.0),
)


def tagged(days: list[float], at_day: float, limits: TagLimits = LIMITS, **line: float) -> dict[str, float]:
    """Tags of a shopper with one order line on each of some days."""
    lines = [order_line(START_S + round(day * DAY_S), order=1 + place, **line) for place, day in enumerate(days)]
    at_s = np.array([START_S + round(at_day * DAY_S)])
    features, _ = features_at(ledger_from(lines), WHO, at_s)
    return dict(zip(tag_columns(), tags(features, NOBODY, limits)[0].tolist(), strict=True))


def lifecycle_of(days: list[float], at_day: float) -> str:
    return LIFECYCLES[int(tagged(days, at_day)["lifecycle"])]


@EXAMPLES
@given(case=cases(), counts=st.lists(st.integers(0, 5), min_size=8, max_size=8))
def test_tags_equal_their_definition(case: Case, counts: list[int]) -> None:
    features, _ = features_at(case.ledger, case.shopper, case.at_s)
    contacts = np.tile(np.array(counts, np.float32), (features.shape[0], 1))
    computed = tags(features, contacts, LIMITS)
    rows = [dict(zip(columns(), row.tolist(), strict=True)) for row in features]
    defined = [reference.tags(row, counts, LIMITS) for row in rows]
    # float32 keeps 6e-8 of a value; all before it is float64.
    assert_allclose(computed, np.array(defined).reshape(computed.shape), rtol=2e-7, atol=1e-7)


@EXAMPLES
@given(case=cases())
def test_what_limits_are_fitted_on_equals_its_definition(case: Case) -> None:
    features, _ = features_at(case.ledger, case.shopper, case.at_s)
    rows = [dict(zip(columns(), row.tolist(), strict=True)) for row in features]
    price = np.array(LIMITS.category_price)
    # Both float64; the twin sums exactly, so only the last digits differ.
    assert_allclose(churn_inputs(features, 9.3), [reference.churn_inputs(row, 9.3) for row in rows], rtol=1e-12)
    assert_allclose(price_numbers(features, price), [reference.price_numbers(row, price) for row in rows], rtol=1e-12)


_CONTACT = st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, len(CHANNELS) - 1), st.booleans())


@EXAMPLES
@given(rows=st.lists(_CONTACT, max_size=12), at_s=st.integers(-1, 31))
def test_channel_counts_equal_their_definition(rows: list[tuple[int, int, int, bool]], at_s: int) -> None:
    rows = sorted(rows)
    table = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    shopper = np.array(table[0], np.int64)
    contacts = Contacts(
        np.searchsorted(shopper, np.arange(3)).astype(np.int64),
        np.array(table[1], np.int64), np.array(table[2], np.int8), np.array(table[3], np.bool_),
    )  # fmt: skip
    counted = channel_counts(contacts, np.array([0, 1]), np.full(2, at_s))
    assert counted.tolist() == [reference.channel_counts(rows, who, at_s) for who in (0, 1)]


def test_tags_of_nobody_are_neutral() -> None:
    features, _ = features_at(empty_ledger(1), WHO, np.array([START_S]))
    neutral = [tag.neutral for tag in TAGS for _ in range(tag.width)]
    assert_allclose(tags(features, NOBODY, LIMITS), [neutral])


def test_no_rows_have_no_tags() -> None:
    assert tags(np.zeros((0, N_FEATURES), np.float32), NOBODY[:0], LIMITS).shape == (0, N_TAGS)


def test_a_shopper_of_many_recent_orders_is_a_champion_and_becomes_dormant() -> None:
    weekly = [7.0 * week for week in range(10)]
    assert TIERS[int(tagged(weekly, 64.0, paid_micros=200_000_000)["tier"])] == "champion"
    late = tagged(weekly, 900.0, paid_micros=200_000_000)
    assert (TIERS[int(late["tier"])], late["recency_score"]) == ("dormant", 1)


def test_a_life_goes_from_new_to_won_back() -> None:
    assert lifecycle_of([0.0], 1.0) == "new"
    assert lifecycle_of([0.0, 7.0], 8.0) == "active"
    # Expected gap (7 + 2 * 9.3) / 3 = 8.5 days: at risk after 14.5, lapsed after 28.2.
    assert [lifecycle_of([0.0, 7.0], 7.0 + days) for days in (14.4, 14.6, 28.1, 28.3)] == [
        "active", "at risk", "at risk", "lapsed",
    ]  # fmt: skip
    assert lifecycle_of([0.0, 7.0, 67.0], 68.0) == "won back"
    assert lifecycle_of([0.0, 7.0, 67.0, 74.0], 75.0) == "active"


def test_a_gap_is_seen_behind_many_earlier_orders() -> None:
    daily = [float(day) for day in range(40)]
    assert lifecycle_of([*daily, 140.0], 141.0) == "won back"
    assert lifecycle_of([*daily, 41.0], 42.0) == "active"


def test_an_affinity_needs_evidence_and_a_share_above_the_shops() -> None:
    one = tagged([0.0], 1.0, category=31)
    assert one["affinity_slot[0]"] == -1
    assert np.isnan(one["affinity_lift[0]"])
    many = tagged([0.0, 1.0, 2.0, 3.0], 3.0, category=31)
    assert (many["affinity_slot[0]"], many["affinity_slot[1]"]) == (31, -1)
    # 3.95 decayed lines of 3.95, five prior lines at the shop's 0.2: (3.95 + 1) / (3.95 + 5) / 0.2.
    assert many["affinity_lift[0]"] == pytest.approx(2.77, abs=0.01)
    assert tagged([0.0, 1.0, 2.0, 3.0], 3.0, category=N_CATEGORIES - 1)["affinity_slot[0]"] == -1


def test_who_buys_cheap_and_promoted_is_sensitive_to_price() -> None:
    days = [0.0, 1.0, 2.0, 3.0, 4.0]
    promoted = tagged(days, 5.0, paid_micros=80_000_000, discount_micros=20_000_000)
    assert (promoted["promoted_line_share"], promoted["price_sensitivity_level"]) == (1, 3)
    assert promoted["price_position"] == pytest.approx(100 / 310)
    dear = tagged(days, 5.0, paid_micros=990_000_000)
    assert (dear["promoted_line_share"], dear["price_sensitivity_level"]) == (0, 1)
    few = tagged(days[:4], 5.0)
    assert few["price_sensitivity_level"] == 0
    assert np.isnan(few["price_sensitivity"])


def test_churn_rises_with_silence() -> None:
    probs = [tagged([0.0, 7.0, 14.0], 14.0 + days)["churn_prob"] for days in (1, 10, 40, 300)]
    assert probs == sorted(probs)
    assert probs[0] < probs[-1]


def test_a_channel_is_preferred_only_on_evidence() -> None:
    features, _ = features_at(empty_ledger(1), WHO, np.array([START_S]))
    channel = tag_columns().index("channel")

    def preferred(*counts: float) -> list[float]:
        return tags(features, np.array([counts], np.float32), LIMITS)[0, channel : channel + 2].tolist()

    assert preferred(9, 9, 0, 0, 1, 1, 0, 0)[0] == 0
    assert preferred(9, 9, 0, 0, 1, 2, 0, 0)[0] == 1 + CHANNELS.index("promotions")
    # 3 answers to 9 contacts, drawn to 0.02 as if by ten more: (3 + 0.2) / 19.
    assert preferred(9, 0, 0, 0, 3, 0, 0, 0) == [1, pytest.approx(3.2 / 19)]
    assert preferred(0, 0, 0, 0, 0, 0, 4, 0) == [3, pytest.approx(4.1 / 14)]


def test_limits_come_back_from_their_file_as_they_were() -> None:
    assert TagLimits.from_json(LIMITS.to_json()) == LIMITS


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frequency": (1.0,)}, "frequency must have 4 values, got 1"),
        ({"monetary": (1.0, 2.0, float("nan"), 3.0)}, "monetary must be finite"),
        ({"recency_days": (4.0, 3.0, 2.0, 1.0)}, "recency_days must ascend"),
        ({"typical_gap_days": 0.0}, "typical_gap_days must be > 0, got 0.0"),
        ({"churn_weeks": 0}, "churn_weeks must be ≥ 1, got 0"),
        ({"at_risk_due": 4.0}, r"at_risk_due must be in \(0, 3.3\], got 4.0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        dataclasses.replace(LIMITS, **change)


def test_a_file_that_is_no_limits_is_refused() -> None:
    short = {name: value for name, value in json.loads(LIMITS.to_json()).items() if name != "lapsed_due"}
    for content in (b"not json", b"[]", json.dumps(short).encode()):
        with pytest.raises(InvalidInput, match=r"tags.json must hold tag limits of this version"):
            TagLimits.from_json(content)


def test_rows_of_another_shape_are_refused() -> None:
    rows = np.zeros((2, N_FEATURES), np.float32)
    with pytest.raises(InvalidInput, match="features must have N_FEATURES"):
        tags(rows[:, 1:], NOBODY, LIMITS)
    with pytest.raises(InvalidInput, match=r"contacts must have shape \(2, 8\), got \(1, 8\)"):
        tags(rows, NOBODY, LIMITS)
    with pytest.raises(InvalidInput, match="features must be float32, got float64"):
        tags(rows.astype(np.float64), NOBODY, LIMITS)


def test_contacts_that_descend_or_name_no_channel_are_refused() -> None:
    offsets, answers = np.array([0, 2]), np.zeros(2, np.bool_)
    with pytest.raises(InvalidInput, match="time_s must ascend within a shopper"):
        Contacts(offsets, np.array([2, 1]), np.zeros(2, np.int8), answers)
    with pytest.raises(InvalidInput, match=r"channel must be in \[0, 4\), got 4"):
        Contacts(offsets, np.array([1, 2]), np.array([0, 4], np.int8), answers)
