"""What must not be shipped: a model that loses to a simple rival beyond noise, or a student far below its teacher.

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


# How far a student's figure may stay below its teachers' on the test window: a third of what tags lead a linear model
# by in the first, and within the noise of a thousand redemptions in the second.
TOLERANCES: Mapping[str, float] = {"category_macro_auc": 0.003, "redeem_auc": 0.01}
TEACHERS = "teachers"


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


def shortfall(student: str, study: _Study) -> str:
    """Return a sentence about the first figure of a student that is further below its teachers' than tolerated.

    student  its name
    study    of evaluation.json; a figure that the test window could not judge is passed over
    returns  empty where it keeps up
    """
    for found in study["against"]:
        most, fell = TOLERANCES.get(found["figure"]), -found["difference"]["value"]
        if found["rival"] == TEACHERS and most is not None and fell > most:
            return f"{student} must stay within {most:g} of its teachers in {found['figure']}, got {fell:.4g} below"
    return ""
