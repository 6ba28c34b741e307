"""How a Response is fitted to any log of actions: linear parts, then members on top of them, then calibration.

In: cases of a shopper and the actions sent, in an earlier and a later window. Out: a calibrated Response. Called by
training/answers.py for a shop and by tests/benchmarks/published for other logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.calibrate import fit_platt
from training.evidence import shopper_weights
from training.linear_parts import STRENGTHS, LinearParts
from training.loop import Progress, Recipe, fit
from training.models.response import (
    BOUGHT,
    BUY_IF_NOT,
    BUY_IF_REDEEMED,
    CLICK,
    CLICKED,
    N_CHANCES,
    N_MEMBERS,
    REDEEM,
    REDEEMED,
    Actions,
    Chances,
    Outcomes,
    Response,
    response_loss,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Cases that the calibration of all actions is worth beside an action's own.
ACTION_CASES = 5_000.0
# Log-odds of what a log never shows.
NEVER = -10.0
BATCH = 2_048


@dataclass(frozen=True)
class Cases:
    """Moments of shoppers, the actions sent to them, and what followed.

    shopper   (n,) int64                       for resampling
    at_s      (n,) int64
    features  (n, n_features) float32
    vectors   (n, VECTOR_WIDTH) float32
    sent      (n, n_actions) bool              elsewhere nothing can be seen
    happened  (N_CHANCES, n, n_actions) bool
    spend     (n, n_actions) float32           currency units
    """

    shopper: Ints
    at_s: Ints
    features: NDArray[np.float32]
    vectors: NDArray[np.float32]
    sent: Bools
    happened: Bools
    spend: NDArray[np.float32]

    def take(self, kept: Ints) -> "Cases":
        """Some of the moments."""
        return Cases(
            self.shopper[kept],
            self.at_s[kept],
            self.features[kept],
            self.vectors[kept],
            self.sent[kept],
            self.happened[:, kept],
            self.spend[kept],
        )

    def __len__(self) -> int:
        return int(self.at_s.size)


@dataclass(frozen=True)
class Windows:
    """The cases to learn from, twice: an earlier part with the later one that chooses passes, strength and calibration.

    everything  earlier and later, and what lies across their border: what is fitted last
    """

    early: Cases
    late: Cases
    everything: Cases


@dataclass(frozen=True)
class Plan:
    """How to fit.

    worth   of clicks, redemptions, purchases and spend in the loss; 0 where the log has none
    recipe  of the members; its passes are the most in the earlier window
    """

    worth: tuple[float, float, float, float]
    recipe: Recipe

    @property
    def main(self) -> int:
        """The chance that stops training and chooses the linear part."""
        return int(np.argmax(self.worth[:N_CHANCES]))


class AnswerTask:
    """The Task: response_loss where something was sent, each member on its own draw of the shoppers."""

    def __init__(self, train: Cases, late: Cases, plan: Plan) -> None:
        self.n_rows, self.plan = len(train), plan
        self.train, self.late = train, late
        self.draws = torch.from_numpy(draws_of(train, plan.recipe.seed)).float()

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See response_loss."""
        train = self.train
        outcomes = Outcomes(
            torch.from_numpy(train.sent[rows]).float(),
            torch.from_numpy(train.happened[:, rows]).float(),
            torch.from_numpy(train.spend[rows]),
            self.draws[:, rows],
        )
        chances = model(torch.from_numpy(train.features[rows]), torch.from_numpy(train.vectors[rows]))
        return response_loss(chances, outcomes, self.plan.worth)

    def validation_loss(self, model: nn.Module) -> float:
        """Log-loss of the main chance under the members' mean."""
        assert isinstance(model, Response)
        return log_loss(said(model, self.late)[0][self.plan.main], self.late, self.plan.main)


def draws_of(cases: Cases, seed: int) -> Floats:
    """How often each member drew each moment's shopper, (N_MEMBERS, n)."""
    return shopper_weights(cases.shopper, N_MEMBERS, seed)


