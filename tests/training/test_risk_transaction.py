"""A transaction's probability is a sum of parts, its reasons are those parts, and what is unknown says nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from kernels import risk_features as names
from kernels.checks import InvalidInput
from kernels.risk_features import N_REASONS_TOLD, N_RISK_FEATURES, NO_REASON, REASONS, RISK_FEATURES, sentence_of
from training.configs import config_of
from training.dataset import TEST, TRAIN, VALID, Dataset
from training.evidence import differences, shopper_weights
from training.loop import Recipe
from training.models.risk_transaction import SILENCE, RiskTransaction, Served, fraud_loss
from training.parity import Disagreement, largest_difference
from training.risk import risk_columns, risk_features
from training.sources.tables import EVENTS, SHOPPERS, InvalidTable
from training.staging import onnxruntime_answers, stage
from training.transactions import (
    RECIPE,
    Transactions,
    check_cases,
    figures_of,
    fit_risk,
    lacks_labels,
    logistic,
    probabilities,
    recall_at_false_share,
    study,
    transactions_of,
)

SHARED, CLOCK = RISK_FEATURES.index("n_device_shoppers"), RISK_FEATURES.index("time_of_day_s")
QUICK = Recipe(n_epochs=8, batch=128, learning_rate=1e-2, weight_decay=1e-2, patience=8)


def planted(n_cases: int = 1_500, seed: int = 0) -> Transactions:
    """Fraud on devices of three to five shoppers, less and more are honest: no straight line tells it. No cards."""
    rng = np.random.default_rng(seed)
    features = np.exp(rng.normal(3.0, 2.0, (n_cases, N_RISK_FEATURES))).astype(np.float32)
    features[:, SHARED] = rng.integers(0, 9, n_cases)
    features[:, CLOCK] = rng.uniform(0, 86_400, n_cases)
    features[:, [RISK_FEATURES.index(name) for name in RISK_FEATURES if "card" in name]] = np.nan
    is_shared = (features[:, SHARED] >= 3) & (features[:, SHARED] <= 5)
    is_fraud = rng.random(n_cases) < np.where(is_shared, 0.8, 0.05)
    features[rng.random(n_cases) < 0.05, SHARED] = np.nan
    part = np.repeat([TRAIN, VALID, TEST], [n_cases - 800, 300, 500]).astype(np.int8)
    return Transactions(features, is_fraud, part, np.arange(n_cases))


@pytest.fixture(scope="module")
def learned() -> tuple[Transactions, RiskTransaction]:
    """Planted cases, and a module that learned them."""
    cases = planted()
    model, _ = fit_risk(cases, QUICK, lambda _: None)
    return cases, model


def test_the_list_of_features_is_what_velocity_tells() -> None:
    told = set(risk_columns(EVENTS.empty(), SHOPPERS.empty()).columns)
    assert set(RISK_FEATURES) == told | {"paid_micros", "time_of_day_s"}
    assert len(set(RISK_FEATURES)) == N_RISK_FEATURES
    assert risk_features(EVENTS.empty(), SHOPPERS.empty()).shape == (0, N_RISK_FEATURES)


def test_every_reason_has_its_own_sentence() -> None:
    said = [sentence_of(code) for code in range(len(REASONS) + 1)]
    assert said[NO_REASON] == ""
    assert len(set(said)) == len(said)
    assert names.WINDOWS == ("1h", "24h", "7d", "30d")


def test_a_batch_of_one_keeps_its_axes(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    for n_rows in (1, 3):
        prob, code, log_odds = model.judged(torch.from_numpy(cases.features[:n_rows]))
        assert prob.shape == (n_rows, 1)
        assert code.shape == log_odds.shape == (n_rows, N_REASONS_TOLD)
        assert code.dtype == torch.int32


def test_parts_and_baseline_add_up_to_the_log_odds(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    features = torch.from_numpy(cases.features[:200])
    with torch.no_grad():
        prob, _, _ = model.judged(features)
        parts = model.contributions(features) * model.slope
        told = torch.logit(prob[:, 0].double())
    baseline = float((model.bias * model.slope + model.shift).detach())
    # Float32 probabilities near 0 and 1 hold their log-odds to about 1e-3.
    np.testing.assert_allclose(told, parts.double().sum(dim=1) + baseline, atol=2e-3)


def test_without_its_first_reason_a_transaction_is_less_suspicious(
    learned: tuple[Transactions, RiskTransaction],
) -> None:
    cases, model = learned
    with torch.no_grad():
        prob, code, log_odds = model.judged(torch.from_numpy(cases.features))
        first = code[:, 0].numpy()
        hidden = cases.features.copy()
        for place, reason in enumerate(REASONS, 1):
            columns = [RISK_FEATURES.index(name) for name in reason.features]
            hidden[np.ix_(first == place, columns)] = np.nan
        less, _, _ = model.judged(torch.from_numpy(hidden))
    has_reason = first != NO_REASON
    assert has_reason.mean() > 0.9
    assert (less[has_reason] < prob[has_reason]).all()
    assert (np.diff(log_odds.numpy(), axis=1) <= 0).all()
    assert ((code == NO_REASON) == (log_odds == 0)).all()


def test_the_planted_reason_is_the_one_given(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    test = cases.of(TEST)
    suspicious = cases.features[test][(cases.features[test, SHARED] >= 3) & (cases.features[test, SHARED] <= 5)]
    _, code, _ = model.judged(torch.from_numpy(suspicious))
    sharing = 1 + [reason.name for reason in REASONS].index("device_sharing")
    assert (code[:, 0] == sharing).float().mean() > 0.9


def test_nothing_known_is_the_average_transaction_without_reasons(
    learned: tuple[Transactions, RiskTransaction],
) -> None:
    _, model = learned
    with torch.no_grad():
        prob, code, log_odds = model.judged(torch.full((1, N_RISK_FEATURES), torch.nan))
    assert float(prob) == pytest.approx(float(torch.sigmoid(model.bias * model.slope + model.shift).detach()))
    assert not code.any()
    assert not log_odds.any()


def test_what_training_never_saw_says_nothing_later(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    known = cases.features[:20].copy()
    known[:, [RISK_FEATURES.index(name) for name in RISK_FEATURES if "card" in name]] = 7.0
    with torch.no_grad():
        told, without = (model.judged(torch.from_numpy(rows))[0] for rows in (known, cases.features[:20]))
    assert torch.equal(told, without)


def test_a_wild_value_gives_a_probability(learned: tuple[Transactions, RiskTransaction]) -> None:
    _, model = learned
    wild = torch.tensor([[0.0], [1e30], [-1e30]]).expand(3, N_RISK_FEATURES).contiguous()
    with torch.no_grad():
        prob, _, _ = model.judged(wild)
    assert ((prob >= 0) & (prob <= 1)).all()


def test_the_loss_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    parts, labels = rng.normal(size=(50, len(REASONS))), rng.integers(0, 2, (50, 1))
    prob = 1 / (1 + np.exp(-(parts.sum(axis=1, keepdims=True) + 0.3)))
    each = -np.log(np.where(labels == 1, prob, 1 - prob))
    expected = each.mean() + SILENCE * (parts**2).mean()
    told = fraud_loss(torch.from_numpy(parts), torch.tensor([0.3]), torch.from_numpy(labels).double())
    assert float(told) == pytest.approx(expected, rel=1e-6)  # the bias is a float32


def test_a_bend_is_learned_that_a_line_cannot_follow(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    test = cases.of(TEST)
    happened, weights = cases.is_fraud[test], shopper_weights(cases.shopper[test])
    ours = figures_of(probabilities(model, cases.features[test]), happened, weights)
    theirs = figures_of(logistic(cases), happened, weights)
    ranked = ("fraud_auc", "fraud_ap")
    values = [{name: float(told[name][0]) for name in ranked} for told in (ours, theirs)]
    drawn = [{name: told[name][1:] for name in ranked} for told in (ours, theirs)]
    assert all(row.difference.lower > 0 for row in differences(["ours", "logistic"], values, drawn))
    # The other way round the worse model is ours, and loses beyond noise: such a one is refused.
    assert all(row.is_lost for row in differences(["logistic", "ours"], values[::-1], drawn[::-1]))
    # 500 cases in 15 bins: a perfectly calibrated forecast would be 0.04 off.
    assert ours["fraud_ece"][0] < 0.09


def test_recall_is_counted_where_false_alarms_are_few_enough() -> None:
    rng = np.random.default_rng(1)
    scores, happened = rng.integers(0, 40, 300) / 40, rng.random(300) < 0.3
    weights = np.ones((1, 300))
    for most in (0.0, 0.01, 0.1, 1.0):
        best = max(
            [happened[scores >= limit].sum() / happened.sum() for limit in np.unique(scores)
             if (~happened[scores >= limit]).sum() <= most * (~happened).sum()], default=0.0,
        )  # fmt: skip
        assert recall_at_false_share(scores, happened, weights, most)[0] == pytest.approx(best)
    doubled = np.repeat(scores, 2), np.repeat(happened, 2), np.ones((1, 600))
    assert recall_at_false_share(*doubled, 0.1) == recall_at_false_share(scores, happened, 2 * weights, 0.1)
    assert np.isnan(recall_at_false_share(scores, np.zeros(300, np.bool_), weights, 0.1)).all()


def test_the_exported_graph_answers_as_torch(learned: tuple[Transactions, RiskTransaction], tmp_path: Path) -> None:
    cases, model = learned
    served, signature = Served(model).eval(), Served.signature
    rows = np.concatenate([cases.features[:60], np.full((1, N_RISK_FEATURES), np.nan, np.float32)])
    folder = tmp_path / "risk_transaction"
    expected = stage(folder, served, signature, {"risk_features": rows}, config_of("risk_transaction", signature))
    for n_rows in (rows.shape[0], 1):
        told = onnxruntime_answers(folder, signature, {"risk_features": rows[:n_rows]})
        head = {name: answer[:n_rows] for name, answer in expected.items()}
        assert largest_difference("risk_transaction", "ONNX Runtime", head, told) < 1e-5
    wrong = expected | {"reason_code": np.full_like(expected["reason_code"], len(REASONS) - 1)}
    with pytest.raises(Disagreement, match="reason_code"):
        largest_difference("risk_transaction", "a liar", expected, wrong)


def test_saved_weights_are_the_module_again(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    again = RiskTransaction.from_state(model.state_dict()).eval()
    assert np.array_equal(probabilities(again, cases.features[:50]), probabilities(model, cases.features[:50]))


def test_equal_seeds_give_equal_weights() -> None:
    cases, two = planted(1_000), replace(QUICK, n_epochs=2)
    first, second = (fit_risk(cases, two, lambda _: None)[0] for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_products_in_half_precision_learn_the_same(learned: tuple[Transactions, RiskTransaction]) -> None:
    cases, model = learned
    half, _ = fit_risk(cases, replace(QUICK, precision="bfloat16", device="cpu"), lambda _: None)
    probs = [probabilities(each, cases.features[cases.of(TEST)]) for each in (half, model)]
    # Three digits of mantissa over eight passes: the two agree on who is suspicious, not on the fifth digit.
    assert np.corrcoef(*probs)[0, 1] > 0.97


def test_groups_unknown_in_every_row_are_named() -> None:
    said: list[str] = []
    fit_risk(planted(1_000), replace(QUICK, n_epochs=1), said.append)
    assert said[0].startswith("card_use, card_sharing: unknown in every training row")


def test_a_window_of_one_class_and_a_leaking_feature_are_refused() -> None:
    cases = planted(1_000)
    only = np.where(cases.part == VALID, False, cases.is_fraud)
    with pytest.raises(InvalidTable, match="both classes in the validation window, got 0 fraud among 300"):
        check_cases(replace(cases, is_fraud=only))
    leaking = cases.features.copy()
    leaking[:, CLOCK] = cases.is_fraud
    with pytest.raises(InvalidInput, match="time_of_day_s must not equal the label is_fraud"):
        check_cases(replace(cases, features=leaking))


def with_fraud(dataset: Dataset, seed: int = 0) -> Dataset:
    """The shop with a farm of two devices, where nine orders in ten are fraud; of half the orders it is known."""
    events, rng = dataset.shop.events, np.random.default_rng(seed)
    is_farm = rng.random(events.height) < 0.15
    device = np.where(is_farm, rng.choice(["farm1", "farm2"], events.height), events["shopper_id"].to_numpy())
    is_fraud = rng.random(events.height) < np.where(is_farm, 0.9, 0.02)
    known = (events["kind"] == "order").to_numpy() & (rng.random(events.height) < 0.5)
    marked = events.with_columns(
        device_id=pl.Series(device.astype(str)),
        is_fraud=pl.Series(np.where(known, is_fraud, -1)).replace(-1, None).cast(pl.Int64),
    )
    return replace(dataset, shop=replace(dataset.shop, events=marked))


def test_a_shop_with_labels_gets_a_model_that_finds_its_fraud(dataset: Dataset) -> None:
    marked = with_fraud(dataset)
    assert lacks_labels(marked.shop) == ""
    cases = transactions_of(marked)
    late = marked.shop.events.filter(pl.col("is_fraud").is_not_null())["time_s"].to_numpy()
    assert late[cases.part == TRAIN].max() < late[cases.part == VALID].min() <= late[cases.part == TEST].min()
    _, evidence = study(marked, replace(QUICK, n_epochs=4), lambda _: None)
    assert [row.name for row in evidence.rows] == ["additive networks", "logistic regression"]
    assert evidence.metrics()["fraud_auc"] > 0.9
    assert not any(row.is_lost for row in evidence.against)
    assert evidence.n["orders"] == cases.of(TEST).size


def test_a_shop_of_one_shopper_is_told_that_its_intervals_say_nothing(dataset: Dataset) -> None:
    marked = with_fraud(dataset)
    events = marked.shop.events.with_columns(shopper_id=pl.lit("ann"))
    said: list[str] = []
    study(replace(marked, shop=replace(marked.shop, events=events)), replace(QUICK, n_epochs=1), said.append)
    assert any("are one shopper's, so the intervals say nothing" in sentence for sentence in said)


def test_a_shop_without_labels_is_told_so(dataset: Dataset) -> None:
    assert lacks_labels(dataset.shop) == "events.is_fraud must hold 0 and 1 for a model of fraud, got none known"
    with pytest.raises(InvalidTable, match="got none known"):
        study(dataset, RECIPE, lambda _: None)
    honest = dataset.shop.events.with_columns(is_fraud=pl.lit(0, pl.Int64))
    assert "got 0 on all" in lacks_labels(replace(dataset.shop, events=honest))
