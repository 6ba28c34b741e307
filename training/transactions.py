"""The fraud study: orders that somebody has called fraud or not, our sum of small networks and its simple rival.

In: a Dataset whose events say is_fraud. Out: a calibrated RiskTransaction and its evidence. Called by training/fit.py;
tests.benchmarks.published.fraud learns from the same cases.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels import metrics
from kernels.checks import InvalidInput
from kernels.risk_features import REASONS, RISK_FEATURES
from training.calibrate import fit_platt
from training.dataset import TEST, TRAIN, VALID, Dataset
from training.devices import beside
from training.evidence import Evidence, calibration_bins, compared, shopper_weights
from training.loop import Progress, Recipe, fit
from training.models.risk_transaction import RiskTransaction, fraud_loss
from training.risk import risk_features
from training.sources.tables import InvalidTable, Shop

# Chosen on the validation window of the public fraud data (LOG.md).
RECIPE = Recipe(n_epochs=20, batch=256, learning_rate=2e-3, weight_decay=1e-2, patience=4)
WINDOWS = {TRAIN: "training", VALID: "validation", TEST: "test"}
FALSE_SHARE = 0.01
# A slope below would turn the order round; calibration only ever stretches it.
LEAST_SLOPE = 0.05

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Transactions:
    """Orders of which it is known whether they were fraud, with what was known just before each.

    features  (n, N_RISK_FEATURES) float32  NaN where unknown
    is_fraud  (n,) bool
    part      (n,) int8   TRAIN, VALID or TEST, in time order
    shopper   (n,) int64  whose it was; the bootstrap draws whole shoppers
    """

    features: NDArray[np.float32]
    is_fraud: Bools
    part: NDArray[np.int8]
    shopper: NDArray[np.int64]

    def of(self, part: int) -> NDArray[np.int64]:
        """Rows of a window."""
        return np.flatnonzero(self.part == part)


def lacks_labels(shop: Shop) -> str:
    """Say in one sentence that a shop's orders cannot teach what fraud is; empty if they can."""
    known = shop.events.filter(pl.col("kind") == "order", pl.col("is_fraud").is_not_null())["is_fraud"]
    if known.n_unique() == 2:
        return ""
    found = "none known" if known.len() == 0 else f"{known[0]} on all {known.len():,} orders that have one"
    return f"events.is_fraud must hold 0 and 1 for a model of fraud, got {found}"


def transactions_of(dataset: Dataset) -> Transactions:
    """Every order line with a label, its features as of just before it, and its window.

    raises  InvalidTable  if a window holds one class only; InvalidInput if a feature equals the label
    """
    lack = lacks_labels(dataset.shop)
    if lack:
        raise InvalidTable(lack)
    events = dataset.shop.events
    rows = events.select(((pl.col("kind") == "order") & pl.col("is_fraud").is_not_null()).arg_true()).to_series()
    chosen = events[rows]
    cases = Transactions(
        risk_features(events, dataset.shop.shoppers)[rows.to_numpy()],
        chosen["is_fraud"].to_numpy() > 0,
        dataset.splits.part(chosen["time_s"].to_numpy(), 0),
        chosen["shopper_id"].rank("dense").cast(pl.Int64).to_numpy(),
    )
    check_cases(cases)
    return cases


def check_cases(cases: Transactions) -> None:
    """Pass when both classes are in every window and no feature is the label.

    raises  InvalidTable, InvalidInput
    """
    for part, name in WINDOWS.items():
        happened = cases.is_fraud[cases.of(part)]
        if not happened.any() or happened.all():
            found = f"{int(happened.sum())} fraud among {happened.size}"
            raise InvalidTable(f"events.is_fraud must hold both classes in the {name} window, got {found}")
    for column, name in enumerate(RISK_FEATURES):
        if np.array_equal(cases.features[:, column], cases.is_fraud):
            raise InvalidInput(f"{name} must not equal the label is_fraud, got {cases.is_fraud.size} equal rows")


