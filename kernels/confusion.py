"""How good a yes or no was, label by label: accuracy, precision, recall, F1 and the probability from which to say yes.

In: what was said beside what happened. Out: counts, and rates pooled over labels or averaged. Called by the studies of
training/ and tests/benchmarks/published/.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
RATES = ("accuracy", "precision", "recall", "f1")


def confusion(predicted: Bools, happened: Bools, observed: Bools, weights: Floats) -> Floats:
    """Count agreements and disagreements of every label under many weightings of the rows: what a bootstrap needs.

    predicted  (n, n_labels) bool          what was said
    happened   (n, n_labels) bool
    observed   (n, n_labels) bool          whether it could be seen; nothing else is counted
    weights    (n_weightings, n) float64   ≥ 0, how often each row counts; ones for a plain count
    returns    (n_weightings, n_labels, 4) float64  in the order of COUNTS
    raises     InvalidInput  if shapes differ
    source     scikit-learn's multilabel_confusion_matrix; tests/kernels/test_confusion.py
    """
    for name, cells in (("predicted", predicted), ("happened", happened), ("observed", observed)):
        check_array(name, cells, np.bool_, n_dims=2)
        check(cells.shape == predicted.shape, f"{name} must have shape {predicted.shape}, got {cells.shape}")
    check_array("weights", weights, np.float64, n_dims=2)
    check(
        weights.shape[1] == predicted.shape[0],
        f"weights must have {predicted.shape[0]} columns, got {weights.shape[1]}",
    )
    said, true, seen = predicted & observed, happened & observed, weights @ observed
    both, n_said, n_true = weights @ (said & true), weights @ said, weights @ true
    return np.stack([both, n_said - both, n_true - both, seen - n_said - n_true + both], axis=-1)


def rates(counts: Floats) -> Floats:
    """Turn counts into rates; a rate with nothing to divide by is 0.

    counts   (..., 4) float64  in the order of COUNTS
    returns  (..., 4) float64  in the order of RATES
    raises   InvalidInput      if the last axis has not four places
    source   scikit-learn's precision_recall_fscore_support with zero_division 0; tests/kernels/test_confusion.py
    """
    check(counts.ndim > 0 and counts.shape[-1] == len(COUNTS), f"counts must end in {len(COUNTS)}, got {counts.shape}")
    both, false_positive, false_negative, neither = np.moveaxis(counts, -1, 0)
    above = (both + neither, both, both, 2.0 * both)
    below = (
        counts.sum(axis=-1),
        both + false_positive,
        both + false_negative,
        2.0 * both + false_positive + false_negative,
    )
    return np.stack([part / np.where(whole > 0.0, whole, 1.0) for part, whole in zip(above, below, strict=True)], -1)


def micro(counts: Floats) -> Floats:
    """Return the rates of all labels pooled: every cell counts once.

    counts   (..., n_labels, 4) float64  from `confusion`
    returns  (..., 4) float64            in the order of RATES; micro accuracy is one less the Hamming loss
    raises   InvalidInput                as `rates`
    source   scikit-learn's average="micro"; tests/kernels/test_confusion.py
    """
    return rates(counts.sum(axis=-2))


def macro(counts: Floats) -> Floats:
    """Return the mean of the labels' own rates: a rare label counts as much as a common one.

    counts   (..., n_labels, 4) float64  from `confusion`; labels that no one can judge are to be left out before
    returns  (..., 4) float64            in the order of RATES; zeros for no labels
    raises   InvalidInput                as `rates`
    source   scikit-learn's average="macro"; tests/kernels/test_confusion.py
    """
    return np.asarray(rates(counts).sum(axis=-2) / max(counts.shape[-2], 1))


def exact_matches(predicted: Bools, happened: Bools) -> Bools:
    """Say of each row whether every label is right; their mean is scikit-learn's multi-label accuracy.

    predicted  (n, n_labels) bool
    happened   (n, n_labels) bool
    returns    (n,) bool
    raises     InvalidInput  if shapes differ
    source     scikit-learn's accuracy_score; tests/kernels/test_confusion.py
    """
    check_array("predicted", predicted, np.bool_, n_dims=2)
    check_array("happened", happened, np.bool_, n_dims=2)
    check(happened.shape == predicted.shape, f"happened must have shape {predicted.shape}, got {happened.shape}")
    return np.asarray((predicted == happened).all(axis=1))


def best_f1(scores: Floats, happened: Bools) -> tuple[float, float]:
    """Find the score from which to say yes so that F1 is largest; choose it on validation, never on the test set.

    scores    (n,) float64  higher means more likely
    happened  (n,) bool
    returns   the threshold, to be compared by ≥, and its F1; infinity and 0 where nothing happened
    raises    InvalidInput  if lengths differ or a score is not finite
    source    scikit-learn's precision_recall_curve; tests/kernels/test_confusion.py
    """
    check_array("scores", scores, np.float64)
    check_array("happened", happened, np.bool_)
    check(scores.size == happened.size, f"happened must have {scores.size} values, got {happened.size}")
    check_each("scores", scores, np.isfinite(scores), "finite")
    n_true = int(happened.sum())
    if n_true == 0:
        return float("inf"), 0.0
    order = np.argsort(-scores, kind="stable")
    f1 = 2.0 * np.cumsum(happened[order]) / (np.arange(1, scores.size + 1) + n_true)
    # Equal scores stand or fall together: only the last of them is a place to cut.
    f1[:-1][scores[order][:-1] == scores[order][1:]] = 0.0
    best = int(np.argmax(f1))
    return float(scores[order[best]]), float(f1[best])
