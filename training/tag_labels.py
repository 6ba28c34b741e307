"""What shoppers did after each query: the outcomes that FUTURE_TAGS name, and which of them could be seen.

In: a Dataset and rows of queries. Out: labels with masks, and queries within open sessions. Called by
training/outlook.py and tests/benchmarks/published/tags.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.future_tags import FUTURE_TAGS, MONTH_S, N_FUTURE_TAGS
from kernels.ledger import CART, EXPOSURE, ORDER, REDEMPTION, REFUND, VIEW, Ledger
from kernels.sessions import SESSION_GAP_S
from kernels.week import EVENING_S, SATURDAY
from training.dataset import DAY_S, NEITHER, TRAIN, WEEK_S, Dataset, Rows
from training.labels import spend_after

# An answer counts where the shopper was reached not long before, or will be soon.
REACHED_BEFORE_S, REACHED_AFTER_S = MONTH_S, WEEK_S
# The fifth that spends most in four weeks; orders on four days of four weeks are a weekly habit.
HIGH_SHARE, FREQUENT_DAYS = 0.8, 4
# The epoch began on a Thursday, the third day counted from Monday.
EPOCH_WEEKDAY = 3

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# A label, and where it could be seen, of each query.
Told = Mapping[str, tuple[Bools, Bools]]


@dataclass(frozen=True)
class Outcomes:
    """What followed each query.

    labels    (n, N_FUTURE_TAGS) bool
    observed  (n, N_FUTURE_TAGS) int8  the window that holds the label, NEITHER where it could not be seen
    """

    labels: Bools
    observed: NDArray[np.int8]


class _Following:
    """Sums over each query's own events from the query on; events at its very second count."""

    def __init__(self, shopper_of_event: Ints, time_s: Ints, rows: Rows) -> None:
        self.shopper, self.at_s = rows.shopper, rows.at_s
        self.origin_s = int(time_s.min(initial=0))
        self.width = int(time_s.max(initial=0)) - self.origin_s + 2
        # One key that ascends over all shoppers turns every query into two binary searches.
        self.keys = shopper_of_event * self.width + (time_s - self.origin_s)

    def count(self, counts: Bools, until_s: int, from_s: int = 0) -> Ints:
        """Events that count between two moments, in seconds after the query, the end excluded.

        counts  (n_events,) bool
        """
        running = np.concatenate([[0], np.cumsum(counts)])
        found: Ints = running[self.place(until_s)] - running[self.place(from_s)]
        return found

    def place(self, after_s: int) -> Ints:
        """Position of the first event not before a moment after each query."""
        moment = np.clip(self.at_s + after_s - self.origin_s, 0, self.width - 1)
        return np.searchsorted(self.keys, self.shopper * self.width + moment)


def outcomes_of(dataset: Dataset, rows: Rows) -> Outcomes:
    """Label every query with what its shopper did next, but for the session, which only `session_outcomes` sees.

    rows  as of any moments
    """
    ledger = dataset.ledger
    after = _Following(shopper_of(ledger), ledger.time_s, rows)
    told = {**_orders(ledger, after), **_lines(ledger, after), **_money(dataset, rows, after), **_visits(ledger, after)}
    labels = np.zeros((len(rows), N_FUTURE_TAGS), np.bool_)
    observed = np.full((len(rows), N_FUTURE_TAGS), NEITHER, np.int8)
    for place, tag in enumerate(FUTURE_TAGS):
        if tag.name in told:
            label, is_seen = told[tag.name]
            labels[:, place] = label
            observed[:, place] = np.where(is_seen, dataset.splits.part(rows.at_s, tag.horizon_s), NEITHER)
    return Outcomes(labels, observed)


