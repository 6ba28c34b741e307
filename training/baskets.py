"""The recommendation study: rows, candidates, fit, fusion, calibration, and the full ranking beside its rivals.

In: a Dataset and its trained Behaviour. Out: a fitted Recommendation and its evidence. Called by training/fit.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels import metrics, transitions
from kernels.features import N_TOP_ITEMS
from kernels.ledger import ORDER
from training.calibrate import fit_platt
from training.dataset import DAY_S, TEST, TRAIN, VALID, WEEK_S, Dataset, Rows
from training.evidence import Evidence, Row, calibration_bins, differences, interval, shopper_weights
from training.histories import Sequences, sequences_of
from training.labels import NextItems, next_items
from training.loop import Progress, Recipe, fit
from training.models.behaviour import N_PLACES, SILENT, Behaviour, Events
from training.models.recommendation import Recommendation, basket_loss

K = 10
MOST_RANKED = 5_000
BATCH = 256
# How often repeats count as fitted, and the powers of table and behaviour: validation chooses one after the other.
REPEAT_SHARES, TABLE_POWERS, BEHAVIOUR_POWERS = (0.01, 0.1, 1.0, 10.0, 100.0), (0.0, 0.15, 0.3, 0.6), (0.5, 0.75, 1.0)
MOST_LEARNED = 60_000
# Passes, batch and rate were chosen on the validation window (LOG.md).
RECIPE = Recipe(n_epochs=4, batch=256, learning_rate=1e-2)
Scores = Callable[[NDArray[np.int64]], Tensor]


@dataclass(frozen=True)
class Baskets:
    """Histories and the items bought in the week after each.

    part       (n,) int8   window of each row
    ends       (n,) int64  the shopper's first event that is not before the row's query
    """

    rows: Rows
    part: NDArray[np.int8]
    sequences: Sequences
    ends: NDArray[np.int64]
    bought: NextItems
    n_items: int

    @property
    def has_history(self) -> NDArray[np.bool_]:
        """Whether anything was known of the shopper."""
        return self.ends > self.sequences.offsets[self.rows.shopper]

    def events(self, rows: NDArray[np.int64]) -> Events:
        """Histories of some rows."""
        return self.sequences.before(self.rows.shopper[rows], self.ends[rows], N_PLACES)

    @property
    def n_bought(self) -> NDArray[np.int64]:
        """Items in each week's basket."""
        return np.diff(self.bought.offsets)

    def of(self, part: int, most: int | None = None) -> NDArray[np.int64]:
        """Rows of a window that have a history and a basket; evenly thinned to `most`."""
        has_both = (self.part == part) & (self.n_bought > 0) & self.has_history
        return _thinned(np.flatnonzero(has_both), most)

    def targets(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offsets and items of the baskets of some rows."""
        lists = [self.bought.items[self.bought.offsets[row] : self.bought.offsets[row + 1]] for row in rows]
        offsets = np.concatenate([[0], np.cumsum([items.size for items in lists], dtype=np.int64)])
        return offsets, np.concatenate([*lists, np.zeros(0, np.int32)])


class BoughtAgain:
    """The Task: which of the items that a shopper bought before are in the week's basket.

    Repeats are learned among themselves: beside what is found, a popular item's repeats are put down to its popularity
    (LOG.md).
    """

    def __init__(self, baskets: Baskets) -> None:
        self.baskets = baskets
        self.train, self.valid = baskets.of(TRAIN, MOST_LEARNED), baskets.of(VALID, most=2_000)
        self.n_rows = self.train.size

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See basket_loss."""
        return self._loss(model, self.train[rows])

    def validation_loss(self, model: nn.Module) -> float:
        """The same on the validation window."""
        losses = [float(self._loss(model, rows)) * rows.size for rows in _batches(self.valid)]
        return sum(losses) / max(self.valid.size, 1)

    def _loss(self, model: nn.Module, rows: NDArray[np.int64]) -> Tensor:
        assert isinstance(model, Recommendation)
        events = self.baskets.events(rows)
        items = events.item.numpy()
        is_bought = _is_bought(self.baskets, rows, items) & (events.kind.numpy() == ORDER) & (items > 0)
        device = model.silence.device
        events = Events(*(column.to(device) for column in events))
        even = torch.zeros(1, self.baskets.n_items, device=device).expand(rows.size, -1)
        scored = model.grouped(events, even[:, :0], even)
        group = scored.groups(events.item)
        # Of an item's places the one that its group is named after stands for all.
        n_places = items.shape[1]
        own = group == torch.arange(1, n_places + 1, device=device) + (scored.follows.shape[1] - 1 - n_places)
        is_candidate = own & (events.kind == ORDER) & (events.item > 0)
        again = model.again(scored, events).gather(1, group)
        return basket_loss(again, torch.from_numpy(is_bought).to(device) & is_candidate, is_candidate)


def _thinned(rows: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or rows.size <= most:
        return rows
    return rows[np.linspace(0, rows.size - 1, most).astype(np.int64)]


def baskets_of(dataset: Dataset, rows: Rows) -> Baskets:
    """Every shopper-week with the vocabulary items bought in it.

    rows  from Dataset.weekly
    """
    n_items = max(len(dataset.vocabulary.item_ids), N_TOP_ITEMS) + 1
    part = dataset.splits.part(rows.at_s, WEEK_S)
    sequences = sequences_of(dataset.ledger, dataset.splits)
    ends = sequences.ends(rows.shopper, rows.at_s)
    return Baskets(rows, part, sequences, ends, next_items(dataset, rows.shopper, rows.at_s), n_items)


def study(
    dataset: Dataset,
    baskets: Baskets,
    behaviour: Behaviour,
    recipe: Recipe,
    progress: Progress,
    checkpoint: Path | None,
) -> tuple[Recommendation, Evidence]:
    """Fit ours, choose the fusion and calibrate on validation, and rank all items for the test weeks beside rivals."""
    table = _table(dataset, baskets.n_items)
    with torch.no_grad():
        vectors = behaviour.eval().table()
    task = BoughtAgain(baskets)
    counts = np.bincount(baskets.targets(baskets.of(TRAIN))[1], minlength=baskets.n_items).astype(np.float64)
    ours = _built(baskets, behaviour, table, recipe.seed)
    fitted = fit(ours, task, recipe, lambda step: progress(f"recommendation: {step}"), checkpoint)
    _choose_fusion(ours, baskets, vectors)
    _calibrate(ours, baskets, vectors)
    test = baskets.of(TEST, MOST_RANKED)
    popular = torch.from_numpy(counts).float()
    rivals: dict[str, Scores] = {
        "behaviour, table and repeats, fused": lambda rows: _scored(ours, baskets.events(rows), vectors),
        "own purchase frequency, all history": lambda rows: _own_frequency(dataset, baskets, rows) + 1e-6 * popular,
        "own purchase frequency, same events": lambda rows: _in_history(baskets, rows) + 1e-6 * popular,
        "transition table alone": lambda rows: torch.from_numpy(
            transitions.scores(table, baskets.events(rows).item.to(torch.int32).numpy())
        ),
        "behaviour alone": lambda rows: _alone(behaviour, baskets.events(rows), vectors),
        "popularity": lambda rows: popular.expand(rows.size, -1),
    }
    ranked = {name: best_items(scores, test) for name, scores in rivals.items()}
    evidence = _evidence(baskets, test, ranked)
    probs, bought = _top_probs(ours, baskets, _weeks(baskets, TEST, MOST_RANKED), vectors)
    power, of_table, _, share = (float(value) for value in ours.fusion)
    return ours, replace(
        evidence,
        seconds=fitted.seconds,
        n_parameters=sum(parameter.numel() for parameter in ours.parameters()),
        reliability={"a recommended item is bought within 7 days": calibration_bins(probs, bought)},
        rows=[_with_error(evidence.rows[0], metrics.calibration_error(probs, bought)), *evidence.rows[1:]],
        notes=(
            f"Chosen on validation: behaviour to the power {power:g}, table to {of_table:g}, repeats {share:g} times "
            "as fitted.",
        ),
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


def _built(baskets: Baskets, behaviour: Behaviour, table: transitions.Transitions, seed: int) -> Recommendation:
    """A fresh module that holds the encoder and the table."""
    torch.manual_seed(seed)
    model = Recommendation(behaviour)
    model.take_table(table)
    model.silence[1 + int(baskets.bought.items.max(initial=0)) :] = SILENT
    return model


def _table(dataset: Dataset, n_items: int) -> transitions.Transitions:
    """Successions within the training window, in ledger order."""
    ledger = dataset.ledger
    kept = (ledger.kind == ORDER) & (ledger.item > 0) & (ledger.time_s < dataset.splits.train_until_s)
    ends = np.concatenate([[0], np.cumsum(kept)])[ledger.offsets]
    return transitions.transitions(ledger.item[kept], ends, n_items)


def _scored(model: Recommendation, events: Events, vectors: Tensor) -> Tensor:
    with torch.no_grad():
        return model.scored(events, vectors).score


def _alone(behaviour: Behaviour, events: Events, vectors: Tensor) -> Tensor:
    with torch.no_grad():
        return behaviour.shopper(events, vectors) @ vectors.T


def _in_history(baskets: Baskets, rows: NDArray[np.int64]) -> Tensor:
    history = baskets.events(rows).item
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


def _choose_fusion(ours: Recommendation, baskets: Baskets, vectors: Tensor) -> None:
    """Keep the share of repeats and the powers with the best NDCG on validation, one after the other."""
    rows = baskets.of(VALID, 1_000)
    if rows.size == 0:
        return
    offsets, items = baskets.targets(rows)

    def best(place: int, choices: Sequence[float]) -> None:
        found: dict[float, float] = {}
        for choice in choices:
            ours.fusion[place] = choice
            ranked = best_items(lambda asked: _scored(ours, baskets.events(asked), vectors), rows)
            found[choice] = float(metrics.ranking_gains(ranked, offsets, items)[:, 1].mean())
        ours.fusion[place] = max(found, key=lambda choice: found[choice])

    best(3, REPEAT_SHARES)
    best(1, TABLE_POWERS)
    best(0, BEHAVIOUR_POWERS)
    best(3, [float(ours.fusion[3]) * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0)])


def _weeks(baskets: Baskets, part: int, most: int) -> NDArray[np.int64]:
    """Weeks of a window with a history, whether or not anything was bought: a probability must count those too."""
    return _thinned(np.flatnonzero((baskets.part == part) & baskets.has_history), most)


def _calibrate(ours: Recommendation, baskets: Baskets, vectors: Tensor) -> None:
    rows = _weeks(baskets, VALID, 3_000)
    if rows.size == 0:
        return
    rates, items, n_known = _top(ours, baskets, rows, vectors)
    length = np.log1p(n_known.numpy().astype(np.float64))
    inputs = np.column_stack([rates.numpy().astype(np.float64).ravel(), np.repeat(length, N_TOP_ITEMS)])
    fitted = fit_platt(inputs, _is_bought(baskets, rows, items.numpy()).ravel(), np.array([1.0, 0.0, 0.0]))
    # A slope above zero keeps the list in descending order of probability.
    ours.calibration.copy_(torch.tensor([max(fitted[0], 0.05), fitted[1], fitted[2]]))


def _top(
    ours: Recommendation, baskets: Baskets, rows: NDArray[np.int64], vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-rates and indexes of each row's best items, and how many of its events name an item."""
    rates, items, n_known = [], [], []
    for part in _batches(rows):
        events = baskets.events(part)
        best = torch.topk(_scored(ours, events, vectors), N_TOP_ITEMS, dim=1)
        rates.append(ours.rate(best.values).detach())
        items.append(best.indices)
        n_known.append((events.item > 0).sum(dim=1))
    return torch.cat(rates), torch.cat(items), torch.cat(n_known)


def _top_probs(
    ours: Recommendation, baskets: Baskets, rows: NDArray[np.int64], vectors: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rates, items, n_known = _top(ours, baskets, rows, vectors)
    probs = ours.probabilities(rates, n_known.unsqueeze(1)).numpy().astype(np.float64)
    return probs.ravel(), _is_bought(baskets, rows, items.numpy()).ravel()


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
