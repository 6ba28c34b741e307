"""Neighbour sessions: past sessions that share items with the present one say what comes next. No training, no net.

In: past sessions as item indexes, the oldest first, and prefixes of present ones. Out: the best next items with scores,
or the same knowledge as one table of item pairs. training/models/session.py holds the table; tests.benchmarks.published
ranks with both.
"""

from dataclasses import astuple, dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry
from kernels.transitions import Transitions

Items = NDArray[np.int32]
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class SessionIndex:
    """Past sessions, and for every item the sessions that hold it.

    offsets          (n_sessions + 1,) int64  session i is items[offsets[i] : offsets[i + 1]]; the oldest first
    items            (n_events,) int32        item indexes in the order of their time; 0 is no item but keeps its place
    posting_offsets  (n_items + 1,) int64     item j owns postings posting_offsets[j] to posting_offsets[j + 1]
    session          (n_postings,) int32      that holds the item, the most recent first
    place            (n_postings,) int32      of the item's last occurrence in that session
    """

    offsets: Offsets
    items: Items
    posting_offsets: Offsets
    session: NDArray[np.int32]
    place: NDArray[np.int32]

    @property
    def n_items(self) -> int:
        """Number of item indexes, 0 included."""
        return int(self.posting_offsets.size - 1)


@dataclass(frozen=True)
class Kinship:
    """What makes a past session near and an item of it likely; the defaults were chosen on Diginetica's validation.

    n_neighbours     nearest sessions that vote; those as near as the last of them vote too
    step_decay       worth of a prefix item for each step before the latest, in (0, 1]
    rarity_power     an item's worth is divided by this power of the number of sessions that hold it
    age_sessions     a session's vote halves with every so many sessions after it
    length_power     a session's vote is divided by this power of its length
    distance_decay   worth of an item for each place between it and the shared one, in (0, 1]
    before           worth of an item before the shared one, against one after it
    same             worth of the shared item itself
    """

    n_neighbours: int = 1_500
    step_decay: float = 0.5
    rarity_power: float = 0.5
    age_sessions: float = 83_000.0
    length_power: float = 0.2
    distance_decay: float = 0.7
    before: float = 0.7
    same: float = 1.5


def session_index(items: Items, offsets: Offsets, n_items: int, n_recent: int = 0) -> SessionIndex:
    """Index past sessions by item.

    items     (n_events,) int32        of all sessions, in the order of their time; 0 is no item
    offsets   (n_sessions + 1,) int64  session i is items[offsets[i] : offsets[i + 1]], the oldest session first
    n_items   number of item indexes, 0 included
    n_recent  sessions kept of each item, the most recent; 0 keeps all
    returns   SessionIndex
    raises    InvalidInput             if an index is out of range or offsets do not cover the items
    source    VMIS-kNN's index, Kersbergen et al. 2022 (SIGMOD), section 3; reference.neighbours
    """
    check(n_items >= 1, f"n_items must be ≥ 1, got {n_items}")
    check(n_recent >= 0, f"n_recent must be ≥ 0, got {n_recent}")
    _check_sessions(items, offsets, n_items)
    n_sessions = offsets.size - 1
    session = np.repeat(np.arange(n_sessions), np.diff(offsets))
    place = np.arange(items.size) - offsets[session]
    order = np.lexsort((-place, -session, items))
    order = order[items[order] > 0]
    same = np.zeros(order.size, np.bool_)
    same[1:] = (items[order[1:]] == items[order[:-1]]) & (session[order[1:]] == session[order[:-1]])
    order = order[~same]
    if n_recent > 0:
        starts = np.searchsorted(items[order], items[order])
        order = order[np.arange(order.size) - starts < n_recent]
    posting_offsets = np.searchsorted(items[order], np.arange(n_items + 1)).astype(np.int64)
    return SessionIndex(
        plain(offsets), plain(items), posting_offsets, session[order].astype(np.int32), place[order].astype(np.int32)
    )


