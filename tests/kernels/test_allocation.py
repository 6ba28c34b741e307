"""A plan keeps its budget, never beats its bound, and is close to the best of all plans."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels import reference
from kernels.allocation import frontier, price_of_budget
from kernels.checks import InvalidInput
from tests.kernels.ledgers import EXAMPLES


@dataclass(frozen=True)
class Offers:
    """Value, cost and eligibility of actions for shoppers, and a budget."""

    value: NDArray[np.float64]
    cost: NDArray[np.float64]
    eligible: NDArray[np.bool_]
    budget: float


@st.composite
def offers(draw: st.DrawFn) -> Offers:
    """Up to four shoppers and three actions in whole micros, so that sums are exact; many ties."""
    n_shoppers, n_actions = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    shape = (n_shoppers, n_actions)
    size = n_shoppers * n_actions
    amounts = st.one_of(st.sampled_from([0, 1, 2, 5]), st.integers(0, 10**9))
    value = np.array(draw(st.lists(st.one_of(amounts, st.integers(-100, 0)), min_size=size, max_size=size)), float)
    cost = np.array(draw(st.lists(amounts, min_size=size, max_size=size)), float)
    eligible = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    value, cost, eligible = value.reshape(shape), cost.reshape(shape), eligible.reshape(shape)
    value[:, 0] = cost[:, 0] = 0.0
    eligible[:, 0] = True
    return Offers(value, cost, eligible, float(draw(st.one_of(st.integers(0, 10), st.integers(0, 4 * 10**9)))))


@EXAMPLES
@given(case=offers())
def test_a_plan_keeps_its_budget_and_says_what_it_is_worth(case: Offers) -> None:
    plan = price_of_budget(case.value, case.cost, case.eligible, case.budget)
    rows = np.arange(plan.choice.size)
    assert case.eligible[rows, plan.choice].all()
    assert plan.spend == case.cost[rows, plan.choice].sum() <= case.budget
    assert plan.value == case.value[rows, plan.choice].sum()


@EXAMPLES
@given(case=offers())
def test_the_best_plan_lies_between_the_plan_and_its_bound(case: Offers) -> None:
    plan = price_of_budget(case.value, case.cost, case.eligible, case.budget)
    best = reference.best_choice(case.value.tolist(), case.cost.tolist(), case.eligible.tolist(), case.budget)
    # The bound adds and takes away λ × budget, which rounds at 1e-16 of its size.
    assert plan.value <= best <= plan.dual_bound * (1 + 1e-12) + 1e-6
    # No plan lacks more than one shopper's best action: with one budget only one shopper is split between two.
    assert plan.gap <= max(case.value.max(initial=0.0), 0.0) + 1e-6


@EXAMPLES
@given(case=offers())
def test_the_dual_bound_is_the_least_lagrangian(case: Offers) -> None:
    plan = price_of_budget(case.value, case.cost, case.eligible, case.budget)
    least = reference.dual_bound(case.value.tolist(), case.cost.tolist(), case.eligible.tolist(), case.budget)
    # The price is bisected to 1e-14 of itself; times sums below 1e10 of cost and prices up to 1e9, 1e-4 could remain.
    assert plan.dual_bound == pytest.approx(least, rel=1e-9, abs=1e-4)


@EXAMPLES
@given(case=offers())
def test_more_budget_never_lowers_the_bound_nor_raises_the_price(case: Offers) -> None:
    budgets = np.array([0.0, case.budget, 2.0 * case.budget + 1.0])
    curve = frontier(case.value, case.cost, case.eligible, budgets)
    assert (np.diff(curve.lambda_price) <= 0).all()
    assert (curve.spend <= curve.budget).all()
    again = [price_of_budget(case.value, case.cost, case.eligible, float(budget)).value for budget in budgets]
    assert curve.value.tolist() == again


def test_a_plan_of_many_shoppers_is_within_a_thousandth_of_its_bound() -> None:
    draw = np.random.default_rng(7)
    value, cost = draw.lognormal(size=(400, 5)), draw.lognormal(size=(400, 5))
    value[:, 0] = cost[:, 0] = 0.0
    plan = price_of_budget(value, cost, np.ones(value.shape, np.bool_), 100.0)
    assert 0 <= plan.gap <= 1e-3 * plan.value  # one action is about 1/400 of the plan; less than half may stay unbought
    assert plan.spend <= 100.0


@pytest.mark.parametrize("budget", [1.9, 2.0, 3.5, 5.0, 6.0, 7.9])
def test_equal_shoppers_are_bought_one_by_one_until_no_other_fits(budget: float) -> None:
    value, cost = np.tile([0.0, 5.0], (4, 1)), np.tile([0.0, 2.0], (4, 1))
    plan = price_of_budget(value, cost, np.ones((4, 2), np.bool_), budget)
    assert plan.spend == 2.0 * (budget // 2.0)


def test_a_budget_that_does_not_bind_has_no_price() -> None:
    plan = price_of_budget(np.array([[0.0, 3.0]]), np.array([[0.0, 2.0]]), np.ones((1, 2), np.bool_), 2.0)
    assert (plan.lambda_price, plan.value, plan.spend, plan.gap) == (0.0, 3.0, 2.0, 0.0)


def test_of_equal_actions_the_cheaper_is_chosen() -> None:
    value, cost = np.array([[0.0, 3.0, 3.0]]), np.array([[0.0, 2.0, 1.0]])
    assert price_of_budget(value, cost, np.ones((1, 3), np.bool_), 9.0).choice.tolist() == [2]


def test_no_budget_buys_what_is_free() -> None:
    value, cost = np.array([[0.0, 3.0, 9.0]]), np.array([[0.0, 0.0, 1.0]])
    assert price_of_budget(value, cost, np.ones((1, 3), np.bool_), 0.0).choice.tolist() == [1]


def test_without_shoppers_the_plan_is_empty() -> None:
    plan = price_of_budget(np.zeros((0, 2)), np.zeros((0, 2)), np.ones((0, 2), np.bool_), 5.0)
    assert (plan.choice.size, plan.value, plan.spend, plan.dual_bound) == (0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "cost", "eligible", "budget", "sentence"),
    [
        ([[0.0, np.nan]], [[0.0, 1.0]], [[True, True]], 1.0, r"value must be in .*, got nan \(at \[0, 1\]\)"),
        ([[0.0, 1.0]], [[0.0, -1.0]], [[True, True]], 1.0, r"cost must be 0 or in .*, got -1.0"),
        ([[0.0, 1.0]], [[0.5, 1.0]], [[True, True]], 1.0, "cost of action 0 must be 0, got 0.5"),
        ([[0.0, 1.0]], [[0.0, 1.0]], [[False, True]], 1.0, "eligible of action 0 must be true, got False"),
        ([[0.0, 1.0]], [[0.0, 1.0]], [[True, True]], -3.0, "budget must be in .*, got -3.0"),
        ([[0.0, 1.0]], [[0.0, 1.0]], [[True, True]], float("nan"), "budget must be in .*, got nan"),
    ],
)
def test_an_offer_out_of_range_is_refused(
    value: list[list[float]], cost: list[list[float]], eligible: list[list[bool]], budget: float, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        price_of_budget(np.array(value), np.array(cost), np.array(eligible), budget)
