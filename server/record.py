"""Feedback comes in: each row once, on disk before it is acknowledged, and in the shopper's state at once.

In: checked rows. Out: whether each was new. Called by server/gateway/feedback.py.
The log is written before the state: a crash in between leaves rows that nobody was told of, and sending them again
puts them into the state; the other order could acknowledge as a duplicate what no log holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.ledger import N_CATEGORIES
from server.decision_block import Record
from server.feedback import FeedbackLog, Kind, framed_record
from server.state.store import Happening, States
from server.strategy.catalogue import Items

OTHER_CATEGORY = N_CATEGORIES - 1


@dataclass(frozen=True)
class Row:
    """One row of feedback: how it moves the state, and how the log keeps it."""

    kind: Kind
    happening: Happening
    record: Record


@dataclass(frozen=True)
class Place:
    """An item as the state knows it: its row among the repository's items, its vocabulary index, its category."""

    item_row: int
    item: int
    category: int


def record(rows: Sequence[Row], states: States, log: FeedbackLog) -> list[bool]:
    """Take rows in; the answer says which were new.

    raises  LogUnavailable  if the disk refuses: then no row was taken
    """
    event_ids = [row.happening.event_id for row in rows]
    known = dict(zip(event_ids, states.seen(event_ids), strict=True))
    fresh = [row for row in rows if not known[row.happening.event_id]]
    if not fresh:
        return [False] * len(rows)
    log.append_block(b"".join(framed_record(row.kind, row.record) for row in fresh)).result()
    applied = states.apply([row.happening for row in fresh]).result()
    is_new = iter(applied)
    return [not known[event_id] and next(is_new) for event_id in event_ids]


def place_of(items: Items, item_id: str) -> Place:
    """Where an item stands; an item that the catalogue lacks counts in the last category, no item in none."""
    if not item_id:
        return Place(-1, 0, -1)
    row = items.row_of_id.get(item_id, -1)
    if row < 0:
        return Place(-1, 0, OTHER_CATEGORY)
    return Place(row, int(items.item_index[row]), int(items.category[row]))
