"""The response study: labels and masks, our net and its rivals under one loss, calibration, and the paired comparison.

In: a Dataset. Out: a calibrated Response and its evidence. Called by training/fit.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels import metrics
from kernels.features import N_CATEGORIES
from training.calibrate import fit_families
from training.dataset import TEST, TRAIN, VALID, WEEK_S, Dataset, Rows, check_no_leak
from training.evidence import (
    Evidence,
    Reliability,
    Row,
    calibration_bins,
    differences,
    interval,
    shopper_weights,
)
from training.labels import REDEEM_HORIZON_S, bought_categories, held_groups, redeemed_groups
from training.loop import Progress, Recipe, fit
from training.models.response import N_LABELS, Logistic, Response, response_loss
from training.models.standard import Standard
from training.sources.tables import InvalidTable

FAMILIES = {"category": slice(0, N_CATEGORIES), "redeem": slice(N_CATEGORIES, N_LABELS)}
# Below five answers in the test window a label's own figures are a coin toss; it still counts in the pooled ones.
FEWEST_ANSWERS = 5
RECENT_WEEKS, PRIOR_WEEKS = 26, 4.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """Every shopper-week with what followed.

    labels    (n, N_LABELS) bool
    observed  (n, N_LABELS) int8  the window that holds the label, NEITHER where it could not be seen
    grid      (n_weeks,) int64
    """

    rows: Rows
    labels: Bools
    observed: NDArray[np.int8]
    grid: NDArray[np.int64]

    def of(self, part: int) -> NDArray[np.int64]:
        """Rows with any label in a window."""
        return np.flatnonzero((self.observed == part).any(axis=1))


def answers_of(dataset: Dataset, rows: Rows, grid: NDArray[np.int64]) -> Answers:
    """Label every shopper-week; a label counts where a window holds its whole horizon, a redemption where one could be.

    rows, grid  from Dataset.weekly
    raises      InvalidTable  if the training window knows one class only; InvalidInput if a feature equals a label
    """
    week = np.searchsorted(grid, rows.at_s)
    bought = bought_categories(dataset, grid)[rows.shopper, week]
    redeemed = redeemed_groups(dataset, grid)[rows.shopper, week]
    held = held_groups(dataset, grid)[rows.shopper, week]
    labels = np.concatenate([bought, redeemed], axis=1)
    within_week = dataset.splits.part(rows.at_s, WEEK_S)
    within_28_days = dataset.splits.part(rows.at_s, REDEEM_HORIZON_S)
    named = np.array([name != "" for name in dataset.vocabulary.categories])
    observed = np.concatenate(
        [np.where(named, within_week[:, None], -1), np.where(held, within_28_days[:, None], -1)], axis=1
    ).astype(np.int8)
    answers = Answers(rows, labels, observed, grid)
    train = observed[:, FAMILIES["category"]] == TRAIN
    happened = labels[:, FAMILIES["category"]][train]
    if happened.all() or not happened.any():
        found = "every shopper buys in every category every week" if happened.any() else "no shopper ever buys anything"
        raise InvalidTable(f"events must give labels of two classes, got one: {found}")
    first = answers.of(TRAIN)[:20_000]
    names = {f"buys in {name}": labels[first, slot] for slot, name in enumerate(dataset.vocabulary.categories) if name}
    check_no_leak(rows.features[first], names)
    return answers


class AnswerTask:
    """The Task: sigmoid cross-entropy over the observed labels of a window."""

    def __init__(self, answers: Answers, most_rows: int | None = None) -> None:
        train, valid = answers.of(TRAIN), answers.of(VALID)
        if most_rows is not None and train.size > most_rows:
            train = train[np.linspace(0, train.size - 1, most_rows).astype(np.int64)]
        self.n_rows = train.size
        self.features = torch.from_numpy(answers.rows.features[train])
        self.labels = torch.from_numpy(answers.labels[train])
        self.observed = torch.from_numpy(answers.observed[train] == TRAIN)
        self.valid = (
            torch.from_numpy(answers.rows.features[valid]),
            torch.from_numpy(answers.labels[valid]).float(),
            torch.from_numpy(answers.observed[valid] == VALID).float(),
        )

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See response_loss."""
        return response_loss(model(self.features[rows]), self.labels[rows].float(), self.observed[rows].float())

    def validation_loss(self, model: nn.Module) -> float:
        """See response_loss."""
        features, labels, observed = self.valid
        return float(response_loss(logits_of(model, features), labels, observed))


