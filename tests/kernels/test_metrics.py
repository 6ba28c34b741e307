"""Every metric equals scikit-learn's or its plain definition."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    roc_auc_score,
)
from sklearn.metrics import log_loss as log_loss_of_scikit_learn

from kernels import metrics
from kernels.checks import InvalidInput
from tests.kernels.ledgers import EXAMPLES

CASES = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40)
EFFECTS = st.lists(st.tuples(st.integers(-5, 5), st.floats(-100.0, 100.0)), min_size=1, max_size=30)


def columns_of(cases: list[tuple[int, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores in [0, 1] with ties, what happened, and weights."""
    scores, happened, weights = zip(*cases, strict=True)
    return np.array(scores) / 6.0, np.array(happened), np.array(weights, np.float64)


@EXAMPLES
@given(cases=CASES)
def test_areas_equal_those_of_scikit_learn(cases: list[tuple[int, bool, int]]) -> None:
    scores, happened, weights = columns_of(cases)
    precision, area = metrics.ranking_areas(scores, happened, weights[None, :])[0]
    counted = weights > 0
    if np.unique(happened[counted]).size < 2:
        assert np.isnan(precision)
        assert np.isnan(area)
    else:
        # Sums of at most 40 small whole weights: only the last division rounds differently.
        assert precision == pytest.approx(average_precision_score(happened, scores, sample_weight=weights), rel=1e-9)
        assert area == pytest.approx(roc_auc_score(happened, scores, sample_weight=weights), rel=1e-9)


@EXAMPLES
@given(cases=CASES, n_bins=st.integers(1, 10))
def test_calibration_error_equals_its_definition(cases: list[tuple[int, bool, int]], n_bins: int) -> None:
    probs, happened, _ = columns_of(cases)
    ordered = sorted(range(probs.size), key=lambda case: (probs[case], case))
    edges = [int(edge) for edge in np.linspace(0, probs.size, n_bins + 1)]
    error = 0.0
    for first, last in pairwise(edges):
        members = ordered[first:last]
        error += abs(sum(probs[case] for case in members) - sum(bool(happened[case]) for case in members)) / probs.size
    assert metrics.calibration_error(probs, happened, n_bins) == pytest.approx(error, abs=1e-12)


def test_calibration_error_of_honest_probabilities_is_small() -> None:
    rng = np.random.default_rng(0)
    probs = rng.uniform(size=20_000)
    # 15 bins of 1333 cases: the share in a bin strays by about 0.5 / sqrt(1333) = 0.014.
    assert metrics.calibration_error(probs, rng.uniform(size=probs.size) < probs) < 0.014


def test_no_cases_have_no_bins_and_no_error() -> None:
    nothing, never = np.zeros(0), np.zeros(0, np.bool_)
    assert metrics.reliability(nothing, never, 5).n.size == 0
    assert metrics.calibration_error(nothing, never) == 0.0


@EXAMPLES
@given(cases=CASES)
def test_log_loss_equals_scikit_learn(cases: list[tuple[int, bool, int]]) -> None:
    probs, happened, _ = columns_of(cases)
    expected = log_loss_of_scikit_learn(happened, probs, labels=[False, True])
    # The same logarithms in another order of addition.
    assert metrics.log_loss(probs, happened) == pytest.approx(expected, rel=1e-9)


