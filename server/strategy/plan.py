"""A strategy for a whole audience under one budget, with the bound that certifies it.

In: value and cost of every action for every shopper, and a budget. Out: a Plan: the shadow price, who gets what, what
it is worth per channel, and what other budgets would buy. Pure: server/planner.py reads the audience and writes files.
"""

from dataclasses import dataclass

import numpy as np

from kernels import allocation
from server.strategy.actions import NOTHING, KindName
from server.strategy.catalogue import Bools, Floats, Ints

CHANNEL_OF: dict[KindName, str] = {
    "nothing": "nothing",
    "offer": "promotions",
    "ad": "ads",
    "recommendations": "content",
    "social": "social",
}
N_FRONTIER = 24


@dataclass(frozen=True)
class ChannelTotal:
    """What one channel gets and brings under a plan; nothing counts as a channel of its own."""

    channel: str
    n_shoppers: int
    value_micros: int
    cost_micros: int


@dataclass(frozen=True)
class FrontierPoint:
    """What one budget would buy. All but the price in micros."""

    budget_micros: int
    spend_micros: int
    value_micros: int
    shadow_price: float


@dataclass(frozen=True)
class Plan:
    """A plan within its budget and its certificate.

    shadow_price       value of the next unit of budget
    chosen             (n_shoppers,) int64  column of the menu
    value_micros       expected extra margin of everything chosen
    spend_micros       expected cost of everything chosen, ≤ budget_micros
    dual_bound_micros  no plan within the budget is worth more
    """

    budget_micros: int
    shadow_price: float
    chosen: Ints
    value_micros: int
    spend_micros: int
    dual_bound_micros: float
    channels: tuple[ChannelTotal, ...]
    frontier: tuple[FrontierPoint, ...]

    @property
    def gap_micros(self) -> float:
        """What the plan may at most lack against the best plan."""
        return max(0.0, self.dual_bound_micros - self.value_micros)


def plan_of(
    value_micros: Ints, cost_micros: Ints, eligible: Bools, kinds: tuple[KindName, ...], budget_micros: int
) -> Plan:
    """Choose one action per shopper so that value is greatest and cost stays within the budget.

    value_micros, cost_micros  (n_shoppers, n_actions) int64
    eligible                   (n_shoppers, n_actions) bool
    kinds                      kind of each action
    budget_micros              ≥ 0
    raises                     InvalidInput  from the kernel's door
    """
    value, cost = value_micros.astype(np.float64), cost_micros.astype(np.float64)
    allocated = allocation.price_of_budget(value, cost, eligible, float(budget_micros))
    chosen = allocated.choice.astype(np.int64)
    rows = np.arange(chosen.size)
    gained, spent = value_micros[rows, chosen], cost_micros[rows, chosen]
    return Plan(
        budget_micros=budget_micros,
        shadow_price=allocated.lambda_price,
        chosen=chosen,
        value_micros=int(gained.sum()),
        spend_micros=int(spent.sum()),
        dual_bound_micros=allocated.dual_bound,
        channels=_totals(np.array([CHANNEL_OF[kind] for kind in kinds])[chosen], gained, spent),
        frontier=_frontier(value, cost, eligible, budget_micros),
    )


def _totals(
    channel: "np.ndarray[tuple[int], np.dtype[np.str_]]", gained: Ints, spent: Ints
) -> tuple[ChannelTotal, ...]:
    totals = []
    for name in CHANNEL_OF.values():
        here = channel == name
        totals.append(ChannelTotal(name, int(here.sum()), int(gained[here].sum()), int(spent[here].sum())))
    return tuple(totals)


def _frontier(value: Floats, cost: Floats, eligible: Bools, budget_micros: int) -> tuple[FrontierPoint, ...]:
    """What other budgets buy, from nothing to as much as is worth spending, the plan's own among them."""
    free_of_price = np.where(eligible, value, -np.inf).argmax(axis=1)
    most = float(cost[np.arange(free_of_price.size), free_of_price].sum())
    # Squares: the first units of a budget buy the most, so the curve bends where the points are dense.
    asked = np.unique(np.append(np.rint(most * np.linspace(0.0, 1.0, N_FRONTIER) ** 2), float(budget_micros)))
    bought = allocation.frontier(value, cost, eligible, asked)
    return tuple(
        FrontierPoint(int(budget), int(spend), int(gained), float(price))
        for budget, spend, gained, price in zip(
            bought.budget, bought.spend, bought.value, bought.lambda_price, strict=True
        )
    )


def n_treated(plan: Plan) -> int:
    """How many shoppers get anything at all."""
    return int((plan.chosen != NOTHING).sum())
