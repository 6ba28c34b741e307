"""The lifetime study: what shoppers will spend, from rows as of several past days, judged on the last horizon seen.

One shopper gives a row per cut; a label lies wholly before the moment that the study may know. In: a Dataset. Out: a
calibrated Lifetime and its evidence. Called by training/fit.py and tests/benchmarks/published/lifetime.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.features import columns
from training.dataset import DAY_S, WEEK_S, Dataset, Rows, first_event_s
from training.evidence import Evidence, compared, shopper_weights
from training.labels import spend_after
from training.loop import Progress, Recipe, fit
from training.models.lifetime import HORIZON_DAYS, Lifetime, ziln_loss
from training.sources.tables import InvalidTable

RECIPE = Recipe(n_epochs=30, batch=1_024, learning_rate=2e-3, weight_decay=0.05, patience=4)
CUT_STEP_S = 2 * WEEK_S
# History before the first cut, and the fewest cases that a figure or a fit is made of.
BURN_IN_S = 6 * WEEK_S
FEWEST_ROWS = 40
MOST_SHOPPERS = 20_000
KIND_PASSES = 300
# Rows at a time: each has a number for every kind on the way.
BATCH = 2_048
OURS, KINDS, SCALED = "lifetime net", "buy till you die, kinds alone", "past spend, scaled"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Spending:
    """Rows and what followed.

    spend  (n,) float64  within the label's days, ≥ 0, refunds taken off
    """

    rows: Rows
    spend: Floats

    def take(self, kept: Ints) -> "Spending":
        """Only some rows."""
        return Spending(self.rows.take(kept), self.spend[kept])

    @property
    def features(self) -> Tensor:
        """(n, N_FEATURES) float32."""
        return torch.from_numpy(self.rows.features)


def spending_of(dataset: Dataset, cuts: Ints, label_days: float) -> Spending:
    """Every shopper who had ordered before a cut, at each cut.

    cuts        (n_cuts,) int64  ascending
    label_days  how far the label looks ahead
    """
    shopper, place = np.nonzero(first_event_s(dataset.ledger)[:, None] < cuts[None, :])
    rows = dataset.rows(shopper, cuts[place])
    spend = np.maximum(spend_after(dataset, shopper, rows.at_s, round(label_days * DAY_S)), 0.0)
    has_ordered = rows.features[:, columns().index("has_ordered")] > 0
    return Spending(rows, spend).take(np.flatnonzero(has_ordered))


class SpendTask:
    """The Task: zero-inflated lognormal likelihood of spend within the label's days."""

    def __init__(self, model: Lifetime, train: Spending, valid: Spending) -> None:
        self.n_rows = len(train.rows)
        self.train, self.valid = (
            (part.features, _told(model, part.features), torch.from_numpy(part.spend).float())
            for part in (train, valid)
        )

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See ziln_loss."""
        features, told, spend = (column[rows] for column in self.train)
        assert isinstance(model, Lifetime)
        return ziln_loss(model.corrected(features, told), spend)

    def validation_loss(self, model: nn.Module) -> float:
        """See ziln_loss."""
        features, told, spend = self.valid
        assert isinstance(model, Lifetime)
        return float(ziln_loss(model.corrected(features, told), spend))


def _told(model: Lifetime, features: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.told(part) for part in torch.split(features, BATCH)])


@dataclass(frozen=True)
class Learned:
    """A fitted net.

    label_days  the horizon that labels had; a longer one is stretched, not measured
    n_rows      rows it learned from
    gain        how much less the validation loss was than that of the kinds alone; 0 keeps the kinds
    """

    model: Lifetime
    label_days: float
    n_rows: int
    gain: float
    seconds: float


def learn(dataset: Dataset, until_s: int, recipe: Recipe, progress: Progress, checkpoint: Path | None) -> Learned:
    """Fit kinds, net and scale on what was known at a moment.

    The last label's days choose the passes; then everything is fitted again with them.

    until_s  nothing from then on is read
    raises   InvalidTable  if too few shoppers ordered, or nobody ever came back
    """
    label_days = label_days_of(dataset, until_s)
    label_s = round(label_days * DAY_S)
    early, late = until_s - 2 * label_s, until_s - label_s
    valid = spending_of(dataset, np.array([late]), label_days)
    first = spending_of(dataset, cuts_until(dataset, early), label_days)
    _check_teaches(valid)
    torch.manual_seed(recipe.seed)
    trial = _known(dataset, late, label_days)
    before = {name: value.clone() for name, value in trial.state_dict().items()}
    seconds, passes, gain = 0.0, 0, 0.0
    if len(first.rows) >= FEWEST_ROWS:
        trial.standard.learn(first.features)
        with torch.no_grad():
            alone = SpendTask(trial, first, valid).validation_loss(trial.eval())
        fitted = fit(trial, SpendTask(trial, first, valid), recipe, progress)
        seconds, gain = fitted.seconds, alone - min(fitted.validation_losses)
        passes = fitted.best_epoch + 1 if gain > 0 else 0
    if passes == 0:
        trial.load_state_dict(before)
    model = _known(dataset, until_s, label_days)
    every = spending_of(dataset, cuts_until(dataset, late), label_days)
    model.standard.learn(every.features)
    if passes:
        again = replace(recipe, n_epochs=passes, patience=recipe.n_epochs)
        seconds += fit(model, SpendTask(model, every, valid), again, progress, checkpoint).seconds
    # Over every cut: the sum of one horizon alone is one season's (LOG.md).
    model.scale.fill_(_scale(model, every))
    return Learned(model.eval(), label_days, len(every.rows), gain, seconds)


def label_days_of(dataset: Dataset, until_s: int) -> float:
    """Days a label looks ahead: 90, or a third of what was seen, in whole weeks, where less than 270 days were."""
    seen_s = until_s - dataset.splits.first_s
    if seen_s >= 3 * HORIZON_DAYS[0] * DAY_S:
        return HORIZON_DAYS[0]
    return 7.0 * max(seen_s // 3 // WEEK_S, 1)


def cuts_until(dataset: Dataset, last_s: int) -> Ints:
    """Moments to ask at, CUT_STEP_S apart and back from the last; none before BURN_IN_S of history.

    returns  (n_cuts,) int64  ascending
    """
    n_before = max((last_s - dataset.splits.first_s - BURN_IN_S) // CUT_STEP_S, -1)
    return last_s - CUT_STEP_S * np.arange(n_before, -1, -1, dtype=np.int64)


def _check_teaches(valid: Spending) -> None:
    if len(valid.rows) < FEWEST_ROWS:
        raise InvalidTable(f"at least {FEWEST_ROWS} shoppers must have ordered early enough, got {len(valid.rows)}")
    if not (valid.spend > 0).any():
        raise InvalidTable("events must hold shoppers who came back, got none: no lifetime value can be learned")


def _known(dataset: Dataset, at_s: int, label_days: float) -> Lifetime:
    """A net that has its kinds and its value per order from all histories as of a moment."""
    model = Lifetime()
    rows = spending_of(dataset, np.array([at_s]), 0.0)
    if len(rows.rows) > MOST_SHOPPERS:
        rows = rows.take(np.linspace(0, len(rows.rows) - 1, MOST_SHOPPERS).astype(np.int64))
    with torch.no_grad():
        stayed, left = model.history_log_likelihood(rows.features)
        likelihood = torch.logaddexp(stayed, left).numpy().astype(np.float64)
    model.kind_prob.copy_(torch.from_numpy(fitted_kinds(likelihood)))
    mean, orders = fitted_value(rows.rows.features)
    model.value_mean.fill_(mean)
    model.value_orders.fill_(orders)
    model.label_days.fill_(label_days)
    return model


def fitted_kinds(log_likelihood: Floats) -> Floats:
    """Shares of the kinds that make all histories likeliest.

    log_likelihood  (n, n_kinds) float64
    returns         (n_kinds,) float64  sum 1, none quite 0
    source          Laird 1978: the nonparametric mixture by expectation and maximisation
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    share = np.full(likelihood.shape[1], 1.0 / likelihood.shape[1])
    for _ in range(KIND_PASSES):
        share = share * ((1.0 / (likelihood @ share)) @ likelihood) / likelihood.shape[0]
    return np.asarray((share + 1e-9) / (share + 1e-9).sum())


