"""Probabilities of one outcome by ours and its rivals on the same cases: AUC, its difference, and calibration error.

In: probabilities and what happened. Out: figures with paired bootstrap intervals. Called by the response studies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels import metrics
from training.evidence import Difference, Figure, interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Compared:
    """What was said of the same cases.

    ours      probabilities of each seed, (n,) float64 each
    rivals    name -> (n,) float64
    happened  (n,) bool
    stratum   (n,) int64               cases are ranked within it alone
    draws     (n_replicates, n) float64  how often each case is drawn
    """

    ours: Sequence[Floats]
    rivals: Mapping[str, Floats]
    happened: Bools
    stratum: Ints
    draws: Floats

    def areas(self, probs: Floats) -> Floats:
        """AUC, then its replicates; strata count by their cases that happened."""
        weights = np.concatenate([np.ones((1, probs.size)), self.draws])
        total, n_happened = np.zeros(weights.shape[0]), np.zeros(weights.shape[0])
        for stratum in np.unique(self.stratum):
            inside = np.flatnonzero(self.stratum == stratum)
            happened = self.happened[inside]
            if happened.all() or not happened.any():
                continue
            area = metrics.ranking_areas(probs[inside], happened, weights[:, inside])[:, 1]
            drawn = weights[:, inside[happened]].sum(axis=1) * np.isfinite(area)
            total, n_happened = total + np.nan_to_num(area) * drawn, n_happened + drawn
        found: Floats = total / np.maximum(n_happened, 1e-12)
        return found

    def mean_areas(self) -> Floats:
        """Of ours, the mean over seeds."""
        mean: Floats = np.mean([self.areas(probs) for probs in self.ours], axis=0)
        return mean

    def auc(self) -> Figure:
        """Mean over seeds; the interval spans cases."""
        return _figure(self.mean_areas())

    def rival_auc(self) -> dict[str, Figure]:
        """Of each rival."""
        return {name: _figure(self.areas(probs)) for name, probs in self.rivals.items()}

    def differences(self) -> list[Difference]:
        """Ours less each rival on the same draws."""
        ours = self.mean_areas()
        return [Difference(name, "auc", _figure(ours - self.areas(probs))) for name, probs in self.rivals.items()]

    def calibration(self, probs: Floats) -> Figure:
        """Calibration error; replicates stand above the value, because noise only ever adds to an absolute distance."""
        value = metrics.calibration_error(probs, self.happened)
        cases = np.arange(probs.size)
        drawn = [np.repeat(cases, weights.astype(np.int64)) for weights in self.draws[:50]]
        errors = np.array([metrics.calibration_error(probs[rows], self.happened[rows]) for rows in drawn])
        return interval(value, errors)

    def ours_calibration(self) -> Figure:
        """Mean over seeds."""
        each = [self.calibration(probs) for probs in self.ours]
        return Figure(*(float(np.mean([getattr(one, end) for one in each])) for end in ("value", "lower", "upper")))


def worst_lower(differences: Sequence[Difference]) -> Figure:
    """The lowest lower bound of all rivals, as a figure without an interval."""
    lower = min(one.difference.lower for one in differences)
    return Figure(lower, lower, lower)


def _figure(drawn: Floats) -> Figure:
    return interval(float(drawn[0]), drawn[1:])
