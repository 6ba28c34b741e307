"""The strategy equals its plain-Python twin, spends within the budget and tells the truth about its probabilities."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.strategy import economics, policy
from server.strategy.actions import Bar, Menu, menu_of
from server.strategy.catalogue import campaign_key, offer_key
from server.strategy.plan import plan_of
from tests.server import twin
from tests.server.markets import NOW_S, Market, markets

# A cost is rounded up and a value to the nearest micro: the twin's last digits may fall on the other side.
ROUNDING_MICROS = 1


def menu_for(market: Market) -> Menu:
    """The menu of a whole market."""
    table = market.catalogue.offers_between(int(market.asking.at_s.min()), int(market.asking.at_s.max()))
    asking = market.asking
    if asking.sent.shape[1] != len(table.offers):
        asking = type(asking)(
            asking.at_s, asking.sent[:, : len(table.offers)], asking.contacts, asking.budget_left_micros
        )
    return menu_of(market.forecast, market.catalogue, table, asking, market.economics)


@given(market=markets())
def test_menu_equals_its_twin(market: Market) -> None:
    menu = menu_for(market)
    for row in range(market.asking.at_s.size):
        for action, (value, cost, allowed) in enumerate(twin.menu_row(market, row)):
            if menu.barred[row, action] != Bar.COST_UNKNOWN:  # an offer without a known discount has no cost to compare
                assert abs(int(menu.cost_micros[row, action]) - cost) <= ROUNDING_MICROS
            assert abs(int(menu.value_micros[row, action]) - value) <= ROUNDING_MICROS
            assert bool(menu.eligible[row, action]) == allowed


@given(market=markets())
def test_no_offer_carries_more_than_its_campaigns_whole_effect(market: Market) -> None:
    menu = menu_for(market)
    for row, place in itertools.product(range(market.asking.at_s.size), range(len(menu.table.offers))):
        whole = 0.25e6 * abs(float(market.forecast.spend_uplift[row, menu.table.arm[place]]))
        loss = market.economics.risk_loss_micros * float(menu.redeem_prob[row, place])
        assert abs(int(menu.value_micros[row, 1 + place]) + loss) <= whole + ROUNDING_MICROS


@pytest.mark.parametrize(("spread", "kept"), [(0.0, 1.0), (0.5, 0.8), (1.0, 0.5), (3.0, 0.1)])
def test_an_effect_within_its_noise_counts_for_less(spread: float, kept: float) -> None:
    believed = economics.believed_uplift(np.array([-4.0, 4.0]), np.array([4.0, 4.0]) * spread)
    assert np.allclose(believed, [-4.0 * kept, 4.0 * kept], rtol=1e-12)  # a handful of float64 operations


@given(market=markets())
def test_a_row_does_not_depend_on_its_company(market: Market) -> None:
    together = menu_for(market)
    for row in range(market.asking.at_s.size):
        alone = menu_for(only(market, row))
        offers = {offer.offer_id: place for place, offer in enumerate(together.table.offers)}
        columns = [
            0,
            *(1 + offers[offer.offer_id] for offer in alone.table.offers),
            *range(together.ad, together.ad + 3),
        ]
        assert together.value_micros[row, columns].tolist() == alone.value_micros[0].tolist()
        assert together.cost_micros[row, columns].tolist() == alone.cost_micros[0].tolist()


def only(market: Market, row: int) -> Market:
    """The market of one shopper."""
    table = market.catalogue.offers_between(int(market.asking.at_s.min()), int(market.asking.at_s.max()))
    at_s = market.asking.at_s[row : row + 1]
    kept = {offer.offer_id for offer in market.catalogue.offers_between(int(at_s[0]), int(at_s[0])).offers}
    columns = [place for place, offer in enumerate(table.offers) if offer.offer_id in kept]
    asking = type(market.asking)(
        at_s,
        market.asking.sent[row : row + 1, columns],
        market.asking.contacts[row : row + 1],
        market.asking.budget_left_micros[row : row + 1],
    )
    forecast = type(market.forecast)(
        *(getattr(market.forecast, name)[row : row + 1] for name in market.forecast.__dataclass_fields__)
    )
    return Market(market.catalogue, forecast, asking, market.economics)


choices = st.integers(1, 6).flatmap(
    lambda n_actions: st.tuples(
        st.lists(st.integers(-3, 5), min_size=n_actions, max_size=n_actions),
        st.lists(st.integers(0, 3), min_size=n_actions, max_size=n_actions),
        st.lists(st.booleans(), min_size=n_actions, max_size=n_actions),
    )
)


@given(row=choices, price=st.sampled_from([0.0, 0.5, 1.0, 2.0]), explore_share=st.floats(0, 1), seed=st.integers(0, 99))
def test_choice_equals_its_twin(
    row: tuple[list[int], list[int], list[bool]], price: float, explore_share: float, seed: int
) -> None:
    value, cost, eligible = row[0], row[1], [True, *row[2][1:]]
    draws = policy.draws_of([f"decision-{seed}"], "key")
    arrays = np.array([value]), np.array([cost]), np.array([eligible])
    choice = policy.choose(*arrays, price, explore_share, draws)
    best = twin.best(value, cost, eligible, price)
    open_ = [place for place in range(len(value)) if eligible[place]]
    explores = draws[0, 0] < explore_share
    expected = open_[math.floor(draws[0, 1] * len(open_))] if explores else best
    assert (choice.chosen[0], choice.is_exploration[0]) == (expected, explores)
    for place in range(len(value)):
        prob = explore_share / len(open_) + (1 - explore_share) * (place == best)
        assert math.isclose(choice.propensity[0, place], prob * eligible[place], abs_tol=1e-15)
    others = [is_open and place != expected for place, is_open in enumerate(eligible)]
    runner_up = twin.best(value, cost, others, price) if any(others) else policy.NO_RUNNER_UP
    assert choice.runner_up[0] == runner_up


def test_propensities_are_the_frequencies_of_what_is_chosen() -> None:
    n_decisions, share = 40_000, 0.3
    names = [f"decision-{number}" for number in range(n_decisions)]
    value, cost = np.tile([0, 5, 9, 2], (n_decisions, 1)), np.tile([0, 1, 1, 1], (n_decisions, 1))
    eligible = np.tile([True, True, True, False], (n_decisions, 1))
    choice = policy.choose(value, cost, eligible, 1.0, share, policy.draws_of(names, "key"))
    np.testing.assert_allclose(choice.propensity.sum(axis=1), 1.0, rtol=1e-15)  # three sums of three terms
    counts = np.bincount(choice.chosen, minlength=4)
    for action, prob in enumerate(choice.propensity[0]):
        # Five standard deviations of a binomial count: a true propensity fails once in 1.7 million seeds.
        assert abs(counts[action] - n_decisions * prob) <= 5 * math.sqrt(n_decisions * prob * (1 - prob))


def test_the_same_decision_id_draws_the_same_and_another_key_draws_otherwise() -> None:
    names = ["a", "b", "c"]
    assert policy.draws_of(names, "key").tolist() == policy.draws_of(names, "key").tolist()
    assert policy.draws_of(names, "key")[1].tolist() == policy.draws_of(["b"], "key")[0].tolist()
    assert not np.isin(policy.draws_of(names, "key"), policy.draws_of(names, "other")).any()


@settings(deadline=None)  # the first example compiles the allocation kernel
@given(market=markets(), budget_micros=st.integers(0, 300_000))
def test_plan_stays_within_its_budget_and_its_bound(market: Market, budget_micros: int) -> None:
    menu = menu_for(market)
    kinds = tuple(menu.kind(action) for action in range(menu.n_actions))
    plan = plan_of(menu.value_micros, menu.cost_micros, menu.eligible, kinds, budget_micros)
    rows = np.arange(plan.chosen.size)
    assert menu.eligible[rows, plan.chosen].all()
    assert plan.spend_micros == menu.cost_micros[rows, plan.chosen].sum() <= budget_micros
    assert sum(channel.cost_micros for channel in plan.channels) == plan.spend_micros
    assert sum(channel.n_shoppers for channel in plan.channels) == plan.chosen.size
    best = max(
        sum(int(menu.value_micros[row, action]) for row, action in enumerate(chosen))
        for chosen in itertools.product(*(np.flatnonzero(row).tolist() for row in menu.eligible))
        if sum(int(menu.cost_micros[row, action]) for row, action in enumerate(chosen)) <= budget_micros
    )
    # The bound is a sum of float64 in micros: a few units in the last place of values near 1e8.
    assert plan.value_micros <= best <= plan.dual_bound_micros + 1e-3
    assert [point.value_micros for point in plan.frontier] == sorted(point.value_micros for point in plan.frontier)


@given(market=markets())
def test_what_was_sent_bars_the_offer_or_the_whole_campaign(market: Market) -> None:
    table = market.catalogue.offers_between(NOW_S, NOW_S)
    for offer in table.offers:
        one = table.sent(2, np.array([1]), np.array([offer_key(offer.offer_id)], np.uint64))
        assert one.tolist() == [[False] * len(table.offers), [other is offer for other in table.offers]]
        whole = table.sent(1, np.array([0]), np.array([campaign_key(offer.campaign_id)], np.uint64))
        assert whole[0].tolist() == [other.campaign_id == offer.campaign_id for other in table.offers]
    assert not table.sent(1, np.array([0]), np.array([campaign_key("unheard of")], np.uint64)).any()
