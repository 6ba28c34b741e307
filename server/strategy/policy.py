"""Which action is taken: the best at the shadow price, or now and then another one to learn from.

In: a menu's matrices, the shadow price, random draws. Out: a Choice per shopper with its exact propensity.
Called by server/decide.py; evaluation replays logged decisions through the same functions.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from server.strategy.catalogue import Bools, Floats, Ints

NO_RUNNER_UP = -1


@dataclass(frozen=True)
class Choice:
    """What was chosen in each row, and everything needed to judge it.

    chosen          (batch,) int64              column of the action
    runner_up       (batch,) int64              best eligible column but the chosen one; NO_RUNNER_UP: none
    score_micros    (batch, n_actions) float64  value - shadow price x cost
    propensity      (batch, n_actions) float64  probability of each action; a row sums to 1
    is_exploration  (batch,) bool               drawn at random; the draw may hit the best action too
    """

    chosen: Ints
    runner_up: Ints
    score_micros: Floats
    propensity: Floats
    is_exploration: Bools

    @cached_property
    def scores(self) -> list[list[float]]:
        """score_micros as lists: a row's numbers are read one by one, and numpy is slow at that."""
        rows: list[list[float]] = self.score_micros.tolist()
        return rows

    @cached_property
    def propensities(self) -> list[list[float]]:
        """propensity as lists."""
        rows: list[list[float]] = self.propensity.tolist()
        return rows


def choose(
    value_micros: Ints, cost_micros: Ints, eligible: Bools, shadow_price: float, explore_share: float, draws: Floats
) -> Choice:
    """Take argmax of value - shadow price x cost; with probability explore_share any eligible action instead.

    Of equal scores the cheaper wins, then the one that stands first.
    value_micros   (batch, n_actions) int64
    cost_micros    (batch, n_actions) int64  ≥ 0
    eligible       (batch, n_actions) bool   at least one per row
    shadow_price   value that one unit of cost must bring, ≥ 0
    explore_share  share of decisions drawn uniformly from the eligible actions, in [0, 1]
    draws          (batch, 2) float64        in [0, 1), from `draws_of`
    """
    score = value_micros.astype(np.float64) - shadow_price * cost_micros
    best = _best(score, cost_micros, eligible)
    n_eligible = eligible.sum(axis=1)
    rows = np.arange(best.size)
    propensity = eligible * (explore_share / n_eligible)[:, None]
    propensity[rows, best] += 1.0 - explore_share
    explores = draws[:, 0] < explore_share
    drawn = np.floor(draws[:, 1] * n_eligible).astype(np.int64)
    nth_eligible = (eligible.cumsum(axis=1) == drawn[:, None] + 1).argmax(axis=1)
    chosen = np.where(explores, nth_eligible, best)
    others = eligible.copy()
    others[rows, chosen] = False
    runner_up = np.where(n_eligible > 1, _best(score, cost_micros, others), NO_RUNNER_UP)
    return Choice(chosen, runner_up, score, propensity, explores)


def _best(score: Floats, cost_micros: Ints, eligible: Bools) -> Ints:
    """The eligible column with the largest score; of equals the cheaper, then the first."""
    open_score = np.where(eligible, score, -np.inf)
    ties = open_score == open_score.max(axis=1, keepdims=True)
    cheapest: Ints = np.where(ties, cost_micros, np.iinfo(np.int64).max).argmin(axis=1)
    return cheapest


def draws_of(decision_ids: list[str], key: str) -> Floats:
    """Two uniform draws per decision, the same for the same id and key, so that any decision can be replayed.

    key      secret: whoever knows it can choose ids that explore
    returns  (n_ids, 2) float64  in [0, 1)
    """
    # blake2b takes keys up to 64 bytes; a digest of the key always fits.
    secret = blake2b(key.encode(), digest_size=32).digest()
    digests = b"".join(blake2b(name.encode(), digest_size=16, key=secret).digest() for name in decision_ids)
    bits = np.frombuffer(digests, np.uint64).reshape(-1, 2) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def ranked(score: Floats, cost_micros: Ints, eligible: Bools, limit: int) -> list[int]:
    """The eligible columns of one row, best first, at most `limit`.

    score, cost_micros, eligible  (n_actions,)
    """
    if not limit:
        return []
    columns = np.flatnonzero(eligible)
    order = np.lexsort((columns, cost_micros[columns], -score[columns]))
    best: list[int] = columns[order[:limit]].tolist()
    return best