class FraudTask:
    """The Task: see fraud_loss."""

    def __init__(self, cases: Transactions) -> None:
        train, valid = cases.of(TRAIN), cases.of(VALID)
        self.n_rows = train.size
        self.features, self.labels = _tensors(cases, train)
        self.valid = _tensors(cases, valid)

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See fraud_loss."""
        return _loss(model, self.features[rows], self.labels[rows])

    def validation_loss(self, model: nn.Module) -> float:
        """See fraud_loss."""
        return float(_loss(model, *self.valid))


def fit_risk(
    cases: Transactions, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> tuple[RiskTransaction, float]:
    """Train and calibrate one network.

    returns  the module, and the seconds of its training
    """
    train, valid = cases.of(TRAIN), cases.of(VALID)
    silent = [reason.name for reason, known in zip(REASONS, _is_known(cases.features[train]), strict=True) if not known]
    if silent:
        progress(f"{', '.join(silent)}: unknown in every training row, so they say nothing for or against fraud")
    torch.manual_seed(recipe.seed)
    model = RiskTransaction()
    model.learn(torch.from_numpy(cases.features[train]), float(cases.is_fraud[train].mean()))
    fitted = fit(model, FraudTask(cases), recipe, progress, checkpoint)
    slope, shift = calibration(logits_of(model, cases.features[valid]), cases.is_fraud[valid])
    model.take_calibration(slope, shift)
    return model, fitted.seconds


def calibration(logits: Floats, happened: Bools) -> tuple[float, float]:
    """Slope and shift that make log-odds mean what they say.

    logits    (n,) float64
    happened  (n,) bool
    """
    slope, shift = fit_platt(logits[:, None], happened, np.array([1.0, 0.0]))
    return max(float(slope), LEAST_SLOPE), float(shift)


def logits_of(model: nn.Module, features: NDArray[np.float32]) -> Floats:
    """Log-odds, not calibrated.

    features  (n, N_RISK_FEATURES) float32
    returns   (n,) float64
    """
    model.eval()
    with torch.no_grad():
        (placed,) = beside(model, torch.from_numpy(features))
        logits: Floats = model(placed)[:, 0].float().cpu().numpy().astype(np.float64)
    return logits


def probabilities(model: RiskTransaction, features: NDArray[np.float32]) -> Floats:
    """Calibrated probabilities.

    features  (n, N_RISK_FEATURES) float32
    returns   (n,) float64
    """
    return _sigmoid(logits_of(model, features) * float(model.slope) + float(model.shift))


def study(
    dataset: Dataset, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> tuple[RiskTransaction, Evidence]:
    """Train on a shop's labelled orders and compare on its test window.

    raises  InvalidTable  if the shop has no labels of both classes; InvalidInput if a feature equals the label
    """
    cases = transactions_of(dataset)
    model, seconds = fit_risk(cases, recipe, lambda step: progress(f"fraud: {step}"), checkpoint)
    test = cases.of(TEST)
    if np.unique(cases.shopper[test]).size == 1:
        progress("fraud: all labelled orders of the test window are one shopper's, so the intervals say nothing")
    scored = {
        "additive networks": probabilities(model, cases.features[test]),
        "logistic regression": logistic(cases),
    }
    return model, _evidence(cases, test, scored, seconds, sum(p.numel() for p in model.parameters()))


def logistic(cases: Transactions) -> Floats:
    """The simple rival: logistic regression on the same features, unknown ones at their mean and said to be unknown.

    returns  (n_test,) float64  probabilities, calibrated on validation as ours are
    """
    from sklearn.linear_model import LogisticRegression

    train, valid, test = (cases.of(part) for part in (TRAIN, VALID, TEST))
    standard = RiskTransaction()
    standard.learn(torch.from_numpy(cases.features[train]), 0.5)
    normal = np.nan_to_num(standard.standard(torch.from_numpy(cases.features)).numpy().astype(np.float64))
    inputs = np.concatenate([normal, np.isnan(cases.features)], axis=1)
    model = LogisticRegression(C=1.0, max_iter=2_000).fit(inputs[train], cases.is_fraud[train])
    slope, shift = calibration(model.decision_function(inputs[valid]), cases.is_fraud[valid])
    return _sigmoid(model.decision_function(inputs[test]) * slope + shift)


def figures_of(probs: Floats, happened: Bools, weights: Floats) -> dict[str, Floats]:
    """Value, then bootstrap replicates, of each figure.

    probs     (n,) float64
    happened  (n,) bool
    weights   (n_replicates, n) float64
    returns   figure -> (1 + n_replicates,) float64; the calibration error has its value alone
    """
    weighted = np.concatenate([np.ones((1, probs.size)), weights])
    areas = metrics.ranking_areas(probs, happened, weighted)
    return {
        "fraud_auc": areas[:, 1],
        "fraud_ap": areas[:, 0],
        "fraud_recall_1fpr": recall_at_false_share(probs, happened, weighted, FALSE_SHARE),
        "fraud_ece": np.array([metrics.calibration_error(probs, happened)]),
    }


def recall_at_false_share(scores: Floats, happened: Bools, weights: Floats, most_false: float) -> Floats:
    """Share of what happened that is found where at most a share of the rest is alarmed for nothing.

    scores      (n,) float64  an alarm goes to all that reach a threshold, so ties are alarmed together
    happened    (n,) bool
    weights     (n_weightings, n) float64
    most_false  in [0, 1]
    returns     (n_weightings,) float64  NaN where nothing happened, or everything did
    """
    order = np.argsort(-scores, kind="stable")
    # The last of each tie: only there a threshold can lie.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    true = np.cumsum(weights[:, order] * happened[order], axis=1)[:, ends]
    false = np.cumsum(weights[:, order] * ~happened[order], axis=1)[:, ends]
    with np.errstate(invalid="ignore"):
        found = true / true[:, -1:]
        is_allowed = false <= most_false * false[:, -1:]
        recall: Floats = np.where(is_allowed, found, 0.0).max(axis=1)
    return np.where((true[:, -1] > 0) & (false[:, -1] > 0), recall, np.nan)


def _evidence(
    cases: Transactions, test: NDArray[np.int64], scored: dict[str, Floats], seconds: float, n_parameters: int
) -> Evidence:
    happened, weights = cases.is_fraud[test], shopper_weights(cases.shopper[test])
    rows, against = compared({name: figures_of(probs, happened, weights) for name, probs in scored.items()})
    return Evidence(
        rows=rows,
        against=[row for row in against if row.figure != "fraud_ece"],
        protocol="All orders of the test window with a label; features as of just before each.",
        n={"orders": test.size, "fraudulent orders": int(happened.sum())},
        seconds=seconds,
        n_parameters=n_parameters,
        reliability={"the order is fraud": calibration_bins(next(iter(scored.values())), happened)},
    )


def quick(recipe: Recipe) -> Recipe:
    """The same in two passes: to see that everything runs."""
    return replace(recipe, n_epochs=2)


def _loss(model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    risk = cast(RiskTransaction, model)
    features, labels = beside(risk, features, labels)
    return fraud_loss(risk.contributions(features), risk.bias, labels)


def _tensors(cases: Transactions, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(cases.features[rows]), torch.from_numpy(cases.is_fraud[rows]).float()[:, None]


def _is_known(features: NDArray[np.float32]) -> list[bool]:
    columns = np.asarray(~np.isnan(features).all(axis=0))
    return [bool(columns[[RISK_FEATURES.index(name) for name in reason.features]].any()) for reason in REASONS]


def _sigmoid(logits: Floats) -> Floats:
    probs: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
    return probs
