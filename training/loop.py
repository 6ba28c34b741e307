"""The one training loop: deterministic for a seed, stops early on later data, and continues after a kill.

In: a module and a task that knows its losses. Out: the module with its best weights. Called by every study.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Rows = NDArray[np.int64]
Progress = Callable[[str], None]


class Task(Protocol):
    """What is learned: a loss over some training rows, and one number over later rows that says when to stop."""

    n_rows: int

    def loss(self, model: nn.Module, rows: Rows, seed: int) -> Tensor:
        """Mean loss of some training rows; whatever it samples, it samples from `seed`."""

    def validation_loss(self, model: nn.Module) -> float:
        """Loss on the validation window, the model in eval mode, no gradients."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    n_epochs       most passes over the rows; the learning rate falls in a line to a fiftieth over all of them
    patience       passes without a better validation loss before stopping
    seconds        no further pass starts after this; only a machine far slower than the tables' ever meets it
    fingerprint    of the data: a checkpoint of other data is not continued
    """

    n_epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0
    patience: int = 2
    seed: int = 0
    seconds: float = 600.0
    fingerprint: str = ""


@dataclass(frozen=True)
class Fitted:
    """What a training run was.

    validation_losses  after each pass
    seconds            wall time, of this process only
    """

    validation_losses: tuple[float, ...]
    seconds: float

    @property
    def best_epoch(self) -> int:
        """The pass whose weights were kept, from 0."""
        return int(np.argmin(self.validation_losses))


class _Checkpoint(TypedDict):
    recipe: dict[str, float | str]
    losses: list[float]
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, object]


def fit(model: nn.Module, task: Task, recipe: Recipe, progress: Progress, checkpoint: Path | None = None) -> Fitted:
    """Train a module in place and leave it with the weights of its best pass.

    model       its initial weights count: seed before building it
    checkpoint  file kept after every pass and continued if it is of the same recipe; removed when done
    """
    started = time.monotonic()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    losses, best = _resume(model, optimiser, recipe, checkpoint)
    while len(losses) < recipe.n_epochs and _is_improving(losses, recipe.patience):
        if time.monotonic() - started > recipe.seconds:
            progress(f"stopped after {len(losses)} passes: {recipe.seconds:.0f} s are over")
            break
        _one_pass(model, task, recipe, optimiser, len(losses))
        model.eval()
        with torch.no_grad():
            losses.append(task.validation_loss(model))
        if losses[-1] <= min(losses):
            best = {name: value.clone() for name, value in model.state_dict().items()}
        progress(f"pass {len(losses)} of at most {recipe.n_epochs}: validation loss {losses[-1]:.4f}")
        if checkpoint is not None:
            kept = _Checkpoint(
                recipe=asdict(recipe),
                losses=losses,
                model=model.state_dict(),
                best=best,
                optimiser=optimiser.state_dict(),
            )
            save(checkpoint, kept)
    model.load_state_dict(best)
    model.eval()
    return Fitted(tuple(losses), time.monotonic() - started)


def save(file: Path, content: object) -> None:
    """Write with torch.save so that a reader sees the old file or the new one, never half.

    file     its folder is made
    content  tensors, and containers of them
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".writing")
    torch.save(content, fresh)
    fresh.replace(file)


def _resume(
    model: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, checkpoint: Path | None
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses so far and the best weights; a checkpoint of another recipe or data is as if it were not there."""
    if checkpoint is not None and checkpoint.exists():
        kept = cast(_Checkpoint, torch.load(checkpoint, weights_only=True))
        if kept["recipe"] == asdict(recipe):
            model.load_state_dict(kept["model"])
            optimiser.load_state_dict(kept["optimiser"])
            return list(kept["losses"]), kept["best"]
    return [], {name: value.clone() for name, value in model.state_dict().items()}


@contextmanager
def _repeatable() -> Iterator[None]:
    """Sums in one order: on two threads torch otherwise adds the gradients of an indexed weight as they come.

    Test: test_equal_seeds_give_equal_weights_on_two_threads.
    """
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def _is_improving(losses: list[float], patience: int) -> bool:
    return not losses or len(losses) - 1 - int(np.argmin(losses)) < patience


def _one_pass(model: nn.Module, task: Task, recipe: Recipe, optimiser: torch.optim.Optimizer, epoch: int) -> None:
    # Order, dropout and samples depend on seed and pass alone, so a continued run equals one that was never killed.
    order = np.random.default_rng((recipe.seed, epoch)).permutation(task.n_rows)
    n_steps = -(-task.n_rows // recipe.batch)
    model.train()
    with torch.random.fork_rng(devices=[]), _repeatable():
        torch.manual_seed(recipe.seed * 1_000 + epoch)
        for step in range(n_steps):
            done = (epoch * n_steps + step) / (recipe.n_epochs * n_steps)
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * max(0.02, 1.0 - done)
            rows = order[step * recipe.batch : (step + 1) * recipe.batch]
            loss = task.loss(model, rows, recipe.seed * 1_000_000 + epoch * n_steps + step)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
