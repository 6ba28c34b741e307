"""Training writes three models and their evidence, the same for the same seed, and continues where it was killed."""

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import polars as pl
import pytest
import torch

from kernels.features import columns
from training import effects
from training.dataset import dataset_of
from training.evidence import Difference, Figure, shopper_weights
from training.fit import MODELS, RECIPES, TrainReport, train
from training.sources.tables import InvalidTable, Shop
from training.studies import SOMETIMES

Trained = tuple[Path, TrainReport]
# The little shop knows no fraud and no reviews, and the lines of its orders come in no order.
LEARNED = tuple(model for model in MODELS if model not in SOMETIMES)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def test_every_model_stands_in_the_evidence_beside_its_rivals(trained: Trained) -> None:
    told = orjson.loads((trained[0] / "evaluation.json").read_bytes())
    assert tuple(told["models"]) == LEARNED
    for model in told["models"]:
        found = told["models"][model]
        # The little shop's last campaign ends before the test window, so nothing can judge response and uplift.
        assert len(found["rows"]) >= 2 or "to judge on" in found["notes"][0]
        assert {row["rival"] for row in found["against"]} == {row["name"] for row in found["rows"][1:]}
    assert set(told["overlap"]) == {"A", "B", "C"}
    assert told["features"]["n_orders"]["counts"]


def test_equal_seeds_give_equal_weights(trained: Trained, shop_folder: Path, tmp_path: Path) -> None:
    train(shop_folder, tmp_path, lambda _: None, quick=True)
    for model in LEARNED:
        first, again = weights_of(trained[0] / model), weights_of(tmp_path / model)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_killed_run_continues_to_the_same_weights(trained: Trained, shop_folder: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step.startswith("behaviour: pass 2"):
            raise Killed

    with pytest.raises(Killed):
        train(shop_folder, tmp_path, kill, quick=True, models=("behaviour",))
    assert not (tmp_path / "behaviour" / "model.pt").exists()
    told: list[str] = []
    train(shop_folder, tmp_path, told.append, quick=True, models=("behaviour",))
    assert [step for step in told if step.startswith("behaviour: pass 1")] == []
    first, again = weights_of(trained[0] / "behaviour"), weights_of(tmp_path / "behaviour")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not (tmp_path / "behaviour" / "checkpoint.pt").exists()


def test_training_one_model_leaves_the_evidence_of_the_others(
    trained: Trained, shop_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "evaluation.json").write_bytes((trained[0] / "evaluation.json").read_bytes())
    train(shop_folder, tmp_path, lambda _: None, quick=True, models=("uplift",))
    assert set(orjson.loads((tmp_path / "evaluation.json").read_bytes())["models"]) == set(LEARNED)


def test_a_shop_that_never_sent_anything_gets_models_without_effects(shop: Shop, tmp_path: Path) -> None:
    silent = replace(shop, offers=shop.offers.clear(), exposures=shop.exposures.clear(), outcomes=shop.outcomes.clear())
    dataset = dataset_of(silent)
    module, found = effects.study(dataset, replace(RECIPES["uplift"], n_epochs=1), lambda _: None, None)
    effect, error = module.effects(torch.zeros(1, len(columns())))
    assert effect.tolist() == error.tolist() == [[0.0] * 4]
    assert found.evidence.notes == ("no campaign was sent to enough shoppers: every effect is 0",)


def test_a_shop_where_nothing_is_bought_is_refused_and_nothing_is_written(shop_folder: Path, tmp_path: Path) -> None:
    idle = tmp_path / "idle"
    shutil.copytree(shop_folder, idle)
    events = pl.read_parquet(idle / "events.parquet")
    events.with_columns(kind=pl.lit("view")).write_parquet(idle / "events.parquet")
    with pytest.raises(InvalidTable, match="no shopper ever buys anything"):
        train(idle, tmp_path / "models", lambda _: None, quick=True)
    assert not (tmp_path / "models").exists()


def test_bootstrap_draws_whole_shoppers() -> None:
    weights = shopper_weights(torch.tensor([4, 4, 4, 7, 9]).numpy(), n_replicates=50)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, [0, 3, 4]].sum(axis=1) == 3).all()


def test_a_model_that_loses_beyond_noise_says_so() -> None:
    assert Difference("rival", "recall", Figure(-0.1, -0.2, -0.05)).is_lost
    assert not Difference("rival", "recall", Figure(-0.1, -0.2, 0.05)).is_lost