def fit_response(
    task: AnswerTask, model: nn.Module, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> float:
    """Standardise by the training rows and train; returns the seconds."""
    standard = model.standard
    assert isinstance(standard, Standard)
    standard.learn(task.features)
    return fit(model, task, recipe, progress, checkpoint).seconds


def logits_of(model: nn.Module, features: Tensor) -> Tensor:
    """Log-odds of many rows, in batches that fit a cache.

    features  (n, N_FEATURES) float32
    returns   (n, N_LABELS) float32
    """
    with torch.no_grad():
        batches = [model(features[first : first + 4_096]) for first in range(0, len(features), 4_096)]
    return torch.cat(batches) if batches else torch.zeros(0, N_LABELS)


def study(
    dataset: Dataset, answers: Answers, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Response, Evidence]:
    """Fit ours and its rivals, calibrate each on the validation window, and compare them on the test window."""
    task = AnswerTask(answers)
    torch.manual_seed(recipe.seed)
    ours, linear = Response(), Logistic()
    seconds = fit_response(task, ours, recipe, lambda step: progress(f"response: {step}"), checkpoint)
    # The rival has its own rate and all the passes it needs: stopped early, before its rate fell, it lost 0.003 of
    # macro-AP and flattered us (LOG.md).
    passes = 6 * recipe.n_epochs
    rival = replace(recipe, learning_rate=1e-2, n_epochs=passes, batch=2_048, patience=passes)
    fit_response(task, linear, rival, lambda step: progress(f"logistic rival: {step}"), None)
    test = answers.of(TEST)
    scored = {
        "response net": _calibrated(ours, answers, test),
        "logistic regression": _calibrated(linear, answers, test),
        "own recent share": recent_share(answers, test),
    }
    ours.take_calibration(*_calibration(ours, answers))
    names = (*dataset.vocabulary.categories, *dataset.vocabulary.offer_groups)
    ours.is_used.copy_(torch.tensor([float(name != "") for name in names]))
    return ours, _evidence(answers, test, scored, seconds, sum(p.numel() for p in ours.parameters()))


def recent_share(answers: Answers, rows: NDArray[np.int64]) -> Floats:
    """The simplest rival: the share of a shopper's recent weeks with the category; a group's own redemption rate.

    rows     (n,) int64
    returns  (n, N_LABELS) float64  probabilities
    """
    n_shoppers, n_weeks = int(answers.rows.shopper.max()) + 1, answers.grid.size
    week = np.searchsorted(answers.grid, answers.rows.at_s)
    seen, bought = np.zeros((n_shoppers, n_weeks + 1)), np.zeros((n_shoppers, n_weeks + 1, N_CATEGORIES))
    seen[answers.rows.shopper, week + 1] = 1.0
    bought[answers.rows.shopper, week + 1] = answers.labels[:, FAMILIES["category"]]
    seen, bought = seen.cumsum(axis=1), bought.cumsum(axis=1)
    train = answers.observed == TRAIN
    rate = (answers.labels & train).sum(axis=0) / np.maximum(train.sum(axis=0), 1)
    shopper, last = answers.rows.shopper[rows], week[rows]
    first = np.maximum(last - RECENT_WEEKS, 0)
    n_seen = (seen[shopper, last] - seen[shopper, first])[:, None]
    n_bought = bought[shopper, last] - bought[shopper, first]
    category = (n_bought + PRIOR_WEEKS * rate[FAMILIES["category"]]) / (n_seen + PRIOR_WEEKS)
    redeem = np.broadcast_to(rate[FAMILIES["redeem"]], (rows.size, N_LABELS - N_CATEGORIES))
    return np.concatenate([category, redeem], axis=1)


def _calibration(model: nn.Module, answers: Answers) -> tuple[Floats, Floats]:
    valid = answers.of(VALID)
    logits = logits_of(model, torch.from_numpy(answers.rows.features[valid])).numpy().astype(np.float64)
    return fit_families(logits, answers.labels[valid], answers.observed[valid] == VALID, list(FAMILIES.values()))


def _calibrated(model: nn.Module, answers: Answers, rows: NDArray[np.int64]) -> Floats:
    slopes, shifts = _calibration(model, answers)
    logits = logits_of(model, torch.from_numpy(answers.rows.features[rows])).numpy().astype(np.float64)
    probs: Floats = 1.0 / (1.0 + np.exp(-(logits * slopes + shifts)))
    return probs


def _evidence(
    answers: Answers, test: NDArray[np.int64], scored: Mapping[str, Floats], seconds: float, n_parameters: int
) -> Evidence:
    weights = shopper_weights(answers.rows.shopper[test])
    observed, labels = answers.observed[test] == TEST, answers.labels[test]
    measured = [_figures(probs, labels, observed, weights) for probs in scored.values()]
    values = [{name: float(drawn[0]) for name, drawn in figures.items()} for figures in measured]
    replicates = [{name: drawn[1:] for name, drawn in figures.items()} for figures in measured]
    rows = [
        Row(name, {figure: interval(value[figure], drawn[figure]) for figure in value})
        for name, value, drawn in zip(scored, values, replicates, strict=True)
    ]
    n = {f"{name} labels seen": int(observed[:, family].sum()) for name, family in FAMILIES.items()}
    n |= {f"{name} answers": int((labels & observed)[:, family].sum()) for name, family in FAMILIES.items()}
    return Evidence(
        rows=rows,
        against=[row for row in differences(list(scored), values, replicates) if not row.figure.endswith("ece")],
        protocol="All shopper-weeks of the test window; redemptions where the shopper held an offer of the group.",
        n={"shopper-weeks": test.size, **n},
        seconds=seconds,
        n_parameters=n_parameters,
        reliability=_bins(next(iter(scored.values())), labels, observed),
    )


def _figures(probs: Floats, labels: Bools, observed: Bools, weights: Floats) -> dict[str, Floats]:
    """Value, then bootstrap replicates, of each figure of both families."""
    weighted = np.concatenate([np.ones((1, weights.shape[1])), weights])
    figures: dict[str, Floats] = {}
    for name, family in FAMILIES.items():
        areas = [_areas(probs, labels, observed, weighted, label) for label in range(family.start, family.stop)]
        kept = [area for area in areas if area is not None]
        if not kept:
            continue
        macro = np.nanmean(np.stack(kept), axis=0)  # (1 + n_replicates, 2)
        seen, happened = probs[:, family][observed[:, family]], labels[:, family][observed[:, family]]
        figures |= {f"{name}_macro_ap": macro[:, 0], f"{name}_macro_auc": macro[:, 1]}
        if name == "redeem":
            # A label of few answers says little alone; pooled, groups are ranked against each other too.
            pooled = metrics.ranking_areas(seen, happened, weighted[:, np.nonzero(observed[:, family])[0]])
            figures |= {f"{name}_pooled_ap": pooled[:, 0], f"{name}_pooled_auc": pooled[:, 1]}
        figures[f"{name}_ece"] = np.array([metrics.calibration_error(seen, happened)])
    return figures


def _areas(probs: Floats, labels: Bools, observed: Bools, weights: Floats, label: int) -> Floats | None:
    seen = observed[:, label]
    n_answers = int(labels[seen, label].sum())
    if n_answers < FEWEST_ANSWERS or n_answers == int(seen.sum()):
        return None
    return metrics.ranking_areas(probs[seen, label].copy(), labels[seen, label], weights[:, seen])


def _bins(probs: Floats, labels: Bools, observed: Bools) -> dict[str, Reliability]:
    titles = {"category": "buys in a category within 7 days", "redeem": "redeems an offer within 28 days, if sent"}
    return {
        titles[name]: calibration_bins(probs[:, family][observed[:, family]], labels[:, family][observed[:, family]])
        for name, family in FAMILIES.items()
        if observed[:, family].any()
    }


__all__: Sequence[str] = ("AnswerTask", "Answers", "answers_of", "recent_share", "study")
