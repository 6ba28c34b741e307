"""The uplift study: whether being sent a campaign changes spend, by how much, and for whom.

The effect is fitted on what propensity and expected spend leave over (R-learner), drawn towards one number per arm as
far as earlier campaigns say it should be, and judged on later campaigns with doubly robust scores. In: a Dataset. Out:
a fitted Uplift and its evidence. Called by training/fit.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, nn

from kernels import metrics
from kernels.checks import check
from kernels.features import N_ARMS, columns
from training.dataset import Dataset
from training.evidence import Evidence, Figure, compared, interval, shopper_weights
from training.labels import SPEND_HORIZON_S
from training.loop import Progress, Recipe, fit
from training.models.uplift import Shape, Uplift, residual_loss
from training.overlap import Overlap, overlap_of
from training.waves import OVERLAP, Adjusted, Waves, adjust, constant_effects, waves_of

# The last part of the training window, as a share of the rows that were sent something, on which `trust` is chosen.
CHOICE_SHARE = 0.4
TRUSTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
N_TENTHS = 10
FEWEST_ROWS = 50

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decile:
    """A tenth of the test rows of an arm, largest predicted effect first; currency units per shopper."""

    predicted: float
    observed: float
    lower: float
    upper: float


@dataclass(frozen=True)
class UpliftEvidence:
    """The table, and what only the uplift model has."""

    evidence: Evidence
    deciles: Mapping[str, Sequence[Decile]]
    overlap: Mapping[str, Overlap]
    constants: Mapping[str, Figure]


class EffectTask:
    """The Task: the R-learner's loss; the first member on every shopper once, the others on resamples."""

    def __init__(self, train: Adjusted, valid: Adjusted, seed: int) -> None:
        self.train, self.valid = _tensors(train), _tensors(valid)
        self.n_rows = train.propensity.size
        self.weights = torch.from_numpy(member_weights(train.waves.rows.shopper, Shape().n_members, seed))

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See residual_loss; one thousandth of it, so that its size is near one."""
        features, arm, residual, sent_residual = (column[rows] for column in self.train)
        effects = model(features).gather(2, arm.expand(len(self.weights), -1).unsqueeze(2)).squeeze(2)
        return residual_loss(effects, residual, sent_residual, self.weights[:, rows]) / 1_000.0

    def validation_loss(self, model: nn.Module) -> float:
        """The first member's loss on later waves."""
        features, arm, residual, sent_residual = self.valid
        effects = model(features)[0].gather(1, arm.unsqueeze(1)).squeeze(1)
        return float(((residual - effects * sent_residual) ** 2).mean() / 1_000.0)


def member_weights(shopper: NDArray[np.int64], n_members: int, seed: int) -> NDArray[np.float32]:
    """How often each member draws each row: the first once, the others as a bootstrap over shoppers does.

    shopper  (n,) int64  row's shopper
    returns  (n_members, n) float32
    """
    resampled = shopper_weights(shopper, n_members - 1, seed)
    return np.concatenate([np.ones((1, shopper.size)), resampled]).astype(np.float32)


def _tensors(adjusted: Adjusted) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(adjusted.waves.rows.features),
        torch.from_numpy(adjusted.waves.arm),
        torch.from_numpy(adjusted.residual).float(),
        torch.from_numpy(adjusted.sent_residual).float(),
    )