def next_items(
    index: SessionIndex, items: Items, offsets: Offsets, kinship: Kinship, n_kept: int = 20
) -> tuple[Items, NDArray[np.float64]]:
    """Rank what neighbours of each prefix hold.

    A neighbour's likeness is the worth of the prefix items that it shares; it votes for its own items, more for those
    near the latest shared one.

    index    of past sessions
    items    (n_events,) int32        of all prefixes, the latest of each last; 0 is no item but keeps its step
    offsets  (n_prefixes + 1,) int64  prefix i is items[offsets[i] : offsets[i + 1]]
    kinship  weights
    n_kept   items kept for each prefix
    returns  item (n_prefixes, n_kept) int32, score (n_prefixes, n_kept) float64 descending, equal scores by index;
             0 and 0.0 fill a short list
    raises   InvalidInput             if an index or a weight is out of range
    source   V-SKNN, Ludewig and Jannach 2018 (arXiv 1803.09587); STAN, Garg et al. 2019 (arXiv 1906.01460);
             reference.neighbours.next_items
    """
    _check_sessions(items, offsets, index.n_items)
    _check_kinship(kinship)
    check(n_kept >= 1, f"n_kept must be ≥ 1, got {n_kept}")
    item = np.zeros((offsets.size - 1, n_kept), np.int32)
    score = np.zeros((offsets.size - 1, n_kept))
    postings = (index.posting_offsets, index.session, index.place)
    past = (index.offsets, index.items)
    # A tuple of floats alone: numba compiles one kernel, not one for each mixture of types.
    _next_items(postings, past, plain(items), plain(offsets), _weights(kinship), item, score)
    return item, score


def pair_table(index: SessionIndex, kinship: Kinship, n_kept: int) -> Transitions:
    """Add up what every session that holds an item would vote for: the neighbours of a prefix of this item alone.

    Where all sessions vote, a prefix's scores are nearly the sum of its items' rows, so a graph needs no sessions.

    index    of past sessions
    kinship  weights; n_neighbours, step_decay and same are not used
    n_kept   items kept in each row, the heaviest
    returns  Transitions  without an item's own pair
    raises   InvalidInput  if a weight is out of range
    source   reference.neighbours.pair_weights
    """
    _check_kinship(kinship)
    check(n_kept >= 1, f"n_kept must be ≥ 1, got {n_kept}")
    successor = np.zeros((index.n_items, n_kept), np.int32)
    weight = np.zeros((index.n_items, n_kept))
    postings = (index.posting_offsets, index.session, index.place)
    _pairs(postings, (index.offsets, index.items), _weights(kinship), successor, weight)
    n_pairs = (weight > 0.0).sum(axis=1)
    is_pair = np.arange(n_kept) < n_pairs[:, None]
    return Transitions(np.concatenate([[0], np.cumsum(n_pairs)]), successor[is_pair], weight[is_pair])


def _check_sessions(items: Items, offsets: Offsets, n_items: int) -> None:
    check_array("items", items, np.int32)
    check_array("offsets", offsets, np.int64)
    check_each("items", items, (items >= 0) & (items < n_items), f"in [0, {n_items})")
    check(offsets.size >= 1 and offsets[0] == 0 and is_ascending(offsets), "offsets must ascend from 0")
    check(offsets[-1] == items.size, f"offsets must end with n_events {items.size}, got {offsets[-1]}")


def _check_kinship(kinship: Kinship) -> None:
    for name in ("step_decay", "distance_decay"):
        value = getattr(kinship, name)
        check(0.0 < value <= 1.0, f"{name} must be in (0, 1], got {value}")
    for name in ("rarity_power", "length_power", "before", "same"):
        value = getattr(kinship, name)
        check(0.0 <= value < np.inf, f"{name} must be ≥ 0 and finite, got {value}")
    check(kinship.n_neighbours >= 1, f"n_neighbours must be ≥ 1, got {kinship.n_neighbours}")
    check(kinship.age_sessions > 0.0, f"age_sessions must be > 0, got {kinship.age_sessions}")


def _weights(kinship: Kinship) -> NDArray[np.float64]:
    return np.array(astuple(kinship), np.float64)


@njit(nogil=True)
def _closeness(weights, distance):
    if distance > 0:
        return weights[5] ** (distance - 1)
    return weights[6] * weights[5] ** (-distance - 1)


