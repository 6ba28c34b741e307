"""What a study found: figures with intervals, ours beside the rivals, as build/models/evaluation.json keeps them.

In: per-case or per-shopper numbers. Out: frozen tables. Called by every study; command line and report print them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels import metrics

Floats = NDArray[np.float64]
N_REPLICATES = 200
N_BINS = 15


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval from a bootstrap over shoppers."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Row:
    """One model of the table; the first row is ours, the others its simple rivals."""

    name: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Difference:
    """Ours less a rival on the same resampled shoppers; above 0 is better for us in every figure."""

    rival: str
    figure: str
    difference: Figure

    @property
    def is_lost(self) -> bool:
        """Whether ours loses beyond noise."""
        return self.difference.upper < 0.0


@dataclass(frozen=True)
class Reliability:
    """Calibration bins of one family of probabilities, as evaluation.figures draws them."""

    predicted: Sequence[float]
    observed: Sequence[float]
    n: Sequence[int]


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; len(edges) = len(counts) + 1."""

    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True)
class Evidence:
    """One model's part of evaluation.json.

    protocol     what was predicted for whom in which window, in a sentence
    n            cases behind the figures, by name
    notes        sentences a reader must know
    """

    rows: Sequence[Row]
    against: Sequence[Difference]
    protocol: str
    n: Mapping[str, int]
    seconds: float = 0.0
    n_parameters: int = 0
    notes: Sequence[str] = ()
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Our own figures, for the manifest."""
        return {name: figure.value for name, figure in self.rows[0].figures.items()} if self.rows else {}


def shopper_weights(shopper: NDArray[np.int64], n_replicates: int = N_REPLICATES, seed: int = 0) -> Floats:
    """Draw bootstrap weights that resample whole shoppers, never single rows.

    shopper  (n,) int64  row's shopper
    returns  (n_replicates, n) float64  how often each row is drawn
    """
    _, place = np.unique(shopper, return_inverse=True)
    n_shoppers = int(place.max(initial=-1)) + 1
    draws = np.random.default_rng(seed).multinomial(
        n_shoppers, np.full(n_shoppers, 1.0 / max(n_shoppers, 1)), n_replicates
    )
    return draws[:, place].astype(np.float64)


def interval(value: float, replicates: Floats) -> Figure:
    """A value with the middle 95 % of its bootstrap replicates.

    replicates  (n_replicates,) float64  NaN where a replicate had no case
    """
    kept = replicates[np.isfinite(replicates)]
    lower, upper = np.quantile(kept, (0.025, 0.975)) if kept.size else (value, value)
    return Figure(float(value), float(lower), float(upper))


def mean_figure(values: Floats, weights: Floats) -> tuple[Figure, Floats]:
    """The mean of per-row values, and its replicates for paired differences.

    values   (n,) float64
    weights  (n_replicates, n) float64  from shopper_weights
    """
    replicates = weights @ values / np.maximum(weights.sum(axis=1), 1e-12)
    value = float(values.mean()) if values.size else 0.0
    return interval(value, replicates), replicates


def differences(
    names: Sequence[str], values: Sequence[Mapping[str, float]], replicates: Sequence[Mapping[str, Floats]]
) -> list[Difference]:
    """Ours (the first) less each rival, figure by figure, replicate by replicate.

    names       model of each entry
    values      figure -> value
    replicates  figure -> (n_replicates,)
    """
    return [
        Difference(name, figure, interval(values[0][figure] - theirs[figure], replicates[0][figure] - drawn[figure]))
        for name, theirs, drawn in zip(names[1:], values[1:], replicates[1:], strict=True)
        for figure in values[0]
        if figure in theirs
    ]


def compared(measured: Mapping[str, Mapping[str, Floats]]) -> tuple[list[Row], list[Difference]]:
    """Every model's figures with their intervals, and ours, the first, less each rival.

    measured  model -> figure -> (1 + n_replicates,): the value, then its bootstrap replicates on the same draws
    """
    values = [{name: float(drawn[0]) for name, drawn in figures.items()} for figures in measured.values()]
    replicates = [{name: drawn[1:] for name, drawn in figures.items()} for figures in measured.values()]
    rows = [
        Row(model, {figure: interval(value[figure], drawn[figure]) for figure in value})
        for model, value, drawn in zip(measured, values, replicates, strict=True)
    ]
    return rows, differences(list(measured), values, replicates)


def calibration_bins(probs: Floats, happened: NDArray[np.bool_]) -> Reliability:
    """Bins for the report.

    probs     (n,) float64
    happened  (n,) bool
    """
    bins = metrics.reliability(probs, happened, N_BINS)
    return Reliability(bins.predicted.tolist(), bins.observed.tolist(), bins.n.tolist())


def histogram(values: Floats, n_bins: int = 30) -> Histogram:
    """Counts of finite values between their own extremes.

    values  (n,) float64
    """
    counts, edges = np.histogram(values, bins=n_bins)
    return Histogram([float(edge) for edge in edges], [int(count) for count in counts])
