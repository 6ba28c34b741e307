"""How good predictions were: log-loss, calibration, ranking and uplift; kernels/confusion.py judges yes and no.

In: scores beside what happened. Out: errors, gains and curves. Called by training/fit.py and evaluation/.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.compiled import entry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Reliability:
    """Bins of equal count in order of probability; an empty input has no bins.

    predicted  (n_bins,) float64  mean probability said
    observed   (n_bins,) float64  share that happened
    n          (n_bins,) int64    cases
    """

    predicted: Floats
    observed: Floats
    n: Ints


def reliability(probs: Floats, happened: Bools, n_bins: int) -> Reliability:
    """Compare probabilities with what happened, in bins of equal count.

    probs     (n,) float64  in [0, 1]
    happened  (n,) bool
    n_bins    at most this many; fewer if there are fewer cases
    returns   Reliability   bins ascending in probability
    raises    InvalidInput  if a probability is out of range or lengths differ
    source    tests/kernels/test_metrics.py, plain Python over the sorted cases
    """
    _check_pairs("probs", probs, "happened", happened)
    check_each("probs", probs, (probs >= 0.0) & (probs <= 1.0), "in [0, 1]")
    check(n_bins > 0, f"n_bins must be > 0, got {n_bins}")
    # A stable sort: equal probabilities fall into bins by place, the same on every machine.
    order = np.argsort(probs, kind="stable")
    edges = np.unique(np.linspace(0, probs.size, n_bins + 1).astype(np.int64))
    counts = np.diff(edges)
    starts = edges[:-1]
    if counts.size == 0:
        return Reliability(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    predicted = np.add.reduceat(probs[order], starts) / counts
    observed = np.add.reduceat(happened[order].astype(np.float64), starts) / counts
    return Reliability(predicted, observed, counts)


def calibration_error(probs: Floats, happened: Bools, n_bins: int = 15) -> float:
    """Return the expected calibration error: mean distance between said and happened over bins of equal count.

    probs     (n,) float64  in [0, 1]
    happened  (n,) bool
    n_bins    bins of `reliability`
    returns   in [0, 1]; 0 for no cases
    raises    InvalidInput  as `reliability`
    source    tests/kernels/test_metrics.py
    """
    bins = reliability(probs, happened, n_bins)
    return float(np.abs(bins.predicted - bins.observed) @ bins.n / max(probs.size, 1))


def log_loss(probs: Floats, happened: Bools) -> float:
    """Return the mean surprise at what happened, in nats: what cross-entropy training minimises.

    probs     (n,) float64  in [0, 1]; 0 and 1 count as one rounding step away, so a wrong certainty costs 36
    happened  (n,) bool
    returns   ≥ 0; 0 for no cases
    raises    InvalidInput  if a probability is out of range or lengths differ
    source    scikit-learn's log_loss; tests/kernels/test_metrics.py
    """
    _check_pairs("probs", probs, "happened", happened)
    check_each("probs", probs, (probs >= 0.0) & (probs <= 1.0), "in [0, 1]")
    step = float(np.finfo(np.float64).eps)
    said = np.clip(np.where(happened, probs, 1.0 - probs), step, 1.0 - step)
    return float(-np.log(said).sum() / max(probs.size, 1))


def ranking_gains(ranked: NDArray[np.int32], offsets: Ints, relevant: NDArray[np.int32]) -> NDArray[np.float64]:
    """Score ranked lists against the items that were relevant to each query.

    ranked    (n, k) int32         items best first; 0 fills a short list
    offsets   (n + 1,) int64       query i owns relevant items offsets[i] to offsets[i + 1]
    relevant  (n_relevant,) int32  items, ascending within a query
    returns   (n, 3) float64       recall of all relevant items, NDCG and hit at k; zeros where none is relevant
    raises    InvalidInput         if offsets do not fit
    source    tests/kernels/test_metrics.py, scikit-learn's ndcg_score
    """
    _check_lists(ranked, offsets, relevant)
    gains = np.zeros((ranked.shape[0], 3))
    _ranking_gains(plain(ranked), plain(offsets), plain(relevant), gains)
    return gains


def reciprocal_ranks(ranked: NDArray[np.int32], offsets: Ints, relevant: NDArray[np.int32]) -> Floats:
    """Return one over the place of the first relevant item of each list; their mean is MRR at k.

    ranked    (n, k) int32         items best first; 0 fills a short list
    offsets   (n + 1,) int64       query i owns relevant items offsets[i] to offsets[i + 1]
    relevant  (n_relevant,) int32  items, ascending within a query
    returns   (n,) float64         in [0, 1]; 0 where no relevant item stands in the list
    raises    InvalidInput         if offsets do not fit
    source    tests/kernels/test_metrics.py; for one relevant item scikit-learn's label_ranking_average_precision_score
    """
    _check_lists(ranked, offsets, relevant)
    ranks = np.zeros(ranked.shape[0])
    _reciprocal_ranks(plain(ranked), plain(offsets), plain(relevant), ranks)
    return ranks


def coverage(ranked: NDArray[np.int32], n_items: int) -> float:
    """Return the share of the catalogue that stands in at least one list.

    ranked   (n, k) int32  items 1 to n_items, best first; 0 fills a short list
    n_items  items of the catalogue
    returns  in [0, 1]
    raises   InvalidInput  if the catalogue is empty or an item is not of it
    source   tests/kernels/test_metrics.py, a set of the items shown
    """
    check_array("ranked", ranked, np.int32, n_dims=2)
    check(n_items > 0, f"n_items must be > 0, got {n_items}")
    check_each("ranked", ranked, (ranked >= 0) & (ranked <= n_items), f"in [0, {n_items}]")
    shown = np.zeros(n_items + 1, np.bool_)
    shown[ranked.ravel()] = True
    return float(shown[1:].mean())


def uplift_gains(scores: Floats, effects: Floats) -> Floats:
    """Return the running total of effects, largest score first: the gain curve that AUTOC and Qini summarise.

    scores   (n,) float64  predicted effect
    effects  (n,) float64  doubly robust estimate of each case's own effect
    returns  (n,) float64  sum of effects of the best 1, 2, ... n cases
    raises   InvalidInput  if lengths differ or a value is not finite
    source   Yadlowsky et al. 2021 (arXiv 2111.07966), eq. 2.3; tests/kernels/test_metrics.py
    """
    _check_effects(scores, effects)
    return np.cumsum(effects[np.argsort(-scores, kind="stable")])


def autoc(scores: Floats, effects: Floats) -> float:
    """Return the area under the TOC: how much more the best-scored gain than everyone, averaged over all cut-offs.

    scores   (n,) float64  predicted effect
    effects  (n,) float64  doubly robust estimate of each case's own effect
    returns  in the unit of effects; 0 on average for a score that knows nothing
    raises   InvalidInput  as `uplift_gains`, or for no cases
    source   Yadlowsky et al. 2021 (arXiv 2111.07966), section 2.1; tests/kernels/test_metrics.py
    """
    gains = uplift_gains(scores, effects)
    check(gains.size > 0, "scores must have cases, got 0")
    ranks = np.arange(1, gains.size + 1)
    return float(np.mean(gains / ranks) - gains[-1] / gains.size)


def qini(scores: Floats, effects: Floats) -> float:
    """Return the area between the gain curve and the straight line to its end, per case.

    scores   (n,) float64  predicted effect
    effects  (n,) float64  doubly robust estimate of each case's own effect
    returns  in the unit of effects; 0 on average for a score that knows nothing
    raises   InvalidInput  as `uplift_gains`, or for no cases
    source   Yadlowsky et al. 2021 (arXiv 2111.07966), section 2.2, weights 1; tests/kernels/test_metrics.py
    """
    gains = uplift_gains(scores, effects)
    check(gains.size > 0, "scores must have cases, got 0")
    ranks = np.arange(1, gains.size + 1)
    return float(np.mean(gains - ranks * (gains[-1] / gains.size)) / gains.size)


def _check_pairs(left: str, scores: Floats, right: str, happened: Bools) -> None:
    check_array(left, scores, np.float64)
    check_array(right, happened, np.bool_)
    check(scores.size == happened.size, f"{right} must have {scores.size} values, got {happened.size}")


def _check_lists(ranked: NDArray[np.int32], offsets: Ints, relevant: NDArray[np.int32]) -> None:
    check_array("ranked", ranked, np.int32, n_dims=2)
    check_array("offsets", offsets, np.int64)
    check_array("relevant", relevant, np.int32)
    check(offsets.size == ranked.shape[0] + 1, f"offsets must have {ranked.shape[0] + 1} values, got {offsets.size}")
    check(bool((np.diff(offsets) >= 0).all()), "offsets must ascend")
    check(offsets[0] == 0 and offsets[-1] == relevant.size, f"offsets must run from 0 to {relevant.size}")


def _check_effects(scores: Floats, effects: Floats) -> None:
    for name, values in (("scores", scores), ("effects", effects)):
        check_array(name, values, np.float64)
        check_each(name, values, np.isfinite(values), "finite")
    check(scores.size == effects.size, f"effects must have {scores.size} values, got {effects.size}")


@njit(nogil=True)
def _is_in(item, relevant, first, last):
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if relevant[middle] < item:
            low = middle + 1
        else:
            high = middle
    return item > 0 and low < last and relevant[low] == item


@entry
def _ranking_gains(ranked, offsets, relevant, gains):
    for query in range(ranked.shape[0]):
        first, last = offsets[query], offsets[query + 1]
        reachable = min(ranked.shape[1], last - first)
        n_hits, gain, best = 0, 0.0, 0.0
        for place in range(ranked.shape[1]):
            worth = 1.0 / np.log2(place + 2.0)
            if place < reachable:
                best += worth
            if _is_in(ranked[query, place], relevant, first, last):
                n_hits += 1
                gain += worth
        if reachable > 0:
            gains[query, 0] = n_hits / (last - first)
            gains[query, 1] = gain / best
            gains[query, 2] = 1.0 if n_hits > 0 else 0.0


@entry
def _reciprocal_ranks(ranked, offsets, relevant, ranks):
    for query in range(ranked.shape[0]):
        for place in range(ranked.shape[1]):
            if _is_in(ranked[query, place], relevant, offsets[query], offsets[query + 1]):
                ranks[query] = 1.0 / (place + 1.0)
                break


def ranking_areas(scores: Floats, happened: Bools, weights: Floats) -> Floats:
    """Score one ranking under many weightings of its cases: what a bootstrap needs, sorting once.

    scores    (n,) float64             higher means more likely
    happened  (n,) bool
    weights   (n_weightings, n) float64  ≥ 0, how often each case counts
    returns   (n_weightings, 2) float64  average precision and area under the ROC curve; NaN where only one class counts
    raises    InvalidInput             if lengths differ or a score is not finite
    source    scikit-learn's average_precision_score and roc_auc_score; tests/kernels/test_metrics.py
    """
    _check_pairs("scores", scores, "happened", happened)
    check_array("weights", weights, np.float64, n_dims=2)
    check_each("scores", scores, np.isfinite(scores), "finite")
    check(weights.shape[1] == scores.size, f"weights must have {scores.size} columns, got {weights.shape[1]}")
    order = np.argsort(-scores, kind="stable")
    areas = np.full((weights.shape[0], 2), np.nan)
    _ranking_areas(scores[order], happened[order], order, plain(weights), areas)
    return areas


@entry
def _ranking_areas(scores, happened, order, weights, areas):
    for weighting in range(weights.shape[0]):
        true, false = 0.0, 0.0  # weight so far of cases that happened and that did not
        precision, pairs = 0.0, 0.0
        place = 0
        while place < scores.size:
            tied_true, tied_false = 0.0, 0.0
            score = scores[place]
            while place < scores.size and scores[place] == score:
                weight = weights[weighting, order[place]]
                if happened[place]:
                    tied_true += weight
                else:
                    tied_false += weight
                place += 1
            pairs += tied_false * (true + 0.5 * tied_true)
            true += tied_true
            false += tied_false
            if tied_true > 0.0:
                precision += tied_true * true / (true + false)
        if true > 0.0 and false > 0.0:
            areas[weighting, 0] = precision / true
            areas[weighting, 1] = pairs / (true * false)