def fitted_value(features: NDArray[np.float32]) -> tuple[float, float]:
    """Mean spend per order over shoppers, and how many orders of it a shopper's own mean is drawn by.

    features  (n, N_FEATURES) float32
    returns   the second number is (q - 1) / p of the gamma-gamma model, by moments of logarithms
    source    Fader and Hardie 2013, "The Gamma-Gamma model of monetary value", eq. 5
    """
    named = columns()
    n, total, spread = (
        features[:, named.index(name)].astype(np.float64) for name in ("n_orders", "spend_total", "basket_spend_std")
    )
    own = np.maximum(total, 0.0) / np.maximum(n, 1.0)
    mean = max(float(own.mean()), 1e-6)
    again = (n >= 2) & (own > 0)
    if int(again.sum()) < FEWEST_ROWS:
        return mean, 1.0
    # In proportion to the shopper's own mean: on the plain scale a few bulk buyers made every other mean noise.
    within = float(((spread / np.maximum(own, 1e-9))[again] ** 2 * n[again]).sum() / (n[again] - 1.0).sum())
    between = max(float(np.log(own[again]).var() - (within / n[again]).mean()), 0.02)
    return mean, float(np.clip(within * (1.0 / between - 0.5), 0.1, 50.0))


def expected_spend(model: Lifetime, features: NDArray[np.float32], days: float) -> Floats:
    """What is expected over any horizon.

    features  (n, N_FEATURES) float32
    returns   (n,) float64  currency units
    """
    with torch.no_grad():
        asked = torch.tensor([days])
        spend = torch.cat([model.spend(part, asked) for part in torch.split(torch.from_numpy(features), BATCH)])
    return spend.numpy()[:, 0].astype(np.float64)