def fit_response(
    model: Response, windows: Windows, plan: Plan, progress: Progress, checkpoint: Path | None = None
) -> float:
    """Fit on the earlier window, choose and calibrate on the later one, and fit again on everything.

    model    as it was made; left with its last weights and its calibration
    returns  seconds of the members' passes
    """
    made = {name: value.clone() for name, value in model.state_dict().items()}
    early_file = None if checkpoint is None else checkpoint.with_suffix(".early.pt")
    strength = _start(model, windows.early, windows.late, plan, STRENGTHS)
    progress(f"the later window chose a ridge of 1/{strength:g}")
    task = AnswerTask(windows.early, windows.late, plan)
    first = fit(model, task, plan.recipe, lambda step: progress(f"earlier window, {step}"), early_file)
    calibration = calibration_of(model, windows.late, plan)
    model.load_state_dict(made)
    _start(model, windows.everything, windows.late, plan, (strength,))
    again = replace(plan.recipe, n_epochs=first.best_epoch + 1, patience=plan.recipe.n_epochs)
    second = fit(model, AnswerTask(windows.everything, windows.late, plan), again, progress, checkpoint)
    take_calibration(model, calibration)
    if early_file is not None:
        early_file.unlink(missing_ok=True)
    return first.seconds + second.seconds


def in_linear_parts(model: Response, windows: Windows, plan: Plan) -> Response:
    """The simple rival: the linear parts alone, chosen, fitted and calibrated as ours."""
    alone = Response.from_state(model.state_dict())
    _silence(alone)
    strength = _start(alone, windows.early, windows.late, plan, STRENGTHS)
    calibration = calibration_of(alone, windows.late, plan)
    _start(alone, windows.everything, windows.late, plan, (strength,))
    take_calibration(alone, calibration)
    return alone


def _silence(model: Response) -> None:
    """Let the members add nothing to their linear parts."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".head") or "curves" in name:
                parameter.zero_()


def rate_of(train: Cases, test: Cases) -> Floats:
    """The simplest rival: each action's own share and mean of the training rows, the same for everyone.

    returns  (N_CHANCES + 1, n, n_actions) float64
    """
    n_sent = np.maximum(train.sent.sum(axis=0), 1)
    shares = [(happened & train.sent).sum(axis=0) / n_sent for happened in train.happened]
    shares.append(np.where(train.sent, train.spend, 0.0).sum(axis=0) / n_sent)
    return np.stack([np.broadcast_to(share, test.sent.shape) for share in shares])


def said(model: Response, cases: Cases) -> tuple[Floats, Floats]:
    """What the members say on average, not calibrated.

    returns  (N_CHANCES, n, n_actions) probabilities and (n, n_actions) spend if bought
    """
    probs, spend = [], []
    for chances in _batches(model, cases):
        probs.append(chances.probs().mean(dim=1).numpy())
        spend.append(chances.spend_if_bought().mean(dim=0).numpy())
    if not probs:
        return np.zeros((N_CHANCES, *cases.sent.shape)), np.zeros(cases.sent.shape)
    return np.concatenate(probs, axis=1).astype(np.float64), np.concatenate(spend).astype(np.float64)


def served(model: Response, cases: Cases) -> list[Floats]:
    """What is served, as Response.calibrated orders it; (n, n_actions) each."""
    with torch.no_grad():
        parts = [model.calibrated(chances) for chances in _batches(model, cases)]
    return [np.concatenate([part.numpy() for part in column]).astype(np.float64) for column in zip(*parts, strict=True)]


def _batches(model: Response, cases: Cases) -> Sequence[Chances]:
    model.eval()
    with torch.no_grad():
        return [
            model(
                torch.from_numpy(cases.features[first : first + BATCH]),
                torch.from_numpy(cases.vectors[first : first + BATCH]),
            )
            for first in range(0, len(cases), BATCH)
        ]


def log_loss(probs: Floats, cases: Cases, chance: int) -> float:
    """Mean log-loss where an action was sent.

    probs  (n, n_actions) float64
    """
    said_probs, happened = probs[cases.sent], cases.happened[chance][cases.sent]
    return float(-np.log(np.where(happened, said_probs, 1.0 - said_probs)).mean()) if happened.size else 0.0


@dataclass(frozen=True)
class Calibration:
    """Of log-odds and of spend.

    slope, shift  (N_CHANCES, n_actions) float64
    scale         (n_actions,) float64
    """

    slope: Floats
    shift: Floats
    scale: Floats


def calibration_of(model: Response, late: Cases, plan: Plan) -> Calibration:
    """Fit a slope and a shift per chance and action, each action's drawn towards that of all.

    late  cases that the model has not seen
    """
    probs, spend_if_bought = said(model, late)
    n_actions = late.sent.shape[1]
    slope, shift = np.ones((N_CHANCES, n_actions)), np.zeros((N_CHANCES, n_actions))
    for chance in np.flatnonzero(np.array(plan.worth[:N_CHANCES]) > 0.0):
        slope[chance], shift[chance] = platt_of(probs[chance], late.happened[chance], late.sent)
    told = mapped(probs[BOUGHT], slope[BOUGHT], shift[BOUGHT])
    expected = np.where(late.sent, told * spend_if_bought, 0.0)
    return Calibration(slope, shift, _scale(expected, np.where(late.sent, late.spend, 0.0), late.sent))


def platt_of(probs: Floats, happened: Bools, sent: Bools) -> tuple[Floats, Floats]:
    """A slope and a shift of the log-odds per action, each action's drawn towards those of all.

    probs, happened, sent  (n, n_actions)
    returns                (n_actions,) float64 each
    """
    logits = np.log(probs) - np.log1p(-probs)
    shared = fit_platt(logits[sent][:, None], happened[sent], np.array([1.0, 0.0]))
    own = [
        fit_platt(logits[rows, action][:, None], happened[rows, action], shared, ACTION_CASES)
        for action, rows in enumerate(sent.T)
    ]
    return np.array([max(slope, 0.05) for slope, _ in own]), np.array([shift for _, shift in own])


def mapped(probs: Floats, slope: Floats, shift: Floats) -> Floats:
    """Probabilities after a calibration, (n, n_actions) float64."""
    logits = np.log(probs) - np.log1p(-probs)
    calibrated: Floats = 1.0 / (1.0 + np.exp(-(logits * slope + shift)))
    return calibrated


def _scale(expected: Floats, spent: Floats, sent: Bools) -> Floats:
    """What was spent over what was expected, each action's drawn towards that of all."""
    if expected.sum() <= 0.0 or spent.sum() <= 0.0:
        return np.ones(sent.shape[1])
    shared = spent.sum() / expected.sum()
    prior = ACTION_CASES * expected.sum(axis=0) / np.maximum(sent.sum(axis=0), 1)
    drawn: Floats = (spent.sum(axis=0) + prior * shared) / np.maximum(expected.sum(axis=0) + prior, 1e-9)
    return np.where(drawn > 0.0, drawn, shared)


