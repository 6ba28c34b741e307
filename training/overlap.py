"""Whether those sent a campaign and those not sent it can be compared at all: propensities, overlap, balance.

In: adjusted waves. Out: a frozen Overlap for the report. Called by training/effects.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evidence import Histogram
from training.waves import OVERLAP, Adjusted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Imbalance:
    """How far those sent and those not sent stand apart in one covariate, in standard deviations."""

    covariate: str
    before: float
    after: float


@dataclass(frozen=True)
class Overlap:
    """Whether an arm's sent and unsent can be compared at all.

    sent, unsent         propensities, before trimming
    sent_quantiles       propensity at 5, 25, 50, 75 and 95 %
    effective_n          sent and unsent rows that overlap-weighted rows are worth
    trimmed_share        rows left out for want of overlap
    sent_trimmed_share   the same among those sent
    imbalances           the covariates that stand furthest apart before weighting
    """

    sent: Histogram
    unsent: Histogram
    sent_quantiles: Sequence[float]
    unsent_quantiles: Sequence[float]
    n_sent: int
    effective_n: Sequence[float]
    trimmed_share: float
    sent_trimmed_share: float
    imbalances: Sequence[Imbalance]


def overlap_of(train: Adjusted, arm: int) -> Overlap:
    """Whether those sent an arm and those not can be compared, before and after weighting."""
    of_arm = train.all_arm == arm
    propensity, sent = train.all_propensity[of_arm], train.all_sent[of_arm]
    rows = train.waves.arm == arm
    weights = np.abs(train.sent_residual[rows])
    was_sent = train.waves.sent[rows]
    kept = (propensity > OVERLAP[0]) & (propensity < OVERLAP[1])
    bins = np.linspace(0.0, 1.0, 31)
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    histograms = [
        Histogram(bins.tolist(), [int(count) for count in np.histogram(propensity[group], bins)[0]])
        for group in (sent, ~sent)
    ]
    imbalances = _imbalances(train.waves.covariates[rows], train.waves.covariate_names, was_sent, weights)
    return Overlap(
        histograms[0],
        histograms[1],
        [float(q) for q in np.quantile(propensity[sent], quantiles)] if sent.any() else [],
        [float(q) for q in np.quantile(propensity[~sent], quantiles)] if (~sent).any() else [],
        int(sent.sum()),
        [_effective_n(weights[was_sent]), _effective_n(weights[~was_sent])],
        float(1.0 - kept.mean()),
        float(1.0 - kept[sent].mean()) if sent.any() else 0.0,
        imbalances[:12],
    )


def _imbalances(covariates: Floats, names: Sequence[str], sent: NDArray[np.bool_], weights: Floats) -> list[Imbalance]:
    """Standardised mean differences before and after overlap weighting, the largest before first."""
    if not sent.any() or sent.all():
        return []
    spread = np.sqrt((covariates[sent].var(axis=0) + covariates[~sent].var(axis=0)) / 2.0)
    scale = np.where(spread > 1e-9, spread, np.inf)
    before = (covariates[sent].mean(axis=0) - covariates[~sent].mean(axis=0)) / scale
    means = [weights[group] @ covariates[group] / weights[group].sum() for group in (sent, ~sent)]
    after = (means[0] - means[1]) / scale
    order = np.argsort(-np.abs(before), kind="stable")
    return [Imbalance(names[place], float(before[place]), float(after[place])) for place in order]


def _effective_n(weights: Floats) -> float:
    """Kish's effective sample size."""
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12)) if weights.size else 0.0
