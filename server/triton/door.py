"""The door for the last factor: server/decide.py behind Triton's own front end, as the model `decide`.

In: batches of requests as Triton gathers them. Out: columns, or a Problem, for each; what is answered is on disk.
Called by model_repository/decide/1/model.py in Triton's Python stub; process.py tells the stub where everything is.
"""

import fcntl
import logging
import struct
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.batch import Ask, Batch
from server.decide import Decider, Pending
from server.gateway import fields
from server.gateway.assembly import opened
from server.gateway.words import KINDS, RUNGS, decision_bytes
from server.problems import DecisionIdTaken, InvalidRequest, ModelUnavailable, Problem
from server.settings import load_settings
from server.strategy.decision import Decision
from server.waiting import Repeats, decide_in_time

# The log's folders of the gateway's workers have smaller numbers.
FIRST_WRITER = 1_000
# Triton's names for the statuses of Problems; it has no other for a caller who should come again.
CODES = {
    "INVALID_ARGUMENT": "INVALID_ARG",
    "NOT_FOUND": "NOT_FOUND",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "UNAVAILABLE": "UNAVAILABLE",
}
SWITCH_S = 0.0002  # as in server/__main__.py
NUMBERS: Mapping[str, type[np.generic]] = {
    "action_kind": np.int32,
    "rung": np.int32,
    "value_micros": np.int64,
    "cost_micros": np.int64,
    "propensity": np.float64,
}
TEXTS = ("offer_id", "category", "decision")
# A row between deciding and answering: NUMBERS in their order, how long offer_id and category are, and then these two
# and, where it is wanted, the Decision.
ROW = struct.Struct("<iiqqdHH")

Column = NDArray[np.generic]


class Request(NamedTuple):
    """One request: a row or several.

    decision_ids  None, or empty ones, are drawn
    times_s       seconds since 1970 UTC; None, or 0, is now
    outputs       names of the tensors wanted
    timeout_us    what the caller gives it; 0: no saying
    """

    shopper_ids: Sequence[bytes]
    decision_ids: Sequence[bytes] | None
    times_s: Sequence[int] | None
    outputs: frozenset[str]
    timeout_us: int


Answer = Mapping[str, Column] | Problem
Result = bytes | Problem | None


class Door:
    """A Decider of its own for one instance of the model; `answers` is called by one thread."""

    def __init__(self, decider: Decider, stack: ExitStack) -> None:
        """Answer with a Decider.

        stack  closes what was opened for it
        """
        self._decider, self._stack = decider, stack
        self._repeats = Repeats(decider.settings.remembered_decisions)

    @classmethod
    def opened(cls, folder: Path, triton: str) -> "Door":
        """Open a Decider by the environment's settings.

        folder  that relative paths of the settings are meant from
        triton  "host:port" of the front door of the Triton that hosts us
        raises  Problem  if anything needed is missing or wrong
        """
        sys.setswitchinterval(SWITCH_S)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        settings = load_settings()
        paths = {name: folder / getattr(settings, name) for name in ("repository", "state", "log", "plan")}
        settings = settings.model_copy(update=paths)
        with ExitStack() as stack:
            lock, writer = free_writer(settings.log)
            stack.callback(lock.close)
            decider = opened(settings, triton, stack, writer)
            return cls(decider, stack.pop_all())

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """Decide every row of some requests at once; a request with a row that has a problem is answered with it."""
        results: list[Result] = [None] * sum(len(request.shopper_ids) for request in requests)
        waiting: tuple[list[Pending], list[Pending]] = ([], [])
        began_s, first = time.monotonic(), 0
        for request in requests:
            deadline_s = began_s + (request.timeout_us / 1e6 or self._decider.settings.decide_within_s)
            try:
                asks = asks_of(request)
            except InvalidRequest as problem:
                results[first], asks = problem, []
            for row, ask in enumerate(asks, first):
                pending = Pending(ask, deadline_s, partial(results.__setitem__, row))
                if request.decision_ids is None or self._is_new(pending):
                    waiting["decision" in request.outputs].append(pending)
            first += len(request.shopper_ids)
        for pendings, word in zip(waiting, (plain_row, whole_row), strict=True):
            if pendings:
                decide_in_time(self._decider, pendings, word, began_s)
        return _told(requests, results)

    def _is_new(self, pending: Pending) -> bool:
        try:
            return self._repeats.is_new(pending)
        except DecisionIdTaken as problem:
            pending.reply(problem)
            return False

    def close(self) -> None:
        """Write what waits and give back what is leased."""
        self._stack.close()


def free_writer(log: Path) -> tuple[IO[bytes], int]:
    """A number whose folder in the log no living process writes to, and the lock that says so until it is closed."""
    number = FIRST_WRITER
    while True:
        folder = log / f"writer-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
        else:
            return lock, number