def take_calibration(model: Response, calibration: Calibration) -> None:
    """Keep a calibration in the module that is served."""
    for name in ("slope", "shift", "scale"):
        getattr(model, name).copy_(torch.from_numpy(getattr(calibration, name)))


def _start(model: Response, train: Cases, late: Cases, plan: Plan, strengths: Sequence[float]) -> float:
    """Fit the linear parts of every member at the strength whose main chance fits the later window best."""
    torch.manual_seed(plan.recipe.seed)
    model.learn_inputs(torch.from_numpy(train.features))
    head = {CLICKED: CLICK, REDEEMED: REDEEM}.get(plan.main, BUY_IF_NOT)
    happened, design = train.happened, LinearParts(model, train.features)
    if plan.worth[REDEEMED] == 0.0:
        design.constant(REDEEM, NEVER)
    losses = []
    for strength in strengths if len(strengths) > 1 else ():
        design.fit(head, train.sent, happened[plan.main], np.ones((1, len(train))), strength)
        losses.append(log_loss(said(model, late)[0][plan.main], late, plan.main))
    strength = strengths[int(np.argmin(losses))] if losses else strengths[0]
    draws, once = draws_of(train, plan.recipe.seed), np.ones((1, len(train)))
    if plan.worth[CLICKED] > 0.0:
        design.fit(CLICK, train.sent, happened[CLICKED], draws, strength)
    if plan.worth[REDEEMED] > 0.0:
        design.fit(REDEEM, train.sent, happened[REDEEMED], draws, strength)
    if plan.worth[BOUGHT] > 0.0:
        redeemed = train.sent & happened[REDEEMED]
        design.fit(BUY_IF_NOT, train.sent & ~happened[REDEEMED], happened[BOUGHT], once, strength)
        design.level(BUY_IF_REDEEMED, redeemed, happened[BOUGHT])
    if plan.worth[N_CHANCES] > 0.0:
        design.fit_log_spend(train.sent & (train.spend > 0.0), train.spend)
    return strength


__all__ = [
    "Actions",
    "AnswerTask",
    "Calibration",
    "Cases",
    "Plan",
    "Windows",
    "calibration_of",
    "fit_response",
    "in_linear_parts",
    "log_loss",
    "mapped",
    "platt_of",
    "rate_of",
    "said",
    "served",
    "take_calibration",
]
