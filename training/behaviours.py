"""The behaviour study: events in order, what came next after each, fit, and full rankings beside rivals.

In: a Dataset, or sequences of any other source. Out: a fitted Behaviour and its evidence. Called by training/fit.py
and by the benchmarks on public sequences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels import metrics
from training.dataset import TRAIN, VALID
from training.models.behaviour import SILENT, Behaviour, Events, next_event_loss

Ints = NDArray[np.int64]
N_CHUNKS = 4
# Rows encoded at once where nothing is learned, and moments that a pass is judged by.
N_AT_ONCE, N_ASKED = 256, 4_000


@dataclass(frozen=True)
class Sequences:
    """Every shopper's events, one shopper after another, in time order.

    item, kind, gap_s, price  (n_events,) int64  as training.models.behaviour.Events
    moment                    (n_events,) int64  ascends within a shopper; events of one moment have no order
    part                      (n_events,) int8   window in which an event may be what comes next
    offsets                   (n_shoppers + 1,) int64
    """

    item: Ints
    kind: Ints
    gap_s: Ints
    price: Ints
    moment: Ints
    part: NDArray[np.int8]
    offsets: Ints

    @property
    def shopper(self) -> Ints:
        """(n_events,) int64 whose event it is."""
        return np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))

    def next_moments(self) -> tuple[Ints, Ints]:
        """First event of the moment after each event's own, and first event after that moment; equal where none is.

        returns  (n_events,) int64 twice
        """
        shopper = self.shopper
        begins = np.ones(shopper.size, np.bool_)
        begins[1:] = (shopper[1:] != shopper[:-1]) | (self.moment[1:] != self.moment[:-1])
        starts = np.append(np.flatnonzero(begins), [shopper.size, shopper.size])
        group = np.cumsum(begins) - 1
        last = np.append(self.offsets[1:], 0)[shopper] if shopper.size else shopper
        return np.minimum(starts[group + 1], last), np.minimum(starts[group + 2], last)


@dataclass(frozen=True)
class Windows:
    """Stretches of events to read at once; before a shopper's first event stands an empty place.

    begin, end  (n_windows,) int64  events begin to end - 1
    is_first    (n_windows,) bool
    """

    begin: Ints
    end: Ints
    is_first: NDArray[np.bool_]

    @property
    def length(self) -> Ints:
        """Places of each."""
        return self.end - self.begin + self.is_first

    def of(self, rows: Ints) -> "Windows":
        """Some of them."""
        return Windows(self.begin[rows], self.end[rows], self.is_first[rows])


def windows_of(begin: Ints, end: Ints, length: int) -> Windows:
    """Cut each shopper's stretch into windows, the latest of them full.

    begin, end  (n_shoppers,) int64  the shopper's first event, and the first that is no longer read
    length      most places of a window
    """
    n_events = end - begin
    # One place more than there are events: the empty one, from which the first event is foretold.
    n_windows = np.where(n_events > 0, -(-(n_events + 1) // length), 0)
    row = np.repeat(np.arange(begin.size), n_windows)
    back = np.arange(row.size) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    last = end[row] - back * length
    first = last - length
    return Windows(np.maximum(first, begin[row]), last, first < begin[row])


class _Vectors:
    """Vectors of the items that one batch names, each computed once."""

    def __init__(self, model: Behaviour, items: Sequence[Ints]) -> None:
        self.items = np.unique(np.concatenate([part.ravel() for part in items]))
        self.vectors = model.vectors(torch.from_numpy(self.items))

    def of(self, items: Ints) -> Tensor:
        return functional.embedding(torch.from_numpy(np.searchsorted(self.items, items)), self.vectors)


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
        first = self.sequences.offsets[self.sequences.shopper[asked]]
        begin = np.maximum(asked + 1 - self.n_places, first)
        return self._events(_places(begin, asked + 1, self.n_places))

    def followers(self, asked: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """Known items of the moment after each of some events.

        returns  (n + 1,) offsets, and items, ascending and each once for an event
        """
        lists = [
            np.unique(self.sequences.item[begin:end])
            for begin, end in zip(self.next_begin[asked], self.next_end[asked], strict=True)
        ]
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
            model.read(self._events(places), vectors.of(item))[torch.from_numpy(drawn >= 0)]
            for places, item, drawn in zip(chunks, items, targets, strict=True)
        ]
        found = torch.cat(hidden)  # (n_targets, WIDTH)
        of_next = (found * vectors.of(named)).sum(dim=1, keepdim=True)
        scores = torch.cat([of_next, found @ vectors.of(negatives).T], dim=1)
        log_counts = functional.pad(self._log_counts(named, negatives), (1, 0))
        kind = torch.from_numpy(self.sequences.kind[target])
        return next_event_loss(scores, log_counts, model.next_kind(found), kind)

    def validation_loss(self, model: nn.Module) -> float:
        """One less NDCG@10 of what followed in the validation window, every item ranked.

        Cross-entropy rises from half of the passes on while the ranking still gains a seventh (LOG.md).
        """
        assert isinstance(model, Behaviour)
        table = model.table()
        return 1.0 - self.ndcg(lambda events: model.shopper(events, table) @ table.T, self.asked)

    def ndcg(self, scores: Callable[[Events], Tensor], asked: Ints) -> float:
        """Mean NDCG@10 of the items of the moment after each of some events.

        scores  Events -> (batch, n_items), higher is likelier
        """
        ranked = self.ranked(scores, asked)
        offsets, items = self.followers(asked)
        return float(metrics.ranking_gains(ranked, offsets, items)[np.diff(offsets) > 0, 1].mean())

    def ranked(self, scores: Callable[[Events], Tensor], asked: Ints, n_best: int = 10) -> NDArray[np.int32]:
        """The items of the highest scores after each of some events; where nothing repeats, none of the history's.

        returns  (n, n_best) int32
        """
        best = [np.zeros((0, n_best), np.int32)]
        with torch.no_grad():
            for first in range(0, asked.size, N_AT_ONCE):
                events = self.histories(asked[first : first + N_AT_ONCE])
                of_all = scores(events)
                if not self.has_repeats:
                    of_all = of_all.scatter(1, events.item, SILENT)
                best.append(torch.topk(of_all[:, 1:], n_best, dim=1).indices.numpy().astype(np.int32) + 1)
        return np.concatenate(best)

    def _alike(self, rows: Ints) -> list[Ints]:
        """Rows in a few chunks of like length, so that short histories do not pay for long ones."""
        ordered = rows[np.argsort(self.windows.length[rows], kind="stable")]
        return [part for part in np.array_split(ordered, N_CHUNKS) if part.size]

    def _places_of(self, rows: Ints) -> Ints:
        windows = self.windows
        return _places(windows.begin[rows], windows.end[rows], int(windows.length[rows].max()))

    def _items(self, places: Ints) -> Ints:
        return np.where(places >= 0, self.sequences.item[places], 0)

    def _events(self, places: Ints) -> Events:
        sequences = self.sequences
        columns = (sequences.item, sequences.kind, sequences.gap_s, sequences.price)
        return Events(*(torch.from_numpy(np.where(places >= 0, column[places], 0)) for column in columns))

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


def _places(begin: Ints, end: Ints, length: int) -> Ints:
    """Events begin to end - 1, latest last; -1 on the left of what is shorter.

    returns  (n, length) int64
    """
    place = end[:, None] - length + np.arange(length)
    return np.where(place >= begin[:, None], place, -1)
