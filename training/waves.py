"""Who was sent what, who could have been, and the adjustment for a choice that was not random.

Propensity and expected spend are cross-fitted over shoppers; rows without overlap are left out. In: a Dataset. Out:
waves with their nuisances. Called by training/effects.py.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from kernels.features import N_ARMS, columns
from training.dataset import DAY_S, Dataset, Rows
from training.labels import SPEND_HORIZON_S, spend_after

# A wave of fewer tells nothing about an arm and makes its propensity unlearnable.
FEWEST_SENT = 20
N_FOLDS = 3
# Outside of this range almost nobody like the shopper was sent the wave, or almost everybody: no comparison, so no row.
OVERLAP = (0.02, 0.98)
# Spend above this quantile of the training window is cut to it: a few bulk buyers would decide every effect.
SPEND_QUANTILE = 0.995

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Waves:
    """One row per shopper and wave: a day on which campaigns of one arm were sent.

    wave, arm  (n,) int64
    sent       (n,) bool
    spend      (n,) float64           currency units over 28 days, cut at SPEND_QUANTILE
    covariates (n, n_covariates) float64  what may have decided who was sent it; more than the model is given
    """

    rows: Rows
    wave: NDArray[np.int64]
    arm: NDArray[np.int64]
    sent: NDArray[np.bool_]
    spend: Floats
    covariates: Floats
    covariate_names: tuple[str, ...]

    def take(self, kept: NDArray[np.int64]) -> "Waves":
        """Only some rows."""
        rows = self.rows.take(kept)
        return replace(
            self, rows=rows, wave=self.wave[kept], arm=self.arm[kept], sent=self.sent[kept], spend=self.spend[kept],
            covariates=self.covariates[kept],
        )  # fmt: skip


@dataclass(frozen=True)
class Adjusted:
    """Waves with their nuisances, rows without overlap left out.

    propensity  (n,) float64  P(sent | covariates, wave), from shoppers of other folds
    expected    (n,) float64  E[spend | covariates, wave], from shoppers of other folds
    all_propensity, all_sent, all_arm  before trimming, for the overlap figures
    """

    waves: Waves
    propensity: Floats
    expected: Floats
    all_propensity: Floats = field(repr=False)
    all_sent: NDArray[np.bool_] = field(repr=False)
    all_arm: NDArray[np.int64] = field(repr=False)

    @property
    def residual(self) -> Floats:
        """Spend less its expectation."""
        return self.waves.spend - self.expected

    @property
    def sent_residual(self) -> Floats:
        """Sent less its propensity."""
        return self.waves.sent - self.propensity

    def scores(self, constant: Floats) -> Floats:
        """Doubly robust estimate of each row's effect; its outcome model has the constant effect and favours no model.

        constant  (N_ARMS,) float64
        """
        effect = constant[self.waves.arm]
        missed = self.residual - self.sent_residual * effect
        return effect + self.sent_residual / (self.propensity * (1.0 - self.propensity)) * missed


def waves_of(dataset: Dataset) -> Waves | None:
    """Every shopper at the start of every wave whose 28 days were seen; None if no wave is large enough."""
    table = _wave_table(dataset)
    if table.height == 0:
        return None
    starts = np.unique(table["day_s"].to_numpy())
    n_shoppers = dataset.ledger.n_shoppers
    shopper, place = (axis.ravel() for axis in np.indices((n_shoppers, starts.size)))
    rows = dataset.rows(shopper.astype(np.int64), starts[place])
    sent, running = _sent(dataset, starts)
    spend = spend_after(dataset, rows.shopper, rows.at_s, SPEND_HORIZON_S)
    spend = np.minimum(spend, np.quantile(spend[rows.at_s < dataset.splits.train_until_s], SPEND_QUANTILE))
    covariates, names = _covariates(dataset, rows, running[rows.shopper, place])
    parts = []
    for wave, (day_s, arm) in enumerate(table.select("day_s", "arm").iter_rows()):
        # A shopper without any event before is unknown to the shop, and nobody unknown was ever sent anything.
        kept = np.flatnonzero((rows.at_s == day_s) & (rows.features[:, columns().index("tenure_days")] > 0))
        parts.append(
            (kept, np.full(kept.size, wave), np.full(kept.size, arm), sent[rows.shopper[kept], place[kept], arm])
        )
    kept, wave_of, arm_of, was_sent = (np.concatenate(column) for column in zip(*parts, strict=True))
    whole = Waves(rows, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_), spend, covariates, names)
    taken = replace(
        whole, wave=np.zeros(len(rows), np.int64), arm=np.zeros(len(rows), np.int64), sent=np.zeros(len(rows), np.bool_)
    )
    return replace(taken.take(kept), wave=wave_of, arm=arm_of, sent=was_sent)


def adjust(waves: Waves, seed: int) -> Adjusted:
    """Cross-fit propensity and expected spend over shoppers, and leave out rows without overlap."""
    fold = np.random.default_rng(seed).permutation(int(waves.rows.shopper.max()) + 1)[waves.rows.shopper] % N_FOLDS
    spread = waves.covariates.std(axis=0)
    standard = (waves.covariates - waves.covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    is_wave = (waves.wave[:, None] == np.unique(waves.wave)).astype(np.float64)
    propensity, expected = np.zeros(waves.sent.size), np.zeros(waves.sent.size)
    for held in range(N_FOLDS):
        learn, apply = fold != held, fold == held
        design = np.column_stack([standard, is_wave])
        expected[apply] = _spend_model().fit(design[learn], waves.spend[learn]).predict(design[apply])
        for arm in np.unique(waves.arm):
            fitted, asked = learn & (waves.arm == arm), apply & (waves.arm == arm)
            if np.unique(waves.sent[fitted]).size == 2 and asked.any():
                # The wave's own intercept is hardly penalised: campaigns of one arm differ twentyfold in reach.
                wide = np.column_stack([standard, 5.0 * is_wave])
                logistic = LogisticRegression(C=0.05, max_iter=300).fit(wide[fitted], waves.sent[fitted])
                propensity[asked] = logistic.predict_proba(wide[asked])[:, 1]
    overlaps = np.flatnonzero((propensity > OVERLAP[0]) & (propensity < OVERLAP[1]))
    return Adjusted(waves.take(overlaps), propensity[overlaps], expected[overlaps], propensity, waves.sent, waves.arm)


def _spend_model() -> HistGradientBoostingRegressor:
    # Trees leave 5 % less variance than ridge on complete_journey: tighter intervals for every effect (LOG.md).
    return HistGradientBoostingRegressor(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=60, early_stopping=False, random_state=0
    )


def constant_effects(adjusted: Adjusted, weights: Floats | None = None) -> Floats:
    """One effect per arm: the simple rival, and what heterogeneity must beat.

    weights  (n,) float64  how often each row counts
    returns  (N_ARMS,) float64  currency units; 0 for an arm that was never sent
    """
    weights = np.ones(adjusted.propensity.size) if weights is None else weights
    over = np.bincount(adjusted.waves.arm, weights * adjusted.residual * adjusted.sent_residual, N_ARMS)
    under = np.bincount(adjusted.waves.arm, weights * adjusted.sent_residual**2, N_ARMS)
    result: Floats = np.divide(over, under, out=np.zeros(N_ARMS), where=under > 0)
    return result


def _wave_table(dataset: Dataset) -> pl.DataFrame:
    """day_s and arm of every wave of at least FEWEST_SENT shoppers whose 28 days were seen."""
    seen = (pl.col("day_s") >= dataset.splits.first_s) & (pl.col("day_s") + SPEND_HORIZON_S <= dataset.splits.end_s)
    counted = _exposures(dataset).group_by("day_s", "arm").agg(pl.col("shopper").n_unique().alias("n_sent"))
    return counted.filter(seen & (pl.col("n_sent") >= FEWEST_SENT)).sort("day_s", "arm")


def _exposures(dataset: Dataset) -> pl.DataFrame:
    """shopper, arm, day_s and ends_s of every exposure."""
    names = dataset.vocabulary.arms
    arms = pl.DataFrame({"arm_name": names, "arm": range(len(names))}, schema={"arm_name": pl.String, "arm": pl.Int64})
    campaigns = dataset.shop.offers.group_by("campaign_id").agg(
        pl.col("arm").drop_nulls().sort().first().alias("arm_name"), pl.col("ends_s").max()
    )
    return (
        dataset.shop.exposures.join(campaigns, on="campaign_id", how="inner")
        .join(arms, on="arm_name", how="inner")
        .join(dataset.vocabulary.shopper_index, on="shopper_id", how="inner")
        .select("shopper", "arm", (pl.col("time_s") // DAY_S * DAY_S).alias("day_s"), "ends_s")
    )


def _sent(dataset: Dataset, starts: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Floats]:
    """Which arms each shopper was sent on each start, and (running, ever before) counts of every arm at that moment."""
    exposures = _exposures(dataset)
    shopper, arm, day_s, ends_s = (exposures[name].to_numpy() for name in ("shopper", "arm", "day_s", "ends_s"))
    sent = np.zeros((dataset.ledger.n_shoppers, starts.size, N_ARMS), np.bool_)
    before = np.zeros((dataset.ledger.n_shoppers, starts.size, 2 * N_ARMS))
    for place, start_s in enumerate(starts):
        today, earlier = day_s == start_s, day_s < start_s
        sent[shopper[today], place, arm[today]] = True
        running = earlier & (ends_s > start_s)
        np.add.at(before[:, place], (shopper[running], arm[running]), 1.0)
        np.add.at(before[:, place], (shopper[earlier], N_ARMS + arm[earlier]), 1.0)
    return sent, before


def _covariates(dataset: Dataset, rows: Rows, before: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Everything known before the wave that may have decided who was sent it, squeezed to comparable sizes."""
    named = columns()
    narrow = [place for place, name in enumerate(named) if "[" not in name]
    features = np.log1p(np.maximum(rows.features[:, narrow], 0.0)).astype(np.float64)
    spends = [
        spend_after(dataset, rows.shopper, rows.at_s - days * DAY_S, days * DAY_S)[:, None] for days in (28, 56, 84)
    ]
    declared, declared_names = _declared(dataset)
    names = (
        *(named[place] for place in narrow), "spend_28d", "spend_56d", "spend_84d",
        *(f"{state}_{arm}" for state in ("running", "sent_before") for arm in range(N_ARMS)), *declared_names,
    )  # fmt: skip
    return np.column_stack([features, *spends, before, declared[rows.shopper]]), names


def _declared(dataset: Dataset) -> tuple[Floats, tuple[str, ...]]:
    """What shoppers declared, a column per answer; no column says that nothing was declared but all zeros."""
    known = dataset.vocabulary.shopper_index.join(
        dataset.shop.shoppers, on="shopper_id", how="left", maintain_order="left"
    )
    parts, names = [np.zeros((known.height, 0))], []
    for field_name in ("age_band", "income_band", "household_size", "n_children"):
        answers = known[field_name].drop_nulls().unique().sort().to_list()
        parts += [
            (known[field_name] == answer).fill_null(False).to_numpy().astype(np.float64)[:, None] for answer in answers
        ]
        names += [f"{field_name} {answer}" for answer in answers]
    return np.column_stack(parts), tuple(names)
