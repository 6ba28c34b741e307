"""One micro-batch of decisions: what was known, offered and chosen; and its rows as decisions and as log records.

In: asks, their states and the models' predictions. Out: a Batch, its Decisions, the columns that the log keeps. Pure:
server/decide.py does the waiting, the spending and the writing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.features import columns
from server.state.store import Snapshot
from server.strategy import policy
from server.strategy.actions import Asking, Bar, Menu, menu_of
from server.strategy.catalogue import Bools, Catalogue, Floats, Ints
from server.strategy.decision import (
    SAFE_DEFAULT,
    Candidate,
    Decision,
    Reason,
    RungName,
    Terms,
    candidates_of,
    is_free,
)
from server.strategy.economics import Economics, Predicted
from server.strategy.policy import NO_RUNNER_UP, Choice, ranked
from server.strategy.reasons import cached_reason, reasons_of

CONTACTS = columns().index("exposures_hl28d")


class Ask(NamedTuple):
    """One decision that somebody asks for.

    at_s             the moment to decide for, seconds since 1970 UTC
    max_candidates   how many candidates the answer lists
    without_reasons  leaves the reasons out
    """

    decision_id: str
    shopper_id: str
    at_s: int
    max_candidates: int = 0
    without_reasons: bool = False


@dataclass(frozen=True)
class Seen:
    """A batch as the models see it; every shopper is known.

    features      (batch, N_FEATURES) float32
    vector_age_s  (batch,) float64  how long the oldest event that the vector does not know has waited; 0: it knows all
    """

    asks: Sequence[Ask]
    snapshot: Snapshot
    at_s: Ints
    features: NDArray[np.float32]
    vector_age_s: Floats

    @cached_property
    def state_age_s(self) -> Ints:
        """Seconds from each shopper's last event to the decision."""
        return ages_s(self.snapshot.last_event_s, self.at_s)

    def of(self, rows: Ints) -> "Seen":
        """The same for some of the rows."""
        asks = [self.asks[row] for row in rows.tolist()]
        parts = (self.at_s[rows], self.features[rows], self.vector_age_s[rows])
        return Seen(asks, self.snapshot.of(rows), *parts)


@dataclass(frozen=True)
class Batch:
    """A batch with its menu and its choices.

    predictions_age_s  (batch,) float64  0 unless the rung is "cached"
    """

    seen: Seen
    predicted: Predicted
    menu: Menu
    choice: Choice
    terms: Terms
    rung: RungName
    predictions_age_s: Floats

    @cached_property
    def rows(self) -> list[tuple[int, int, bool, int, float, float]]:
        """Of each row: chosen, runner-up, whether it explores, and the ages of state, vector and predictions."""
        seen, choice = self.seen, self.choice
        columns = (choice.chosen, choice.runner_up, choice.is_exploration, seen.state_age_s, seen.vector_age_s)
        # As lists: a row's numbers are read one by one, and numpy is slow at that.
        return list(zip(*(column.tolist() for column in (*columns, self.predictions_age_s)), strict=True))

    @property
    def cost_micros(self) -> Ints:
        """Expected cost of each row's choice."""
        return self.menu.cost_micros[np.arange(self.choice.chosen.size), self.choice.chosen]


def batch_of(
    seen: Seen, predicted: Predicted, catalogue: Catalogue, economics: Economics, terms: Terms, draws: "Draws"
) -> Batch:
    """Offer every shopper of a batch the menu and choose from it, on the full rung."""
    table = catalogue.offers_between(int(seen.at_s.min()), int(seen.at_s.max()))
    sent = table.sent(seen.at_s.size, seen.snapshot.sent_row, seen.snapshot.sent_key)
    left = np.full(seen.at_s.size, draws.budget_left_micros, np.int64)
    asking = Asking(seen.at_s, sent, seen.features[:, CONTACTS].astype(np.float64), left)
    menu = menu_of(predicted, catalogue, table, asking, economics)
    choice = _chosen(menu, seen, terms, draws.key)
    return Batch(seen, predicted, menu, choice, terms, "full", np.zeros(seen.at_s.size))


@dataclass(frozen=True)
class Draws:
    """What a batch draws on: the money left, and the secret of the random draws."""

    budget_left_micros: int
    key: str


def without_budget(batch: Batch, refused: Bools, key: str) -> Batch:
    """The batch with free actions only in the rows that the budget refused; the others choose as before."""
    shut = batch.menu.eligible & refused[:, None] & ~is_free(batch.menu)
    menu = replace(batch.menu, barred=np.where(shut, np.int8(Bar.OVER_BUDGET), batch.menu.barred))
    return replace(batch, menu=menu, choice=_chosen(menu, batch.seen, batch.terms, key))


def _chosen(menu: Menu, seen: Seen, terms: Terms, key: str) -> Choice:
    draws = policy.draws_of([ask.decision_id for ask in seen.asks], key)
    price, share = terms.shadow_price, terms.explore_share
    return policy.choose(menu.value_micros, menu.cost_micros, menu.eligible, price, share, draws)


def ages_s(last_event_s: Ints, at_s: Ints) -> Ints:
    """Seconds from each shopper's last event to the moment; 0 without an event or for a moment before it."""
    return np.where(last_event_s > 0, np.maximum(0, at_s - last_event_s), 0)


def decision_of(batch: Batch, row: int) -> Decision:
    """One row as a decision, with its candidates and its reasons."""
    ask, menu, choice = batch.seen.asks[row], batch.menu, batch.choice
    first, second, is_exploration, state_age_s, vector_age_s, predictions_age_s = batch.rows[row]
    named = [first] if second == NO_RUNNER_UP else [first, second]
    best: list[int] = []
    if ask.max_candidates:
        best = ranked(choice.score_micros[row], menu.cost_micros[row], menu.eligible[row], ask.max_candidates)
    candidates = candidates_of(menu, choice, row, named + best)
    chosen, runner_up = candidates[0], None if second == NO_RUNNER_UP else candidates[1]
    return Decision(
        decision_id=ask.decision_id,
        shopper_id=ask.shopper_id,
        chosen=chosen,
        is_exploration=is_exploration,
        runner_up=runner_up,
        candidates=tuple(candidates[len(named) :]),
        reasons=() if ask.without_reasons else told_reasons(batch, row, chosen, runner_up),
        rung=batch.rung,
        state_age_s=state_age_s,
        vector_age_s=vector_age_s,
        predictions_age_s=predictions_age_s,
        decided_at_s=ask.at_s,
        terms=batch.terms,
    )


def told_reasons(batch: Batch, row: int, chosen: Candidate, runner_up: Candidate | None) -> tuple[Reason, ...]:
    """Why a row's choice is what it is; from cached predictions, their age comes first."""
    reasons = reasons_of(batch.menu, batch.choice, row, batch.predicted, chosen, runner_up, batch.terms)
    if batch.rung == "cached":
        return (cached_reason(float(batch.predictions_age_s[row])), *reasons)
    return reasons


def safe_decision(ask: Ask, age_s: int, terms: Terms, reason: Reason) -> Decision:
    """Doing nothing, because there was no time for more."""
    return Decision(
        decision_id=ask.decision_id,
        shopper_id=ask.shopper_id,
        chosen=SAFE_DEFAULT,
        is_exploration=False,
        runner_up=None,
        candidates=(SAFE_DEFAULT,)[: ask.max_candidates],
        reasons=(reason,),
        rung="safe_default",
        state_age_s=age_s,
        vector_age_s=0.0,
        predictions_age_s=0.0,
        decided_at_s=ask.at_s,
        terms=terms,
    )
