"""The one training loop: deterministic for a seed, stops early on later data, and continues after a kill.

In: a module and a task that knows its losses. Out: the module with its best weights. Called by every study. On a GPU it
trains in half precision; under torchrun its workers train as one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.checks import check
from training import workers
from training.devices import (
    chosen_device,
    chosen_precision,
    device_of,
    following,
    in_precision,
    on_one_thread,
    repeatable,
)

Rows = NDArray[np.int64]
Progress = Callable[[str], None]
# A pass that lasts longer says in between how far it is.
SILENT_S = 15.0


class Task(Protocol):
    """What is learned: a loss over some training rows, and one number over later rows that says when to stop.

    Its tensors stay on the CPU: on a GPU, those of a batch follow the module. Under torchrun `loss` is asked for a
    worker's share of a batch with the same seed on every worker, so what is sampled for a whole batch is the same for
    all; `validation_loss` is asked of the first worker alone.
    """

    n_rows: int

    def loss(self, model: nn.Module, rows: Rows, seed: int) -> Tensor:
        """Mean loss of some training rows; whatever it samples, it samples from `seed`."""

    def validation_loss(self, model: nn.Module) -> float:
        """Loss on the validation window, the model in eval mode, no gradients."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    n_epochs       most passes over the rows; the learning rate falls in a line to a fiftieth over all of them
    batch          rows of a step, of all workers together
    patience       passes without a better validation loss before stopping
    seconds        no further pass starts after this; only a machine far slower than the tables' ever meets it
    fingerprint    of the data: a checkpoint of other data is not continued
    device         "auto": a GPU where there is one; else torch's name of a device
    precision      of products in the forward pass; "auto": half on a GPU, else float32; else one of devices.PRECISIONS
    """

    n_epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0
    patience: int = 2
    seed: int = 0
    seconds: float = 600.0
    fingerprint: str = ""
    device: str = "auto"
    precision: str = "auto"


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
    scaler: dict[str, object]


def fit(model: nn.Module, task: Task, recipe: Recipe, progress: Progress, checkpoint: Path | None = None) -> Fitted:
    """Train a module in place and leave it where it was, in eval mode, with the weights of its best pass.

    model       its initial weights count: seed before building it
    progress    told of every pass, by the first worker only
    checkpoint  file kept after every pass and continued if it is of the same recipe; the caller removes it
    raises      InvalidInput  if the loss is no longer a number
    """
    workers.meet()
    came_from = device_of(model)
    told = progress if workers.is_first_worker() else _silent
    run = _Run(model, task, recipe, told)
    run.resume(checkpoint)
    while len(run.losses) < recipe.n_epochs and _is_improving(run.losses, recipe.patience):
        if workers.said_by_first(run.elapsed_s()) > recipe.seconds:
            told(f"stopped after {len(run.losses)} passes: {recipe.seconds:.0f} s are over")
            break
        run.one_pass()
        run.keep(checkpoint)
    model.load_state_dict(run.best)
    model.to(came_from)
    model.eval()
    return Fitted(tuple(run.losses), run.elapsed_s())


def save(file: Path, content: object) -> None:
    """Write with torch.save so that a reader sees the old file or the new one, never half; the first worker does it.

    file     its folder is made
    content  tensors, and containers of them
    """
    if workers.is_first_worker():
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".writing")
        torch.save(content, fresh)
        fresh.replace(file)


class _Run:
    """A training under way.

    losses  validation loss after each pass
    best    weights of the best pass, on the CPU
    """

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, told: Progress) -> None:
        self.model, self.task, self.recipe, self.told = model, task, recipe, told
        self.device = chosen_device(recipe.device)
        self.precision = chosen_precision(recipe.precision, self.device)
        self.model.to(self.device)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        # Gradients of half floats vanish below 6e-8 unless the loss is scaled up; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.name = asdict(recipe) | {"precision": str(self.precision)}
        self.losses: list[float] = []
        self.n_before = 0
        self.started = self.said_at = time.monotonic()
        self.best: dict[str, Tensor] = {}

    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def resume(self, checkpoint: Path | None) -> None:
        """Take up what the first worker kept; a checkpoint of another recipe or data is as if it were not there."""
        kept: _Checkpoint | None = None
        if workers.is_first_worker() and checkpoint is not None and checkpoint.exists():
            kept = cast(_Checkpoint, torch.load(checkpoint, weights_only=True, map_location="cpu"))
        kept = workers.said_by_first(kept)
        if kept is not None and kept["recipe"] == self.name:
            self.model.load_state_dict(kept["model"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.scaler.load_state_dict(kept["scaler"])
            self.losses, self.best = list(kept["losses"]), kept["best"]
            self.n_before = len(self.losses)
        else:
            workers.take_weights_of_first(self.model)
            self.best = _weights(self.model)

    def keep(self, checkpoint: Path | None) -> None:
        """Write all that `resume` needs."""
        if checkpoint is not None:
            kept = _Checkpoint(
                recipe=self.name,
                losses=self.losses,
                model=self.model.state_dict(),
                best=self.best,
                optimiser=self.optimiser.state_dict(),
                scaler=self.scaler.state_dict(),
            )
            save(checkpoint, kept)

    def one_pass(self) -> None:
        """See every training row once, then judge on the validation window."""
        epoch = len(self.losses)
        on_one_thread()
        training_loss = self._learn(epoch)
        workers.take_weights_of_first(self.model)
        self.model.eval()
        loss = math.nan
        if workers.is_first_worker():
            with torch.no_grad(), following(self.device):
                loss = self.task.validation_loss(self.model)
        loss = workers.said_by_first(loss)
        name = f"pass {epoch + 1} of at most {self.recipe.n_epochs}"
        check(
            math.isfinite(loss) and math.isfinite(training_loss),
            f"loss must be finite, got {training_loss} in training and {loss} in validation ({name}, learning rate "
            f"{self.recipe.learning_rate:g})",
        )
        self.losses.append(loss)
        if loss <= min(self.losses):
            self.best = _weights(self.model)
        self._say(f"{name}: training loss {training_loss:.4f}, validation loss {loss:.4f}", epoch + 1)

    def _learn(self, epoch: int) -> float:
        """Take the steps of one pass; returns the mean training loss."""
        task, recipe = self.task, self.recipe
        # Order, dropout and samples depend on seed and pass alone, so a continued run equals one that was never killed.
        order = np.random.default_rng((recipe.seed, epoch)).permutation(task.n_rows)
        n_steps = -(-task.n_rows // recipe.batch)
        summed = torch.zeros((), device=self.device)
        self.model.train()
        with repeatable(self.device):
            # Workers hold other rows, so their dropout is another too.
            torch.manual_seed(recipe.seed * 1_000 + epoch + 1_000_003 * workers.place())
            for step in range(n_steps):
                done = (epoch * n_steps + step) / (recipe.n_epochs * n_steps)
                for group in self.optimiser.param_groups:
                    group["lr"] = recipe.learning_rate * max(0.02, 1.0 - done)
                rows = order[step * recipe.batch : (step + 1) * recipe.batch]
                summed += self._step(rows, recipe.seed * 1_000_000 + epoch * n_steps + step)
                if time.monotonic() - self.said_at > SILENT_S:
                    part = (step + 1) / n_steps
                    self._say(f"pass {epoch + 1} of at most {recipe.n_epochs}, {part:.0%} of it", epoch + part)
        return workers.total(summed.item()) / max(task.n_rows, 1)

    def _step(self, rows: Rows, seed: int) -> Tensor:
        """Learn from one batch; returns the loss summed over this worker's share of it."""
        share = workers.share_of(rows)
        self.optimiser.zero_grad()
        summed = torch.zeros((), device=self.device)
        if share.size:
            with in_precision(self.device, self.precision), following(self.device):
                loss = self.task.loss(self.model, share, seed)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            summed = loss.detach().float() * share.size
        workers.add_up_gradients(self.model.parameters(), share.size / rows.size)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return summed

    def _say(self, sentence: str, n_done: float) -> None:
        """Tell progress with the time that all passes would still take; stopping early takes less."""
        self.said_at = time.monotonic()
        a_pass = self.elapsed_s() / max(n_done - self.n_before, 1e-9)
        # No pass starts once the recipe's seconds are over, so at most the one that is under way then is still to come.
        left = min(a_pass * (self.recipe.n_epochs - n_done), self.recipe.seconds + a_pass - self.elapsed_s())
        self.told(f"{sentence}, {_spoken(max(left, 0.0))} left at most")


def _silent(sentence: str) -> None:
    """Say nothing: the first worker speaks for all."""


def _spoken(seconds: float) -> str:
    for unit, length, most in (("s", 1, 120), ("min", 60, 7_200)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 3_600:.1f} h"


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def _is_improving(losses: list[float], patience: int) -> bool:
    return not losses or len(losses) - 1 - int(np.argmin(losses)) < patience