@njit(nogil=True)
def _vote(weights, n_sessions, session, length):
    return 0.5 ** ((n_sessions - 1 - session) / weights[3]) / length ** weights[4]


@njit(nogil=True)
def _gather(postings, prefix, weights, likeness, shared, touched):
    """Likeness of all sessions that share an item with the prefix, and where the latest shared item stands in each."""
    starts, session, place = postings
    n_touched, worth = 0, 1.0
    for step in range(prefix.size - 1, -1, -1):
        item = prefix[step]
        is_first = item != 0
        for later in range(step + 1, prefix.size):
            if prefix[later] == item:
                is_first = False
        if is_first and starts[item + 1] > starts[item]:
            rare = worth / float(starts[item + 1] - starts[item]) ** weights[2]
            for posting in range(starts[item], starts[item + 1]):
                near = session[posting]
                if likeness[near] == 0.0:
                    touched[n_touched] = near
                    shared[near] = place[posting]
                    n_touched += 1
                likeness[near] += rare
        worth *= weights[1]
    return n_touched


@njit(nogil=True)
def _best(touched, score, item_row, score_row):
    """Write the highest scores of the touched items, equal ones by index, and set all of them back to 0."""
    items = np.sort(touched)
    order = np.argsort(-score[items], kind="mergesort")  # stable: equal scores stay in order of index
    for rank in range(min(order.size, item_row.size)):
        item_row[rank] = items[order[rank]]
        score_row[rank] = score[items[order[rank]]]
    for item in items:
        score[item] = 0.0


@entry
def _next_items(postings, past, items, offsets, weights, item, score):
    starts, past_items = past
    n_sessions = starts.size - 1
    likeness = np.zeros(n_sessions)
    shared = np.zeros(n_sessions, np.int32)
    touched = np.empty(n_sessions, np.int32)
    total = np.zeros(postings[0].size)
    voted = np.empty(postings[0].size, np.int32)
    for row in range(offsets.size - 1):
        n_touched = _gather(postings, items[offsets[row] : offsets[row + 1]], weights, likeness, shared, touched)
        votes = np.empty(n_touched)
        for at in range(n_touched):
            near = touched[at]
            votes[at] = likeness[near] * _vote(weights, n_sessions, near, starts[near + 1] - starts[near])
            likeness[near] = 0.0
        n_neighbours = int(weights[0])
        least = 0.0
        if n_touched > n_neighbours:
            least = np.partition(votes, n_touched - n_neighbours)[n_touched - n_neighbours]
        n_voted = 0
        for at in range(n_touched):
            near = touched[at]
            if votes[at] < least:
                continue
            for event in range(starts[near], starts[near + 1]):
                candidate = past_items[event]
                distance = event - starts[near] - shared[near]
                worth = weights[7] if distance == 0 else _closeness(weights, distance)
                if candidate == 0 or worth * votes[at] == 0.0:
                    continue
                if total[candidate] == 0.0:
                    voted[n_voted] = candidate
                    n_voted += 1
                total[candidate] += votes[at] * worth
        _best(voted[:n_voted], total, item[row], score[row])


@entry
def _pairs(postings, past, weights, successor, weight):
    of_item, session, place = postings
    starts, past_items = past
    total = np.zeros(of_item.size)
    voted = np.empty(of_item.size, np.int32)
    for item in range(1, of_item.size - 1):
        n_voted = 0
        n_holding = of_item[item + 1] - of_item[item]
        for posting in range(of_item[item], of_item[item + 1]):
            near = session[posting]
            vote = _vote(weights, starts.size - 1, near, starts[near + 1] - starts[near]) / n_holding ** weights[2]
            for event in range(starts[near], starts[near + 1]):
                candidate = past_items[event]
                distance = event - starts[near] - place[posting]
                if candidate == 0 or candidate == item:
                    continue
                worth = vote * _closeness(weights, distance)
                if worth == 0.0:
                    continue
                if total[candidate] == 0.0:
                    voted[n_voted] = candidate
                    n_voted += 1
                total[candidate] += worth
        _best(voted[:n_voted], total, successor[item], weight[item])
