"""How well a ranking by predicted effect finds those whom being sent something changes, and what a policy is worth.

In: scores beside what happened to those sent and those not, of a randomised trial. Out: Qini and AUUC as scikit-uplift
defines them, uplift among the best, value of a policy; each under many weightings at once, which is what a bootstrap
needs. Called by the uplift benchmarks; kernels/metrics.py has the same for doubly robust scores.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.compiled import entry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def once(n: int) -> Floats:
    """Return the weighting under which every case counts once.

    n        cases
    returns  (1, n) float64
    """
    return np.ones((1, n))


def qini_coefficients(scores: Floats, happened: Bools, sent: Bools, weights: Floats) -> Floats:
    """Return the Qini coefficient: area between curve and diagonal over that of a perfect ranking.

    scores    (n,) float64  predicted effect, larger first; equal scores are one step of the curve
    happened  (n,) bool
    sent      (n,) bool     assigned at random
    weights   (n_weightings, n) float64  ≥ 0, how often each case counts
    returns   (n_weightings,) float64  0 on average for a score that knows nothing; NaN where no ranking could be better
    raises    InvalidInput  if lengths differ, a score is not finite or a weight is negative
    source    scikit-uplift 0.5.1, qini_auc_score with negative_effect=True; reference.uplift_metrics.qini_coefficient
    """
    return _coefficients(scores, happened, sent, weights, True)


def uplift_coefficients(scores: Floats, happened: Bools, sent: Bools, weights: Floats) -> Floats:
    """Return the normalised area under the uplift curve (AUUC), which compares rates where Qini compares counts.

    scores    (n,) float64  predicted effect, larger first; equal scores are one step of the curve
    happened  (n,) bool
    sent      (n,) bool     assigned at random
    weights   (n_weightings, n) float64  ≥ 0, how often each case counts
    returns   (n_weightings,) float64  as `qini_coefficients`
    raises    InvalidInput  as `qini_coefficients`
    source    scikit-uplift 0.5.1, uplift_auc_score; reference.uplift_metrics.uplift_coefficient
    """
    return _coefficients(scores, happened, sent, weights, False)


def uplift_among_best(scores: Floats, happened: Bools, sent: Bools, weights: Floats, share: float) -> Floats:
    """Return how much more often it happened among the best-scored who were sent than among those who were not.

    scores    (n,) float64  predicted effect; of equal scores the later case comes first
    happened  (n,) bool
    sent      (n,) bool     assigned at random
    weights   (n_weightings, n) float64  ≥ 0
    share     of the cases, in (0, 1]; the cut is the same cases under every weighting
    returns   (n_weightings,) float64  difference of rates; NaN where nobody was sent or nobody was not
    raises    InvalidInput  as `qini_coefficients`, or for a share out of range
    source    scikit-uplift 0.5.1, uplift_at_k "overall"; reference.uplift_metrics.uplift_among_best
    """
    _check_trial(scores, happened, sent, weights)
    check(0.0 < share <= 1.0, f"share must be in (0, 1], got {share}")
    best = np.argsort(scores, kind="stable")[::-1][: int(scores.size * share)]
    return _rate(happened, sent, weights, best) - _rate(happened, ~sent, weights, best)


def policy_values(chosen: Ints, arm: Ints, propensity: Floats, outcome: Floats, weights: Floats) -> Floats:
    """Return the outcome per case if everyone had been given the arm that a policy chose (self-normalised IPW).

    chosen      (n,) int64    arm that the policy would give
    arm         (n,) int64    arm that was given, at random
    propensity  (n,) float64  in (0, 1], probability with which `arm` was given
    outcome     (n,) float64
    weights     (n_weightings, n) float64  ≥ 0
    returns     (n_weightings,) float64  in units of the outcome; NaN where the policy never agrees with what was given
    raises      InvalidInput  if lengths differ or a propensity is out of range
    source      Swaminathan and Joachims 2015, eq. 6; reference.uplift_metrics.policy_value
    """
    for name, values, dtype in (
        ("chosen", chosen, np.int64), ("arm", arm, np.int64), ("propensity", propensity, np.float64),
        ("outcome", outcome, np.float64),
    ):  # fmt: skip
        check_array(name, values, dtype)
        check(values.size == chosen.size, f"{name} must have {chosen.size} values, got {values.size}")
    check_each("propensity", propensity, (propensity > 0.0) & (propensity <= 1.0), "in (0, 1]")
    _check_weights(weights, chosen.size)
    worth = np.where(chosen == arm, 1.0 / propensity, 0.0)
    return _ratio(weights @ (worth * outcome), weights @ worth)


def autoc_values(scores: Floats, effects: Floats, weights: Floats) -> Floats:
    """Return AUTOC of one ranking under many weightings, as if every case stood there as often as it counts.

    scores    (n,) float64  predicted effect; of equal scores the earlier case comes first
    effects   (n,) float64  doubly robust estimate of each case's own effect
    weights   (n_weightings, n) float64  whole numbers ≥ 0
    returns   (n_weightings,) float64  in units of effects; NaN where nothing counts
    raises    InvalidInput  if lengths differ or a value is not finite or not whole
    source    kernels.metrics.autoc on repeated cases (tests/kernels/test_uplift_metrics.py)
    """
    for name, values in (("scores", scores), ("effects", effects)):
        check_array(name, values, np.float64)
        check_each(name, values, np.isfinite(values), "finite")
        check(values.size == scores.size, f"{name} must have {scores.size} values, got {values.size}")
    _check_weights(weights, scores.size)
    check_each("weights", weights, weights == np.floor(weights), "whole")
    order = np.argsort(-scores, kind="stable")
    found = np.full(weights.shape[0], np.nan)
    _autoc_values(effects[order], order, plain(weights), found)
    return found


def _coefficients(scores: Floats, happened: Bools, sent: Bools, weights: Floats, counts: bool) -> Floats:
    _check_trial(scores, happened, sent, weights)
    # scikit-uplift turns an ascending stable order round, so of equal scores the later case comes first; equal scores
    # are one step, so it does not matter.
    order = np.argsort(-scores, kind="stable")
    perfect = _perfect(happened, sent, counts)
    best = np.argsort(-perfect, kind="stable")
    areas = np.zeros((2, weights.shape[0]))
    for place, (ranking, along) in enumerate(((scores, order), (perfect, best))):
        _areas(ranking[along], happened[along], sent[along], along, plain(weights), counts, areas[place])
    return _ratio(areas[0], areas[1])


def _perfect(happened: Bools, sent: Bools, counts: bool) -> Floats:
    """Scores of scikit-uplift's perfect ranking of each curve."""
    if counts:
        return np.asarray(happened * 1.0 * sent - happened * 1.0 * ~sent)
    # Where those not sent respond more often than those sent do not, ties go by response, else by having been sent.
    extra = happened if int((happened & ~sent).sum()) > int((~happened & sent).sum()) else sent
    return np.asarray(2.0 * (happened == sent) + extra)


