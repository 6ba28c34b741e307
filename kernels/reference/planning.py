"""Twins of allocation and transitions. tests/kernels compares them with the kernels on small cases."""

from collections.abc import Sequence

import numpy as np

Matrix = Sequence[Sequence[float]]


def best_choice(value: Matrix, cost: Matrix, eligible: Sequence[Sequence[bool]], budget: float) -> float:
    """Try every plan and return the value of the best that the budget allows.

    value     (n_shoppers, n_actions)  of each action for each shopper
    cost      (n_shoppers, n_actions)  of it
    eligible  (n_shoppers, n_actions)  whether it may be chosen
    budget    bound on the sum of costs
    returns   value of the optimum
    """
    n_actions = len(value[0]) if value else 0
    best = float("-inf")
    for plan in np.ndindex(*[n_actions] * len(value)):
        if all(eligible[who][action] for who, action in enumerate(plan)):
            spend = sum(cost[who][action] for who, action in enumerate(plan))
            if spend <= budget:
                best = max(best, sum(value[who][action] for who, action in enumerate(plan)))
    return best


def dual_bound(value: Matrix, cost: Matrix, eligible: Sequence[Sequence[bool]], budget: float) -> float:
    """Return the least Lagrangian over all prices of budget: no plan can be worth more.

    value     (n_shoppers, n_actions)  of each action for each shopper
    cost      (n_shoppers, n_actions)  of it
    eligible  (n_shoppers, n_actions)  whether it may be chosen
    budget    bound on the sum of costs
    returns   minimum over λ ≥ 0 of Σ max(value - λ cost) + λ budget; the function is convex and bends only where two
              actions of a shopper draw level, so those prices and 0 are enough
    """
    actions = [
        [(v, c) for v, c, may in zip(values, costs, mays, strict=True) if may]
        for values, costs, mays in zip(value, cost, eligible, strict=True)
    ]
    bends = {0.0}
    for options in actions:
        bends.update((v1 - v2) / (c1 - c2) for v1, c1 in options for v2, c2 in options if c1 > c2 and v1 > v2)
    return min(sum(max(v - bend * c for v, c in options) for options in actions) + bend * budget for bend in bends)


def transitions(sequences: Sequence[Sequence[int]], window: int) -> dict[tuple[int, int], float]:
    """Sum, over all pairs of one item and a later one, one over their distance.

    sequences  of item indexes, earliest first; 0 is no item but keeps its place
    window     greatest distance that counts
    returns    weight by (item, later item)
    """
    weight: dict[tuple[int, int], float] = {}
    for items in sequences:
        for place, item in enumerate(items):
            for distance, later in enumerate(items[place + 1 : place + 1 + window], start=1):
                if item and later:
                    weight[item, later] = weight.get((item, later), 0.0) + 1.0 / distance
    return weight


def next_item_scores(
    weight: dict[tuple[int, int], float], history: Sequence[int], n_items: int, decay: float, row_power: float
) -> list[float]:
    """Add up the rows of a history's items.

    weight     by (item, later item), from `transitions`
    history    item indexes, the latest last; 0 is no item
    n_items    number of item indexes, 0 included
    decay      worth of one step further back
    row_power  power of a row's total that divides the row
    returns    score of each item index
    """
    latest_first = [item for item in reversed(history) if item]
    total = [sum(weight.get((item, later), 0.0) for later in range(n_items)) for item in range(n_items)]
    return [
        sum(
            decay**back * weight.get((item, later), 0.0) / total[item] ** row_power
            for back, item in enumerate(latest_first)
            if total[item] > 0.0
        )
        for later in range(n_items)
    ]