def kinds_spend(model: Lifetime, features: NDArray[np.float32], days: float) -> Floats:
    """What the kinds alone expect: orders times value, no net and no scale.

    features  (n, N_FEATURES) float32
    returns   (n,) float64  currency units
    """
    asked = torch.tensor([days])
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(features), BATCH)
        spend = torch.cat([model.orders(part, asked)[0] * model.value(part) for part in parts])
    return spend.numpy()[:, 0].astype(np.float64)


def past_spend(features: NDArray[np.float32], days: float, scale: float = 1.0) -> Floats:
    """The simplest rival: spend so far, per day known, over the horizon.

    features  (n, N_FEATURES) float32
    scale     what makes its sum that of an earlier horizon
    """
    named = columns()
    total, tenure = (features[:, named.index(name)].astype(np.float64) for name in ("spend_total", "tenure_days"))
    return np.asarray(scale * np.maximum(total, 0.0) / np.maximum(tenure, 7.0) * days)


def past_scale(dataset: Dataset, until_s: int) -> float:
    """What scales the simplest rival so that its sum was right over the last label's days."""
    days = label_days_of(dataset, until_s)
    known = spending_of(dataset, np.array([until_s - round(days * DAY_S)]), days)
    return float(known.spend.sum() / max(past_spend(known.rows.features, days).sum(), 1e-9))


def _scale(model: Lifetime, every: Spending) -> float:
    """Observed over predicted sum."""
    predicted = expected_spend(model.eval(), every.rows.features, float(model.label_days))
    return float(every.spend.sum() / max(float(predicted.sum()), 1e-9))


