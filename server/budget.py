"""What may still be spent under a plan: leased from the state store in pieces, spent from memory, never overspent.

In: the costs of a batch of decisions. Out: which of them the budget still carries. Called by server/decide.py.
A lease is the most that a crash can lose; when the store grants nothing more, every further cost is refused.
"""

import threading
from dataclasses import dataclass

import numpy as np

from server.state.store import States
from server.strategy.catalogue import Bools, Ints

LEASES_PER_BUDGET = 200


@dataclass(frozen=True)
class StandingPlan:
    """What a gateway needs of a plan.

    plan_id        empty: there is no plan
    shadow_price   value that one unit of cost must bring, ≥ 0
    budget_micros  what may be spent under it, ≥ 0
    """

    plan_id: str
    shadow_price: float
    budget_micros: int


NO_PLAN = StandingPlan("", 0.0, 0)


class Budget:
    """The budget of one plan, as one process sees it."""

    def __init__(self, states: States, plan: StandingPlan) -> None:
        """Start without a lease: the first cost takes one."""
        self._states = states
        self._plan = plan
        self._lease_micros = 0
        self._unleased_micros = max(0, plan.budget_micros - states.spent_micros(plan.plan_id)) if plan.plan_id else 0
        self._spending = threading.Lock()

    @property
    def left_micros(self) -> int:
        """What may still be spent, as far as this process knows, ≥ 0."""
        return self._lease_micros + self._unleased_micros

    def reserve(self, cost_micros: Ints) -> Bools:
        """Spend the cost of each row, in order, as long as the budget carries it; from any thread.

        returns  (batch,) bool  whether the row's cost is spent; always for a cost of 0
        """
        total = int(cost_micros.sum())
        with self._spending:
            if total > self._lease_micros:
                self._lease(total - self._lease_micros)
            if total <= self._lease_micros:
                self._lease_micros -= total
                return np.ones(cost_micros.size, np.bool_)
            carried = np.zeros(cost_micros.size, np.bool_)
            for row, cost in enumerate(cost_micros.tolist()):
                if cost <= self._lease_micros:
                    self._lease_micros -= cost
                    carried[row] = True
            return carried

    def _lease(self, missing_micros: int) -> None:
        """Take what is missing and one piece more, so that most batches find their cost in memory."""
        if not self._plan.plan_id or not self._unleased_micros:
            return
        budget = self._plan.budget_micros
        wanted = missing_micros + budget // LEASES_PER_BUDGET
        self._lease_micros += self._states.lease(self._plan.plan_id, budget, wanted).result()
        self._unleased_micros = max(0, budget - self._states.spent_micros(self._plan.plan_id))

    def give_back(self, cost_micros: int) -> None:
        """Take back what was spent on rows of which nothing came; from any thread."""
        with self._spending:
            self._lease_micros += cost_micros

    def close(self) -> None:
        """Give the unspent rest of the lease back."""
        with self._spending:
            unspent, self._lease_micros = self._lease_micros, 0
        if unspent:
            self._states.give_back(self._plan.plan_id, unspent).result()