def _rate(happened: Bools, group: Bools, weights: Floats, best: Ints) -> Floats:
    members = best[group[best]]
    counted = weights[:, members]
    return _ratio(counted @ happened[members].astype(np.float64), counted.sum(axis=1))


def _ratio(over: Floats, under: Floats) -> Floats:
    result: Floats = np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0.0)
    return result


def _check_trial(scores: Floats, happened: Bools, sent: Bools, weights: Floats) -> None:
    check_array("scores", scores, np.float64)
    check_each("scores", scores, np.isfinite(scores), "finite")
    for name, values in (("happened", happened), ("sent", sent)):
        check_array(name, values, np.bool_)
        check(values.size == scores.size, f"{name} must have {scores.size} values, got {values.size}")
    _check_weights(weights, scores.size)


def _check_weights(weights: Floats, n: int) -> None:
    check_array("weights", weights, np.float64, n_dims=2)
    check(weights.shape[1] == n, f"weights must have {n} columns, got {weights.shape[1]}")
    check_each("weights", weights, weights >= 0.0, "≥ 0")


@entry
def _areas(scores, happened, sent, order, weights, counts, areas):
    """Area between curve and diagonal; `counts` says whether the curve is Qini's."""
    for weighting in range(weights.shape[0]):
        n_sent, n_unsent, sent_happened, unsent_happened = 0.0, 0.0, 0.0, 0.0
        width, height, area = 0.0, 0.0, 0.0
        place = 0
        while place < scores.size:
            score = scores[place]
            while place < scores.size and scores[place] == score:
                weight = weights[weighting, order[place]]
                if sent[place]:
                    n_sent += weight
                    sent_happened += weight * happened[place]
                else:
                    n_unsent += weight
                    unsent_happened += weight * happened[place]
                place += 1
            rose = 0.0
            if counts:
                rose = sent_happened
                if n_unsent > 0.0:
                    rose -= unsent_happened * (n_sent / n_unsent)
            else:
                if n_sent > 0.0:
                    rose += sent_happened / n_sent
                if n_unsent > 0.0:
                    rose -= unsent_happened / n_unsent
                rose *= n_sent + n_unsent
            area += 0.5 * (rose + height) * (n_sent + n_unsent - width)
            width, height = n_sent + n_unsent, rose
        areas[weighting] = area - 0.5 * width * height


@entry
def _autoc_values(effects, order, weights, found):
    for weighting in range(weights.shape[0]):
        n, gain, mean_sum = 0.0, 0.0, 0.0
        for place in range(effects.size):
            for _ in range(int(weights[weighting, order[place]])):
                n += 1.0
                gain += effects[place]
                mean_sum += gain / n
        if n > 0.0:
            found[weighting] = mean_sum / n - gain / n
