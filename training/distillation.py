"""The study of heads: one small net learns what the large ones say, and is judged beside them by what happened.

In: a Dataset, the encoder's vectors and the trained teachers. Out: a fitted Heads and its evidence. Called by
training/fit.py; training/gate.py holds what is found against its tolerances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor, nn

from kernels import metrics
from training.answering import Cases
from training.dataset import TEST, TRAIN, VALID, WEEK_S, Dataset, Rows
from training.evidence import Evidence, compared, shopper_weights
from training.gate import TEACHERS
from training.labels import bought_categories
from training.loop import Progress, Recipe, fit
from training.models import response, tags, uplift
from training.models.heads import WIDTHS, Heads, Told, heads_loss
from training.models.response import REDEEMED
from training.multilabel import Truth, areas_of, ranking_figures

# Passes, batch and rate were chosen on the validation window (LOG.md).
RECIPE = Recipe(n_epochs=20, batch=512, learning_rate=4e-3, weight_decay=1e-4, patience=20)
OURS, LINEAR = "heads", "linear student"
# Fewer than other studies draw: three models of as many labels as tags has would take longer than the training.
N_REPLICATES = 50
BATCH = 4_096
LEAST_PROB = 1e-7

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Teachers(nn.Module):
    """The large models, asked at once."""

    def __init__(self, tags_: tags.Tags, response_: response.Response, uplift_: uplift.Uplift) -> None:
        super().__init__()
        self.tags, self.response, self.uplift = tags_, response_, uplift_
        self.eval()

    def told(self, features: Tensor, vector: Tensor) -> Told:
        """What they serve; see Heads.told."""
        category_prob, _ = self.tags.probabilities(features, vector)
        redeem_prob, _, _, _, error = self.response.calibrated(self.response(features, vector))
        return Told(category_prob, redeem_prob, error, *self.uplift.effects(features))


def told_by(model: Teachers | Heads, features: NDArray[np.float32], vectors: NDArray[np.float32]) -> Told:
    """What a model says of many rows, in batches that fit a cache.

    features  (n, N_FEATURES) float32
    vectors   (n, VECTOR_WIDTH) float32
    """
    parts = []
    with torch.no_grad():
        for first in range(0, max(len(features), 1), BATCH):
            batch = (torch.from_numpy(part[first : first + BATCH]) for part in (features, vectors))
            parts.append(model.told(*batch))
    return Told(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Told.__annotations__})


@dataclass(frozen=True)
class Lessons:
    """Every shopper-week with what the teachers say of it, and what is known of the test window.

    part      (n,) int8                 the window that holds the week
    features  (n, N_FEATURES) float32
    vectors   (n, VECTOR_WIDTH) float32
    taught    (n, ...)
    bought    (n, N_CATEGORIES) bool    categories bought within the week
    """

    shopper: Ints
    part: NDArray[np.int8]
    features: NDArray[np.float32]
    vectors: NDArray[np.float32]
    taught: Told
    bought: Bools

    def of(self, part: int) -> Ints:
        """Rows of a window."""
        return np.flatnonzero(self.part == part)


def lessons_of(dataset: Dataset, rows: Rows, grid: Ints, vectors: NDArray[np.float32], teachers: Teachers) -> Lessons:
    """Ask the teachers about every shopper-week.

    rows, grid  from Dataset.weekly
    vectors     (n, VECTOR_WIDTH) float32  of the rows
    """
    part = dataset.splits.part(rows.at_s, WEEK_S)
    taught = told_by(teachers, rows.features, vectors)
    bought = bought_categories(dataset, grid)[rows.shopper, np.searchsorted(grid, rows.at_s)]
    return Lessons(rows.shopper, part, rows.features, vectors, taught, bought)


class HeadsTask:
    """The Task: heads_loss on the training weeks; weeks of validation choose the pass."""

    def __init__(self, lessons: Lessons, model: Heads) -> None:
        train, valid = lessons.of(TRAIN), lessons.of(VALID)
        self.n_rows = train.size
        self.features, self.vectors = (torch.from_numpy(part[train]) for part in (lessons.features, lessons.vectors))
        # A shop too short for a week of validation chooses on what it learned from.
        valid = valid if valid.size else train
        self.valid = (torch.from_numpy(lessons.features[valid]), torch.from_numpy(lessons.vectors[valid]))
        model.learn(self.features, _taken(lessons.taught, train))
        targets = model.targets(lessons.taught)
        self.targets, self.valid_targets = targets[torch.from_numpy(train)], targets[torch.from_numpy(valid)]
        self.is_used = model.is_used.clone()

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See heads_loss."""
        return heads_loss(model(self.features[rows], self.vectors[rows]), self.targets[rows], self.is_used)

    def validation_loss(self, model: nn.Module) -> float:
        """The same of later weeks."""
        return float(heads_loss(model(*self.valid), self.valid_targets, self.is_used))


def _taken(told: Told, rows: Ints) -> Told:
    kept = torch.from_numpy(rows)
    return Told(**{name: getattr(told, name)[kept] for name in Told.__annotations__})


