"""Expected spend: the kinds are a buy-till-you-die model, the net corrects them, and the long horizon is a rule."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from kernels.features import HISTORY, N_FEATURES, columns
from kernels.ledger import VIEW, empty_ledger
from tests.benchmarks.published import lifetime as benchmark
from tests.benchmarks.rivals.buy_till_you_die import BgNbd, Customers, GammaGamma, fit_purchases, fit_value
from tests.requirements import shared_data
from training import lifetimes
from training.configs import config_of
from training.dataset import DAY_S, Dataset, Rows
from training.evidence import Difference, interval
from training.lifetimes import RECIPE, Spending, SpendTask, figures_of, fitted_kinds, fitted_value, study
from training.loop import Recipe, fit
from training.models.lifetime import HORIZON_DAYS, Lifetime, Served, ziln_loss
from training.sources.tables import InvalidTable
from training.staging import onnxruntime_answers, stage

QUICK = Recipe(n_epochs=3, batch=256, learning_rate=2e-3)


def histories(n_orders: np.ndarray, last_days: np.ndarray, tenure_days: np.ndarray, value: float = 20.0) -> np.ndarray:
    """Features of shoppers of whom only orders are known; last_days is the age at the last order."""
    features = np.zeros((n_orders.size, N_FEATURES), np.float32)
    for name, values in (
        ("n_orders", n_orders), ("tenure_days", tenure_days), ("order_recency_days", tenure_days - last_days),
        ("spend_total", value * n_orders), ("has_ordered", n_orders > 0),
    ):  # fmt: skip
        features[:, columns().index(name)] = values
    return features


def simulated(n: int, weeks_known: int, weeks_ahead: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shoppers of BG/NBD's own making: features as of weeks_known, and orders in the weeks ahead."""
    rng = np.random.default_rng(seed)
    rate, last_prob = rng.gamma(1.0, 0.2, n), rng.beta(1.0, 6.0, n)
    known, ahead, last = np.ones(n), np.zeros(n), np.zeros(n)
    for place in range(n):
        time, alive = 0.0, True
        while alive:
            time += rng.exponential(1.0 / rate[place])
            if time >= weeks_known + weeks_ahead:
                break
            if time < weeks_known:
                known[place], last[place] = known[place] + 1, time
            else:
                ahead[place] += 1
            alive = rng.uniform() > last_prob[place]
    return histories(known, 7.0 * last, np.full(n, 7.0 * weeks_known)), ahead


def taught(features: np.ndarray, label_days: float) -> Lifetime:
    """A net that knows the kinds, its correction still nothing."""
    model = Lifetime()
    with torch.no_grad():
        stayed, left = model.history_log_likelihood(torch.from_numpy(features))
        likelihood = torch.logaddexp(stayed, left).numpy().astype(np.float64)
    model.kind_prob.copy_(torch.from_numpy(fitted_kinds(likelihood)))
    model.value_mean.fill_(20.0)
    model.label_days.fill_(label_days)
    return model.eval()


def test_one_kind_expects_what_its_formula_says() -> None:
    model = Lifetime()
    kind = 100
    model.kind_prob.fill_(0.0)
    model.kind_prob[kind] = 1.0
    rate, last_prob = float(model.rate[kind]), float(model.last_prob[kind])
    features = torch.from_numpy(histories(np.array([4.0]), np.array([70.0]), np.array([140.0])))
    # Four orders, three of them repeats; stayed against left after the last of them, ten of twenty weeks on.
    stayed = (1 - last_prob) * np.exp(-rate * 10.0)
    alive = stayed / (stayed + last_prob)
    count, buys = model.orders(features, torch.tensor([90.0]))
    weeks = 90.0 / 7.0
    # float32 exponentials of sums near 10
    assert count.item() == pytest.approx(alive * (1 - np.exp(-rate * last_prob * weeks)) / last_prob, rel=1e-4)
    assert buys.item() == pytest.approx(alive * (1 - np.exp(-rate * weeks)), rel=1e-4)


