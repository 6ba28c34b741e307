"""One decision with everything needed to judge it, and the words for its parts.

In: a row of a Menu and of a Choice. Out: a frozen Decision. Built by server/decide.py, worded by reasons.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from server.strategy.actions import NOTHING, Action, Menu
from server.strategy.catalogue import Bools
from server.strategy.policy import Choice

RungName = Literal["full", "cached", "safe_default"]


class Candidate(NamedTuple):
    """An action with its economics; money in micros."""

    action: Action
    value_micros: int
    cost_micros: int
    score_micros: int
    propensity: float


class Reason(NamedTuple):
    """One reason: a stable code for machines, a sentence for people."""

    code: str
    words: str


@dataclass(frozen=True, eq=False)
class Terms:
    """What a batch of decisions has in common; one object for one gateway and plan.

    shadow_price  value that one unit of cost must bring, ≥ 0
    plan_id       empty: no plan, and then nothing that costs money is allowed
    """

    shadow_price: float
    explore_share: float
    release: str
    plan_id: str
    currency_code: str


class Decision(NamedTuple):
    """What to do for one shopper, what it is worth, and why.

    vector_age_s       how long the oldest event that the shopper's vector does not know has waited; 0: it knows all
    predictions_age_s  how old the predictions are; 0 unless the rung is "cached"
    """

    decision_id: str
    shopper_id: str
    chosen: Candidate
    is_exploration: bool
    runner_up: Candidate | None
    candidates: tuple[Candidate, ...]
    reasons: tuple[Reason, ...]
    rung: RungName
    state_age_s: int
    vector_age_s: float
    predictions_age_s: float
    decided_at_s: int
    terms: Terms


def candidates_of(menu: Menu, choice: Choice, row: int, actions: Sequence[int]) -> list[Candidate]:
    """Columns of one row, each with its economics."""
    value, cost = menu.values[row], menu.costs[row]
    score, propensity = choice.scores[row], choice.propensities[row]
    return [
        Candidate(menu.action(row, action), value[action], cost[action], round(score[action]), propensity[action])
        for action in actions
    ]


SAFE_DEFAULT = Candidate(Action("nothing"), value_micros=0, cost_micros=0, score_micros=0, propensity=1.0)


def is_free(menu: Menu) -> Bools:
    """Which eligible actions spend nothing, (batch, n_actions); nothing is one of them."""
    free: Bools = menu.eligible & (menu.cost_micros == 0)
    free[:, NOTHING] = True
    return free