def session_rows(dataset: Dataset, most_rows: int, seed: int = 0) -> Rows:
    """One moment in each session with views or carts: just after one of them, drawn at random.

    most_rows  sessions are thinned evenly to this many
    returns    Rows  none where the shop has neither views nor carts
    """
    ledger = dataset.ledger
    places, session = _visits_of(ledger)
    looks = np.flatnonzero(ledger.kind[places] != ORDER)
    drawn = np.random.default_rng(seed).permutation(looks)
    _, first = np.unique(session[drawn], return_index=True)
    kept = places[drawn[first]]
    kept = kept[np.linspace(0, kept.size - 1, min(most_rows, kept.size)).astype(np.int64)]
    return dataset.rows(shopper_of(ledger)[kept], ledger.time_s[kept] + 1)


def session_outcomes(dataset: Dataset, rows: Rows) -> Outcomes:
    """Label queries in open sessions: whether an order comes before the session ends, and within 7 days.

    rows  from `session_rows`
    """
    ledger = dataset.ledger
    places, session = _visits_of(ledger)
    time_s, is_order = ledger.time_s[places], ledger.kind[places] == ORDER
    after = _Following(shopper_of(ledger)[places], time_s, rows)
    next_visit = after.place(0)
    end = np.searchsorted(session, session[next_visit - 1], side="right")
    n_orders = np.concatenate([[0], np.cumsum(is_order)])
    labels = np.zeros((len(rows), N_FUTURE_TAGS), np.bool_)
    observed = np.full((len(rows), N_FUTURE_TAGS), NEITHER, np.int8)
    names = [tag.name for tag in FUTURE_TAGS]
    in_session, in_week = names.index("orders_session"), names.index("orders_7d")
    labels[:, in_session] = n_orders[end] > n_orders[next_visit]
    # A session is over only once the gap after its last event has passed without another.
    begins, ends = dataset.splits.part(rows.at_s, 0), dataset.splits.part(time_s[end - 1], int(SESSION_GAP_S))
    observed[:, in_session] = np.where(begins == ends, begins, NEITHER)
    labels[:, in_week] = after.count(is_order, WEEK_S) > 0
    observed[:, in_week] = dataset.splits.part(rows.at_s, WEEK_S)
    return Outcomes(labels, observed)


def shopper_of(ledger: Ledger) -> Ints:
    """Return the shopper of each event."""
    return np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))


def _visits_of(ledger: Ledger) -> tuple[Ints, Ints]:
    """Positions of the events that make sessions, and each one's session, numbered in their order."""
    places = np.flatnonzero(np.isin(ledger.kind, (VIEW, CART, ORDER)))
    time_s, shopper = ledger.time_s[places], shopper_of(ledger)[places]
    begins = (np.diff(shopper, prepend=-1) != 0) | (np.diff(time_s, prepend=0) > SESSION_GAP_S)
    return places, np.cumsum(begins)


def _orders(ledger: Ledger, after: _Following) -> Told:
    """When orders come."""
    is_order, shopper, day = ledger.kind == ORDER, shopper_of(ledger), ledger.time_s // DAY_S
    begins = _begins_order(ledger)
    is_weekend = (day + EPOCH_WEEKDAY) % 7 >= SATURDAY
    n_orders = after.count(begins, MONTH_S)
    orders, everyone = n_orders > 0, np.ones(n_orders.size, np.bool_)
    return {
        "orders_7d": (after.count(begins, WEEK_S) > 0, everyone),
        "churns_28d": (~orders, everyone),
        "orders_often_28d": (
            after.count(is_order & _is_first(shopper, day, is_order), MONTH_S) >= FREQUENT_DAYS,
            everyone,
        ),
        "orders_on_weekends_28d": (2 * after.count(begins & is_weekend, MONTH_S) >= n_orders, orders),
        "orders_in_evenings_28d": (
            2 * after.count(begins & (ledger.time_s % DAY_S >= EVENING_S), MONTH_S) >= n_orders,
            orders,
        ),
    }


