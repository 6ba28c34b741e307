"""The recommendation study: rows, candidates, fit, calibration, and the full ranking beside its rivals.

In: a Dataset. Out: a fitted Recommendation and its evidence. Called by training/fit.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels import metrics, transitions
from kernels.features import N_TOP_ITEMS
from kernels.ledger import ORDER
from training.calibrate import fit_platt
from training.dataset import DAY_S, TEST, TRAIN, VALID, WEEK_S, Dataset, Rows
from training.evidence import Evidence, Row, calibration_bins, differences, interval, shopper_weights
from training.labels import NextItems, next_items
from training.loop import Progress, Recipe, fit
from training.models.recommendation import N_SUCCESSORS, SILENT, TINY, Recommendation, basket_loss

K = 10
MOST_RANKED = 5_000
BATCH = 256
# How many times their fitted rate repeats and the table may count: validation chooses.
REPEAT_SHARES, TABLE_SHARES = (0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 1.0, 3.0)
N_NEGATIVES = 1024
DROPPED = -SILENT
Scores = Callable[[NDArray[np.int64]], Tensor]


@dataclass(frozen=True)
class Baskets:
    """Histories and the items bought in the week after each.

    part     (n,) int8         window of each row
    history  (n, HISTORY) int64
    """

    rows: Rows
    part: NDArray[np.int8]
    history: Tensor
    bought: NextItems
    n_items: int

    @property
    def n_bought(self) -> NDArray[np.int64]:
        """Items in each week's basket."""
        return np.diff(self.bought.offsets)

    def of(self, part: int, most: int | None = None) -> NDArray[np.int64]:
        """Rows of a window that have a history and a basket; evenly thinned to `most`."""
        has_both = (self.part == part) & (self.n_bought > 0) & (self.rows.item_history[:, -1] > 0)
        return _thinned(np.flatnonzero(has_both), most)

    def targets(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offsets and items of the baskets of some rows."""
        lists = [self.bought.items[self.bought.offsets[row] : self.bought.offsets[row + 1]] for row in rows]
        offsets = np.concatenate([[0], np.cumsum([items.size for items in lists], dtype=np.int64)])
        return offsets, np.concatenate([*lists, np.zeros(0, np.int32)])


class NextBasket:
    """The Task: a week's basket against the shopper's own items and shared negatives."""

    def __init__(self, baskets: Baskets) -> None:
        self.baskets = baskets
        self.train, self.valid = baskets.of(TRAIN), baskets.of(VALID, most=2_000)
        self.n_rows = self.train.size
        _, items = baskets.targets(self.train)
        self.n_named = 1 + int(baskets.bought.items.max(initial=0))
        self.counts = np.bincount(items, minlength=baskets.n_items).astype(np.float64)
        # The power flattens popularity: tail items must be negatives too.
        flat = (self.counts + 1.0) ** 0.75 * (np.arange(baskets.n_items) > 0)
        self.chance = flat / flat.sum()

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:
        """Sampled softmax; see basket_loss."""
        return self._loss(model, self.train[rows], seed)

    def validation_loss(self, model: nn.Module) -> float:
        """The same on the validation window, with the same sample at every pass."""
        batches = [self.valid[first : first + 256] for first in range(0, self.valid.size, 256)]
        losses = [self._loss(model, rows, seed).item() * rows.size for seed, rows in enumerate(batches)]
        return sum(losses) / max(self.valid.size, 1)

    def _loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:
        assert isinstance(model, Recommendation)
        history = self.baskets.history[rows]
        own, is_bought, is_repeated, negatives = self._candidates(rows, seed)
        is_own = torch.zeros(rows.size, self.baskets.n_items, dtype=torch.bool).scatter(1, own, True)[:, negatives]
        log_chance = np.log(-np.expm1(N_NEGATIVES * np.log1p(-self.chance[negatives.numpy()])))
        log_counts = torch.cat(
            [
                torch.where(is_repeated, DROPPED, 0.0),
                torch.where(is_own, DROPPED, torch.from_numpy(log_chance).float()),
            ],
            dim=1,
        )
        scores = candidate_scores(model, history, own, negatives)
        return basket_loss(scores, functional.pad(is_bought, (0, negatives.numel())), log_counts)

    def _candidates(self, rows: NDArray[np.int64], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Every row's basket and history, what of it was bought and what repeats; negatives that all rows share."""
        offsets, items = self.baskets.targets(rows)
        lengths = np.diff(offsets)
        bought = torch.zeros(rows.size, int(lengths.max(initial=1)), dtype=torch.int64)
        place = np.arange(items.size) - np.repeat(offsets[:-1], lengths)
        bought[np.repeat(np.arange(rows.size), lengths), place] = torch.from_numpy(items.astype(np.int64))
        own = torch.cat([bought, self.baskets.history[rows]], dim=1)
        ordered, order = own.sort(dim=1, stable=True)  # stable: a bought item comes before itself in the history
        same = torch.zeros_like(own, dtype=torch.bool)
        same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        is_repeated = torch.zeros_like(same).scatter(1, order, same) | (own == 0)
        drawn = np.random.default_rng(seed).choice(self.chance.size, N_NEGATIVES, p=self.chance)
        is_bought = functional.pad(bought > 0, (0, own.shape[1] - bought.shape[1]))
        return own, is_bought, is_repeated, torch.from_numpy(np.unique(drawn))


def candidate_scores(model: Recommendation, history: Tensor, own: Tensor, negatives: Tensor) -> Tensor:
    """What Recommendation.forward gives for each row's own items and negatives not among them, without all the others.

    history    (batch, HISTORY) int64
    own        (batch, n_own) int64
    negatives  (n_negatives,) int64
    returns    (batch, n_own + n_negatives) float32
    """
    shopper = model.shopper(history)
    found = model.base[own] + (model.item(own) @ shopper.unsqueeze(2)).squeeze(2)
    others = model.base[negatives] + shopper @ model.item(negatives).T
    if not model.has_repeats:
        return torch.cat([found, others], dim=1)
    # The table is counted, not learned: no gradient runs through its dense scores, only through their rate.
    successors, scores = model.after(history)
    following = torch.zeros(history.shape[0], model.base.shape[0]).scatter_add(1, successors, scores)
    rate = model.follow_rate()
    of_own = torch.exp(found) + model.again(own, model.counts(own, history)) + rate * following.gather(1, own)
    of_others = torch.exp(others) + rate * following[:, negatives]
    return torch.log(torch.cat([of_own, of_others], dim=1) + TINY)


def _thinned(rows: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or rows.size <= most:
        return rows
    return rows[np.linspace(0, rows.size - 1, most).astype(np.int64)]


def baskets_of(dataset: Dataset, rows: Rows) -> Baskets:
    """Every shopper-week with the vocabulary items bought in it.

    rows  from Dataset.weekly
    """
    n_items = max(len(dataset.vocabulary.item_ids), N_TOP_ITEMS) + 1
    history = torch.from_numpy(rows.item_history.astype(np.int64))
    part = dataset.splits.part(rows.at_s, WEEK_S)
    return Baskets(rows, part, history, next_items(dataset, rows.shopper, rows.at_s), n_items)


def study(
    dataset: Dataset, baskets: Baskets, recipe: Recipe, progress: Progress, checkpoint: Path | None
) -> tuple[Recommendation, Evidence]:
    """Fit ours, choose the blend and calibrate on validation, and rank all items for the test weeks beside rivals."""
    task = NextBasket(baskets)
    table = _table(dataset, baskets.n_items)
    ours = _built(task, table, recipe.seed)
    fitted = fit(ours, task, recipe, lambda step: progress(f"recommendation: {step}"), checkpoint)
    alone = _built(task, table, recipe.seed, has_repeats=False)
    fit(
        alone,
        task,
        replace(recipe, n_epochs=min(recipe.n_epochs, 3)),
        lambda step: progress(f"net-alone rival: {step}"),
    )
    _choose_blend(ours, baskets)
    _calibrate(ours, baskets)
    test = baskets.of(TEST, MOST_RANKED)
    popular = torch.from_numpy(task.counts).float()
    rivals: dict[str, Scores] = {
        "table and net, blended": lambda rows: _scored(ours, baskets.history[rows]),
        "own purchase frequency, all history": lambda rows: _own_frequency(dataset, baskets, rows) + 1e-6 * popular,
        "own purchase frequency, item history": lambda rows: _in_history(baskets, rows) + 1e-6 * popular,
        "transition table alone": lambda rows: torch.from_numpy(
            transitions.scores(table, baskets.history[rows].to(torch.int32).numpy())
        ),
        "net alone": lambda rows: _scored(alone, baskets.history[rows]),
        "popularity": lambda rows: popular.expand(rows.size, -1),
    }
    ranked = {name: best_items(scores, test) for name, scores in rivals.items()}
    evidence = _evidence(baskets, test, ranked)
    probs, bought = _top_probs(ours, baskets, _weeks(baskets, TEST, MOST_RANKED))
    return ours, replace(
        evidence,
        seconds=fitted.seconds,
        n_parameters=sum(parameter.numel() for parameter in ours.parameters()),
        reliability={"a recommended item is bought within 7 days": calibration_bins(probs, bought)},
        rows=[_with_error(evidence.rows[0], metrics.calibration_error(probs, bought)), *evidence.rows[1:]],
        notes=(f"Blend chosen on validation: repeats {ours.blend[0]:g} and table {ours.blend[1]:g} times as fitted.",),
    )


def best_items(scores: Scores, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """The K items of the highest score, out of all.

    scores   rows -> (batch, n_items)
    returns  (n, K) int32
    """
    best = [np.zeros((0, K), np.int32)]
    for first in range(0, rows.size, BATCH):
        batch = scores(rows[first : first + BATCH])
        best.append(torch.topk(batch[:, 1:], K, dim=1).indices.numpy().astype(np.int32) + 1)
    return np.concatenate(best).astype(np.int32)


def _built(task: NextBasket, table: transitions.Transitions, seed: int, *, has_repeats: bool = True) -> Recommendation:
    """A fresh module that starts from the items' base rates and holds the table."""
    torch.manual_seed(seed)
    model = Recommendation(task.baskets.n_items, has_repeats=has_repeats)
    row = np.repeat(np.arange(table.n_items), np.diff(table.offsets))
    place = np.arange(row.size) - table.offsets[row]
    total = np.bincount(row, table.weight, minlength=table.n_items)
    model.successor[row, place] = torch.from_numpy(table.successor)
    model.worth[row, place] = torch.from_numpy(table.weight / np.sqrt(total[row])).float()
    n_weeks = max(task.n_rows, 1)
    with torch.no_grad():
        # Log of how many training baskets hold the item, plus what makes it a log-odds near those of a chosen item.
        model.base.copy_(torch.from_numpy(np.log((task.counts + 0.5) / n_weeks)).float())
        model.base[0] = SILENT
        model.base[task.n_named :] = SILENT
    return model


def _table(dataset: Dataset, n_items: int) -> transitions.Transitions:
    """Successions within the training window, in ledger order."""
    ledger = dataset.ledger
    kept = (ledger.kind == ORDER) & (ledger.item > 0) & (ledger.time_s < dataset.splits.train_until_s)
    ends = np.concatenate([[0], np.cumsum(kept)])[ledger.offsets]
    return transitions.transitions(ledger.item[kept], ends, n_items, n_kept=N_SUCCESSORS)


def _scored(model: Recommendation, history: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = model(history)
    return scores


def _in_history(baskets: Baskets, rows: NDArray[np.int64]) -> Tensor:
    history = baskets.history[rows]
    none = torch.zeros(rows.size, baskets.n_items)
    return none.scatter_add(1, history, (history > 0).float())


def _own_frequency(dataset: Dataset, baskets: Baskets, rows: NDArray[np.int64]) -> Tensor:
    """Purchases of each item by the shopper ever before, each halved after every 60 days: a strong and simple rival."""
    ledger = dataset.ledger
    scores = np.zeros((rows.size, baskets.n_items), np.float32)
    for place, row in enumerate(rows):
        shopper, at_s = baskets.rows.shopper[row], baskets.rows.at_s[row]
        first, last = ledger.offsets[shopper], ledger.offsets[shopper + 1]
        last = first + np.searchsorted(ledger.time_s[first:last], at_s)
        mine = slice(first, last)
        kept = (ledger.kind[mine] == ORDER) & (ledger.item[mine] > 0)
        worth = 0.5 ** ((at_s - ledger.time_s[mine][kept]) / (60.0 * DAY_S))
        np.add.at(scores[place], ledger.item[mine][kept], worth)
    return torch.from_numpy(scores)


def _choose_blend(ours: Recommendation, baskets: Baskets) -> None:
    """Keep the shares of repeats and table with the best NDCG on validation."""
    rows = baskets.of(VALID, 1_000)
    if rows.size == 0:
        return
    offsets, items = baskets.targets(rows)
    found: dict[tuple[float, float], float] = {}
    for repeat, table in product(REPEAT_SHARES, TABLE_SHARES):
        ours.blend.copy_(torch.tensor([repeat, table]))
        ranked = best_items(lambda asked: _scored(ours, baskets.history[asked]), rows)
        found[repeat, table] = float(metrics.ranking_gains(ranked, offsets, items)[:, 1].mean())
    ours.blend.copy_(torch.tensor(max(found, key=lambda shares: found[shares])))


def _weeks(baskets: Baskets, part: int, most: int) -> NDArray[np.int64]:
    """Weeks of a window with a history, whether or not anything was bought: a probability must count those too."""
    return _thinned(np.flatnonzero((baskets.part == part) & (baskets.rows.item_history[:, -1] > 0)), most)


def _calibrate(ours: Recommendation, baskets: Baskets) -> None:
    rows = _weeks(baskets, VALID, 3_000)
    if rows.size == 0:
        return
    scores, items = _top_scores(ours, baskets, rows)
    length = np.log1p((baskets.history[rows] > 0).sum(dim=1).numpy().astype(np.float64))
    inputs = np.column_stack([scores.ravel(), np.repeat(length, N_TOP_ITEMS)])
    fitted = fit_platt(inputs, _is_bought(baskets, rows, items).ravel(), np.array([1.0, 0.0, 0.0]))
    # A slope above zero keeps the list in descending order of probability.
    ours.calibration.copy_(torch.tensor([max(fitted[0], 0.05), fitted[1], fitted[2]]))


def _top_scores(
    ours: Recommendation, baskets: Baskets, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    best = [torch.topk(_scored(ours, baskets.history[part])[:, 1:], N_TOP_ITEMS, dim=1) for part in _batches(rows)]
    scores = torch.cat([top.values for top in best]).numpy().astype(np.float64)
    return scores, torch.cat([top.indices for top in best]).numpy() + 1


def _top_probs(
    ours: Recommendation, baskets: Baskets, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    with torch.no_grad():
        top = [ours.top(baskets.history[part]) for part in _batches(rows)]
    items = torch.cat([index for index, _ in top]).numpy().astype(np.int64)
    probs = torch.cat([prob for _, prob in top]).numpy().astype(np.float64)
    return probs.ravel(), _is_bought(baskets, rows, items).ravel()


def _is_bought(baskets: Baskets, rows: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
    offsets, bought = baskets.targets(rows)
    row = np.repeat(np.arange(rows.size), np.diff(offsets))
    return np.isin(np.arange(rows.size)[:, None] * baskets.n_items + items, row * baskets.n_items + bought)


def _batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[first : first + BATCH] for first in range(0, max(rows.size, 1), BATCH)]


def _evidence(baskets: Baskets, test: NDArray[np.int64], ranked: Mapping[str, NDArray[np.int32]]) -> Evidence:
    offsets, items = baskets.targets(test)
    weights = shopper_weights(baskets.rows.shopper[test])
    values, replicates = [], []
    for lists in ranked.values():
        gains = metrics.ranking_gains(lists, offsets, items)
        drawn = weights @ gains / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        names = (f"recall_{K}", f"ndcg_{K}", f"hit_{K}")
        values.append({name: float(gains[:, place].mean()) for place, name in enumerate(names)})
        replicates.append({name: drawn[:, place] for place, name in enumerate(names)})
    return Evidence(
        rows=[
            Row(name, {figure: interval(value[figure], drawn[figure]) for figure in value})
            for name, value, drawn in zip(ranked, values, replicates, strict=True)
        ],
        against=differences(list(ranked), values, replicates),
        protocol="Every item ranked for the test window's shopper-weeks with a purchase and a history; repeats count.",
        n={"shopper-weeks": int(test.size), "items": baskets.n_items - 1, "purchases": int(items.size)},
    )


def _with_error(row: Row, error: float) -> Row:
    return Row(row.name, {**row.figures, "ece": interval(error, np.zeros(0))})