def study(
    lessons: Lessons, test: Cases, teachers: Teachers, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Heads, Evidence]:
    """Fit ours and a linear student on the training weeks; judge both beside the teachers on the test window.

    test  moments of the test window at which something was sent, and what followed
    """
    ours, seconds = _fitted(WIDTHS, lessons, recipe, lambda step: progress(f"heads: {step}"), checkpoint)
    linear, _ = _fitted((), lessons, recipe, lambda step: progress(f"linear student: {step}"), None)
    models: dict[str, Teachers | Heads] = {OURS: ours, TEACHERS: teachers, LINEAR: linear}
    scored = {name: _figures(model, lessons, test) for name, model in models.items()}
    rows, against = compared(scored)
    weeks = lessons.of(TEST)
    return ours, Evidence(
        rows=rows if rows[0].figures else (),
        against=against,
        protocol="Shopper-weeks of the test window for categories, and those in which an offer was held for "
        "redemptions, as tags and response are judged. Taught on the training window by what those say there.",
        n={"shopper-weeks": weeks.size, "offers held": int(test.sent.sum())},
        seconds=seconds,
        n_parameters=sum(weight.numel() for weight in ours.parameters()),
        notes=_apart(told_by(ours, lessons.features[weeks], lessons.vectors[weeks]), _taken(lessons.taught, weeks))
        if weeks.size
        else ("no week lies in the test window: nothing to judge on",),
    )


def _fitted(
    widths: tuple[int, ...], lessons: Lessons, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Heads, float]:
    torch.manual_seed(recipe.seed)
    model = Heads(widths)
    fitted = fit(model, HeadsTask(lessons, model), recipe, progress, checkpoint)
    return model, fitted.seconds


def _figures(model: Teachers | Heads, lessons: Lessons, test: Cases) -> dict[str, Floats]:
    """Value, then bootstrap replicates, of each figure; above is better."""
    weeks = lessons.of(TEST)
    figures: dict[str, Floats] = {}
    if weeks.size:
        said = told_by(model, lessons.features[weeks], lessons.vectors[weeks]).category_prob.numpy().astype(np.float64)
        used = (lessons.taught.category_prob != 0.0).any(dim=0).numpy()
        truth = Truth(lessons.bought[weeks], np.broadcast_to(used, lessons.bought[weeks].shape))
        weights = shopper_weights(lessons.shopper[weeks], N_REPLICATES)
        figures |= ranking_figures(areas_of(said, truth, weights), "category_")
        figures["minus_category_log_loss"] = _minus_log_loss(said[:, used], truth.labels[:, used], weights)
    if test.sent.any():
        said = told_by(model, test.features, test.vectors).redeem_prob.numpy().astype(np.float64)[test.sent]
        happened, row = test.happened[REDEEMED][test.sent], np.nonzero(test.sent)[0]
        weights = shopper_weights(test.shopper, N_REPLICATES)[:, row]
        if happened.any() and not happened.all():
            areas = metrics.ranking_areas(said, happened, np.concatenate([np.ones((1, row.size)), weights]))
            figures |= {"redeem_auc": areas[:, 1], "redeem_ap": areas[:, 0]}
            figures["minus_redeem_log_loss"] = _minus_log_loss(said[:, None], happened[:, None], weights)
    return figures


def _minus_log_loss(probs: Floats, happened: Bools, weights: Floats) -> Floats:
    kept = probs.clip(LEAST_PROB, 1.0 - LEAST_PROB)
    gained = np.where(happened, np.log(kept), np.log1p(-kept)).mean(axis=1)
    weighted = np.concatenate([np.ones((1, gained.size)), weights])
    found: Floats = weighted @ gained / np.maximum(weighted.sum(axis=1), 1e-12)
    return found


def _apart(ours: Told, taught: Told) -> Sequence[str]:
    """How far ours lies from the teachers on the test window, in sentences."""
    told = []
    for name in Told.__annotations__:
        mine, theirs = (getattr(part, name).numpy().astype(np.float64) for part in (ours, taught))
        missed = np.abs(mine - theirs)
        told.append(
            f"{name} differs from the teachers' by {missed.mean():.2g} on average and {missed.max():.2g} at most; "
            + _rank_sentence(mine, theirs)
        )
    return told


def _rank_sentence(mine: Floats, theirs: Floats) -> str:
    # float32 tells a constant apart only by rounding; ranks of that say nothing.
    varies = np.ptp(theirs, axis=0) > 1e-5 * np.abs(theirs).max(axis=0)
    if not varies.any():
        return "it is the same for every shopper, so there is no rank to keep."
    ranks = [spearmanr(mine[:, slot], theirs[:, slot]).statistic for slot in np.flatnonzero(varies)]
    return f"rank correlation over shoppers {min(ranks):.4f} in the worst slot."


__all__: Sequence[str] = ("RECIPE", "Lessons", "Teachers", "lessons_of", "study", "told_by")
