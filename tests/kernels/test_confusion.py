"""Counts, rates and the best threshold equal scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    hamming_loss,
    multilabel_confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
)

from kernels import confusion
from kernels.checks import InvalidInput
from tests.kernels.ledgers import EXAMPLES

CELL = st.tuples(st.booleans(), st.booleans(), st.booleans())
ROWS = st.lists(st.tuples(CELL, CELL, CELL, st.integers(0, 3)), min_size=1, max_size=30)
Row = tuple[tuple[bool, bool, bool], tuple[bool, bool, bool], tuple[bool, bool, bool], int]


def cells_of(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What was said, what happened, what was observed, each (n, 3), and a weight for each row."""
    cells = np.array([row[:3] for row in rows])
    return (
        cells[:, :, 0].copy(),
        cells[:, :, 1].copy(),
        cells[:, :, 2].copy(),
        np.array([row[3] for row in rows], float),
    )


def everywhere(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All observed, every row once."""
    return np.ones_like(cells), np.ones((1, cells.shape[0]))


@EXAMPLES
@given(rows=ROWS)
def test_counts_equal_their_definition_where_cells_are_hidden_and_rows_weigh(rows: list[Row]) -> None:
    predicted, happened, observed, weights = cells_of(rows)
    counts = confusion.confusion(predicted, happened, observed, np.stack([np.ones(len(rows)), weights]))
    for weighting, each in enumerate((np.ones(len(rows)), weights)):
        for label in range(3):
            defined = dict.fromkeys(confusion.COUNTS, 0.0)
            for said, true, seen, weight in zip(
                predicted[:, label], happened[:, label], observed[:, label], each, strict=True
            ):
                if seen:
                    defined[f"{'true' if said == true else 'false'}_{'positive' if said else 'negative'}"] += weight
            assert dict(zip(confusion.COUNTS, counts[weighting, label], strict=True)) == defined


@EXAMPLES
@given(rows=ROWS)
def test_counts_and_rates_equal_those_of_scikit_learn(rows: list[Row]) -> None:
    predicted, happened, _, _ = cells_of(rows)
    counts = confusion.confusion(predicted, happened, *everywhere(predicted))[0]
    theirs = multilabel_confusion_matrix(happened, predicted)
    assert (counts == theirs[:, [1, 0, 1, 0], [1, 1, 0, 0]]).all()
    for average, ours in (("micro", confusion.micro(counts)), ("macro", confusion.macro(counts))):
        expected = precision_recall_fscore_support(happened, predicted, average=average, zero_division=0)[:3]
        # The same small whole numbers divided: only the last rounding differs.
        assert ours[1:] == pytest.approx(expected, rel=1e-12)
    assert confusion.micro(counts)[0] == pytest.approx(1.0 - hamming_loss(happened, predicted), rel=1e-12)
    single = [accuracy_score(happened[:, label], predicted[:, label]) for label in range(3)]
    assert confusion.rates(counts)[:, 0] == pytest.approx(single, rel=1e-12)
    assert confusion.exact_matches(predicted, happened).mean() == pytest.approx(accuracy_score(happened, predicted))


@EXAMPLES
@given(cases=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_best_threshold_is_that_of_scikit_learns_curve(cases: list[tuple[int, bool]]) -> None:
    scores, happened = np.array([case[0] / 6.0 for case in cases]), np.array([case[1] for case in cases])
    threshold, f1 = confusion.best_f1(scores, happened)
    if not happened.any():
        assert (threshold, f1) == (float("inf"), 0.0)
        return
    precision, recall, _ = precision_recall_curve(happened, scores)
    curve = 2.0 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert f1 == pytest.approx(curve.max(), rel=1e-12)
    said = (scores >= threshold)[:, None]
    counts = confusion.confusion(said, happened[:, None], *everywhere(said))[0]
    assert confusion.micro(counts)[3] == pytest.approx(f1, rel=1e-12)


def test_a_label_that_no_one_named_has_rates_of_zero_and_no_label_at_all_too() -> None:
    nothing = np.zeros((3, 1), np.bool_)
    counts = confusion.confusion(nothing, ~nothing, *everywhere(nothing))[0]
    assert confusion.rates(counts)[0].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert confusion.macro(np.zeros((0, 4))).tolist() == confusion.micro(np.zeros((0, 4))).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda cell: confusion.confusion(cell, cell[:1], cell, np.ones((1, 2))),
            r"happened must have shape \(2, 3\), got \(1, 3\)",
        ),
        (lambda cell: confusion.confusion(cell, cell, cell, np.ones((1, 5))), "weights must have 2 columns, got 5"),
        (lambda cell: confusion.exact_matches(cell, cell[:, :1]), r"happened must have shape \(2, 3\), got \(2, 1\)"),
        (lambda cell: confusion.rates(cell.astype(float)), r"counts must end in 4, got \(2, 3\)"),
        (lambda cell: confusion.best_f1(np.array([np.nan]), cell[0, :1]), r"scores must be finite, got nan"),
        (lambda cell: confusion.best_f1(np.zeros(2), cell[0]), "happened must have 2 values, got 3"),
    ],
)
def test_a_broken_rule_is_named(call: object, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        call(np.zeros((2, 3), np.bool_))  # type: ignore[operator]