def ranked(values: Floats) -> Floats:
    """Ranks, those of equal values their mean.

    values   (n,) float64
    returns  (n,) float64  from 0
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    firsts = np.cumsum(counts) - counts
    return np.asarray((firsts + (counts - 1) / 2.0)[place], np.float64)


def figures_of(predicted: Floats, spend: Floats, weights: Floats) -> dict[str, Floats]:
    """Each figure of one model under every weighting of shoppers.

    predicted, spend  (n,) float64
    weights           (n_weightings, n) float64  whole numbers
    returns           spearman; calibration, the predicted over the observed sum; gini, the Gini of spend ranked by
                      prediction over that ranked by itself
    """
    found = np.zeros((3, weights.shape[0]))
    for place, weight in enumerate(weights):
        drawn = np.repeat(np.arange(spend.size), weight.astype(np.int64))
        said, was = predicted[drawn], spend[drawn]
        if np.ptp(said) > 0 and np.ptp(was) > 0:
            found[0, place] = np.corrcoef(ranked(said), ranked(was))[0, 1]
            found[2, place] = _gini(said, was) / _gini(was, was)
        found[1, place] = said.sum() / max(was.sum(), 1e-9)
    return {"spearman": found[0], "calibration": found[1], "gini": found[2]}


def _gini(said: Floats, was: Floats) -> float:
    """Twice the area between the diagonal and the share of spend of those ranked lowest."""
    share = np.cumsum(was[np.argsort(said, kind="stable")]) / was.sum()
    return float(1.0 - 2.0 * share.mean() + 1.0 / was.size)


def study(dataset: Dataset, recipe: Recipe, progress: Progress, checkpoint: Path | None) -> tuple[Lifetime, Evidence]:
    """Fit ours and its rivals on all but the last horizon, judge them on it, and keep the module that was judged.

    raises  InvalidTable  if too few shoppers ordered, or nobody ever came back
    """
    label_s = round(label_days_of(dataset, dataset.splits.end_s) * DAY_S)
    until_s = dataset.splits.end_s - label_s
    learned = learn(dataset, until_s, recipe, lambda step: progress(f"lifetime: {step}"), checkpoint)
    days = label_s / DAY_S
    test = spending_of(dataset, np.array([until_s]), days)
    features = test.rows.features
    scored = {
        OURS: expected_spend(learned.model, features, days),
        KINDS: kinds_spend(learned.model, features, days),
        SCALED: past_spend(features, days, past_scale(dataset, until_s)),
    }
    return learned.model, _evidence(test, scored, learned, days)


def _evidence(test: Spending, scored: Mapping[str, Floats], learned: Learned, days: float) -> Evidence:
    weights = np.concatenate([np.ones((1, test.spend.size)), shopper_weights(test.rows.shopper)])
    rows, against = compared({name: figures_of(predicted, test.spend, weights) for name, predicted in scored.items()})
    said = [said for said in HORIZON_DAYS if said > learned.label_days]
    return Evidence(
        rows=rows,
        against=[row for row in against if row.figure != "calibration"],
        protocol=f"Spend over the last {days:.0f} days of everyone who had ordered before; currency units.",
        n={"shoppers": test.spend.size, "spenders": int((test.spend > 0).sum()), "rows learned from": learned.n_rows},
        seconds=learned.seconds,
        n_parameters=sum(parameter.numel() for parameter in learned.model.parameters()),
        notes=(
            f"Learned on {learned.label_days:.0f} days; {_joined(said)} days are stretched from them by the "
            "drop-out of the kinds and were not measured.",
            "Calibration is the predicted over the observed sum; the scale was set on all earlier horizons.",
            "The net's corrections lost on the validation horizon and are left out."
            if learned.gain <= 0
            else f"The net's corrections gained {learned.gain:.4f} of likelihood on the validation horizon.",
        ),
    )


def _joined(days: Sequence[float]) -> str:
    return " and ".join(f"{one:.0f}" for one in days) or "no"
