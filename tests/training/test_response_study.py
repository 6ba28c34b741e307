"""The response study: what is learned from a log of mailings, what it refuses, and what it says of too little."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kernels import metrics
from kernels.checks import InvalidInput
from kernels.features import N_FEATURES, N_OFFER_GROUPS
from training import answers, labels
from training.answering import Actions, Cases, Plan, Windows, fit_response, in_linear_parts, served
from training.dataset import Dataset, dataset_of
from training.loop import Recipe
from training.models.response import BOUGHT, CLICKED, N_CHANCES, REDEEMED, Response
from training.sources.tables import Shop
from training.tensors import VECTOR_WIDTH

N_ACTIONS, WIDTH = 3, 6
QUICK = Recipe(n_epochs=2, batch=256, learning_rate=1e-3)


def silent(_: str) -> None:
    pass


def log_of(n: int, seed: int) -> Cases:
    """Two features whose product, and nothing else, decides who redeems; the last shopper's vector adds to it."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(n, WIDTH)).astype(np.float32)
    vectors = draw.normal(size=(n, VECTOR_WIDTH)).astype(np.float32)
    sent = draw.random((n, N_ACTIONS)) < 0.8
    log_odds = -1.5 + 2.0 * np.sign(features[:, 0] * features[:, 1])[:, None] + 0.5 * np.arange(N_ACTIONS)
    redeemed = draw.random((n, N_ACTIONS)) < 1.0 / (1.0 + np.exp(-log_odds))
    bought = redeemed | (draw.random((n, N_ACTIONS)) < 0.3)
    spend = (bought * np.exp(draw.normal(1.0 + 0.5 * features[:, 2:3], 0.5, (n, N_ACTIONS)))).astype(np.float32)
    happened = np.stack([np.zeros_like(sent), redeemed, bought])
    return Cases(np.arange(n) % 500, np.arange(n), features, vectors, sent, happened, spend)


@pytest.fixture(scope="module")
def planted() -> tuple[Response, Response, Cases]:
    """Ours and the linear rival, and cases that neither has seen."""
    early, late, test = (log_of(n, seed) for seed, n in enumerate((4_000, 2_500, 3_000)))
    both = Cases(*(np.concatenate(pair, axis=1 if place == 5 else 0) for place, pair in enumerate(
        zip(vars(early).values(), vars(late).values(), strict=True))))  # fmt: skip
    windows = Windows(early, late, both)
    plan = Plan((0.0, 1.0, 0.3, 0.1), Recipe(n_epochs=9, batch=250, learning_rate=2e-2))
    torch.manual_seed(0)
    ours = Response(Actions(np.array([[3], [4], [-1]]), np.arange(WIDTH)), WIDTH)
    fit_response(ours, windows, plan, silent)
    return ours, in_linear_parts(ours, windows, plan), test


def test_ours_finds_a_product_of_features_that_the_linear_rival_cannot(
    planted: tuple[Response, Response, Cases],
) -> None:
    ours, linear, test = planted
    happened = test.happened[REDEEMED][test.sent]
    areas = [roc_auc_score(happened, served(model, test)[0][test.sent]) for model in (ours, linear)]
    # The best there is would be about .78, the actions alone .57: far more than a bootstrap of 7,000 pairs moves.
    assert areas[0] > areas[1] + 0.1


def test_what_is_served_is_calibrated(planted: tuple[Response, Response, Cases]) -> None:
    ours, _, test = planted
    redeem, buy, _, spend, error = served(ours, test)
    for said, chance in ((redeem, REDEEMED), (buy, BOUGHT)):
        # A perfect model of 7,000 pairs in 15 bins has an error of about .02.
        assert metrics.calibration_error(said[test.sent], test.happened[chance][test.sent]) < 0.05
    assert spend[test.sent].mean() == pytest.approx(float(test.spend[test.sent].mean()), rel=0.15)
    assert 0.0 < error.mean() < 0.2


def test_the_study_compares_on_the_same_shoppers_and_a_loser_is_seen(planted: tuple[Response, Response, Cases]) -> None:
    ours, _, test = planted
    plan = Plan((0.0, 1.0, 0.3, 0.1), QUICK)
    wide = replace(test, features=np.zeros((len(test), N_FEATURES), np.float32))
    good = answers.by_chance(served(ours, test))
    noise = np.random.default_rng(0).random(good.shape)
    found = answers.evidence_of(wide, {"noise": noise, "good": good}, plan)
    lost = {row.figure for row in found.against if row.is_lost}
    assert {"redeem_auc", "buy_auc", "minus_spend_error"} <= lost
    kept = answers.evidence_of(wide, {"good": good, "noise": noise}, plan)
    assert not any(row.is_lost for row in kept.against)