def _lines(ledger: Ledger, after: _Following) -> Told:
    """What is on the lines of the orders."""
    is_line, shopper = ledger.kind == ORDER, shopper_of(ledger)
    is_new = is_line & _is_first(shopper, ledger.category.astype(np.int64), is_line & (ledger.category >= 0))
    has_item, item, day = is_line & (ledger.item > 0), ledger.item.astype(np.int64), ledger.time_s // DAY_S
    is_reduced = is_line & ((ledger.discount_micros > 0) | (ledger.coupon_micros > 0))
    n_lines = after.count(is_line, MONTH_S)
    everyone = np.ones(n_lines.size, np.bool_)
    return {
        "uses_coupon_28d": (after.count(is_line & (ledger.coupon_micros > 0), MONTH_S) > 0, everyone),
        "buys_reduced_28d": (2 * after.count(is_reduced, MONTH_S) > n_lines, n_lines > 0),
        "tries_category_28d": (after.count(is_new, MONTH_S) > 0, everyone),
        "rebuys_item_7d": (
            after.count(has_item & (day > _first_day(shopper, item, day, has_item)), WEEK_S) > 0,
            everyone,
        ),
    }


def _money(dataset: Dataset, rows: Rows, after: _Following) -> Told:
    """What orders are worth, and what is given back."""
    ledger = dataset.ledger
    spent = spend_after(dataset, rows.shopper, rows.at_s, MONTH_S)
    before = spend_after(dataset, rows.shopper, rows.at_s - MONTH_S, MONTH_S)
    train = dataset.splits.part(rows.at_s, MONTH_S) == TRAIN
    # The training window alone says what is much.
    much = float(np.quantile(spent[train], HIGH_SHARE)) if train.any() else 0.0
    everyone = np.ones(len(rows), np.bool_)
    return {
        "spends_more_28d": (spent > before, everyone),
        "spends_much_28d": ((spent >= much) & (spent > 0.0), everyone),
        "refunds_28d": (after.count(ledger.kind == REFUND, MONTH_S) > 0, everyone),
    }


def _visits(ledger: Ledger, after: _Following) -> Told:
    """What is looked at, and what is answered."""
    orders = after.count(ledger.kind == ORDER, WEEK_S) > 0
    views = after.count((ledger.kind == VIEW) | (ledger.kind == CART), WEEK_S) > 0
    fills = after.count(ledger.kind == CART, WEEK_S) > 0
    is_reached = after.count(ledger.kind == EXPOSURE, REACHED_AFTER_S, -REACHED_BEFORE_S) > 0
    everyone = np.ones(orders.size, np.bool_)
    return {
        "answers_28d": (after.count(ledger.kind == REDEMPTION, MONTH_S) > 0, is_reached),
        "only_looks_7d": (views & ~orders, everyone),
        "leaves_cart_7d": (fills & ~orders, everyone),
    }


def _begins_order(ledger: Ledger) -> Bools:
    """First line of each order, as kernels.clock.event_of tells it."""
    lines = np.flatnonzero(ledger.kind == ORDER)
    shopper, key, time_s = shopper_of(ledger)[lines], ledger.order[lines], ledger.time_s[lines]
    begins = np.zeros(ledger.n_events, np.bool_)
    is_same = (shopper[1:] == shopper[:-1]) & (key[1:] == key[:-1]) & ((key[1:] != 0) | (time_s[1:] == time_s[:-1]))
    begins[lines] = np.concatenate([[True], ~is_same])[: lines.size]
    return begins


def _is_first(shopper: Ints, what: Ints, counts: Bools) -> Bools:
    """First event that counts of each shopper with each thing."""
    places = np.flatnonzero(counts)
    _, first = np.unique(shopper[places] * _width(what) + what[places], return_index=True)
    is_first = np.zeros(counts.size, np.bool_)
    is_first[places[first]] = True
    return is_first


def _first_day(shopper: Ints, what: Ints, day: Ints, counts: Bools) -> Ints:
    """Day of the shopper's first event with the same thing; the far future for events that do not count."""
    places = np.flatnonzero(counts)
    _, first, group = np.unique(shopper[places] * _width(what) + what[places], return_index=True, return_inverse=True)
    first_day = np.full(counts.size, np.iinfo(np.int64).max)
    first_day[places] = day[places[first]][group]
    return first_day


def _width(what: Ints) -> int:
    return int(what.max(initial=0)) + 1
