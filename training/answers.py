"""The response study: what followed each mailing of a shop, our net beside its rivals, and the paired comparison.

In: a Dataset, and the behaviour encoder's vectors where there are any. Out: a calibrated Response and its evidence.
Called by training/fit.py; tests/benchmarks/published/response.py runs the same study with one more rival.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels import metrics
from kernels.features import N_CATEGORIES, columns
from training.answering import Actions, Cases, Plan, Windows, fit_response, in_linear_parts, rate_of, served
from training.dataset import TEST, TRAIN, WEEK_S, Dataset, Rows, check_no_leak
from training.evidence import Evidence, calibration_bins, compared, shopper_weights
from training.labels import (
    REDEEM_HORIZON_S,
    bought_categories,
    clicked_groups,
    group_spend,
    held_groups,
    redeemed_groups,
)
from training.loop import Progress, Recipe
from training.models.response import BOUGHT, CLICKED, N_CHANCES, REDEEMED, Response
from training.sources.tables import InvalidTable
from training.tensors import VECTOR_WIDTH

# Passes, batch, rate and the tasks' worth were chosen on the later half of the learning window (LOG.md).
RECIPE = Recipe(n_epochs=5, batch=512, learning_rate=1e-3, weight_decay=1e-2)
CLICK_WORTH, REDEEM_WORTH, BUY_WORTH, SPEND_WORTH = 1.0, 1.0, 0.3, 0.1
OWN_FEATURES = ("category_lines_hl14d", "category_lines_hl91d", "category_recency_days")
FEWEST_ANSWERS = 5
# Shopper-weeks that are looked at for a feature that equals a label.
MOST_CHECKED = 20_000
NAMES = {CLICKED: "click", REDEEMED: "redeem", BOUGHT: "buy"}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """Every shopper-week in which something was sent, and what followed.

    cases           whose horizons lie within the data
    learns_until_s  the end of validation: rows whose horizon ends by then may be learned from
    is_test         (n,) bool  rows that begin after it
    groups          names of the actions
    """

    cases: Cases
    learns_until_s: int
    is_test: Bools
    groups: tuple[str, ...]

    def windows(self) -> Windows | None:
        """The rows to learn from, cut in time; None where nothing was sent and seen to its end."""
        end_s = self.cases.at_s + REDEEM_HORIZON_S
        learns = end_s <= self.learns_until_s
        if not learns.any():
            return None
        cut_s = self._cut_s(learns, end_s)
        early, late = np.flatnonzero(learns & (end_s <= cut_s)), np.flatnonzero(learns & (self.cases.at_s >= cut_s))
        everything = np.flatnonzero(learns)
        if not early.size or not late.size:
            # Too short for one campaign after another: passes and calibration are chosen on what was learned.
            early = late = everything
        return Windows(self.cases.take(early), self.cases.take(late), self.cases.take(everything))

    def _cut_s(self, learns: Bools, end_s: Ints) -> int:
        """The moment that leaves the poorer side the most rows with an answer."""
        answered = learns & self.cases.happened[[CLICKED, REDEEMED]].any(axis=(0, 2))
        told = answered if answered.any() else learns
        begins, ends = np.sort(self.cases.at_s[told]), np.sort(end_s[told])
        cuts = np.unique(end_s[learns])
        n_early = np.searchsorted(ends, cuts, side="right")
        n_late = begins.size - np.searchsorted(begins, cuts, side="left")
        return int(cuts[np.argmax(np.minimum(n_early, n_late))])

    def test(self) -> Cases:
        """What nothing was learned or chosen from."""
        return self.cases.take(np.flatnonzero(self.is_test))


def answers_of(dataset: Dataset, rows: Rows, grid: Ints, vectors: NDArray[np.float32] | None = None) -> Answers:
    """Label every shopper-week in which an offer was held.

    rows, grid  from Dataset.weekly
    vectors     (n, VECTOR_WIDTH) of the rows, by the behaviour encoder; None: all nought
    raises      InvalidTable  if the training window knows one class only; InvalidInput if a feature equals a label
    """
    week = np.searchsorted(grid, rows.at_s)
    _check_labels(dataset, rows, grid)
    held = held_groups(dataset, grid)[rows.shopper, week]
    seen = rows.at_s + REDEEM_HORIZON_S <= dataset.splits.end_s
    kept = np.flatnonzero(held.any(axis=1) & seen)
    shopper, week, rows = rows.shopper[kept], week[kept], rows.take(kept)
    bought, spend = group_spend(dataset, grid)
    redeemed = redeemed_groups(dataset, grid)[shopper, week]
    happened = np.stack([clicked_groups(dataset, grid)[shopper, week], redeemed, bought[shopper, week] | redeemed])
    told = np.zeros((kept.size, VECTOR_WIDTH), np.float32) if vectors is None else vectors[kept]
    cases = Cases(shopper, rows.at_s, rows.features, told, held[kept], happened, spend[shopper, week])
    groups = dataset.vocabulary.offer_groups
    is_test = dataset.splits.part(rows.at_s, REDEEM_HORIZON_S) == TEST
    return Answers(cases, dataset.splits.valid_until_s, is_test, groups)


def _check_labels(dataset: Dataset, rows: Rows, grid: Ints) -> None:
    """Pass when the training window has something to tell, and no feature tells it already."""
    week = np.searchsorted(grid, rows.at_s)
    train = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TRAIN)
    bought = bought_categories(dataset, grid)[rows.shopper[train], week[train]]
    named = np.array([name != "" for name in dataset.vocabulary.categories])
    if bought[:, named].all() or not bought.any():
        found = "every shopper buys in every category every week" if bought.any() else "no shopper ever buys anything"
        raise InvalidTable(f"events must give labels of two classes, got one: {found}")
    redeemed = redeemed_groups(dataset, grid)[rows.shopper[train], week[train]]
    first, vocabulary = train[:MOST_CHECKED], dataset.vocabulary
    labels = {f"buys in {name}": bought[:MOST_CHECKED, slot] for slot, name in enumerate(vocabulary.categories) if name}
    for slot, name in enumerate(vocabulary.offer_groups):
        labels |= {f"redeems {name}": redeemed[:MOST_CHECKED, slot]} if name else {}
    check_no_leak(rows.features[first], labels)


def actions_of(dataset: Dataset) -> Actions:
    """The offer groups: a group's own columns are its category's, if the category has a slot."""
    names, slots = list(columns()), dataset.vocabulary.categories[: N_CATEGORIES - 1]
    own = [
        [names.index(f"{name}[{slots.index(group)}]") if group and group in slots else -1 for name in OWN_FEATURES]
        for group in dataset.vocabulary.offer_groups
    ]
    # Purchases by category are of no use to a redemption (LOG.md); a group's own category stands in `own`.
    shared = [place for place, name in enumerate(names) if "[" not in name]
    return Actions(np.array(own, np.int64), np.array(shared, np.int64))


def plan_of(answers: Answers, recipe: Recipe) -> Plan:
    """What the log can teach: clicks and redemptions where there are any."""
    windows = answers.windows()
    found = [windows is not None and bool(windows.everything.happened[chance].any()) for chance in range(N_CHANCES)]
    return Plan(
        (
            CLICK_WORTH * found[CLICKED],
            REDEEM_WORTH * found[REDEEMED],
            BUY_WORTH * found[BOUGHT],
            SPEND_WORTH * found[BOUGHT],
        ),
        recipe,
    )


def study(
    dataset: Dataset, answers: Answers, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Response, Evidence]:
    """Fit ours on all that was sent before the test window, and compare it there with its simple rivals."""
    torch.manual_seed(recipe.seed)
    ours = Response(actions_of(dataset))
    windows, plan = answers.windows(), plan_of(answers, recipe)
    used = [[float(name != "" and worth > 0.0) for name in answers.groups] for worth in plan.worth[:3]]
    ours.is_used.copy_(torch.tensor(used))
    if windows is None or not any(plan.worth):
        progress("response: no offer was sent and seen to its end before the test window: every answer is 0")
        ours.is_used.zero_()
        return ours, Evidence((), (), _PROTOCOL, {}, notes=("no offer was sent before the test window",))
    if plan.worth[REDEEMED] == 0.0:
        progress("response: nobody redeemed an offer in the training window: redeem_prob is 0")
    seconds = fit_response(ours, windows, plan, lambda step: progress(f"response: {step}"), checkpoint)
    test = answers.test()
    if not len(test):
        note = "no offer was held in the test window: nothing to judge on"
        return ours, Evidence((), (), _PROTOCOL, {}, seconds, notes=(note,))
    progress("response: the linear rival, calibrated in the same way")
    scored = {
        "response net": by_chance(served(ours, test)),
        "logistic regression": by_chance(served(in_linear_parts(ours, windows, plan), test)),
        "the group's own rate": rate_of(windows.everything, test),
    }
    n_parameters = sum(parameter.numel() for parameter in ours.parameters())
    return ours, evidence_of(test, scored, plan, seconds, n_parameters)


_PROTOCOL = (
    "Shopper-weeks of the test window in which an offer of the group was held; what followed within 28 days. "
    "Fitted on rows whose 28 days ended before the test window."
)


def by_chance(answered: Sequence[Floats]) -> Floats:
    """What is served, as (N_CHANCES + 1, n, n_actions): clicks, redemptions, purchases, spend."""
    redeem, buy, click, spend, _ = answered
    return np.stack([click, redeem, buy, spend])


def evidence_of(
    test: Cases, scored: Mapping[str, Floats], plan: Plan, seconds: float = 0.0, n_parameters: int = 0
) -> Evidence:
    """The table: ours first, each rival after it, on the same resampled shoppers.

    scored  name -> (N_CHANCES + 1, n, n_actions) float64
    """
    weights = shopper_weights(test.shopper)
    rows, against = compared({name: _figures(test, said, plan, weights) for name, said in scored.items()})
    ours = next(iter(scored.values()))
    told = {CLICKED: "clicks", REDEEMED: "redeems", BOUGHT: "buys from the categories of"}
    return Evidence(
        rows=rows,
        against=[row for row in against if not row.figure.endswith("ece")],
        protocol=_PROTOCOL,
        n={
            "shopper-weeks": len(test),
            "offers held": int(test.sent.sum()),
            **{f"{NAMES[chance]}s": int(test.happened[chance][test.sent].sum()) for chance in learned(plan)},
        },
        seconds=seconds,
        n_parameters=n_parameters,
        notes=slices(test, ours[REDEEMED]) if plan.worth[REDEEMED] > 0.0 else (),
        reliability={
            f"{told[chance]} an offer within 28 days, if sent": calibration_bins(
                ours[chance][test.sent], test.happened[chance][test.sent]
            )
            for chance in learned(plan)
        },
    )


def learned(plan: Plan) -> list[int]:
    """The chances that the log could teach."""
    return [chance for chance in NAMES if plan.worth[chance] > 0.0]


def _figures(test: Cases, said: Floats, plan: Plan, weights: Floats) -> dict[str, Floats]:
    """Value, then bootstrap replicates, of each figure."""
    row, _ = np.nonzero(test.sent)
    weighted = np.concatenate([np.ones((1, row.size)), weights[:, row]])
    figures: dict[str, Floats] = {}
    for chance in learned(plan):
        probs, happened = said[chance][test.sent], test.happened[chance][test.sent]
        if happened.all() or not happened.any():
            continue
        areas, name = metrics.ranking_areas(probs, happened, weighted), NAMES[chance]
        figures |= {f"{name}_auc": areas[:, 1], f"{name}_ap": areas[:, 0]}
        figures[f"{name}_ece"] = np.array([metrics.calibration_error(probs, happened)])
    if plan.worth[-1] > 0.0:
        missed = np.abs(said[-1] - test.spend)[test.sent]
        figures["minus_spend_error"] = -(weighted @ missed) / np.maximum(weighted.sum(axis=1), 1.0)
    return figures


def slices(test: Cases, probs: Floats) -> tuple[str, ...]:
    """How far redemptions said and seen lie apart by thirds of activity and by group, in sentences.

    probs  (n, n_actions) float64
    """
    activity = test.features[:, list(columns()).index("orders_hl91d")]
    third, n_groups = np.searchsorted(np.quantile(activity, (1 / 3, 2 / 3)), activity), test.sent.shape[1]
    found = [_apart(probs, test, np.broadcast_to((third == part)[:, None], test.sent.shape)) for part in range(3)]
    groups = [_apart(probs, test, np.arange(n_groups)[None, :] == slot) for slot in range(n_groups)]
    worst = max((apart for apart in groups if apart is not None), default=0.0)
    by_third = ", ".join("none" if apart is None else f"{apart:.4f}" for apart in found)
    return (
        f"Calibration error of redemptions by third of shoppers, least active first: {by_third}.",
        f"Of the offer groups with {FEWEST_ANSWERS} redemptions or more, the worst calibration error is {worst:.4f}.",
    )


def _apart(probs: Floats, test: Cases, part: Bools) -> float | None:
    inside = test.sent & part
    happened = test.happened[REDEEMED][inside]
    return metrics.calibration_error(probs[inside], happened) if happened.sum() >= FEWEST_ANSWERS else None


__all__: Sequence[str] = ("RECIPE", "Answers", "actions_of", "answers_of", "by_chance", "evidence_of", "study")
