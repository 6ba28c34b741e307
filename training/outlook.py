"""The study of tags: what each shopper does next, our net and its simple rivals under one loss, calibrated, compared.

In: a Dataset and the behaviour encoder's vectors. Out: a calibrated Tags and its evidence. Called by training/fit.py
and, for its labels and its net, by tests/benchmarks/published/tags.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.features import N_CATEGORIES, columns
from kernels.future_tags import FUTURE_TAGS, WEEK_S
from training import multilabel
from training.dataset import NEITHER, TEST, TRAIN, VALID, Dataset, Rows, check_no_leak
from training.evidence import Evidence, Reliability, calibration_bins, compared, shopper_weights
from training.labels import bought_categories
from training.loop import Progress, Recipe, fit
from training.models.tags import N_LABELS, Logistic, Tags, tags_loss
from training.multilabel import Cases, Said, Truth
from training.sources.tables import InvalidTable
from training.tag_labels import outcomes_of, session_outcomes, session_rows
from training.tensors import VECTOR_WIDTH

# Passes, batch and rate were chosen on the validation window (LOG.md).
RECIPE = Recipe(n_epochs=5, batch=512, learning_rate=1e-3, weight_decay=1e-4)
FAMILIES = {"category": slice(0, N_CATEGORIES), "tag": slice(N_CATEGORIES, N_LABELS)}
# Sessions beside the shopper-weeks: enough to learn one label from, few enough to keep the training time.
MOST_SESSIONS = 40_000
RECENT_WEEKS, PRIOR_WEEKS = 26, 4.0
# A label with fewer answers in training is not learned, and says 0.
FEWEST_TO_LEARN = 20
MOST_COMPARED = 20_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Vectors = Callable[[Rows], NDArray[np.float32]]


@dataclass(frozen=True)
class Outlook:
    """Every shopper-week, then moments in open sessions, with what followed.

    shopper   (n,) int64
    at_s      (n,) int64
    features  (n, N_FEATURES) float32
    vectors   (n, VECTOR_WIDTH) float32
    labels    (n, N_LABELS) bool
    observed  (n, N_LABELS) int8   the window that holds the label, NEITHER where it could not be seen
    n_weekly  shopper-weeks, which stand first
    grid      (n_weeks,) int64
    """

    shopper: Ints
    at_s: Ints
    features: NDArray[np.float32]
    vectors: NDArray[np.float32]
    labels: Bools
    observed: NDArray[np.int8]
    n_weekly: int
    grid: Ints

    def of(self, part: int) -> Ints:
        """Rows with any label in a window."""
        return np.flatnonzero((self.observed == part).any(axis=1))

    def truth(self, rows: Ints, part: int) -> Truth:
        """What happened to some rows, as far as a window saw it."""
        return Truth(self.labels[rows], self.observed[rows] == part)

    @property
    def is_used(self) -> Bools:
        """(N_LABELS,) whether a label can be learned."""
        used: Bools = (self.observed == TRAIN).any(axis=0)
        return used


def outlook_of(
    dataset: Dataset, rows: Rows, grid: Ints, vectors: Vectors, progress: Progress, most_sessions: int = MOST_SESSIONS
) -> Outlook:
    """Label every shopper-week and some open sessions; a label counts where a window holds its whole horizon.

    rows, grid  from Dataset.weekly
    vectors     the behaviour encoder, asked for the vectors of rows
    progress    told which labels cannot be learned, or not be calibrated
    raises      InvalidTable  if no label has answers of both kinds in training; InvalidInput if a feature equals one
    """
    visits = session_rows(dataset, most_sessions)
    weekly, inside = outcomes_of(dataset, rows), session_outcomes(dataset, visits)
    bought = bought_categories(dataset, grid)[rows.shopper, np.searchsorted(grid, rows.at_s)]
    within_week = np.repeat(dataset.splits.part(rows.at_s, WEEK_S)[:, None], N_CATEGORIES, axis=1)
    absent = np.full((len(visits), N_CATEGORIES), NEITHER, np.int8)
    labels = np.block([[bought, weekly.labels], [absent > NEITHER, inside.labels]])
    observed = np.block([[within_week, weekly.observed], [absent, inside.observed]])
    names = label_names(dataset)
    learned = _can_be_learned(labels, observed, names)
    if not learned.any():
        raise InvalidTable(
            f"events must give labels of two classes in training, each {FEWEST_TO_LEARN} times, got none: either no "
            "shopper ever does what a label says, or every shopper always does"
        )
    observed[:, ~learned] = NEITHER
    for sentence in _doubts(learned, observed, names):
        progress(sentence)
    outlook = Outlook(
        np.concatenate([rows.shopper, visits.shopper]),
        np.concatenate([rows.at_s, visits.at_s]),
        np.concatenate([rows.features, visits.features]),
        np.concatenate([vectors(rows), vectors(visits)]),
        labels,
        observed,
        len(rows),
        grid,
    )
    _check_no_leak(outlook, names)
    return outlook


def label_names(dataset: Dataset) -> tuple[str, ...]:
    """What each label says, in the order of a Tags' log-odds; "" for a slot without a category."""
    bought = (f"buys in {name}" if name else "" for name in dataset.vocabulary.categories)
    return (*bought, *(tag.name for tag in FUTURE_TAGS))