def study(
    dataset: Dataset,
    recipe: Recipe,
    progress: Progress,
    checkpoint: Path | None,
    doses: Sequence[Sequence[str]] = (),
) -> tuple[Uplift, UpliftEvidence]:
    """Fit ours and its rivals on the training window's campaigns and judge them on all later ones.

    doses   arms that are doses of one treatment, from the smallest on: ("5 % off", "10 % off"); a larger one is then
            never said to add less, whatever the features
    raises  InvalidInput  if doses name an arm that the shop has not, or one twice
    """
    chains = dose_arms(doses, dataset.vocabulary.arms)
    torch.manual_seed(recipe.seed)
    ours = Uplift(Shape(doses=chains))
    waves = waves_of(dataset)
    if waves is None:
        return ours, UpliftEvidence(_nothing("no campaign was sent to enough shoppers: every effect is 0"), {}, {}, {})
    learns = waves.rows.at_s + SPEND_HORIZON_S <= dataset.splits.train_until_s
    judges = waves.rows.at_s >= dataset.splits.train_until_s
    if not learns.any():
        return ours, UpliftEvidence(
            _nothing("no campaign ended before the training window did: every effect is 0"), {}, {}, {}
        )
    train = adjust(waves.take(np.flatnonzero(learns)), recipe.seed)
    ours.standard.learn(torch.from_numpy(train.waves.rows.features))
    trust, seconds = _fit(ours, train, recipe, lambda step: progress(f"uplift: {step}"), checkpoint)
    slopes = Linear(train)
    constant, draws = _constant(train, recipe.seed, chains)
    _settle(ours, train, trust, constant, draws.std(axis=0))
    arms = dataset.vocabulary.arms
    spread = {arms[arm]: interval(constant[arm], draws[:, arm]) for arm in np.unique(train.waves.arm)}
    overlaps = {arms[arm]: overlap_of(train, int(arm)) for arm in np.unique(train.waves.arm)}
    if not judges.any():
        return ours, UpliftEvidence(_nothing("no later campaign to judge on", seconds), {}, overlaps, spread)
    test = adjust(waves.take(np.flatnonzero(judges)), recipe.seed + 1)
    effects = {
        "uplift net": _effects(ours, test.waves),
        "constant effect per arm": constant[test.waves.arm],
        "linear R-learner": slopes(test.waves),
        "uplift net, undrawn": _raw(ours, test.waves),
    }
    evidence = _evidence(test, effects, constant, trust, arms)
    n_parameters = sum(parameter.numel() for parameter in ours.parameters())
    return ours, UpliftEvidence(
        replace(evidence, seconds=seconds, n_parameters=n_parameters),
        {arms[arm]: deciles_of(test, effects["uplift net"], constant, int(arm)) for arm in np.unique(test.waves.arm)},
        overlaps,
        spread,
    )


def _fit(
    ours: Uplift, train: Adjusted, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Floats, float]:
    """Choose passes and trust on the training window's last campaigns, fit on all of it; returns trust and seconds."""
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    early, late = _split_in_time(train)
    if late is None:
        fitted = fit(ours, EffectTask(train, train, recipe.seed), replace(recipe, n_epochs=1), progress, checkpoint)
        return np.zeros(N_ARMS), fitted.seconds
    first = fit(ours, EffectTask(early, late, recipe.seed), recipe, progress)
    trust = chosen_trust(ours, early, late)
    ours.load_state_dict(before)
    again = replace(recipe, n_epochs=first.best_epoch + 1, patience=recipe.n_epochs)
    fitted = fit(ours, EffectTask(train, late, recipe.seed), again, progress, checkpoint)
    return trust, first.seconds + fitted.seconds


def _split_in_time(train: Adjusted) -> tuple[Adjusted, Adjusted | None]:
    """Campaigns up to a day and after it, so that CHOICE_SHARE of those sent something come after."""
    at_s = train.waves.rows.at_s
    cut_s = np.quantile(at_s[train.waves.sent], 1.0 - CHOICE_SHARE) if train.waves.sent.any() else at_s.max()
    early, late = np.flatnonzero(at_s < cut_s), np.flatnonzero(at_s >= cut_s)
    if early.size < FEWEST_ROWS or late.size < FEWEST_ROWS:
        return train, None
    return _taken(train, early), _taken(train, late)


def _taken(adjusted: Adjusted, kept: NDArray[np.int64]) -> Adjusted:
    return replace(
        adjusted,
        waves=adjusted.waves.take(kept),
        propensity=adjusted.propensity[kept],
        expected=adjusted.expected[kept],
    )


def chosen_trust(ours: Uplift, early: Adjusted, late: Adjusted) -> Floats:
    """How far each arm's deviations improve the loss on later campaigns; within one standard error they are noise.

    early    campaigns that the effects were fitted on
    late     later campaigns, which choose
    returns  (N_ARMS,) float64  one of TRUSTS each; 0 keeps the constant
    """
    constant = constant_effects(early)
    deviation = _raw(ours, late.waves) - _centre(ours, early)[late.waves.arm]
    level = constant[late.waves.arm]
    alone = (late.residual - level * late.sent_residual) ** 2
    gains = [alone - (late.residual - (level + share * deviation) * late.sent_residual) ** 2 for share in TRUSTS]
    trust = np.zeros(N_ARMS)
    for arm in np.unique(late.waves.arm):
        rows = late.waves.arm == arm
        best = int(np.argmax([gain[rows].sum() for gain in gains]))
        by_shopper = np.bincount(late.waves.rows.shopper[rows], gains[best][rows])
        if by_shopper.sum() > np.sqrt((by_shopper**2).sum()):
            trust[arm] = TRUSTS[best]
    return trust


