"""Spending one budget: the price λ at which every shopper's best `value - λ cost` spends it, and the plan that follows.

In: value and cost of every action for every shopper. Out: a plan with its certificate. server.strategy.plan calls it;
the report draws `frontier`.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.compiled import entry

# Beyond these, value / cost or a sum could overflow; below, a cost is free.
LARGEST = 1e18
SMALLEST_COST = 1e-9
_MAX_HALVINGS = 200
_MAX_REPAIRS = 100


@dataclass(frozen=True)
class Allocation:
    """A plan within the budget, and the bound that certifies it.

    lambda_price  value of the next unit of budget; 0 if the budget does not bind
    choice        (n_shoppers,) int16  action of each shopper; 0 is nothing
    value         of the plan
    spend         of the plan; never above the budget
    dual_bound    no plan within the budget is worth more
    """

    lambda_price: float
    choice: NDArray[np.int16]
    value: float
    spend: float
    dual_bound: float

    @property
    def gap(self) -> float:
        """What the plan may at most lack against the best plan; ≥ 0 but for rounding."""
        return self.dual_bound - self.value


@dataclass(frozen=True)
class Frontier:
    """What each budget buys.

    budget        (n_budgets,) float64  as asked
    value         (n_budgets,) float64  of the plan
    spend         (n_budgets,) float64  of the plan
    lambda_price  (n_budgets,) float64  value of the next unit of budget
    """

    budget: NDArray[np.float64]
    value: NDArray[np.float64]
    spend: NDArray[np.float64]
    lambda_price: NDArray[np.float64]


def price_of_budget(
    value: NDArray[np.float64], cost: NDArray[np.float64], eligible: NDArray[np.bool_], budget: float
) -> Allocation:
    """Choose one action for each shopper so that their value is greatest and their cost stays within the budget.

    value     (n_shoppers, n_actions) float64  incremental value; column 0, nothing, is 0
    cost      (n_shoppers, n_actions) float64  expected cost in the unit of the value, ≥ 0; column 0 is 0
    eligible  (n_shoppers, n_actions) bool     what may be chosen; column 0 is always true
    budget    bound on the sum of costs, ≥ 0
    returns   Allocation; among equal actions the cheaper is chosen, then the earlier
    raises    InvalidInput                     if a value is NaN or out of range, or doing nothing is not free
    source    algorithms: section 2, bisection on λ; reference.best_choice and reference.dual_bound
    """
    _check_actions(value, cost, eligible)
    _check_budget(budget)
    return _allocated(plain(value), plain(cost), plain(eligible), float(budget))


def frontier(
    value: NDArray[np.float64], cost: NDArray[np.float64], eligible: NDArray[np.bool_], budgets: NDArray[np.float64]
) -> Frontier:
    """Return what each of several budgets buys, for a picture of value against spend.

    value     (n_shoppers, n_actions) float64  as in `price_of_budget`
    cost      (n_shoppers, n_actions) float64  as in `price_of_budget`
    eligible  (n_shoppers, n_actions) bool     as in `price_of_budget`
    budgets   (n_budgets,) float64             each ≥ 0, in any order
    returns   Frontier
    raises    InvalidInput                     as `price_of_budget`
    """
    _check_actions(value, cost, eligible)
    check_array("budgets", budgets, np.float64)
    for budget in budgets:
        _check_budget(float(budget))
    actions = plain(value), plain(cost), plain(eligible)
    plans = [_allocated(*actions, float(budget)) for budget in budgets]
    return Frontier(
        budgets.copy(),
        np.array([plan.value for plan in plans], np.float64),
        np.array([plan.spend for plan in plans], np.float64),
        np.array([plan.lambda_price for plan in plans], np.float64),
    )


def _check_budget(budget: float) -> None:
    check(0.0 <= budget <= LARGEST, f"budget must be in [0, {LARGEST}], got {budget}")


def _check_actions(value: NDArray[np.float64], cost: NDArray[np.float64], eligible: NDArray[np.bool_]) -> None:
    check_array("value", value, np.float64, n_dims=2)
    check_array("cost", cost, np.float64, n_dims=2)
    check_array("eligible", eligible, np.bool_, n_dims=2)
    check(value.shape[1] >= 1, "value must have an action 0, nothing; got no action")
    check(value.shape[1] < 2**15, f"value must have fewer than {2**15} actions, got {value.shape[1]}")
    check(cost.shape == value.shape, f"cost must have the shape of value {value.shape}, got {cost.shape}")
    check(eligible.shape == value.shape, f"eligible must have the shape of value {value.shape}, got {eligible.shape}")
    check_each("value", value, np.abs(value) <= LARGEST, f"in [{-LARGEST}, {LARGEST}]")
    is_cost = (cost == 0.0) | ((cost >= SMALLEST_COST) & (cost <= LARGEST))
    check_each("cost", cost, is_cost, f"0 or in [{SMALLEST_COST}, {LARGEST}]")
    check_each("value of action 0", value[:, 0], value[:, 0] == 0.0, "0")
    check_each("cost of action 0", cost[:, 0], cost[:, 0] == 0.0, "0")
    check_each("eligible of action 0", eligible[:, 0], eligible[:, 0], "true")


def _allocated(
    value: NDArray[np.float64], cost: NDArray[np.float64], eligible: NDArray[np.bool_], budget: float
) -> Allocation:
    choice = np.zeros(value.shape[0], np.int16)
    lambda_price, bound = _price(value, cost, eligible, budget, choice)
    for _ in range(_MAX_REPAIRS):
        upgrade, worth = np.zeros_like(choice), np.zeros(choice.size)
        _best_upgrades(value, cost, eligible, budget, choice, upgrade, worth)
        candidates = np.flatnonzero(worth > 0.0)
        if candidates.size == 0:
            break
        best_first = candidates[np.argsort(-worth[candidates], kind="stable")]
        _upgrade(cost, budget, choice, upgrade, best_first)
    total, spend = _sums(value, cost, choice)
    return Allocation(lambda_price, choice, total, spend, max(bound, total))


@entry
def _price(value, cost, eligible, budget, choice):
    """Leave in `choice` the plan at the lowest price that keeps the budget; return that price and the best bound."""
    net = _choose(value, cost, eligible, 0.0, choice)
    bound = net
    if _sums(value, cost, choice)[1] <= budget:
        return 0.0, bound
    lowest = 0.0
    highest = _price_of_nothing(value, cost, eligible)
    bound = min(bound, _choose(value, cost, eligible, highest, choice) + highest * budget)
    for _ in range(_MAX_HALVINGS):
        middle = lowest + (highest - lowest) / 2.0
        # Relative: prices span orders of magnitude. Test: test_the_dual_bound_is_the_least_lagrangian.
        if highest - lowest <= 1e-14 * highest or middle <= lowest or middle >= highest:
            break
        bound = min(bound, _choose(value, cost, eligible, middle, choice) + middle * budget)
        if _sums(value, cost, choice)[1] <= budget:
            highest = middle
        else:
            lowest = middle
    _choose(value, cost, eligible, highest, choice)
    return highest, bound


@njit(nogil=True)
def _price_of_nothing(value, cost, eligible):
    price = 0.0
    for who in range(value.shape[0]):
        for action in range(value.shape[1]):
            if eligible[who, action] and cost[who, action] > 0.0:
                price = max(price, value[who, action] / cost[who, action])
    return price * (1.0 + 1e-12)  # above the rounding of the division: at this price nothing that costs is chosen


@njit(nogil=True)
def _choose(value, cost, eligible, price, choice):
    net = 0.0
    for who in range(value.shape[0]):
        best, best_net, best_cost = 0, 0.0, 0.0
        for action in range(1, value.shape[1]):
            if eligible[who, action]:
                action_net = value[who, action] - price * cost[who, action]
                if action_net > best_net or (action_net == best_net and cost[who, action] < best_cost):
                    best, best_net, best_cost = action, action_net, cost[who, action]
        choice[who] = best
        net += best_net
    return net


@entry
def _sums(value, cost, choice):
    """Return value and spend of a plan, the spend with Neumaier's correction: a budget is kept to the last unit."""
    total = 0.0
    spend = 0.0
    lost = 0.0
    for who in range(choice.size):
        total += value[who, choice[who]]
        more = cost[who, choice[who]]
        after = spend + more
        lost += (spend - after) + more if spend >= more else (more - after) + spend
        spend = after
    return total, spend + lost


@entry
def _best_upgrades(value, cost, eligible, budget, choice, upgrade, worth):
    left = budget - _sums(value, cost, choice)[1]
    for who in range(choice.size):
        now = choice[who]
        for action in range(1, value.shape[1]):
            more_value = value[who, action] - value[who, now]
            more_cost = cost[who, action] - cost[who, now]
            fits = eligible[who, action] and more_value > 0.0 and 0.0 < more_cost <= left
            if fits and more_value / more_cost > worth[who]:
                worth[who] = more_value / more_cost
                upgrade[who] = action


@entry
def _upgrade(cost, budget, choice, upgrade, best_first):
    left = budget - _sums(cost, cost, choice)[1]
    for who in best_first:
        more_cost = cost[who, upgrade[who]] - cost[who, choice[who]]
        if more_cost <= left:
            choice[who] = upgrade[who]
            left -= more_cost