def without_vectors(rows: Rows) -> NDArray[np.float32]:
    """Vectors of shoppers who were not encoded.

    returns  (n, VECTOR_WIDTH) float32  zeros
    """
    return np.zeros((len(rows), VECTOR_WIDTH), np.float32)


class OutlookTask:
    """The Task: sigmoid cross-entropy over the observed labels of a window."""

    def __init__(self, outlook: Outlook) -> None:
        train, valid = outlook.of(TRAIN), outlook.of(VALID)
        self.n_rows = train.size
        self.features, self.vectors = (torch.from_numpy(part[train]) for part in (outlook.features, outlook.vectors))
        self.labels = torch.from_numpy(outlook.labels[train])
        self.observed = torch.from_numpy(outlook.observed[train] == TRAIN)
        self.valid = (outlook.features[valid], outlook.vectors[valid])
        self.valid_labels = torch.from_numpy(outlook.labels[valid]).float()
        self.valid_observed = torch.from_numpy(outlook.observed[valid] == VALID).float()

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See tags_loss."""
        logits = model(self.features[rows], self.vectors[rows])
        return tags_loss(logits, self.labels[rows].float(), self.observed[rows].float())

    def validation_loss(self, model: nn.Module) -> float:
        """The same of the mean of the members, which is what is served."""
        logits = torch.from_numpy(logits_of(model, *self.valid)).float()
        return float(tags_loss(logits.unsqueeze(0), self.valid_labels, self.valid_observed))


def fit_tags(
    task: OutlookTask, model: Tags | Logistic, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> float:
    """Take what the training rows say of the inputs and train; returns the seconds."""
    model.learn(task.features)
    return fit(model, task, recipe, progress, checkpoint).seconds


def logits_of(model: nn.Module, features: NDArray[np.float32], vectors: NDArray[np.float32]) -> Floats:
    """Log-odds of many rows, in batches that fit a cache; the mean of the members.

    features  (n, N_FEATURES) float32
    vectors   (n, VECTOR_WIDTH) float32
    returns   (n, N_LABELS) float64
    """
    found = [np.zeros((0, N_LABELS))]
    with torch.no_grad():
        for first in range(0, len(features), 4_096):
            batch = (torch.from_numpy(part[first : first + 4_096]) for part in (features, vectors))
            found.append(model(*batch).mean(dim=0).cpu().numpy().astype(np.float64))
    return np.concatenate(found)


def study(outlook: Outlook, recipe: Recipe, progress: Progress, checkpoint: Path | None) -> tuple[Tags, Evidence]:
    """Fit ours and its rivals, calibrate each on the validation window, and compare them on the test window."""
    task = OutlookTask(outlook)
    torch.manual_seed(recipe.seed)
    ours, linear = Tags(), Logistic()
    seconds = fit_tags(task, ours, recipe, lambda step: progress(f"tags: {step}"), checkpoint)
    # The rival has its own rate and all the passes it needs: stopped early, it flattered us (LOG.md).
    passes = 6 * recipe.n_epochs
    rival = replace(recipe, learning_rate=1e-2, n_epochs=passes, batch=2_048, patience=passes)
    fit_tags(task, linear, rival, lambda step: progress(f"logistic rival: {step}"), None)
    cases, share = cases_of(outlook), recent_share(outlook)
    of = outlook.of
    scored = {
        "tags net": said_of(ours, outlook, cases),
        "logistic regression": said_of(linear, outlook, cases),
        "own recent share": Said(share[of(VALID)], share[of(TEST)]),
    }
    calibrate(ours, outlook, cases)
    n = {
        "shopper-weeks": int((of(TEST) < outlook.n_weekly).sum()),
        "sessions": int((of(TEST) >= outlook.n_weekly).sum()),
    }
    return ours, _evidence(cases, scored, n, seconds, sum(weight.numel() for weight in ours.parameters()))


def cases_of(outlook: Outlook) -> Cases:
    """What models are judged on, with thirds of how often shoppers ordered lately; training says what is often."""
    test = outlook.of(TEST)
    orders = outlook.features[:, columns().index("orders_hl28d")]
    low, high = np.quantile(orders[outlook.of(TRAIN)], (1 / 3, 2 / 3))
    of = orders[test]
    groups = {"quiet": of <= low, "middle": (of > low) & (of <= high), "busy": of > high}
    valid = outlook.of(VALID)
    return Cases(outlook.truth(valid, VALID), outlook.truth(test, TEST), FAMILIES, outlook.shopper[test], groups)


def calibrate(model: Tags, outlook: Outlook, cases: Cases) -> None:
    """Give a net what it is served with: calibration, and which of its labels it could learn."""
    model.take_calibration(*multilabel.calibration(_window_logits(model, outlook, VALID), cases))
    model.is_used.copy_(torch.from_numpy(outlook.is_used.astype(np.float32)))


def said_of(model: nn.Module, outlook: Outlook, cases: Cases) -> Said:
    """What a net says of the cases, calibrated."""
    return multilabel.calibrated(_window_logits(model, outlook, VALID), _window_logits(model, outlook, TEST), cases)


def _window_logits(model: nn.Module, outlook: Outlook, part: int) -> Floats:
    rows = outlook.of(part)
    return logits_of(model, outlook.features[rows], outlook.vectors[rows])


def recent_share(outlook: Outlook) -> Floats:
    """The simplest rival: how often it happened in a shopper's recent weeks, as far as that was over by then.

    returns  (n, N_LABELS) float64  probabilities; in open sessions the rate of training
    """
    train = outlook.observed == TRAIN
    rate = (outlook.labels & train).sum(axis=0) / np.maximum(train.sum(axis=0), 1)
    probs = np.tile(rate, (outlook.shopper.size, 1))
    shopper, labels = outlook.shopper[: outlook.n_weekly], outlook.labels[: outlook.n_weekly]
    week = np.searchsorted(outlook.grid, outlook.at_s[: outlook.n_weekly])
    seen = np.zeros((int(shopper.max(initial=-1)) + 1, outlook.grid.size + 1, 1))
    seen[shopper, week + 1] = 1.0
    happened = np.zeros((*seen.shape[:2], N_LABELS))
    happened[shopper, week + 1] = labels
    seen, happened = seen.cumsum(axis=1), happened.cumsum(axis=1)
    horizons_s = np.array([WEEK_S] * N_CATEGORIES + [tag.horizon_s for tag in FUTURE_TAGS])
    for horizon_s in np.unique(horizons_s[horizons_s > 0]):
        # A week's label is known only once its whole horizon has passed.
        last = np.maximum(week - int(horizon_s) // WEEK_S + 1, 0)
        first = np.maximum(last - RECENT_WEEKS, 0)
        of = np.flatnonzero(horizons_s == horizon_s)
        n_seen = seen[shopper, last] - seen[shopper, first]
        n_happened = happened[shopper, last][:, of] - happened[shopper, first][:, of]
        probs[: outlook.n_weekly, of] = (n_happened + PRIOR_WEEKS * rate[of]) / (n_seen + PRIOR_WEEKS)
    return probs


def _evidence(
    cases: Cases, scored: Mapping[str, Said], n: Mapping[str, int], seconds: float, n_parameters: int
) -> Evidence:
    weights = shopper_weights(cases.shopper)
    rows, against = compared({name: multilabel.figures(said, cases, weights) for name, said in scored.items()})
    seen = {f"{name} labels seen": int(cases.test.of(family).observed.sum()) for name, family in FAMILIES.items()}
    return Evidence(
        rows=rows,
        against=[row for row in against if not row.figure.endswith("ece")],
        protocol="All shopper-weeks of the test window, and moments in its sessions for the order in a session; a "
        "label counts where the window holds its whole horizon. Thresholds and calibration are of validation.",
        n={**n, **seen},
        seconds=seconds,
        n_parameters=n_parameters,
        reliability=_bins(next(iter(scored.values())).test, cases.test),
    )


def _bins(probs: Floats, truth: Truth) -> dict[str, Reliability]:
    titles = {"category": "buys in a category within 7 days", "tag": "behaviour tags, outcomes of the coming days"}
    told = {}
    for name, family in FAMILIES.items():
        own = truth.of(family)
        if own.observed.any():
            told[titles[name]] = calibration_bins(probs[:, family][own.observed], own.labels[own.observed])
    return told


def _can_be_learned(labels: Bools, observed: NDArray[np.int8], names: tuple[str, ...]) -> Bools:
    train = observed == TRAIN
    n_true = (labels & train).sum(axis=0)
    enough: Bools = (np.minimum(n_true, train.sum(axis=0) - n_true) >= FEWEST_TO_LEARN) & np.array(names).astype(
        np.bool_
    )
    return enough


def _check_no_leak(outlook: Outlook, names: tuple[str, ...]) -> None:
    """Compare features with each label where it was seen; labels that are seen together are compared together."""
    first = outlook.of(TRAIN)[:MOST_COMPARED]
    seen = outlook.observed[first] == TRAIN
    patterns, group = np.unique(seen[:, outlook.is_used], axis=1, return_inverse=True)
    used = np.flatnonzero(outlook.is_used)
    for place, pattern in enumerate(patterns.T):
        rows = first[pattern]
        check_no_leak(
            outlook.features[rows], {names[label]: outlook.labels[rows, label] for label in used[group == place]}
        )


def _doubts(learned: Bools, observed: NDArray[np.int8], names: tuple[str, ...]) -> list[str]:
    unlearned = [name for name, is_learned in zip(names, learned, strict=True) if name and not is_learned]
    uncalibrated = [
        name for place, name in enumerate(names) if learned[place] and not (observed[:, place] == VALID).any()
    ]
    told = []
    if unlearned:
        told.append(
            f"these labels have one class in training, or nearly, and will be told as 0: {', '.join(unlearned)}"
        )
    if uncalibrated:
        told.append(f"the validation window is too short to calibrate these labels: {', '.join(uncalibrated)}")
    return told