def test_kinds_expect_what_bg_nbd_expects_of_shoppers_of_its_own_making() -> None:
    features, ahead = simulated(2_000, 26, 13, seed=0)
    model = taught(features, 90.0)
    with torch.no_grad():
        count = model.orders(torch.from_numpy(features), torch.tensor([91.0]))[0].numpy()[:, 0]
    named = columns()
    n, age = features[:, named.index("n_orders")], features[:, named.index("tenure_days")]
    last = age - features[:, named.index("order_recency_days")]
    known = Customers(*(column.astype(np.float64) for column in (n - 1, last / 7, age / 7, n * 0 + 20.0)))
    rival = fit_purchases(known).expected(known, 13.0)
    # 2,000 shoppers order about once each: the sum's standard error is near 4 %.
    assert count.sum() == pytest.approx(ahead.sum(), rel=0.1)
    assert np.corrcoef(count, rival)[0, 1] > 0.98


def test_a_year_is_the_label_stretched_by_the_kinds_drop_out() -> None:
    features, ahead = simulated(2_000, 26, 52, seed=2)
    model = taught(features, 90.0)
    model.scale.fill_(0.5)
    with torch.no_grad():
        spend = model.spend(torch.from_numpy(features), torch.tensor([90.0, 364.0])).numpy()
        count = model.orders(torch.from_numpy(features), torch.tensor([90.0, 364.0]))[0].numpy()
    np.testing.assert_allclose(spend[:, 1] / spend[:, 0], count[:, 1] / count[:, 0], rtol=1e-4)
    assert (spend[:, 1] > spend[:, 0]).all()
    # Half the scale, 20 a piece: the year's sum is right although nothing but half a year was ever seen.
    # Half a year tells drop-out roughly: BG/NBD, which is the truth here, comes out 3 % high, the kinds 6 %.
    assert spend[:, 1].sum() / 10.0 == pytest.approx(ahead.sum(), rel=0.15)
    # A rule without drop-out would say 364 / 90 for everybody, and be a third too high.
    assert spend[:, 0].sum() * 364 / 90 > 1.2 * spend[:, 1].sum()


def test_ziln_loss_equals_its_definition() -> None:
    told = torch.tensor([[0.3, 2.0, -0.2], [-1.0, 3.0, 0.1], [2.0, 1.0, 0.0]])
    spend = torch.tensor([0.0, 15.0, 4.0])
    expected = 0.0
    for (logit, log_mean, log_spread), spent in zip(told.tolist(), spend.tolist(), strict=True):
        prob, spread = 1 / (1 + np.exp(-logit)), np.exp(log_spread)
        scale = np.exp(log_mean - spread**2 / 2)
        if spent == 0:
            expected -= np.log(1 - prob)
        else:
            # The density over log spend: the Jacobian and the root of 2 pi are the same for every model.
            density = stats.lognorm(s=spread, scale=scale).logpdf(spent) + np.log(spent) + 0.5 * np.log(2 * np.pi)
            expected -= np.log(prob) + density
    assert ziln_loss(told, spend).item() == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("features", [histories(*np.zeros((3, 1))), histories(*np.array([[900.0], [0.0], [9e3]]))])
def test_a_batch_of_one_keeps_its_axis_and_no_history_breaks_it(features: np.ndarray) -> None:
    spend, prob = Lifetime().eval().expectation(torch.from_numpy(features))
    assert spend.shape == (1, len(HORIZON_DAYS))
    assert prob.shape == (1, 1)
    assert torch.isfinite(spend).all()
    assert 0 < spend[0, 0] <= spend[0, 1]
    assert 0 <= prob.item() <= 1


def planted(n: int, seed: int) -> Spending:
    """Same orders for all; those who use coupons spend again and more."""
    rng = np.random.default_rng(seed)
    features = histories(np.full(n, 3.0), np.full(n, 60.0), np.full(n, 90.0))
    coupons = rng.integers(0, 2, n)
    features[:, columns().index("coupons_hl91d")] = coupons
    spends = rng.uniform(size=n) < 0.2 + 0.5 * coupons
    spend = np.where(spends, rng.lognormal(2.0 + coupons, 0.5), 0.0)
    rows = Rows(np.arange(n), np.zeros(n, np.int64), features, np.zeros((n, HISTORY), np.int32), empty_ledger(n))
    return Spending(rows, spend)


