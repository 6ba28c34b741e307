"""The adjustment finds a planted effect that a plain comparison gets wrong, and says where none is possible."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.features import HISTORY, N_ARMS, N_FEATURES, columns
from kernels.ledger import empty_ledger
from training.dataset import Dataset, Rows
from training.effects import Decile, EffectTask, Linear, chosen_trust, deciles_of, study
from training.loop import Recipe, fit
from training.models.uplift import Uplift
from training.overlap import overlap_of
from training.waves import OVERLAP, Waves, adjust, constant_effects, waves_of

N_SHOPPERS = 3_000
EFFECT = 12.0


@pytest.fixture(scope="module")
def chosen_shoppers() -> Waves:
    """Two waves of one arm, sent mostly to those who would have spent more anyway."""
    rng = np.random.default_rng(0)
    taste = np.tile(rng.normal(size=N_SHOPPERS), 2)
    sent = rng.uniform(size=2 * N_SHOPPERS) < 1.0 / (1.0 + np.exp(-1.5 * taste))
    spend = 100.0 + 30.0 * taste + EFFECT * sent + rng.normal(size=taste.size) * 20.0
    shopper, wave = np.tile(np.arange(N_SHOPPERS), 2), np.repeat([0, 1], N_SHOPPERS)
    order = np.lexsort((wave, shopper))
    features = np.zeros((taste.size, N_FEATURES), np.float32)
    features[:, columns().index("spend_total")] = np.expm1(taste + 4.0)
    history = np.zeros((taste.size, HISTORY), np.int32)
    whole = Waves(
        Rows(shopper, wave, features, history, empty_ledger(1)),
        wave,
        np.zeros_like(wave),
        sent,
        spend,
        taste[:, None],
        ("taste",),
    )
    return whole.take(order)


def test_a_plain_comparison_is_wrong_and_the_adjusted_effect_is_right(chosen_shoppers: Waves) -> None:
    sent = chosen_shoppers.sent
    plain = chosen_shoppers.spend[sent].mean() - chosen_shoppers.spend[~sent].mean()
    effect = constant_effects(adjust(chosen_shoppers, seed=0))[0]
    assert plain > 2 * EFFECT
    # Noise 20 over 6000 rows at overlap 0.16: a standard error near 0.65.
    assert effect == pytest.approx(EFFECT, abs=2.0)


def test_doubly_robust_scores_average_to_the_effect(chosen_shoppers: Waves) -> None:
    adjusted = adjust(chosen_shoppers, seed=0)
    scores = adjusted.scores(np.zeros(N_ARMS))
    assert scores.mean() == pytest.approx(EFFECT, abs=4.0)  # four standard errors: weights up to 50 widen them


def test_overlap_weighting_balances_those_sent_and_those_not(chosen_shoppers: Waves) -> None:
    found = overlap_of(adjust(chosen_shoppers, seed=0), 0)
    assert found.imbalances[0].before > 1.0
    assert abs(found.imbalances[0].after) < 0.1  # the usual bar for balance
    assert sum(found.sent.counts) + sum(found.unsent.counts) == 2 * N_SHOPPERS


def test_rows_without_overlap_are_left_out(chosen_shoppers: Waves) -> None:
    extreme = replace(chosen_shoppers, sent=chosen_shoppers.covariates[:, 0] > 0.5)
    adjusted = adjust(extreme, seed=0)
    assert adjusted.propensity.size < 0.6 * extreme.sent.size
    assert OVERLAP[0] < adjusted.propensity.min() <= adjusted.propensity.max() < OVERLAP[1]


def test_an_arm_that_was_never_sent_has_no_effect(chosen_shoppers: Waves) -> None:
    assert constant_effects(adjust(chosen_shoppers, seed=0))[1:].tolist() == [0.0] * (N_ARMS - 1)
    assert Uplift().effects(torch.rand(2, N_FEATURES))[0].abs().max() == 0.0


def test_the_linear_rival_finds_a_planted_difference(chosen_shoppers: Waves) -> None:
    taste = chosen_shoppers.covariates[:, 0]
    varied = replace(chosen_shoppers, spend=chosen_shoppers.spend + 10.0 * taste * chosen_shoppers.sent)
    effects = Linear(adjust(varied, seed=0))(varied)
    assert np.corrcoef(effects, taste)[0, 1] > 0.9


@pytest.mark.parametrize(("difference", "is_trusted"), [(12.0, True), (0.0, False)])
def test_differences_between_shoppers_are_trusted_only_beyond_noise(
    chosen_shoppers: Waves, difference: float, is_trusted: bool
) -> None:
    taste = chosen_shoppers.covariates[:, 0]
    varied = replace(chosen_shoppers, spend=chosen_shoppers.spend + difference * taste * chosen_shoppers.sent)
    early, late = (adjust(varied.take(np.flatnonzero(varied.wave == wave)), seed=wave) for wave in (0, 1))
    torch.manual_seed(0)
    model = Uplift()
    model.standard.learn(torch.from_numpy(early.waves.rows.features))
    fit(model, EffectTask(early, early, 0), Recipe(n_epochs=20, batch=256, learning_rate=1e-2), lambda _: None)
    assert (chosen_trust(model, early, late)[0] > 0) == is_trusted


def test_deciles_put_the_largest_predicted_effect_first(chosen_shoppers: Waves) -> None:
    adjusted = adjust(chosen_shoppers, seed=0)
    deciles = deciles_of(adjusted, adjusted.waves.covariates[:, 0], np.zeros(N_ARMS), 0)
    assert len(deciles) == 10
    assert deciles == sorted(deciles, key=lambda tenth: -tenth.predicted)
    assert all(isinstance(tenth, Decile) and tenth.lower < tenth.observed < tenth.upper for tenth in deciles)


def test_waves_hold_every_known_shopper_once_and_who_was_sent(dataset: Dataset) -> None:
    waves = waves_of(dataset)
    assert waves is not None
    assert np.unique(np.column_stack([waves.wave, waves.rows.shopper]), axis=0).shape[0] == waves.sent.size
    # Half of the little shop's shoppers were sent each campaign, at random.
    assert waves.sent.mean() == pytest.approx(0.5, abs=0.1)
    assert set(waves.arm.tolist()) == {0, 1, 2}


def test_a_shop_whose_arms_are_doses_is_never_told_that_a_larger_one_adds_less(dataset: Dataset) -> None:
    arms = [arm for arm in dataset.vocabulary.arms if arm]
    recipe = Recipe(n_epochs=1, batch=256, learning_rate=1e-2)
    module, found = study(dataset, recipe, lambda _: None, None, doses=[arms[::-1]])
    places = [dataset.vocabulary.arms.index(arm) for arm in arms[::-1]]
    module.trust.fill_(0.7)
    features = torch.from_numpy(np.random.default_rng(0).uniform(0.0, 1e4, (200, N_FEATURES)).astype(np.float32))
    effect, error = module.effects(features)
    assert (effect[:, places].diff(dim=1) >= 0).all()
    assert (effect[:, places[0]] >= 0).all()
    assert torch.isfinite(error).all()
    assert set(found.constants) == set(arms)