def test_nothing_later_teaches_what_earlier_says(dataset: Dataset) -> None:
    asked = answers.answers_of(dataset, *dataset.weekly())
    windows = asked.windows()
    assert windows is not None
    until_s = dataset.splits.valid_until_s
    assert (windows.everything.at_s + labels.REDEEM_HORIZON_S <= until_s).all()
    assert (windows.early.at_s.max() + labels.REDEEM_HORIZON_S) <= windows.late.at_s.min()
    assert not len(asked.test()) or asked.test().at_s.min() >= until_s
    assert asked.cases.sent.any(axis=1).all()


def test_a_shop_that_sent_nothing_gets_a_model_that_says_nothing(shop: Shop) -> None:
    quiet = replace(shop, offers=shop.offers.clear(), exposures=shop.exposures.clear(), outcomes=shop.outcomes.clear())
    dataset, told = dataset_of(quiet), list[str]()
    module, found = answers.study(dataset, answers.answers_of(dataset, *dataset.weekly()), QUICK, told.append, None)
    assert found.notes == ("no offer was sent before the test window",)
    assert told == ["response: no offer was sent and seen to its end before the test window: every answer is 0"]
    said = module.calibrated(module(torch.rand(2, N_FEATURES), torch.zeros(2, VECTOR_WIDTH)))
    assert all((answer == 0).all() for answer in said)
    assert said[0].shape == (2, N_OFFER_GROUPS)


def test_a_shop_where_nobody_redeems_is_told_so_and_still_learns_who_buys(shop: Shop) -> None:
    dataset, told = dataset_of(replace(shop, outcomes=shop.outcomes.clear())), list[str]()
    asked = answers.answers_of(dataset, *dataset.weekly())
    module, _ = answers.study(dataset, asked, QUICK, told.append, None)
    assert "response: nobody redeemed an offer in the training window: redeem_prob is 0" in told
    redeem, buy, click, _, _ = served(module, asked.cases)
    assert redeem.max() == click.max() == 0.0
    named = [place for place, name in enumerate(asked.groups) if name]
    assert (buy[:, named] > 0.0).all()


def test_a_feature_that_equals_a_redemption_is_named(dataset: Dataset) -> None:
    rows, grid = dataset.weekly()
    asked = answers.answers_of(dataset, rows, grid)
    week = np.searchsorted(grid, rows.at_s)
    leaking = rows.features.copy()
    group = int(asked.cases.happened[REDEEMED].sum(axis=0).argmax())
    leaking[:, 4] = labels.redeemed_groups(dataset, grid)[rows.shopper, week, group]
    with pytest.raises(InvalidInput, match="must not equal the label redeems"):
        answers.answers_of(dataset, replace(rows, features=leaking), grid)


def test_equal_seeds_give_equal_answers_and_a_killed_fit_continues(tmp_path: Path) -> None:
    early, late = log_of(600, 0), log_of(400, 1)
    windows, plan = Windows(early, late, early), Plan((0.0, 1.0, 0.3, 0.1), QUICK)

    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step.startswith("pass 1"):
            raise Killed

    def fresh() -> Response:
        torch.manual_seed(0)
        return Response(Actions(np.array([[3], [4], [-1]]), np.arange(WIDTH)), WIDTH)

    whole, again = fresh(), fresh()
    fit_response(whole, windows, plan, silent)
    with pytest.raises(Killed):
        fit_response(fresh(), windows, plan, kill, tmp_path / "checkpoint.pt")
    told: list[str] = []
    fit_response(again, windows, plan, told.append, tmp_path / "checkpoint.pt")
    assert not any(step.startswith("earlier window, pass") for step in told)
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in again.state_dict().items())


def test_a_log_of_clicks_alone_teaches_clicks() -> None:
    early, late = log_of(800, 0), log_of(800, 1)
    early, late = (
        replace(part, happened=np.stack([part.happened[REDEEMED], *np.zeros((N_CHANCES - 1, *part.sent.shape), bool)]))
        for part in (early, late)
    )
    torch.manual_seed(0)
    model = Response(Actions(np.array([[3], [4], [-1]]), np.arange(WIDTH)), WIDTH)
    fit_response(model, Windows(early, late, early), Plan((1.0, 0.0, 0.0, 0.0), QUICK), silent)
    click = served(model, late)[2]
    # 2,000 pairs: a share's standard error is .01
    assert click[late.sent].mean() == pytest.approx(late.happened[CLICKED][late.sent].mean(), abs=0.05)
