"""A learned model that loses to a simple rival beyond noise is not shipped: the rule, and the sentence that says so.

In: build/models/evaluation.json. Out: nothing, or LostToRival. Called by training/export.py.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from kernels.checks import InvalidInput

# The figure that decides, by model; the others are told beside it. Above is better in every one.
FIGURES: Mapping[str, str] = {
    "behaviour": "new_ndcg_10",
    "recommendation": "ndcg_10",
    "tags": "category_macro_ap",
    "response": "redeem_auc",
    "uplift": "minus_r_loss",
    "lifetime": "spearman",
    "session": "mrr_20",
    "risk_transaction": "fraud_auc",
    "risk_review": "review_auc",
}


class LostToRival(InvalidInput):
    """A model must not be served; the message names it, its rival, the figure and the interval of the difference."""


class _Interval(TypedDict):
    value: float
    lower: float
    upper: float


class _Against(TypedDict):
    rival: str
    figure: str
    difference: _Interval
    is_lost: bool


class _Study(TypedDict):
    against: Sequence[_Against]


def check_not_lost(studies: Mapping[str, _Study]) -> None:
    """Pass when no model's deciding figure is below a rival's with its whole 95 % interval.

    studies  models of evaluation.json
    raises   LostToRival
    """
    for sentence in losses(studies):
        raise LostToRival(f"{sentence}; train again, or ship it all the same with `stratagem export --accept-losses`")


def losses(studies: Mapping[str, _Study]) -> list[str]:
    """Return a sentence for each model and rival that it lost to.

    studies  models of evaluation.json
    """
    return [
        f"{model} must not lose to a simple rival, got {found['figure']} {found['difference']['value']:+.4g} "
        f"[{found['difference']['lower']:+.4g}, {found['difference']['upper']:+.4g}] against {found['rival']}"
        for model, study in studies.items()
        for found in study["against"]
        if found["is_lost"] and found["figure"] == FIGURES.get(model)
    ]
