"""Uplift metrics equal scikit-uplift's to the last digits, their definitions, and themselves on repeated cases."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import metrics, uplift_metrics
from kernels.checks import InvalidInput
from kernels.reference import uplift_metrics as reference
from tests.kernels.ledgers import EXAMPLES

CASES = st.lists(
    st.tuples(st.integers(-4, 4), st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30
)
GIVEN = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.1, 1.0), st.integers(-9, 9)), min_size=1, max_size=30
)


def columns_of(cases: list[tuple[int, bool, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, what happened, who was sent something, and weights."""
    scores, happened, sent, weights = zip(*cases, strict=True)
    return np.array(scores) / 7.0, np.array(happened), np.array(sent), np.array(weights, np.float64)


def trial(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A trial with ties in the score and an effect that rises with it."""
    rng = np.random.default_rng(0)
    scores, sent = rng.integers(0, 50, n) / 7.0, rng.uniform(size=n) < 0.4
    return scores, rng.uniform(size=n) < 0.1 + 0.02 * scores * sent, sent


def test_metrics_equal_those_of_scikit_uplift() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from sklift.metrics import qini_auc_score, uplift_at_k, uplift_auc_score

        scores, happened, sent = trial(5_000)
        theirs = (happened.astype(int), scores, sent.astype(int))
        qini, auuc = qini_auc_score(*theirs), uplift_auc_score(*theirs)
        best = uplift_at_k(*theirs, strategy="overall", k=0.3)
    once = uplift_metrics.once(scores.size)
    # Whole counts add up exactly; only quotients and areas round, in another order.
    assert uplift_metrics.qini_coefficients(scores, happened, sent, once)[0] == pytest.approx(qini, rel=1e-12)
    assert uplift_metrics.uplift_coefficients(scores, happened, sent, once)[0] == pytest.approx(auuc, rel=1e-12)
    assert uplift_metrics.uplift_among_best(scores, happened, sent, once, 0.3)[0] == pytest.approx(best, rel=1e-12)


@EXAMPLES
@given(cases=CASES)
def test_coefficients_equal_their_definitions(cases: list[tuple[int, bool, bool, int]]) -> None:
    scores, happened, sent, _ = columns_of(cases)
    once, plain = uplift_metrics.once(scores.size), (scores.tolist(), happened.tolist(), sent.tolist())
    for ours, defined in (
        (uplift_metrics.qini_coefficients, reference.qini_coefficient),
        (uplift_metrics.uplift_coefficients, reference.uplift_coefficient),
    ):
        expected, found = defined(*plain), ours(scores, happened, sent, once)[0]
        # A perfect area that is nought but for rounding divides into nonsense on both sides.
        if np.isfinite(expected) and abs(expected) < 1e6:
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for share in (0.3, 1.0):
        assert uplift_metrics.uplift_among_best(scores, happened, sent, once, share)[0] == pytest.approx(
            reference.uplift_among_best(*plain, share), rel=1e-12, abs=1e-12, nan_ok=True
        )


@EXAMPLES
@given(cases=CASES)
def test_a_weight_counts_like_as_many_cases(cases: list[tuple[int, bool, bool, int]]) -> None:
    scores, happened, sent, weights = columns_of(cases)
    repeated = np.repeat(np.arange(scores.size), weights.astype(np.int64))
    if repeated.size == 0:
        return
    once, effects = uplift_metrics.once(repeated.size), scores**2 - happened
    qini = uplift_metrics.qini_coefficients(scores, happened, sent, weights[None, :])[0]
    drawn = uplift_metrics.qini_coefficients(scores[repeated], happened[repeated], sent[repeated], once)[0]
    assert qini == pytest.approx(drawn, rel=1e-9, abs=1e-9, nan_ok=True)
    autoc = uplift_metrics.autoc_values(scores, effects, weights[None, :])[0]
    assert autoc == pytest.approx(metrics.autoc(scores[repeated], effects[repeated]), rel=1e-9, abs=1e-9)


@EXAMPLES
@given(cases=GIVEN)
def test_policy_value_equals_its_definition(cases: list[tuple[int, int, float, int]]) -> None:
    chosen, arm, propensity, outcome = (np.array(column) for column in zip(*cases, strict=True))
    found = uplift_metrics.policy_values(
        chosen, arm, propensity, outcome.astype(np.float64), uplift_metrics.once(arm.size)
    )[0]
    expected = reference.policy_value(chosen.tolist(), arm.tolist(), propensity.tolist(), outcome.tolist())
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


def test_a_score_that_knows_the_effect_beats_one_that_does_not() -> None:
    scores, happened, sent = trial(20_000)
    once = uplift_metrics.once(scores.size)
    knowing = uplift_metrics.qini_coefficients(scores, happened, sent, once)[0]
    blind = uplift_metrics.qini_coefficients(np.random.default_rng(1).normal(size=scores.size), happened, sent, once)[0]
    assert knowing > 0.1 > 0.03 > abs(blind)


def test_nothing_to_gain_is_not_a_number() -> None:
    scores, nobody = np.array([0.1, 0.2]), np.zeros(2, np.bool_)
    once = uplift_metrics.once(2)
    assert np.isnan(uplift_metrics.qini_coefficients(scores, nobody, ~nobody, once)).all()
    assert np.isnan(uplift_metrics.uplift_among_best(scores, nobody, ~nobody, once, 1.0)).all()
    assert np.isnan(uplift_metrics.autoc_values(scores, scores, np.zeros((1, 2)))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: uplift_metrics.qini_coefficients(np.array([np.nan]), *[np.ones(1, np.bool_)] * 2, np.ones((1, 1))),
            "scores must be finite, got nan",
        ),
        (
            lambda: uplift_metrics.qini_coefficients(np.ones(1), *[np.ones(2, np.bool_)] * 2, np.ones((1, 1))),
            "happened must have 1 values, got 2",
        ),
        (
            lambda: uplift_metrics.uplift_among_best(np.ones(1), *[np.ones(1, np.bool_)] * 2, np.ones((1, 1)), 0.0),
            r"share must be in \(0, 1\], got 0.0",
        ),
        (
            lambda: uplift_metrics.autoc_values(np.ones(1), np.ones(1), np.full((1, 1), 0.5)),
            "weights must be whole, got 0.5",
        ),
        (
            lambda: uplift_metrics.policy_values(
                np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1), np.ones(1), np.ones((1, 1))
            ),
            r"propensity must be in \(0, 1\], got 0.0",
        ),
        (
            lambda: uplift_metrics.uplift_coefficients(np.ones(1), *[np.ones(1, np.bool_)] * 2, np.full((1, 1), -1.0)),
            "weights must be ≥ 0, got -1.0",
        ),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()  # type: ignore[operator]  # parametrised with callables