def dose_arms(doses: Sequence[Sequence[str]], arms: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Chains of arms' names as places.

    raises  InvalidInput  if a name is not an arm's
    """
    unknown = [name for chain in doses for name in chain if name not in arms]
    check(not unknown, f"doses must name arms of the shop, {', '.join(map(repr, arms))}, got {unknown[:1]}")
    return tuple(tuple(arms.index(name) for name in chain) for chain in doses)


def rising(constant: Floats, doses: Sequence[Sequence[int]]) -> Floats:
    """Effects per arm, the nearest that rise with the dose and are never below 0; arms without a dose stay.

    constant  (n_arms,) float64
    source    Barlow et al. 1972, pool adjacent violators
    """
    risen = constant.copy()
    for chain in doses:
        places = list(chain)
        fitted = IsotonicRegression(y_min=0.0).fit_transform(np.arange(len(places)), constant[places])
        risen[places] = fitted
    return risen


def _constant(train: Adjusted, seed: int, doses: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    weights = shopper_weights(train.waves.rows.shopper, seed=seed)
    draws = [rising(constant_effects(train, drawn), doses) for drawn in weights]
    return rising(constant_effects(train), doses), np.stack(draws)


def _settle(ours: Uplift, train: Adjusted, trust: Floats, constant: Floats, constant_se: Floats) -> None:
    # The net holds what each dose adds to the one before it.
    apart = np.linalg.inv(ours.cumulate.numpy().astype(np.float64))
    values = {
        "trust": trust,
        "centre": _centre(ours, train) @ apart,
        "constant": constant @ apart,
        "constant_se": constant_se,
    }
    for name, value in values.items():
        getattr(ours, name).copy_(torch.from_numpy(value))


def _centre(ours: Uplift, adjusted: Adjusted) -> Floats:
    """Overlap-weighted mean of the raw effect per arm, so that drawing towards the constant keeps the mean effect."""
    raw, worth = _raw(ours, adjusted.waves), adjusted.sent_residual**2
    under = np.bincount(adjusted.waves.arm, worth, N_ARMS)
    over = np.bincount(adjusted.waves.arm, worth * raw, N_ARMS)
    centre: Floats = np.divide(over, under, out=np.zeros(N_ARMS), where=under > 0)
    return centre


def _raw(ours: Uplift, waves: Waves) -> Floats:
    with torch.no_grad():
        effects = ours(torch.from_numpy(waves.rows.features))[0].numpy().astype(np.float64)
    result: Floats = effects[np.arange(waves.arm.size), waves.arm]
    return result


def _effects(ours: Uplift, waves: Waves) -> Floats:
    with torch.no_grad():
        effects = ours.effects(torch.from_numpy(waves.rows.features))[0].numpy().astype(np.float64)
    result: Floats = effects[np.arange(waves.arm.size), waves.arm]
    return result


class Linear:
    """The linear R-learner, a simple rival: the effect is a weighted sum of the standardised features."""

    def __init__(self, train: Adjusted) -> None:
        self.narrow = [place for place, name in enumerate(columns()) if "[" not in name]
        squeezed = self._squeezed(train.waves)
        self.mean, spread = squeezed.mean(axis=0), squeezed.std(axis=0)
        self.scale = np.where(spread > 0, 1.0 / np.where(spread > 0, spread, 1.0), 0.0)
        self.coefficients = np.zeros((N_ARMS, len(self.narrow) + 1))
        for arm in np.unique(train.waves.arm):
            rows = train.waves.arm == arm
            design = self._design(train.waves)[rows] * train.sent_residual[rows, None]
            # A tenth of the rows' worth of ridge, the level free: fitted without it, the rival explodes.
            ridge = np.diag(np.append(np.full(len(self.narrow), 0.1 * rows.sum() * np.mean(design[:, -1] ** 2)), 1e-6))
            self.coefficients[arm] = np.linalg.solve(design.T @ design + ridge, design.T @ train.residual[rows])

    def __call__(self, waves: Waves) -> Floats:
        """Effect of each row's own arm, currency units."""
        effects: Floats = (self._design(waves) * self.coefficients[waves.arm]).sum(axis=1)
        return effects

    def _squeezed(self, waves: Waves) -> Floats:
        features = waves.rows.features[:, self.narrow].astype(np.float64)
        return np.asarray(np.sign(features) * np.log1p(np.abs(features)))

    def _design(self, waves: Waves) -> Floats:
        standard = ((self._squeezed(waves) - self.mean) * self.scale).clip(-3.0, 3.0)
        return np.column_stack([standard, np.ones(waves.arm.size)])


def _evidence(
    test: Adjusted, effects: Mapping[str, Floats], constant: Floats, trust: Floats, arms: Sequence[str]
) -> Evidence:
    weights = np.concatenate([np.ones((1, test.propensity.size)), shopper_weights(test.waves.rows.shopper)])
    scores = test.scores(constant)
    rows, against = compared({name: _figures(test, effect, scores, weights, arms) for name, effect in effects.items()})
    chosen = ", ".join(f"{arms[arm]} {trust[arm]:g}" for arm in range(len(arms)))
    return Evidence(
        rows=rows,
        against=against,
        protocol="Campaigns that started after the training window; spend over 28 days in currency units; not random.",
        n={
            "rows": test.propensity.size,
            "sent": int(test.waves.sent.sum()),
            "waves": int(np.unique(test.waves.wave).size),
        },
        notes=(
            f"Trust in differences between shoppers, chosen on the training window's last campaigns: {chosen}. "
            "At 0 the constant effect is served.",
            f"Rows with a propensity outside {OVERLAP[0]:g} to {OVERLAP[1]:g} are left out; overlap weighs the rest.",
            "minus_r_loss is the negative R-loss per row, so more is better; AUTOC and Qini rank by predicted effect.",
        ),
    )


def _figures(test: Adjusted, effect: Floats, scores: Floats, weights: Floats, arms: Sequence[str]) -> dict[str, Floats]:
    missed = (test.residual - effect * test.sent_residual) ** 2
    figures = {"minus_r_loss": -(weights @ missed) / np.maximum(weights.sum(axis=1), 1.0)}
    for arm in np.unique(test.waves.arm):
        rows = test.waves.arm == arm
        drawn = np.stack([_ranked(effect[rows], scores[rows], weighted[rows]) for weighted in weights])
        figures |= {f"autoc_{arms[arm]}": drawn[:, 0], f"qini_{arms[arm]}": drawn[:, 1]}
    return figures


def _ranked(effect: Floats, scores: Floats, weights: Floats) -> tuple[float, float]:
    """AUTOC and Qini of one bootstrap draw; a score that does not vary ranks nobody and gains nothing."""
    drawn = np.repeat(np.arange(effect.size), weights.astype(np.int64))
    if drawn.size == 0 or np.ptp(effect) < 1e-9:
        return 0.0, 0.0
    return metrics.autoc(effect[drawn], scores[drawn]), metrics.qini(effect[drawn], scores[drawn])


def deciles_of(test: Adjusted, effect: Floats, constant: Floats, arm: int) -> list[Decile]:
    """Predicted beside observed effect by tenth of an arm's rows.

    effect    (n,) float64  predicted, of each row's own arm
    constant  (N_ARMS,) float64  effect that the outcome model of the scores takes
    returns   at most N_TENTHS, the largest predicted effect first
    """
    rows = np.flatnonzero(test.waves.arm == arm)
    scores = test.scores(constant)
    tenths = np.array_split(rows[np.argsort(-effect[rows], kind="stable")], N_TENTHS)
    deciles = []
    for tenth in tenths:
        if tenth.size:
            mean, error = float(scores[tenth].mean()), 1.96 * float(scores[tenth].std() / np.sqrt(tenth.size))
            deciles.append(Decile(float(effect[tenth].mean()), mean, mean - error, mean + error))
    return deciles


def _nothing(note: str, seconds: float = 0.0) -> Evidence:
    return Evidence((), (), "Campaigns that started after the training window.", {}, seconds, 0, (note,))
