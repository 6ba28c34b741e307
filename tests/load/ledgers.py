"""Made-up ledgers for measuring: as many events a shopper as shops see, with the shop's own items and prices.

In: how many shoppers, the repository's items, a seed. Out: a Ledger, equal for equal seeds. Called by workload.py.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.ledger import CART, EXPOSURE, ORDER, REFUND, VIEW, Ledger
from server.strategy.catalogue import Items

DAY_S = 86_400
MEDIAN_EVENTS, P99_EVENTS = 100, 500
# ln N's 99th percentile lies 2.3263 standard deviations above its median.
SPREAD = np.log(P99_EVENTS / MEDIAN_EVENTS) / 2.3263
MOST_EVENTS = 5_000
# Out of 256: what shoppers do, and now and then what is done to them.
KINDS = np.repeat(np.array([VIEW, CART, ORDER, REFUND, EXPOSURE], np.int8), [116, 24, 106, 5, 5])
NEW_VISIT = 51  # of 256: every fifth event on average begins one
VISITS_APART_S, EVENTS_APART_S = 6 * DAY_S, 40.0
LAST_SEEN_S = 5 * DAY_S
N_DRAWS = 1 << 16


def event_counts(n_shoppers: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Events of each shopper: log-normal with MEDIAN_EVENTS and P99_EVENTS.

    returns  (n_shoppers,) int64  in [1, MOST_EVENTS]
    """
    drawn = np.exp(rng.normal(np.log(MEDIAN_EVENTS), SPREAD, n_shoppers))
    return np.clip(np.rint(drawn), 1, MOST_EVENTS).astype(np.int64)


def made_up_ledger(n_shoppers: int, items: Items, before_s: int, rng: np.random.Generator) -> Ledger:
    """A ledger of visits with several lines each, all of it before one moment.

    items     whose vocabulary, categories and prices the events carry
    before_s  no event is later, seconds since 1970 UTC
    """
    counts = event_counts(n_shoppers, rng)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    n_events = int(offsets[-1])
    kind = KINDS[rng.integers(0, KINDS.size, n_events, np.uint8)]
    starts_visit = rng.integers(0, 256, n_events, np.uint8) < NEW_VISIT
    starts_visit[offsets[:-1]] = True
    drawn = _item_rows(items, rng)[rng.integers(0, N_DRAWS, n_events, np.uint16)]
    has_item, is_line = kind != EXPOSURE, (kind == ORDER) | (kind == REFUND)
    quantity = np.where(is_line, 1.0 + (rng.integers(0, 256, n_events, np.uint8) < 40), 0.0)
    listed = (np.maximum(items.price_micros, 500_000)[drawn] * quantity).astype(np.int64)
    discount = np.where(rng.integers(0, 256, n_events, np.uint8) < 50, listed // 10, 0)
    return Ledger(
        offsets=offsets,
        time_s=_times(offsets, starts_visit, before_s, rng),
        kind=kind,
        item=np.where(has_item, items.item_index[drawn], 0).astype(np.int32),
        category=np.where(has_item, items.category[drawn], -1).astype(np.int16),
        order=np.where(is_line, np.cumsum(starts_visit), 0),
        quantity=quantity,
        paid_micros=listed - discount,
        discount_micros=discount,
        coupon_micros=np.zeros(n_events, np.int64),
    )


def _item_rows(items: Items, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows to draw from: few items are bought often, and each has a place in the models' vocabulary."""
    known = np.flatnonzero(items.item_index > 0)
    chance = 1.0 / np.arange(1, known.size + 1)
    return rng.choice(known, N_DRAWS, p=chance / chance.sum())


def _times(
    offsets: NDArray[np.int64], starts_visit: NDArray[np.bool_], before_s: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Ascending within a shopper, each shopper's last event some days before the end."""
    gaps = rng.standard_exponential(starts_visit.size, np.float32)
    gaps *= np.where(starts_visit, np.float32(VISITS_APART_S), np.float32(EVENTS_APART_S))
    passed = np.cumsum(1 + gaps.astype(np.int64))
    counts, last = np.diff(offsets), offsets[1:] - 1
    seen_s = before_s - rng.integers(1, LAST_SEEN_S, counts.size)
    return np.asarray(passed + np.repeat(seen_s - passed[last], counts))
