"""One micro-batch of decisions: what was known, offered and chosen; and its rows as decisions and as log records.

In: asks, their states and the models' predictions. Out: a Batch, its Decisions, its log records. Pure:
server/decide.py does the waiting, the spending and the writing.
"""

from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.features import columns
from server.state.store import Snapshot
from server.strategy import policy
from server.strategy.actions import Action, Asking, Bar, Menu, menu_of
from server.strategy.catalogue import Bools, Catalogue, Ints
from server.strategy.decision import (
    SAFE_DEFAULT,
    Candidate,
    Decision,
    Reason,
    Terms,
    candidates_of,
    is_free,
)
from server.strategy.economics import Economics, Predicted
from server.strategy.policy import NO_RUNNER_UP, Choice, ranked
from server.strategy.reasons import reasons_of

CONTACTS = columns().index("exposures_hl28d")


@dataclass(frozen=True)
class Ask:
    """One decision that somebody asks for.

    at_s            the moment to decide for, seconds since 1970 UTC
    max_candidates  how many candidates the answer lists
    """

    decision_id: str
    shopper_id: str
    at_s: int
    max_candidates: int = 0


@dataclass(frozen=True)
class Seen:
    """A batch as the models see it; every shopper is known.

    features  (batch, N_FEATURES) float32
    """

    asks: Sequence[Ask]
    snapshot: Snapshot
    at_s: Ints
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """A batch with its menu and its choices."""

    seen: Seen
    predicted: Predicted
    menu: Menu
    choice: Choice
    terms: Terms

    @property
    def cost_micros(self) -> Ints:
        """Expected cost of each row's choice."""
        return self.menu.cost_micros[np.arange(self.choice.chosen.size), self.choice.chosen]


def batch_of(
    seen: Seen, predicted: Predicted, catalogue: Catalogue, economics: Economics, terms: Terms, draws: "Draws"
) -> Batch:
    """Offer every shopper of a batch the menu and choose from it."""
    table = catalogue.offers_between(int(seen.at_s.min()), int(seen.at_s.max()))
    sent = table.sent(seen.at_s.size, seen.snapshot.sent_row, seen.snapshot.sent_key)
    left = np.full(seen.at_s.size, draws.budget_left_micros, np.int64)
    asking = Asking(seen.at_s, sent, seen.features[:, CONTACTS].astype(np.float64), left)
    menu = menu_of(predicted, catalogue, table, asking, economics)
    return Batch(seen, predicted, menu, _chosen(menu, seen, terms, draws.key), terms)


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


def state_age_s(snapshot: Snapshot, row: int, at_s: int) -> int:
    """Seconds from a shopper's last event to the decision; 0 without an event or for a moment before it."""
    last_event_s = int(snapshot.last_event_s[row])
    return max(0, at_s - last_event_s) if last_event_s else 0


def decision_of(batch: Batch, row: int) -> Decision:
    """One row as a decision, with its candidates and its reasons."""
    ask, menu, choice = batch.seen.asks[row], batch.menu, batch.choice
    second = int(choice.runner_up[row])
    best = ranked(choice.score_micros[row], menu.cost_micros[row], menu.eligible[row], ask.max_candidates)
    named = [int(choice.chosen[row]), *([] if second == NO_RUNNER_UP else [second])]
    candidates = candidates_of(menu, choice, row, [*named, *best])
    chosen, runner_up = candidates[0], None if second == NO_RUNNER_UP else candidates[1]
    return Decision(
        decision_id=ask.decision_id,
        shopper_id=ask.shopper_id,
        chosen=chosen,
        is_exploration=bool(choice.is_exploration[row]),
        runner_up=runner_up,
        candidates=tuple(candidates[len(named) :]),
        reasons=reasons_of(menu, choice, row, batch.predicted, chosen, runner_up, batch.terms),
        rung="full",
        state_age_s=state_age_s(batch.seen.snapshot, row, ask.at_s),
        decided_at_s=ask.at_s,
        terms=batch.terms,
    )


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
        decided_at_s=ask.at_s,
        terms=terms,
    )


def record_of(batch: Batch, row: int) -> dict[str, object]:
    """One row as the log keeps it: what was known, every eligible action with its propensity, and the choice."""
    ask, menu, choice = batch.seen.asks[row], batch.menu, batch.choice
    (chosen,) = candidates_of(menu, choice, row, [int(choice.chosen[row])])
    eligible = np.flatnonzero(menu.eligible[row])
    return safe_record(ask, chosen, batch.terms) | {
        "rung": "full",
        "is_exploration": bool(choice.is_exploration[row]),
        "state_age_s": state_age_s(batch.seen.snapshot, row, ask.at_s),
        "eligible": {
            "action": [_name(menu, column) for column in eligible.tolist()],
            "value_micros": menu.value_micros[row, eligible].tolist(),
            "cost_micros": menu.cost_micros[row, eligible].tolist(),
            "propensity": choice.propensity[row, eligible].tolist(),
        },
        "features": b2a_base64(batch.seen.features[row].tobytes(), newline=False).decode(),
        # The encoder's answer is all that the heads and the menu saw of the last events.
        "encoding": {
            name: b2a_base64(batch.seen.snapshot.encodings[name][row].tobytes(), newline=False).decode()
            for name in ("shopper_vector", "item_index", "item_prob")
        },
    }


def safe_record(ask: Ask, chosen: Candidate, terms: Terms) -> dict[str, object]:
    """What the log keeps of any decision, whichever rung gave it."""
    return {
        "decision_id": ask.decision_id,
        "shopper_id": ask.shopper_id,
        "decided_at_s": ask.at_s,
        "action": _described(chosen.action),
        "value_micros": chosen.value_micros,
        "cost_micros": chosen.cost_micros,
        "score_micros": chosen.score_micros,
        "propensity": chosen.propensity,
        "is_exploration": False,
        "shadow_price": terms.shadow_price,
        "explore_share": terms.explore_share,
        "release": terms.release,
        "plan_id": terms.plan_id,
        "rung": "safe_default",
    }


def _described(action: Action) -> dict[str, object]:
    named = {
        "kind": action.kind,
        "channel": action.channel,
        "offer_id": action.offer_id,
        "campaign_id": action.campaign_id,
        "category": action.category,
        "item_ids": list(action.item_ids),
    }
    return {name: value for name, value in named.items() if value}


def _name(menu: Menu, action: int) -> str:
    kind = menu.kind(action)
    return menu.table.offers[action - 1].offer_id if kind == "offer" else kind
