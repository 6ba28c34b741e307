"""The forward transition table: which items follow which, closer successors counting more. The simple recommender.

In: sequences of item indexes. Out: one sparse row of successors for each item, and scores of all items for a history.
training.models.recommendation calls it; the table is exported as it is.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry

# Up to here every 1 / distance is a whole number of one unit that leaves float64 room for 38 million pairs of a kind.
WIDEST = 22


@dataclass(frozen=True)
class Transitions:
    """Weights of the successors of every item, sparse by row.

    offsets    (n_items + 1,) int64    item i owns pairs offsets[i] to offsets[i + 1]; item 0 owns none
    successor  (n_pairs,) int32        item index; in a row, the heaviest first, equal weights by index
    weight     (n_pairs,) float64      sum over occurrences of one over the distance; > 0
    """

    offsets: NDArray[np.int64]
    successor: NDArray[np.int32]
    weight: NDArray[np.float64]

    @property
    def n_items(self) -> int:
        """Number of item indexes, the unknown item 0 included."""
        return int(self.offsets.size - 1)


def transitions(
    items: NDArray[np.int32], offsets: NDArray[np.int64], n_items: int, window: int = 8, n_kept: int = 0
) -> Transitions:
    """Count which items follow which within a window, each pair worth one over its distance.

    items    (n_events,) int32         item indexes, each sequence earliest first; 0 is no item but keeps its place
    offsets  (n_sequences + 1,) int64  sequence i is items[offsets[i] : offsets[i + 1]]
    n_items  number of item indexes, 0 included
    window   greatest distance that counts, in places; at most WIDEST
    n_kept   successors kept in each row, the heaviest; 0 keeps all
    returns  Transitions
    raises   InvalidInput              if an index is out of range or offsets do not cover the items
    source   algorithms: table 1b, forward transition table; reference.transitions
    """
    check_array("items", items, np.int32)
    check_array("offsets", offsets, np.int64)
    check(n_items >= 1, f"n_items must be ≥ 1, got {n_items}")
    check(1 <= window <= WIDEST, f"window must be in [1, {WIDEST}], got {window}")
    check(n_kept >= 0, f"n_kept must be ≥ 0, got {n_kept}")
    check_each("items", items, (items >= 0) & (items < n_items), f"in [0, {n_items})")
    check(offsets.size >= 1 and offsets[0] == 0 and is_ascending(offsets), "offsets must ascend from 0")
    check(offsets[-1] == items.size, f"offsets must end with n_events {items.size}, got {offsets[-1]}")
    place = np.argsort(items, kind="stable")
    starts = np.searchsorted(items[place], np.arange(n_items + 1))
    ends = np.repeat(offsets[1:], np.diff(offsets))
    n_pairs = np.zeros(n_items + 1, np.int64)
    _count_pairs(plain(items), ends, place, starts, window, n_kept, n_pairs)
    row_offsets = np.cumsum(n_pairs)
    successor = np.empty(row_offsets[-1], np.int32)
    weight = np.empty(row_offsets[-1])
    unit = math.lcm(*range(1, window + 1))
    _fill_pairs(plain(items), ends, place, starts, window, unit, row_offsets, successor, weight)
    return Transitions(row_offsets, successor, weight / unit)


def without(table: Transitions, items: NDArray[np.int32], offsets: NDArray[np.int64], window: int = 8) -> Transitions:
    """Take sequences out of a table, exactly: what is left is the table of the others, bit for bit.

    table    every sequence's, whole and counted with the same window; one that kept the heaviest only cannot lose any
    items    (n_events,) int32         of the sequences to forget, as `transitions`
    offsets  (n_sequences + 1,) int64
    window   that the table was counted with
    returns  Transitions; a pair that nobody else made is gone
    raises   InvalidInput              if the table holds less of a pair than is to be taken out, or as `transitions`
    source   test_a_table_without_sequences_is_the_table_of_the_others
    """
    gone = transitions(items, offsets, table.n_items, window)
    # Weights are whole numbers of this unit: sums of them are exact in float64, and so are their differences.
    unit = math.lcm(*range(1, window + 1))
    pair, of_gone = _pairs(table), _pairs(gone)
    check(bool(np.isin(of_gone, pair).all()), "table must hold every pair of the sequences, got one that it lacks")
    order = np.argsort(pair)
    left = np.rint(table.weight * unit)
    left[order[np.searchsorted(pair, of_gone, sorter=order)]] -= np.rint(gone.weight * unit)
    check(bool((left >= 0.0).all()), "table must hold every pair of the sequences, got one that it counts less often")
    return _sorted(pair[left > 0.0], left[left > 0.0] / unit, table.n_items)


def heaviest(table: Transitions, n_kept: int) -> Transitions:
    """Cut every row to its heaviest successors, as `transitions` does when asked to.

    table    from `transitions`
    n_kept   > 0
    returns  Transitions
    """
    check(n_kept > 0, f"n_kept must be > 0, got {n_kept}")
    sizes = np.diff(table.offsets)
    rank = np.arange(table.successor.size) - np.repeat(table.offsets[:-1], sizes)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(sizes, n_kept))])
    return Transitions(offsets, table.successor[rank < n_kept], table.weight[rank < n_kept])


def _pairs(table: Transitions) -> NDArray[np.int64]:
    """One number for every pair of a table, in its order."""
    rows = np.repeat(np.arange(table.n_items, dtype=np.int64), np.diff(table.offsets))
    return rows * table.n_items + table.successor


def _sorted(pair: NDArray[np.int64], weight: NDArray[np.float64], n_items: int) -> Transitions:
    row, successor = np.divmod(pair, n_items)
    order = np.lexsort((successor, -weight, row))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_items))]).astype(np.int64)
    return Transitions(offsets, successor[order].astype(np.int32), weight[order])


def scores(
    table: Transitions, item_history: NDArray[np.int32], decay: float = 0.7, row_power: float = 0.5
) -> NDArray[np.float32]:
    """Score every item as the next one: the rows of the history's items, each step back worth `decay` of the one after.

    Dividing rows by a power of their total keeps frequent items from drowning the rest. The default of `row_power` was
    chosen on the validation items of Amazon Beauty: NDCG@10 0.0580 at 0, 0.0603 at one half, 0.0558 at 1.

    table         from `transitions`
    item_history  (batch, n_history) int32  the latest item last; 0 is no item and takes no step
    decay         in (0, 1]
    row_power     in [0, 1]; 0 adds plain counts, 1 adds shares
    returns       (batch, n_items) float32  ≥ 0; all 0 where nothing in the history has a successor
    raises        InvalidInput              if an index or a parameter is out of range
    source        reference.next_item_scores
    """
    check_array("item_history", item_history, np.int32, n_dims=2)
    check_each(
        "item_history", item_history, (item_history >= 0) & (item_history < table.n_items), f"in [0, {table.n_items})"
    )
    check(0.0 < decay <= 1.0, f"decay must be in (0, 1], got {decay}")
    check(0.0 <= row_power <= 1.0, f"row_power must be in [0, 1], got {row_power}")
    rows = np.repeat(np.arange(table.n_items), np.diff(table.offsets))
    total = np.bincount(rows, weights=table.weight, minlength=table.n_items)
    scale = np.ones(table.n_items)
    scale[total > 0.0] = total[total > 0.0] ** -row_power
    score = np.zeros((item_history.shape[0], table.n_items), np.float32)
    _score(table.offsets, table.successor, table.weight, scale, plain(item_history), float(decay), score)
    return score


@entry
def _count_pairs(items, ends, place, starts, window, n_kept, n_pairs):
    seen_by = np.zeros(n_pairs.size, np.int64)  # the last item that each successor was counted for
    for item in range(1, n_pairs.size - 1):
        n_different = 0
        for at in range(starts[item], starts[item + 1]):
            here = place[at]
            for there in range(here + 1, min(here + 1 + window, ends[here])):
                later = items[there]
                if later != 0 and seen_by[later] != item:
                    seen_by[later] = item
                    n_different += 1
        if n_kept > 0:
            n_different = min(n_different, n_kept)
        n_pairs[item + 1] = n_different


@entry
def _fill_pairs(items, ends, place, starts, window, unit, row_offsets, successor, weight):
    total = np.zeros(row_offsets.size)
    touched = np.empty(row_offsets.size, np.int32)
    for item in range(1, row_offsets.size - 1):
        n_touched = 0
        for at in range(starts[item], starts[item + 1]):
            here = place[at]
            for there in range(here + 1, min(here + 1 + window, ends[here])):
                later = items[there]
                if later != 0:
                    if total[later] == 0.0:
                        touched[n_touched] = later
                        n_touched += 1
                    total[later] += unit // (there - here)
        row = np.sort(touched[:n_touched])
        heaviest = np.argsort(-total[row], kind="mergesort")  # stable: equal weights stay in order of index
        begin = row_offsets[item]
        for rank in range(row_offsets[item + 1] - begin):
            successor[begin + rank] = row[heaviest[rank]]
            weight[begin + rank] = total[row[heaviest[rank]]]
        for later in row:
            total[later] = 0.0


@entry
def _score(offsets, successor, weight, scale, item_history, decay, score):
    for row in range(item_history.shape[0]):
        worth = 1.0
        for place in range(item_history.shape[1] - 1, -1, -1):
            item = item_history[row, place]
            if item != 0:
                for pair in range(offsets[item], offsets[item + 1]):
                    score[row, successor[pair]] += worth * scale[item] * weight[pair]
                worth *= decay
