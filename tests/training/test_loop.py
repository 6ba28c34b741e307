"""The one training loop: equal for equal seeds, continued after a kill, stopped on later data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.loop import Recipe, fit, save

RECIPE = Recipe(n_epochs=6, batch=16, learning_rate=0.05, patience=6, seed=3)


class Line:
    """A Task: noisy points of a line; dropout and noise make every pass depend on its random numbers."""

    n_rows = 96

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.normal(size=(self.n_rows, 3))).float()
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5])

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=rows.size) * 0.1).float()
        return functional.mse_loss(model(self.x[rows]).squeeze(1), self.y[rows] + noise)

    def validation_loss(self, model: nn.Module) -> float:
        return float(functional.mse_loss(model(self.x).squeeze(1), self.y))


class Killed(BaseException):
    """Stands for a process that ends between two passes."""


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))


def weights_of(model: nn.Module) -> list[float]:
    return [value for parameter in model.parameters() for value in parameter.detach().flatten().tolist()]


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = fresh(), fresh(), fresh()
    fit(one, Line(), RECIPE, lambda _: None)
    fit(same, Line(), RECIPE, lambda _: None)
    fit(other, Line(), replace(RECIPE, seed=4), lambda _: None)
    assert weights_of(one) == weights_of(same) != weights_of(other)


def test_equal_seeds_give_equal_weights_on_two_threads() -> None:
    class Looked(Line):
        """Every row looks up many shared weights, so their gradients meet in one place."""

        def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
            places = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (rows.size, 20_000)))
            weights = next(model.parameters())[0]
            return super().loss(model, rows, seed) + (weights[places].sin() * torch.linspace(0, 1, 20_000)).mean()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = []
        for _ in range(3):
            model = fresh()
            fit(model, Looked(), RECIPE, lambda _: None)
            runs.append(weights_of(model))
    finally:
        torch.set_num_threads(threads)
    assert runs[0] == runs[1] == runs[2]


def test_a_killed_run_continues_to_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole, killed, continued = fresh(), fresh(), fresh()
    expected = fit(whole, Line(), RECIPE, lambda _: None)

    def kill(step: str) -> None:
        if step.startswith("pass 4"):
            raise Killed

    with pytest.raises(Killed):
        fit(killed, Line(), RECIPE, kill, tmp_path / "checkpoint.pt")
    told: list[str] = []
    found = fit(continued, Line(), RECIPE, told.append, tmp_path / "checkpoint.pt")
    assert told[0].startswith("pass 4")
    assert found.validation_losses == expected.validation_losses
    assert weights_of(continued) == weights_of(whole)


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path: Path) -> None:
    fit(fresh(), Line(), RECIPE, lambda _: None, tmp_path / "checkpoint.pt")
    told: list[str] = []
    fit(fresh(), Line(), replace(RECIPE, fingerprint="other"), told.append, tmp_path / "checkpoint.pt")
    assert told[0].startswith("pass 1")


def test_training_stops_when_later_data_stop_improving_and_keeps_the_best_pass() -> None:
    class Rising(Line):
        n_passes = 0

        def validation_loss(self, model: nn.Module) -> float:  # noqa: ARG002
            self.n_passes += 1
            return [3.0, 1.0, 2.0, 2.0, 0.0][self.n_passes - 1]

    fitted = fit(fresh(), Rising(), replace(RECIPE, patience=2), lambda _: None)
    assert fitted.validation_losses == (3.0, 1.0, 2.0, 2.0)
    assert fitted.best_epoch == 1


def test_no_pass_starts_after_the_time_is_over() -> None:
    fitted = fit(fresh(), Line(), replace(RECIPE, seconds=-1.0), lambda _: None)
    assert fitted.validation_losses == ()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    save(tmp_path / "model.pt", {"weight": torch.ones(2)})
    with pytest.raises(AttributeError):
        save(tmp_path / "model.pt", {"weight": lambda: None})
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].tolist() == [1.0, 1.0]
