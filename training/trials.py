"""Effects of the arms of a randomised trial: an Uplift fitted to what the chance of the outcome leaves over.

A linear effect of every feature is allowed but must pay for itself: one that stands no further out than noise stays
0. In: who was given which arm, and what followed. Out: a fitted Uplift. Called by whoever ran a trial, and by
tests/benchmarks/published/hillstrom.py.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from kernels.checks import check, check_array, check_each
from training.effects import member_weights
from training.loop import Progress, Recipe, fit
from training.models.uplift import Shape, Uplift, residual_loss

N_FOLDS = 5
# A slope must pull this many standard deviations of its own noise before it leaves 0: of 1, 1.5, 2 and 3 the one with
# the best policy in cross-validation within Hillstrom's training parts (LOG.md).
LEAST_PULL = 1.5
# Adam circles within about five of its last steps of a slope that should be 0; such a slope would order those whom
# nothing sets apart.
NOUGHT = 2e-3
EXPECTED = Recipe(n_epochs=12, batch=512, learning_rate=2e-3, weight_decay=1e-3)
EFFECT = Recipe(n_epochs=60, batch=8_192, learning_rate=2e-2, patience=60)
QUIET = lambda _: None  # noqa: E731 - a Progress

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """A trial whose arms were drawn at random; arm 0 is nothing.

    names       of the features
    features    (n, n_features) float32
    arm         (n,) int64    0 to n_arms
    outcome     (n,) bool     what followed
    propensity  (n_arms + 1,) float64  probability of each arm, the same for everyone
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    arm: NDArray[np.int64]
    outcome: NDArray[np.bool_]
    propensity: Floats

    def __post_init__(self) -> None:
        """Check shapes and numbers once."""
        check_array("features", self.features, np.float32, n_dims=2)
        check_each("features", self.features, np.isfinite(self.features), "finite")
        n = self.features.shape[0]
        check(n > 0, "a trial must have rows, got 0")
        check(self.arm.size == n, f"arm must have {n} values, got {self.arm.size}")
        check(self.outcome.size == n, f"outcome must have {n} values, got {self.outcome.size}")
        check(abs(float(self.propensity.sum()) - 1.0) < 1e-6, f"propensity must sum to 1, got {self.propensity.sum()}")

    def check_teaches(self) -> None:
        """Pass when effects can be learned from it.

        raises  InvalidInput  for an arm that nobody was given, one class, or a feature that is the outcome
        """
        given = np.bincount(self.arm, minlength=self.propensity.size)
        check(bool((given > 0).all()), f"every arm must have been given, got {given.tolist()} rows per arm")
        check(bool(self.outcome.any() and not self.outcome.all()), "outcome must have two classes, got one")
        for place, name in enumerate(self.names):
            same = np.array_equal(self.features[:, place], self.outcome)
            check(not same, f"{name} must not equal the outcome, got {self.arm.size} equal rows")

    def take(self, rows: NDArray[np.int64]) -> "Trial":
        """Only some rows."""
        return replace(self, features=self.features[rows], arm=self.arm[rows], outcome=self.outcome[rows])

    @property
    def sent_residual(self) -> Floats:
        """(n, n_arms) float64  1 for the arm that was given, else 0, less its propensity."""
        given = self.arm[:, None] == np.arange(1, self.propensity.size)
        return np.asarray(given - self.propensity[1:], np.float64)


def shape_of(trial: Trial, doses: tuple[tuple[int, ...], ...] = (), n_members: int = 9) -> Shape:
    """The net for a trial: linear effects, in units near a tenth of the outcome.

    doses  arms that are doses of one treatment, from the smallest on; the first arm beside nothing is 0
    """
    return Shape(
        names=trial.names,
        narrow=tuple(range(len(trial.names))),
        n_arms=trial.propensity.size - 1,
        doses=doses,
        width=0,
        n_members=n_members,
        unit=0.1,
        has_expected=True,
    )


def learn(
    trial: Trial, shape: Shape, seed: int = 0, progress: Progress = QUIET, checkpoint: Path | None = None
) -> Uplift:
    """Fit the chance of the outcome, then what each arm adds to it.

    trial   training rows only
    shape   from shape_of
    raises  InvalidInput  as Trial.check_teaches
    """
    trial.check_teaches()
    torch.manual_seed(seed)
    uplift = Uplift(shape)
    uplift.standard.learn(torch.from_numpy(trial.features))
    _learn_expected(uplift, trial, seed, progress)
    task = TrialTask(uplift, trial, expected_outcome(trial, trial, seed), seed)
    with torch.no_grad():
        # Doses start where softplus is small: at the mean, half of all increments would have to be unlearned.
        uplift.level[:, :, uplift.is_dosed] = -1.0
    fit(uplift, task, replace(EFFECT, seed=seed), lambda step: progress(f"effects: {step}"), checkpoint)
    with torch.no_grad():
        uplift.direct[uplift.direct.abs() < NOUGHT] = 0.0
    # A trial needs no adjustment that could mislead, so its differences between people are believed as fitted.
    uplift.trust.fill_(1.0)
    return uplift