@EXAMPLES
@given(relevant=st.lists(st.sets(st.integers(1, 12), max_size=6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_ranking_gains_equal_scikit_learn(relevant: list[set[int]], seed: int) -> None:
    rng, k = np.random.default_rng(seed), 4
    scores = np.stack([rng.permutation(12) for _ in relevant]).astype(np.float64)
    ranked = (np.argsort(-scores, axis=1)[:, :k] + 1).astype(np.int32)
    offsets = np.cumsum([0, *(len(items) for items in relevant)])
    items = np.array([item for query in relevant for item in sorted(query)], np.int32)
    gains = metrics.ranking_gains(ranked, offsets, items)
    for query, wanted in enumerate(relevant):
        hits = wanted & set(ranked[query].tolist())
        truth = np.isin(np.arange(1, 13), list(wanted)).astype(np.float64)
        expected = (
            [len(hits) / len(wanted), ndcg_score([truth], [scores[query]], k=k), float(bool(hits))] if wanted else 0
        )
        assert gains[query] == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(relevant=st.lists(st.sets(st.integers(1, 12), max_size=6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_reciprocal_rank_is_one_over_the_place_of_the_first_hit(relevant: list[set[int]], seed: int) -> None:
    rng, k = np.random.default_rng(seed), 5
    ranked = np.stack([rng.permutation(12)[:k] for _ in relevant]).astype(np.int32)  # 0 stands anywhere in a list
    offsets = np.cumsum([0, *(len(items) for items in relevant)])
    items = np.array([item for query in relevant for item in sorted(query)], np.int32)
    ranks = metrics.reciprocal_ranks(ranked, offsets, items)
    for query, wanted in enumerate(relevant):
        places = [place for place, item in enumerate(ranked[query].tolist(), start=1) if item in wanted]
        assert ranks[query] == (1.0 / places[0] if places else 0.0)


def test_mrr_of_one_relevant_item_each_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 12))
    wanted = rng.integers(1, 13, 50).astype(np.int32)
    ranked = (np.argsort(-scores, axis=1) + 1).astype(np.int32)
    truth = np.arange(1, 13) == wanted[:, None]
    ours = metrics.reciprocal_ranks(ranked, np.arange(51), wanted).mean()
    assert ours == pytest.approx(label_ranking_average_precision_score(truth, scores), rel=1e-12)


@EXAMPLES
@given(lists=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=6))
def test_coverage_is_the_share_of_items_in_any_list(lists: list[list[int]]) -> None:
    shown = {item for items in lists for item in items} - {0}
    assert metrics.coverage(np.array(lists, np.int32), 9) == len(shown) / 9


def test_a_short_list_is_filled_with_zero_and_zero_is_never_a_hit() -> None:
    gains = metrics.ranking_gains(np.array([[3, 0, 0]], np.int32), np.array([0, 2]), np.array([3, 9], np.int32))
    assert gains[0, 0] == 0.5


@EXAMPLES
@given(cases=EFFECTS)
def test_autoc_and_qini_equal_their_definitions(cases: list[tuple[int, float]]) -> None:
    scores, effects = (np.array(column, np.float64) for column in zip(*cases, strict=True))
    order = sorted(range(scores.size), key=lambda case: (-scores[case], case))
    mean, n = float(np.mean(effects)), scores.size
    tops = [float(np.mean(effects[order[:size]])) - mean for size in range(1, n + 1)]
    # Sums of up to 30 values below 100: 1e-9 is far above their rounding.
    assert metrics.autoc(scores, effects) == pytest.approx(np.mean(tops), abs=1e-9)
    areas = [top * size / n for size, top in enumerate(tops, start=1)]
    assert metrics.qini(scores, effects) == pytest.approx(np.mean(areas), abs=1e-9)


def test_a_score_that_orders_by_effect_gains_and_its_opposite_loses() -> None:
    effects = np.arange(10.0)
    assert metrics.autoc(effects, effects) > 0 > metrics.autoc(-effects, effects)
    assert metrics.qini(effects, effects) > 0 > metrics.qini(-effects, effects)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: metrics.reliability(np.array([0.5, 1.5]), np.array([True, False]), 2),
            r"probs must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: metrics.calibration_error(np.array([np.nan]), np.array([True])),
            r"probs must be in \[0, 1\], got nan",
        ),
        (lambda: metrics.reliability(np.array([0.5]), np.array([True]), 0), "n_bins must be > 0, got 0"),
        (lambda: metrics.autoc(np.zeros(0), np.zeros(0)), "scores must have cases, got 0"),
        (lambda: metrics.qini(np.array([1.0]), np.array([np.inf])), "effects must be finite, got inf"),
        (lambda: metrics.uplift_gains(np.zeros(2), np.zeros(3)), "effects must have 2 values, got 3"),
        (
            lambda: metrics.ranking_gains(np.zeros((2, 3), np.int32), np.array([0, 1]), np.zeros(1, np.int32)),
            "offsets must have 3 values, got 2",
        ),
        (lambda: metrics.log_loss(np.array([-0.1]), np.array([True])), r"probs must be in \[0, 1\], got -0.1"),
        (lambda: metrics.coverage(np.array([[4]], np.int32), 3), r"ranked must be in \[0, 3\], got 4"),
        (lambda: metrics.coverage(np.zeros((1, 1), np.int32), 0), "n_items must be > 0, got 0"),
        (
            lambda: metrics.reciprocal_ranks(np.zeros((1, 3), np.int32), np.array([0, 2]), np.zeros(1, np.int32)),
            "offsets must run from 0 to 1",
        ),
        (
            lambda: metrics.ranking_areas(np.zeros(2), np.zeros(2, np.bool_), np.zeros((1, 3))),
            "weights must have 2 columns, got 3",
        ),
    ],
)
def test_a_broken_rule_is_named(call: object, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        call()  # type: ignore[operator]
