"""Feedback comes in: each row once, on disk before it is acknowledged, and in the shopper's state at once.

In: checked rows. Out: whether each was new. Called by server/gateway/feedback.py.
The log is written before the state: a crash in between leaves rows that nobody was told of, and sending them again
puts them into the state; the other order could acknowledge as a duplicate what no log holds.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from kernels.ledger import N_CATEGORIES
from server.decision_block import Record
from server.feedback import FeedbackLog, Kind, framed_record
from server.problems import LogUnavailable, Problem
from server.state.store import Happening, States
from server.strategy.catalogue import Items
from server.survival import survived

OTHER_CATEGORY = N_CATEGORIES - 1
# How long feedback waits for company, and how many requests are company enough.
GATHERS_S, ENOUGH = 0.02, 8


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


class Recorder:
    """Takes in together what comes together: one look into the store, one append, one transaction for all.

    One event alone costs 1.5 ms of CPU, half of it in the kernel, and a shop's events come one by one.
    """

    def __init__(self, states: States, log: FeedbackLog) -> None:
        """Start the thread."""
        self._states, self._log = states, log
        self._waiting: list[tuple[Sequence[Row], Future[list[bool]]]] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, rows: Sequence[Row]) -> list[bool]:
        """Take rows in, with whatever else waits; the answer says which were new.

        raises  LogUnavailable, StateUnavailable  if the disk refuses
        """
        answer: Future[list[bool]] = Future()
        with self._changed:
            if self._is_closed:
                raise LogUnavailable("the gateway must be open to record, got one that closes")
            self._waiting.append((rows, answer))
            if len(self._waiting) in (1, ENOUGH):
                self._changed.notify()
        return answer.result()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
                self._changed.wait_for(lambda: len(self._waiting) >= ENOUGH or self._is_closed, GATHERS_S)
                if not self._waiting:
                    return
                group, self._waiting = self._waiting, []
            survived(partial(self._take, group), partial(_fail, group), "recording")

    def _take(self, group: Sequence[tuple[Sequence[Row], "Future[list[bool]]"]]) -> None:
        try:
            told = iter(record([row for rows, _ in group for row in rows], self._states, self._log))
        except Problem as problem:
            _fail(group, problem)
            return
        for rows, answer in group:
            answer.set_result([next(told) for _ in rows])

    def close(self) -> None:
        """Take in what waits, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()


def _fail(group: Sequence[tuple[Sequence[Row], "Future[list[bool]]"]], problem: Problem) -> None:
    for _, answer in group:
        if not answer.done():
            answer.set_exception(problem)


def place_of(items: Items, item_id: str) -> Place:
    """Where an item stands; an item that the catalogue lacks counts in the last category, no item in none."""
    if not item_id:
        return Place(-1, 0, -1)
    row = items.row_of_id.get(item_id, -1)
    if row < 0:
        return Place(-1, 0, OTHER_CATEGORY)
    return Place(row, int(items.item_index[row]), int(items.category[row]))
