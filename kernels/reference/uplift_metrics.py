"""Uplift metrics by their definition: one curve point per distinct score, weights as repeated cases.

In: lists. Out: numbers. Called by tests/kernels/test_uplift_metrics.py.
"""

import math
from collections.abc import Sequence
from itertools import pairwise


def qini_coefficient(scores: Sequence[float], happened: Sequence[bool], sent: Sequence[bool]) -> float:
    """Return the Qini coefficient of a trial.

    scores    predicted effect
    happened  outcome
    sent      assignment
    returns   NaN where a perfect ranking gains nothing
    """
    perfect = [float(y) if t else -float(y) for y, t in zip(happened, sent, strict=True)]
    return _normalised(_area(scores, happened, sent, True), _area(perfect, happened, sent, True))


def uplift_coefficient(scores: Sequence[float], happened: Sequence[bool], sent: Sequence[bool]) -> float:
    """Return the normalised area under the uplift curve of a trial.

    scores    predicted effect
    happened  outcome
    sent      assignment
    returns   NaN where a perfect ranking gains nothing
    """
    cases = list(zip(happened, sent, strict=True))
    n_unsent_happened = sum(y and not t for y, t in cases)
    n_sent_not = sum(t and not y for y, t in cases)
    by_response = n_unsent_happened > n_sent_not
    perfect = [2.0 * (y == t) + (y if by_response else t) for y, t in cases]
    return _normalised(_area(scores, happened, sent, False), _area(perfect, happened, sent, False))


def uplift_among_best(scores: Sequence[float], happened: Sequence[bool], sent: Sequence[bool], share: float) -> float:
    """Return the difference of rates among the best-scored; of equal scores the later case comes first.

    scores    predicted effect
    happened  outcome
    sent      assignment
    share     of the cases
    returns   NaN where one of the groups is empty
    """
    order = sorted(range(len(scores)), key=lambda case: (-scores[case], -case))[: int(len(scores) * share)]
    rates = []
    for group in (True, False):
        members = [happened[case] for case in order if sent[case] == group]
        rates.append(sum(members) / len(members) if members else math.nan)
    return rates[0] - rates[1]


def policy_value(
    chosen: Sequence[int], arm: Sequence[int], propensity: Sequence[float], outcome: Sequence[float]
) -> float:
    """Return the self-normalised inverse-propensity value of a policy.

    chosen      arm of the policy
    arm         arm that was given
    propensity  probability of `arm`
    outcome     what followed
    returns     NaN where the policy never agrees
    """
    agreed = [case for case in range(len(chosen)) if chosen[case] == arm[case]]
    worth = sum(1.0 / propensity[case] for case in agreed)
    return sum(outcome[case] / propensity[case] for case in agreed) / worth if agreed else math.nan


def _area(scores: Sequence[float], happened: Sequence[bool], sent: Sequence[bool], counts: bool) -> float:
    points = [(0.0, 0.0)]
    for least in sorted(set(scores), reverse=True):
        taken = [case for case in range(len(scores)) if scores[case] >= least]
        n_sent = sum(sent[case] for case in taken)
        n_unsent = len(taken) - n_sent
        of_sent = sum(happened[case] for case in taken if sent[case])
        of_unsent = sum(happened[case] for case in taken if not sent[case])
        if counts:
            rose = of_sent - (of_unsent * n_sent / n_unsent if n_unsent else 0.0)
        else:
            rose = (of_sent / n_sent if n_sent else 0.0) - (of_unsent / n_unsent if n_unsent else 0.0)
            rose *= len(taken)
        points.append((float(len(taken)), rose))
    area = sum((x1 - x0) * (y0 + y1) / 2.0 for (x0, y0), (x1, y1) in pairwise(points))
    return area - points[-1][0] * points[-1][1] / 2.0


def _normalised(area: float, best: float) -> float:
    return area / best if best != 0.0 else math.nan