def test_the_net_learns_what_orders_alone_cannot_tell() -> None:
    train, test = planted(2_000, seed=0), planted(1_000, seed=1)
    torch.manual_seed(0)
    model = taught(train.rows.features, 90.0)
    model.standard.learn(train.features)
    weights = np.random.default_rng(0).multinomial(1_000, np.full(1_000, 1e-3), 50)
    alone = figures_of(lifetimes.kinds_spend(model, test.rows.features, 90.0), test.spend, weights)["spearman"]
    fit(model, SpendTask(model, train, test), replace(QUICK, n_epochs=8), lambda _: None)
    ours = figures_of(lifetimes.expected_spend(model, test.rows.features, 90.0), test.spend, weights)["spearman"]
    gained = interval(float((ours - alone).mean()), ours - alone)
    assert gained.lower > 0.2
    # The gate: were the net the rival, it would have been refused.
    assert Difference("net", "spearman", interval(-gained.value, alone - ours)).is_lost


def test_a_loss_to_bg_nbd_would_be_said() -> None:
    drawn = np.linspace(0.4, 0.42, 201)
    values = {"spearman": dict.fromkeys(benchmark.MODELS, drawn + 0.05) | {benchmark.OURS: drawn}}
    assert all(one.is_lost for one in benchmark.against(values))
    # Twice too much and half too little are equally far off.
    values = {"calibration": dict.fromkeys(benchmark.MODELS, drawn * 0 + 2.0) | {benchmark.OURS: drawn * 0 + 0.5}}
    assert benchmark.against(values)[0].difference.value == pytest.approx(0.0, abs=1e-12)


def test_figures_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    said, was = rng.integers(0, 9, 200).astype(np.float64), rng.integers(0, 5, 200).astype(np.float64)
    found = figures_of(said, was, np.ones((1, 200)))
    assert found["spearman"][0] == pytest.approx(stats.spearmanr(said, was).statistic, rel=1e-12)
    assert found["calibration"][0] == pytest.approx(said.sum() / was.sum(), rel=1e-12)
    assert figures_of(was, was, np.ones((1, 200)))["gini"][0] == pytest.approx(1.0)
    assert abs(figures_of(rng.normal(size=200), was, np.ones((1, 200)))["gini"][0]) < 0.3


def test_shares_of_kinds_are_those_that_made_the_histories() -> None:
    rng = np.random.default_rng(0)
    kind = rng.uniform(size=5_000) < 0.3
    seen = rng.normal(np.where(kind, 2.0, -1.0))
    likelihood = np.column_stack([stats.norm(-1.0).logpdf(seen), stats.norm(2.0).logpdf(seen)])
    assert fitted_kinds(likelihood)[1] == pytest.approx(0.3, abs=0.03)  # a standard error is 0.007


def test_value_per_order_is_drawn_as_the_gamma_gamma_model_draws_it() -> None:
    rng = np.random.default_rng(0)
    truth = GammaGamma(p=6.0, q=4.0, gamma=15.0)
    n = rng.integers(2, 9, 4_000)
    own_rate = rng.gamma(truth.q, 1.0 / truth.gamma, n.size)
    orders = [rng.gamma(truth.p, 1.0 / rate, size) for size, rate in zip(n, own_rate, strict=True)]
    features = histories(n.astype(np.float64), np.zeros(n.size), np.ones(n.size))
    features[:, columns().index("spend_total")] = [order.sum() for order in orders]
    features[:, columns().index("basket_spend_std")] = [order.std() for order in orders]
    mean, worth = fitted_value(features)
    assert mean == pytest.approx(truth.p * truth.gamma / (truth.q - 1), rel=0.05)
    assert worth == pytest.approx((truth.q - 1) / truth.p, abs=0.2)  # 0.5; moments of logarithms are not the likelihood
    known = Customers(n.astype(np.float64), n * 0.0, n * 0.0, np.array([order.mean() for order in orders]))
    fitted = fit_value(known)
    # p and gamma trade against each other; what follows for a shopper hardly moves.
    assert fitted.log_likelihood(known) > truth.log_likelihood(known)
    np.testing.assert_allclose(fitted.expected(known), truth.expected(known), rtol=0.2)


