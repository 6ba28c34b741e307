"""How good many yes-or-no probabilities were together: macro and micro figures with their bootstrap replicates.

In: probabilities of labels beside what happened and what could be seen. Out: figures by name, the value first, then a
replicate for each weighting. Called by training/outlook.py and tests/benchmarks/published/tags.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels import confusion, metrics
from training.calibrate import fit_families

# Below five answers a label's own figures are a coin toss; it still counts in the pooled ones.
FEWEST_ANSWERS = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """What happened in one window.

    labels    (n, n_labels) bool
    observed  (n, n_labels) bool  whether the label could be seen
    """

    labels: Bools
    observed: Bools

    def judged(self) -> NDArray[np.int64]:
        """Labels with enough answers of both kinds to have figures of their own."""
        n_true = (self.labels & self.observed).sum(axis=0)
        n_false = self.observed.sum(axis=0) - n_true
        return np.flatnonzero((n_true >= FEWEST_ANSWERS) & (n_false >= FEWEST_ANSWERS))

    def of(self, family: slice) -> "Truth":
        """The same of some labels."""
        return Truth(self.labels[:, family], self.observed[:, family])

    def among(self, rows: Bools) -> "Truth":
        """The same of some rows."""
        return Truth(self.labels[rows], self.observed[rows])


@dataclass(frozen=True)
class Cases:
    """What a model of many labels is judged on; thresholds and calibration are chosen on validation.

    families  name -> labels
    shopper   (n_test,) int64
    groups    name -> (n_test,) bool  slices that calibration must hold in
    """

    valid: Truth
    test: Truth
    families: Mapping[str, slice]
    shopper: NDArray[np.int64]
    groups: Mapping[str, Bools]


@dataclass(frozen=True)
class Said:
    """A model's probabilities of the same cases.

    valid  (n_valid, n_labels) float64
    test   (n_test, n_labels) float64
    """

    valid: Floats
    test: Floats


def calibration(valid_logits: Floats, cases: Cases) -> tuple[Floats, Floats]:
    """Slopes and shifts of every label; see calibrate.fit_families.

    valid_logits  (n_valid, n_labels) float64
    """
    return fit_families(valid_logits, cases.valid.labels, cases.valid.observed, list(cases.families.values()))


def calibrated(valid_logits: Floats, test_logits: Floats, cases: Cases) -> Said:
    """Probabilities from log-odds.

    valid_logits  (n_valid, n_labels) float64
    test_logits   (n_test, n_labels) float64
    """
    slopes, shifts = calibration(valid_logits, cases)
    return Said(*(1.0 / (1.0 + np.exp(-(logits * slopes + shifts))) for logits in (valid_logits, test_logits)))


def figures(said: Said, cases: Cases, weights: Floats) -> dict[str, Floats]:
    """Every figure of the test window.

    weights  (n_replicates, n_test) float64  from evidence.shopper_weights
    returns  figure -> value, then its replicates; calibration errors have none
    """
    judged = cases.test.judged()
    areas = areas_of(said.test, cases.test, weights)
    found = ranking_figures(areas)
    for name, family in cases.families.items():
        found |= ranking_figures(areas[(judged >= family.start) & (judged < family.stop)], f"{name}_")
    found |= decision_figures(said.test, thresholds_of(said.valid, cases.valid), cases.test, weights)
    return found | calibration_errors(said.test, cases)


def thresholds_of(probs: Floats, truth: Truth) -> Floats:
    """Choose from which probability to say yes, label by label, for the best F1: on validation, never on the test set.

    probs    (n, n_labels) float64
    returns  (n_labels,) float64  infinity where nothing happened
    """
    return np.array([
        confusion.best_f1(probs[seen, label].copy(), truth.labels[seen, label])[0]
        for label, seen in enumerate(truth.observed.T)
    ])  # fmt: skip


def areas_of(probs: Floats, truth: Truth, weights: Floats) -> Floats:
    """Average precision and area under the ROC curve of every label that can be judged.

    probs    (n, n_labels) float64
    weights  (n_replicates, n) float64  from evidence.shopper_weights
    returns  (n_judged, 1 + n_replicates, 2) float64  all cases once, then each weighting
    """
    weighted = np.concatenate([np.ones((1, weights.shape[1])), weights])
    areas = [np.zeros((0, len(weighted), 2))]
    for label in truth.judged():
        seen = truth.observed[:, label]
        found = metrics.ranking_areas(probs[seen, label].copy(), truth.labels[seen, label], weighted[:, seen])
        areas.append(found[None])
    return np.concatenate(areas)


def ranking_figures(areas: Floats, prefix: str = "") -> dict[str, Floats]:
    """Means over labels: a rare label counts as much as a common one.

    areas    from `areas_of`
    prefix   of the figures' names
    returns  figure -> (1 + n_replicates,); nothing where no label can be judged
    """
    if not len(areas):
        return {}
    # A replicate may lack a rare label's only answers: the mean is over the labels that it has.
    macro = np.nanmean(areas, axis=0)
    return {f"{prefix}macro_ap": macro[:, 0], f"{prefix}macro_auc": macro[:, 1]}


def decision_figures(probs: Floats, thresholds: Floats, truth: Truth, weights: Floats) -> dict[str, Floats]:
    """Accuracy, precision, recall and F1 of saying yes from a threshold on, over the labels that can be judged.

    probs       (n, n_labels) float64
    thresholds  (n_labels,) float64  from `thresholds_of`
    weights     (n_replicates, n) float64
    returns     figure -> (1 + n_replicates,); pooled over all labels, and macro_f1 as the mean of the labels' own
    """
    judged = truth.judged()
    weighted = np.concatenate([np.ones((1, weights.shape[1])), weights])
    said = (probs >= thresholds)[:, judged]
    counts = confusion.confusion(said, truth.labels[:, judged], truth.observed[:, judged], weighted)
    pooled = dict(zip(confusion.RATES, confusion.micro(counts).T, strict=True))
    own = dict(zip(confusion.RATES, confusion.macro(counts).T, strict=True))
    return {
        "micro_f1": pooled["f1"],
        "macro_f1": own["f1"],
        "accuracy": pooled["accuracy"],
        "precision": pooled["precision"],
        "recall": pooled["recall"],
    }


def calibration_errors(probs: Floats, cases: Cases) -> dict[str, Floats]:
    """Expected calibration error: every label's own on average, of each family pooled, and of each group of rows.

    probs    (n_test, n_labels) float64
    returns  figure -> (1,)
    """
    truth = cases.test
    own = [_error(probs[:, [label]], truth.of(slice(label, label + 1))) for label in truth.judged()]
    errors = {"label_ece": float(np.mean(own)) if own else 0.0}
    for name, family in cases.families.items():
        errors[f"{name}_ece"] = _error(probs[:, family], truth.of(family))
    for name, rows in cases.groups.items():
        errors[f"{name}_ece"] = _error(probs[rows], truth.among(rows))
    return {name: np.array([error]) for name, error in errors.items()}


def _error(probs: Floats, truth: Truth) -> float:
    return metrics.calibration_error(probs[truth.observed], truth.labels[truth.observed])