def asks_of(request: Request) -> list[Ask]:
    """The rows of a request.

    raises  InvalidRequest  naming the first field that breaks its rule
    """
    n_rows = len(request.shopper_ids)
    named, times_s = request.decision_ids or [b""] * n_rows, request.times_s or [0] * n_rows
    return [_ask(*row) for row in zip(request.shopper_ids, named, times_s, strict=True)]


def _ask(shopper: bytes, named: bytes, time_s: int) -> Ask:
    try:
        shopper_id, decision_id = shopper.decode(), named.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"shopper_id and decision_id must be UTF-8, got {shopper!r} and {named!r}") from None
    at_s = time_s or int(time.time())
    if not (0 < len(shopper) <= fields.ID_BYTES >= len(named) and 1 <= at_s <= fields.LAST_TIME_S):
        # Rare enough to name what is wrong in full.
        fields.required_id("shopper_id", shopper_id)
        fields.optional_id("decision_id", decision_id, f" (shopper {shopper_id!r})")
        fields.moment("time_s", at_s, f" (shopper {shopper_id!r})")
    return Ask(decision_id or uuid.uuid4().hex, shopper_id, at_s)


def plain_row(batch: Batch | Decision, row: int) -> bytes:
    """A row's plain columns."""
    if isinstance(batch, Decision):
        chosen = batch.chosen
        numbers = (KINDS[chosen.action.kind], RUNGS[batch.rung], 0, 0, 1.0)
        return ROW.pack(*numbers, 0, 0)
    menu, action = batch.menu, int(batch.choice.chosen[row])
    kind, offer_id, category = menu.kind(action), "", ""
    if kind == "offer":
        offer = menu.table.offers[action - 1]
        offer_id, category = offer.offer_id, menu.catalogue.category_name(offer.category)
    elif kind == "ad":
        category = menu.catalogue.category_name(int(menu.ad_category[row]))
    money = menu.value_micros[row, action], menu.cost_micros[row, action]
    texts = offer_id.encode(), category.encode()
    numbers = (KINDS[kind], RUNGS[batch.rung], *money, batch.choice.propensity[row, action])
    return b"".join((ROW.pack(*numbers, *map(len, texts)), *texts))


def whole_row(batch: Batch | Decision, row: int) -> bytes:
    """A row's plain columns and its Decision message."""
    return plain_row(batch, row) + decision_bytes(batch, row)


def _told(requests: Sequence[Request], results: Sequence[Result]) -> list[Answer]:
    """Each request's columns, or the first problem among its rows."""
    rows = [result for result in results if isinstance(result, bytes)]
    columns = _columns(rows)
    answers: list[Answer] = []
    first_result = first = 0
    for request in requests:
        last_result = first_result + len(request.shopper_ids)
        mine = results[first_result:last_result]
        last = first + sum(isinstance(result, bytes) for result in mine)
        answers.append(_answer(request, mine, columns, slice(first, last)))
        first_result, first = last_result, last
    return answers


def _answer(request: Request, results: Sequence[Result], columns: "_Columns", rows: slice) -> Answer:
    for result in results:
        if not isinstance(result, bytes):
            return result or ModelUnavailable("a decision must be answered, got nothing: see Triton's log")
    told = {name: columns.numbers[name][rows] for name in NUMBERS if name in request.outputs}
    told |= {name: columns.texts[name][rows] for name in columns.texts if name in request.outputs}
    if "decision" in request.outputs and not all(told["decision"].ravel()):
        return InvalidRequest(
            "outputs must hold decision from the first ask of a decision_id on, got it in a repeat only"
        )
    return told


class _Columns(NamedTuple):
    """What some rows say, (n_rows, 1) each."""

    numbers: Mapping[str, Column]
    texts: Mapping[str, Column]


def _columns(rows: Sequence[bytes]) -> _Columns:
    if not rows:
        return _Columns({}, {})
    *numbers, offers, categories = zip(*map(ROW.unpack_from, rows), strict=True)
    told = {name: np.array(column, NUMBERS[name]) for name, column in zip(NUMBERS, numbers, strict=True)}
    parts = []
    for row, n_offer, n_category in zip(rows, offers, categories, strict=True):
        category, decision = ROW.size + n_offer, ROW.size + n_offer + n_category
        parts.append((row[ROW.size : category], row[category:decision], row[decision:]))
    texts = {name: np.array(column, object) for name, column in zip(TEXTS, zip(*parts, strict=True), strict=True)}
    return _Columns(*({name: column.reshape(-1, 1) for name, column in some.items()} for some in (told, texts)))