def expected_outcome(trial: Trial, asked: Trial, seed: int) -> Floats:
    """Chance of the outcome whatever was given: cross-fitted where the rows are those that teach it.

    asked    the trial itself, or other rows
    returns  (n,) float64
    """
    if asked is not trial:
        return _chance(trial, asked.features)
    fold = np.random.default_rng(seed).permutation(trial.arm.size) % N_FOLDS
    expected = np.zeros(trial.arm.size)
    for held in range(N_FOLDS):
        expected[fold == held] = _chance(trial.take(np.flatnonzero(fold != held)), trial.features[fold == held])
    return expected


def _chance(teaches: Trial, features: NDArray[np.float32]) -> Floats:
    model = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=300),
    )
    squeezed = [np.sign(rows) * np.log1p(np.abs(rows)) for rows in (teaches.features, features)]
    chance: Floats = model.fit(squeezed[0], teaches.outcome).predict_proba(squeezed[1])[:, 1]
    return chance


class _ExpectedTask:
    """The Task: cross-entropy of the outcome, a tenth of the rows held back to say when to stop."""

    def __init__(self, uplift: Uplift, trial: Trial, seed: int) -> None:
        standard = uplift.standard(torch.from_numpy(trial.features))[:, uplift.narrow]
        outcome = torch.from_numpy(trial.outcome).float().unsqueeze(1)
        order = np.random.default_rng(seed).permutation(trial.arm.size)
        self.n_rows = trial.arm.size - trial.arm.size // 10
        learns, stops = order[: self.n_rows], order[self.n_rows :]
        self.standard, self.outcome = standard[learns], outcome[learns]
        self.valid = standard[stops], outcome[stops]

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        return functional.binary_cross_entropy_with_logits(model(self.standard[rows]), self.outcome[rows])

    def validation_loss(self, model: nn.Module) -> float:
        standard, outcome = self.valid
        return float(functional.binary_cross_entropy_with_logits(model(standard), outcome))


def _learn_expected(uplift: Uplift, trial: Trial, seed: int, progress: Progress) -> None:
    """Fit the part that says the chance of the outcome, and standardise it as an input of the effects."""
    if uplift.expected is None:
        return
    task = _ExpectedTask(uplift, trial, seed)
    fit(uplift.expected, task, replace(EXPECTED, seed=seed), lambda step: progress(f"outcome: {step}"))
    with torch.no_grad():
        standard = uplift.standard(torch.from_numpy(trial.features))[:, uplift.narrow]
        chance = torch.sigmoid(uplift.expected(standard))
        uplift.expected_mean.copy_(chance.mean())
        uplift.expected_scale.copy_(1.0 / chance.std().clamp(min=1e-6))


class TrialTask:
    """The Task: the R-learner's loss for several arms, and a price on every slope that noise could have made.

    source  Nie and Wager 2021 (arXiv 1712.04912), eq. 4; the price is the lasso's (Tibshirani 1996), its size the
            noise of a slope's own gradient
    """

    def __init__(self, uplift: Uplift, trial: Trial, expected: Floats, seed: int) -> None:
        self.n_rows = trial.arm.size
        self.features = torch.from_numpy(trial.features)
        residual = trial.outcome - expected
        self.spread = float(residual.std())
        self.residual = torch.from_numpy(residual / self.spread).float()
        self.sent_residual = torch.from_numpy(trial.sent_residual).float()
        weights = member_weights(np.arange(self.n_rows), uplift.direct.shape[0], seed)
        self.weights = torch.from_numpy(weights)
        with torch.no_grad():
            inputs = uplift.inputs(self.features)
            # The standard deviation of the gradient of the mean squared residual, were every effect 0.
            pull = 2.0 * torch.sqrt((inputs**2).T @ self.sent_residual**2) / self.n_rows
        self.price = LEAST_PULL * pull * float(uplift.unit) / self.spread  # (n_inputs, n_arms)

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See residual_loss, in units of the residual's variance."""
        effects = (model(self.features[rows]) * self.sent_residual[rows]).sum(dim=2) / self.spread
        missed = residual_loss(effects, self.residual[rows], torch.ones(len(rows)), self.weights[:, rows])
        direct = model.direct
        assert isinstance(direct, Tensor)
        return missed + (direct.abs() * self.price).sum() / direct.shape[0]

    def validation_loss(self, model: nn.Module) -> float:
        """The same over all rows: a linear effect cannot be overfitted by passing longer, so this says convergence."""
        return float(self.loss(model, np.arange(self.n_rows), 0))