def test_the_rival_finds_the_published_parameters_of_cdnow_and_ours_does_not_lose_to_it() -> None:
    case = benchmark.CASES[0]
    known = benchmark.dataset(case, shared_data("cdnow").parent)
    asked = lifetimes.spending_of(known, np.array([case.until_s]), case.days)
    told = benchmark.customers(known, asked, case.until_s)
    fitted = fit_purchases(told)
    # Fader, Hardie and Lee 2005, table 2: r .243, alpha 4.414, a .793, b 2.426.
    published = BgNbd(0.243, 4.414, 0.793, 2.426)
    for name in ("r", "alpha", "a", "b"):
        assert getattr(fitted, name) == pytest.approx(getattr(published, name), rel=2e-3)
    rival = fitted.expected(told, case.days / 7.0) * fit_value(told).expected(told)
    kinds = lifetimes.kinds_spend(lifetimes._known(known, case.until_s, 90.0), asked.rows.features, case.days)
    once = np.ones((1, asked.spend.size))
    ours, theirs = (figures_of(said, asked.spend, once)["spearman"][0] for said in (kinds, rival))
    assert asked.spend.size == 2_357
    assert ours > theirs - 0.02  # a standard error of the difference


def test_onnx_expects_the_same_as_torch(tmp_path: Path) -> None:
    features, _ = simulated(60, 26, 1, seed=2)
    model = taught(features, 90.0)
    torch.nn.init.normal_(model.linear.weight, std=0.05)
    signature, rows = Served.signature, {"features": features}
    expected = stage(tmp_path / "lifetime", Served(model), signature, rows, config_of("lifetime", signature))
    answered = onnxruntime_answers(tmp_path / "lifetime", signature, rows)
    for name, values in expected.items():
        np.testing.assert_allclose(answered[name], values, rtol=1e-4)  # float32 sums over 192 kinds
    again = Served(Lifetime.from_state(model.state_dict())).eval()
    assert torch.equal(again(torch.from_numpy(features))[0], torch.from_numpy(expected["expected_spend"]))


def test_a_shop_is_studied_beside_its_rivals(dataset: Dataset) -> None:
    said: list[str] = []
    model, evidence = study(dataset, QUICK, said.append, None)
    assert [row.name for row in evidence.rows] == [lifetimes.OURS, lifetimes.KINDS, lifetimes.SCALED]
    assert set(evidence.rows[0].figures) == {"spearman", "calibration", "gini"}
    assert any("365 days are stretched" in note for note in evidence.notes)
    assert float(model.label_days) < 90.0  # 20 weeks hold no three labels of 90 days
    assert evidence.n["shoppers"] > 50


def test_labels_end_before_the_moment_that_may_be_known(dataset: Dataset) -> None:
    until_s = dataset.splits.end_s - 6 * 7 * DAY_S
    days = lifetimes.label_days_of(dataset, until_s)
    cuts = lifetimes.cuts_until(dataset, until_s - round(days * DAY_S))
    assert cuts.max() + days * DAY_S == until_s
    assert cuts.min() >= dataset.splits.first_s


def test_shoppers_who_never_come_back_are_named(dataset: Dataset) -> None:
    ledger = dataset.ledger
    first = replace(dataset, ledger=replace(ledger, kind=np.full_like(ledger.kind, VIEW)))
    with pytest.raises(InvalidTable, match="at least 40 shoppers must have ordered early enough, got 0"):
        study(first, QUICK, lambda _: None, None)
    unpaid = replace(dataset, ledger=replace(ledger, paid_micros=np.zeros_like(ledger.paid_micros)))
    with pytest.raises(InvalidTable, match="events must hold shoppers who came back, got none"):
        study(unpaid, QUICK, lambda _: None, None)
    assert RECIPE.n_epochs > QUICK.n_epochs
