"""Small tasks for the training loop, and the same tasks in processes that a test starts, stops or kills.

In: `python -m tests.training.lines SCENARIO FOLDER`, under torchrun or alone. Out: what each process ended with.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.loop import Recipe, fit
from training.workers import place

RECIPE = Recipe(n_epochs=6, batch=16, learning_rate=0.05, patience=6, seed=3)
# 113 rows in batches of 16: the last has one row, so a second worker has none of it.
N_ROWS = 113
# The seed of the second step of the fourth pass.
FOURTH_PASS = RECIPE.seed * 1_000_000 + 3 * 8 + 1


class Stopped(BaseException):
    """Stands for a process that ends in the middle of a pass."""


class Line:
    """A Task: points of a line, with noise that is drawn anew for every batch.

    noise  its standard deviation
    """

    n_rows = N_ROWS

    def __init__(self, noise: float = 0.1) -> None:
        rng = np.random.default_rng(0)
        self.noise = noise
        self.x = torch.from_numpy(rng.normal(size=(self.n_rows, 3))).float()
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5])

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
        """Squared error."""
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=rows.size) * self.noise).float()
        return functional.mse_loss(model(self.x[rows]).squeeze(1), self.y[rows] + noise)

    def validation_loss(self, model: nn.Module) -> float:
        """Squared error over all points."""
        return functional.mse_loss(model(self.x).squeeze(1), self.y).item()


class Interrupted(Line):
    """Stops in the middle of the fourth pass: by an exception, or by waiting for a word that never comes."""

    def __init__(self, *, is_waiting: bool) -> None:
        super().__init__()
        self.is_waiting = is_waiting

    def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
        """As Line.loss, up to the fourth pass."""
        if seed == FOURTH_PASS:
            if not self.is_waiting:
                raise Stopped
            _say("in the fourth pass")
            sys.stdin.read()
        return super().loss(model, rows, seed)


class Rising(Line):
    """Its validation losses are a list; training is as in Line."""

    LOSSES = (3.0, 1.0, 2.0, 2.0, 0.0)

    def __init__(self) -> None:
        super().__init__()
        self.n_passes = 0

    def validation_loss(self, model: nn.Module) -> float:  # noqa: ARG002 - the losses are given
        """The next of LOSSES."""
        self.n_passes += 1
        return self.LOSSES[self.n_passes - 1]


class Counting(nn.Module):
    """A net with what a module may hold beside weights: buffers of several types, and a weight that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 8), nn.Linear(8, 1)
        self.norm = nn.BatchNorm1d(8)
        self.spare = nn.Parameter(torch.ones(4))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Batch norm and the rest."""
        return self.outer(self.norm(self.inner(x)))


def fresh(dropout: float = 0.3, seed: int = 0) -> nn.Module:
    """A small net, its weights drawn from a seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def weights_of(model: nn.Module) -> list[float]:
    """All weights and buffers in one list."""
    return [value for tensor in model.state_dict().values() for value in tensor.flatten().tolist()]


def _workers(folder: Path) -> None:
    """Everything that two workers must agree on; each starts from other weights, and only the first's count."""
    told: list[str] = []
    exact, noisy, stopped, counting = (fresh(0.0, place()), fresh(0.3, place()), fresh(0.3, place()), Counting())
    fitted = fit(exact, Line(0.0), RECIPE, told.append)
    fit(noisy, Line(), RECIPE, lambda _: None)
    try:
        fit(stopped, Interrupted(is_waiting=False), RECIPE, lambda _: None, folder / "checkpoint.pt")
    except Stopped:
        stopped = fresh(0.3, seed=9)
        fit(stopped, Line(), RECIPE, lambda _: None, folder / "checkpoint.pt")
    rising = fit(fresh(), Rising(), replace(RECIPE, patience=2), lambda _: None)
    fit(counting, Line(), replace(RECIPE, batch=64, n_epochs=2), lambda _: None)
    late = fit(fresh(), Line(), replace(RECIPE, seconds=-1.0), lambda _: None)
    found = {
        "told": told,
        "losses": fitted.validation_losses,
        "rising": rising.validation_losses,
        "late": late.validation_losses,
        "exact": weights_of(exact),
        "noisy": weights_of(noisy),
        "stopped": weights_of(stopped),
        "counting": weights_of(counting),
        "spare": counting.spare.tolist(),
    }
    torch.save(found, folder / f"worker_{place()}.pt")


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _killed(folder: Path) -> None:
    fit(fresh(), Interrupted(is_waiting=True), RECIPE, _say, folder / "checkpoint.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"workers": _workers, "killed": _killed}[sys.argv[1]](Path(sys.argv[2]))
