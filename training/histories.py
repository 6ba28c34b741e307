"""Every shopper's events one after another, windows of them to read at once, and what the catalogue says of items.

In: a ledger, or sequences of any other source. Out: Sequences and their Events. Called by training/behaviours.py,
training/baskets.py and the benchmarks on public sequences.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from kernels.event_history import LONGEST_GAP_S, price_steps
from kernels.ledger import Ledger
from training.dataset import TEST, TRAIN, VALID, Dataset, Splits
from training.models.behaviour import Events

Ints = NDArray[np.int64]
N_ATTRIBUTES, FEWEST_SHARING = 8, 5


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

    @cached_property
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

    def ends(self, shopper: Ints, at_s: Ints) -> Ints:
        """First event of each shopper that is not before a query; `moment` must be seconds.

        shopper, at_s  (n,) int64
        returns        (n,) int64
        """
        n_seconds = int(self.moment.max(initial=0)) + 2
        key = self.shopper * n_seconds + np.maximum(self.moment, 0)
        return np.searchsorted(key, shopper * n_seconds + np.clip(at_s, 0, n_seconds - 1))

    def before(self, shopper: Ints, end: Ints, n_places: int) -> Events:
        """The last events of shoppers before some of theirs.

        end      (n,) int64  the first event that is not read
        returns  (n, n_places) each
        """
        return self.events(places_of(np.maximum(end - n_places, self.offsets[shopper]), end, n_places))

    def events(self, places: Ints) -> Events:
        """Events by their place; an empty one, -1, is nobody's."""
        columns = (self.item, self.kind, self.gap_s, self.price)
        return Events(*(torch.from_numpy(np.where(places >= 0, column[places], 0)) for column in columns))


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


def places_of(begin: Ints, end: Ints, length: int) -> Ints:
    """Events begin to end - 1, latest last; -1 on the left of what is shorter.

    returns  (n, length) int64
    """
    place = end[:, None] - length + np.arange(length)
    return np.where(place >= begin[:, None], place, -1)


def sequences_of(ledger: Ledger, splits: Splits | None = None) -> Sequences:
    """Views, carts, order lines and refunds of a shop; lines of one second have no order among them.

    splits  windows of the events; None leaves all in training
    """
    deeds = ledger.deeds
    gap_s = np.diff(deeds.time_s, prepend=deeds.time_s[:1])
    gap_s[deeds.offsets[:-1][np.diff(deeds.offsets) > 0]] = 0
    part = np.full(deeds.n_events, TRAIN, np.int8)
    if splits is not None:
        part[deeds.time_s >= splits.train_until_s] = VALID
        part[deeds.time_s >= splits.valid_until_s] = TEST
    return Sequences(
        item=deeds.item.astype(np.int64),
        kind=deeds.kind.astype(np.int64),
        gap_s=np.minimum(gap_s, LONGEST_GAP_S),
        price=price_steps(deeds).astype(np.int64),
        moment=deeds.time_s,
        part=part,
        offsets=deeds.offsets,
    )


def attributes_of(dataset: Dataset, n_items: int) -> Ints:
    """What the catalogue says of every item, as codes: category, department, brand, and words of the title.

    returns  (n_items, N_ATTRIBUTES) int64  0 pads; row 0 is no item
    """
    named = pl.DataFrame({"item_id": list(dataset.vocabulary.item_ids)}, schema={"item_id": pl.String})
    items = named.join(dataset.shop.items, on="item_id", how="left", maintain_order="left")
    words = (
        pl.col("title")
        .fill_null("")
        .str.to_lowercase()
        .str.extract_all(r"\p{L}{2,}|\d+")
        .list.unique(maintain_order=True)
    )
    told = items.select(
        pl.concat_list(
            *(pl.format(f"{name}:{{}}", name).fill_null("") for name in ("category", "department", "brand")),
            words.list.eval(pl.format("word:{}", pl.element())),
        ).alias("told")
    ).with_row_index("item", offset=1)
    each = told.explode("told").filter(pl.col("told").is_not_null() & (pl.col("told") != ""))
    # One item's word says nothing that the item's own vector does not.
    shared = (
        each.group_by("told")
        .len()
        .filter(pl.col("len") >= FEWEST_SHARING)
        .sort("told")
        .with_row_index("code", offset=1)
    )
    coded = (
        each.join(shared, on="told", maintain_order="left")
        .with_columns(rank=pl.int_range(pl.len()).over("item"))
        .filter(pl.col("rank") < N_ATTRIBUTES)
    )
    attributes = np.zeros((n_items, N_ATTRIBUTES), np.int64)
    attributes[coded["item"].to_numpy(), coded["rank"].to_numpy()] = coded["code"].to_numpy()
    return attributes
