"""The behaviour study: events in order, what came next after each, fit, and full rankings beside rivals.

In: a Dataset, or sequences of any other source. Out: a fitted Behaviour and its evidence. Called by training/fit.py
and by the benchmarks on public sequences.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels import metrics
from kernels.features import N_TOP_ITEMS
from kernels.transitions import scores, transitions
from training.dataset import TEST, TRAIN, VALID, Dataset, Rows
from training.evidence import Difference, Evidence, Row, differences, interval, shopper_weights
from training.histories import Sequences, attributes_of, places_of, sequences_of, windows_of
from training.loop import Progress, Recipe, fit
from training.models.behaviour import N_PLACES, SILENT, WIDTH, Behaviour, Events, next_event_loss
from training.sources.tables import InvalidTable

Ints = NDArray[np.int64]
N_CHUNKS = 4
# Rows encoded at once where nothing is learned, and moments that a pass is judged by.
N_AT_ONCE, N_ASKED = 256, 2_000
N_NEGATIVES, MOST_RANKED, K = 512, 5_000, 10
# Chosen on the validation window (LOG.md).
RECIPE = Recipe(n_epochs=3, batch=32, learning_rate=2e-3)
KIND_NAMES = ("view", "cart", "order", "refund")
Scores = Callable[[Events], Tensor]
Floats = NDArray[np.float64]


class _Vectors:
    """Vectors of the items that one batch names, each computed once."""

    def __init__(self, model: Behaviour, items: Sequence[Ints]) -> None:
        self.items = np.unique(np.concatenate([part.ravel() for part in items]))
        self.vectors = model.vectors(torch.from_numpy(self.items).to(model.attributes.device))

    def of(self, items: Ints) -> Tensor:
        place = torch.from_numpy(np.searchsorted(self.items, items)).to(self.vectors.device)
        return functional.embedding(place, self.vectors)


class NextEvent:
    """The Task: at every place, an event of the next moment, drawn anew at every pass, against shared negatives.

    n_places     most events that are read
    n_negatives  items drawn for a batch; as many as there are items takes all of them instead
    has_repeats  False where nobody has an item twice: seen items are not ranked
    """

    def __init__(
        self, sequences: Sequences, n_items: int, n_places: int, n_negatives: int, *, has_repeats: bool = True
    ) -> None:
        self.sequences, self.n_items, self.n_places, self.n_negatives = sequences, n_items, n_places, n_negatives
        self.has_repeats = has_repeats
        self.next_begin, self.next_end = sequences.next_moments()
        is_train = sequences.part == TRAIN
        n_before = np.concatenate([[0], np.cumsum(is_train)])[sequences.offsets]
        first = sequences.offsets[:-1]
        self.windows = windows_of(first, first + np.diff(n_before), n_places)
        self.n_rows = self.windows.begin.size
        self.counts = np.bincount(sequences.item[is_train], minlength=n_items).astype(np.float64)
        # The power flattens popularity: tail items must be negatives too.
        flat = (self.counts + 1.0) ** 0.75 * (np.arange(n_items) > 0)
        self.chance = flat / flat.sum()
        self.asked = self.asked_of(VALID, N_ASKED)

    def asked_of(self, part: int, most: int) -> Ints:
        """Last events before a moment of a window, evenly thinned: what is known after them foretells that moment.

        part  of training.dataset
        most  events
        """
        follows = np.flatnonzero(self.next_begin < self.next_end)
        follows = follows[self.next_begin[follows] == follows + 1]
        asked: Ints = follows[self.sequences.part[follows + 1] == part]
        return asked[np.linspace(0, asked.size - 1, min(most, asked.size)).astype(np.int64)]

    def histories(self, asked: Ints) -> Events:
        """What was known after each of some events.

        asked    (n,) int64
        returns  (n, n_places) each
        """
        return self.sequences.before(self.sequences.shopper[asked], asked + 1, self.n_places)

    def followers(self, asked: Ints, *, only_new: bool = False) -> tuple[Ints, NDArray[np.int32]]:
        """Known items of the moment after each of some events.

        only_new  those that the history does not hold
        returns   (n + 1,) offsets, and items, ascending and each once for an event
        """
        lists = [
            np.unique(self.sequences.item[begin:end])
            for begin, end in zip(self.next_begin[asked], self.next_end[asked], strict=True)
        ]
        if only_new:
            shoppers = self.sequences.shopper[asked]
            begins = np.maximum(asked + 1 - self.n_places, self.sequences.offsets[shoppers])
            seen = [self.sequences.item[begin : end + 1] for begin, end in zip(begins, asked, strict=True)]
            lists = [np.setdiff1d(items, known) for items, known in zip(lists, seen, strict=True)]
        lists = [items[items > 0].astype(np.int32) for items in lists]
        sizes = np.array([items.size for items in lists], np.int64)
        return np.concatenate([[0], np.cumsum(sizes)]), np.concatenate([*lists, np.zeros(0, np.int32)])

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:
        """See next_event_loss."""
        assert isinstance(model, Behaviour)
        rng = np.random.default_rng(seed)
        chunks = [self._places_of(part) for part in self._alike(rows)]
        targets = [self._targets(places, rng) for places in chunks]
        negatives = self._negatives(rng)
        items = [self._items(places) for places in chunks]
        target = np.concatenate([drawn[drawn >= 0] for drawn in targets])
        named = self.sequences.item[target]
        vectors = _Vectors(model, [*items, named, negatives])
        hidden = [
            model.read(_on(model, self.sequences.events(places)), vectors.of(item))[torch.from_numpy(drawn >= 0)]
            for places, item, drawn in zip(chunks, items, targets, strict=True)
        ]
        found = torch.cat(hidden)  # (n_targets, WIDTH)
        of_next = (found * vectors.of(named)).sum(dim=1, keepdim=True)
        told = torch.cat([of_next, found @ vectors.of(negatives).T], dim=1)
        log_counts = functional.pad(self._log_counts(named, negatives), (1, 0)).to(told.device)
        kind = torch.from_numpy(self.sequences.kind[target]).to(told.device)
        return next_event_loss(told, log_counts, model.next_kind(found), kind)

    def validation_loss(self, model: nn.Module) -> float:
        """One less NDCG@10 of what followed in the validation window, every item ranked.

        Cross-entropy rises from half of the passes on while the ranking still gains a seventh (LOG.md).
        """
        assert isinstance(model, Behaviour)
        table = model.table()
        return 1.0 - self.ndcg(lambda events: model.shopper(_on(model, events), table) @ table.T, self.asked)

    def ndcg(self, scored: Scores, asked: Ints) -> float:
        """Mean NDCG@10 of the items of the moment after each of some events.

        scored  Events -> (batch, n_items), higher is likelier
        """
        ranked = self.ranked(scored, asked)
        offsets, items = self.followers(asked)
        return float(metrics.ranking_gains(ranked, offsets, items)[np.diff(offsets) > 0, 1].mean())

    def ranked(self, scored: Scores, asked: Ints, n_best: int = K, *, only_new: bool = False) -> NDArray[np.int32]:
        """The items of the highest scores after each of some events.

        only_new  leave out the items of the history; where nothing repeats they always are
        returns   (n, n_best) int32
        """
        best = [np.zeros((0, n_best), np.int32)]
        with torch.no_grad():
            for first in range(0, asked.size, N_AT_ONCE):
                events = self.histories(asked[first : first + N_AT_ONCE])
                of_all = scored(events).cpu()
                if only_new or not self.has_repeats:
                    of_all = of_all.scatter(1, events.item, SILENT)
                best.append(torch.topk(of_all[:, 1:], n_best, dim=1).indices.numpy().astype(np.int32) + 1)
        return np.concatenate(best)

    def _alike(self, rows: Ints) -> list[Ints]:
        """Rows in a few chunks of like length, so that short histories do not pay for long ones."""
        ordered = rows[np.argsort(self.windows.length[rows], kind="stable")]
        return [part for part in np.array_split(ordered, N_CHUNKS) if part.size]

    def _places_of(self, rows: Ints) -> Ints:
        windows = self.windows
        return places_of(windows.begin[rows], windows.end[rows], int(windows.length[rows].max()))

    def _items(self, places: Ints) -> Ints:
        return np.where(places >= 0, self.sequences.item[places], 0)

    def _targets(self, places: Ints, rng: np.random.Generator) -> Ints:
        """One event of the moment after each place; -1 where none is, or none to learn from."""
        sequences = self.sequences
        begin, end = self.next_begin[places], self.next_end[places]
        # An empty place just before a shopper's first event foretells the first moment.
        starts = (places[:, :-1] < 0) & (places[:, 1:] >= 0)
        first = places[:, 1:][starts]
        begin[:, :-1][starts], end[:, :-1][starts] = first, self._moment_end(first)
        is_asked = (places >= 0) & (begin < end)
        is_asked[:, :-1] |= starts
        drawn = begin + (rng.random(begin.shape) * (end - begin)).astype(np.int64)
        drawn = np.where(is_asked, drawn, 0)
        is_asked &= (sequences.part[drawn] == TRAIN) & (sequences.item[drawn] > 0)
        return np.where(is_asked, drawn, -1)

    def _moment_end(self, event: Ints) -> Ints:
        last = self.sequences.offsets[1:][self.sequences.shopper[event]]
        return np.where(self.next_begin[event] < self.next_end[event], self.next_begin[event], last)

    def _negatives(self, rng: np.random.Generator) -> Ints:
        if self.n_negatives >= self.n_items:
            return np.arange(1, self.n_items)
        return np.unique(rng.choice(self.n_items, self.n_negatives, p=self.chance))

    def _log_counts(self, named: Ints, negatives: Ints) -> Tensor:
        if self.n_negatives >= self.n_items:
            expected = np.zeros(negatives.size)
        else:
            expected = np.log(-np.expm1(self.n_negatives * np.log1p(-self.chance[negatives])))
        is_next = torch.from_numpy(named[:, None] == negatives[None, :])
        return torch.where(is_next, -SILENT, torch.from_numpy(expected).float())


def _on(model: Behaviour, events: Events) -> Events:
    return Events(*(column.to(model.attributes.device) for column in events))


def vectors_of(module: Behaviour, rows: Rows) -> NDArray[np.float32]:
    """The vector of every row's shopper just before the query, as the exported graph gives it.

    returns  (n, WIDTH) float32
    """
    sequences = sequences_of(rows.ledger)
    ends = sequences.ends(rows.shopper, rows.at_s)
    module.eval()
    found = [np.zeros((0, WIDTH), np.float32)]
    with torch.no_grad():
        table = module.table()
        for first in range(0, len(rows), N_AT_ONCE):
            part = slice(first, first + N_AT_ONCE)
            events = sequences.before(rows.shopper[part], ends[part], N_PLACES)
            found.append(module.shopper(events, table).numpy())
    return np.concatenate(found)


def study(dataset: Dataset, recipe: Recipe, progress: Progress, checkpoint: Path | None) -> tuple[Behaviour, Evidence]:
    """Fit the encoder, and rank what followed in the test window beside rivals.

    raises  InvalidTable  if fewer than two shoppers did anything in the training window
    """
    sequences = sequences_of(dataset.ledger, dataset.splits)
    n_items = max(len(dataset.vocabulary.item_ids), N_TOP_ITEMS) + 1
    task = NextEvent(sequences, n_items, N_PLACES, N_NEGATIVES)
    n_shoppers = np.unique(sequences.shopper[sequences.part == TRAIN]).size
    if n_shoppers < 2:
        raise InvalidTable(f"events must be of at least 2 shoppers before training ends, got {n_shoppers}")
    kinds = np.unique(sequences.kind)
    if kinds.size == 1:
        progress(f"behaviour: events are of one kind, {KIND_NAMES[kinds[0] - 1]}: the next kind is no news")
    torch.manual_seed(recipe.seed)
    model = Behaviour(torch.from_numpy(attributes_of(dataset, n_items)), dropout=0.1)
    model.is_known[torch.from_numpy(task.counts == 0)] = 0.0
    fitted = fit(model, task, recipe, lambda step: progress(f"behaviour: {step}"), checkpoint)
    rows, against, n_cases = _rows(model, task)
    notes = () if n_cases else ("nobody did anything new in the test window: nothing to judge on",)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, Evidence(
        rows=rows,
        against=against,
        protocol="What followed in the test window, every item ranked: the items of the next second with an event that "
        "the shopper's last events do not hold; what is bought again is the repeat rates' to foretell.",
        n={"moments": n_cases, "items": n_items - 1},
        seconds=fitted.seconds,
        n_parameters=n_parameters,
        notes=notes,
    )


def _rows(model: Behaviour, task: NextEvent) -> tuple[list[Row], list[Difference], int]:
    """Figures of ours and the rivals on the same moments of the test window."""
    asked = task.asked_of(TEST, MOST_RANKED)
    offsets, items = task.followers(asked, only_new=True)
    has_new = np.diff(offsets) > 0
    if not has_new.any():
        return [], [], 0
    weights = shopper_weights(task.sequences.shopper[asked][has_new])
    names, values, replicates = [], [], []
    for name, scored in _scorers(model, task).items():
        ranked = task.ranked(scored, asked, only_new=True)
        gains = metrics.ranking_gains(ranked, offsets, items)[has_new]
        figures = {f"new_recall_{K}": gains[:, 0], f"new_ndcg_{K}": gains[:, 1], f"new_hit_{K}": gains[:, 2]}
        names.append(name)
        values.append({figure: float(each.mean()) for figure, each in figures.items()})
        drawn = weights @ gains / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        replicates.append(dict(zip(figures, drawn.T, strict=True)))
    rows = [
        Row(name, {figure: interval(value[figure], drawn[figure]) for figure in value})
        for name, value, drawn in zip(names, values, replicates, strict=True)
    ]
    return rows, differences(names, values, replicates), int(has_new.sum())


def _scorers(model: Behaviour, task: NextEvent) -> dict[str, Scores]:
    sequences, table = task.sequences, model.table().detach()
    train = sequences.part == TRAIN
    ends = np.concatenate([[0], np.cumsum(train)])[sequences.offsets]
    after = transitions(sequences.item[train].astype(np.int32), ends, task.n_items)
    popular = torch.from_numpy(task.counts).float()
    return {
        "behaviour": lambda events: model.shopper(events, table) @ table.T,
        "transition table": lambda events: torch.from_numpy(scores(after, events.item.to(torch.int32).numpy())),
        "popularity": lambda events: popular.expand(len(events.item), -1),
    }
