"""StrategyService: decisions go out, one by one, on a stream, or in columns.

In: calls of the wire with their messages. Out: answers as bytes. server/waiting.py gathers, server/decide.py decides.
"""

import itertools
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from stratagem.v1 import strategy_pb2

from server.batch import Ask
from server.decide import Decider, Pending, Rows
from server.gateway import fields
from server.gateway.columns import Columns
from server.gateway.doors import Context, Guard, count_refusal, refuse, request_of, retry_after_ms
from server.gateway.words import decide_response, stream_response
from server.problems import DecisionIdTaken, Forbidden, InvalidRequest, Problem, Unauthenticated
from server.telemetry.telling import Telling
from server.triton.client import MOST_DECISIONS
from server.waiting import Waiting
from server.wire.calls import MOST_OPEN, StreamCall, UnaryCall

MOST_CANDIDATES = 100
BATCH_ID_BYTES = 180
REMEMBERED_BATCHES = 8
LONGEST_MS = 60_000
LEAST_OPEN = 8
# A random id for every ask would cost as much as parsing it.
_OWN_HALF, _COUNT = uuid.uuid4().hex[:16], itertools.count()


class DecideDoor:
    """Unary asks: parsed and queued on the polling thread."""

    def __init__(self, waiting: Waiting, within_s: float, telling: Telling) -> None:
        """Queue asks.

        within_s  time for an ask that brings no deadline
        """
        self._waiting, self._within_s, self._telling = waiting, within_s, telling

    def take(self, call: UnaryCall, message: bytes) -> None:
        """Queue one ask, or refuse it."""
        try:
            request = request_of(strategy_pb2.DecideRequest, message)
            ask = ask_from(request)
            call.principal.take(1)
            deadline_s = time.monotonic() + self._within_s if call.deadline_s is None else call.deadline_s
            pending = Pending(ask, deadline_s, partial(self._answer, call))
            if self._telling.traces is not None:
                pending.traced = self._telling.traces.sampled(call.metadata)
            self._waiting.submit(pending, bool(request.decision_id))
        except Problem as problem:
            refuse(call, problem, self._telling.metrics)

    def _answer(self, call: UnaryCall, answer: bytes | Problem) -> None:
        if isinstance(answer, bytes):
            call.answer(decide_response(answer))
        else:
            refuse(call, answer, self._telling.metrics)


class StreamDoor:
    """Asks on a stream; the stream ends when its client has asked everything and everything is answered."""

    def __init__(self, waiting: Waiting, within_s: float, telling: Telling, guard: Guard) -> None:
        """Queue asks.

        within_s  time for an ask that brings none
        guard     asked for every message: a stream may outlive what it was let in by
        """
        self.waiting, self.within_s, self.telling, self.guard = waiting, within_s, telling, guard
        self._streams: set[StreamCall] = set()

    def opened(self, stream: StreamCall) -> None:
        """Begin to read."""
        self._streams.add(stream)
        self._share()
        stream.listen(_Asks(self))

    def gone(self, stream: StreamCall) -> None:
        """Share the queue among those that are left."""
        self._streams.discard(stream)
        self._share()

    def _share(self) -> None:
        """Let all streams together fill half of the queue: a stream is not read where a unary ask would be refused."""
        most_open = max(LEAST_OPEN, min(MOST_OPEN, self.waiting.most_rows // 2 // max(1, len(self._streams))))
        for stream in self._streams:
            stream.most_open = most_open


class _Asks:
    """The open asks of one stream."""

    def __init__(self, door: StreamDoor) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._n_open = 0
        self._is_half_closed = False

    def received(self, stream: StreamCall, message: bytes) -> None:
        """Queue one ask, or tell its problem; a message that is no ask ends the stream."""
        with self._lock:
            self._n_open += 1
        door = self._door
        try:
            asked = request_of(strategy_pb2.DecideStreamRequest, message)
            answer = partial(self._answer, stream, asked.call_id)
            principal = door.guard.principal_of(stream)
        except (Unauthenticated, Forbidden, InvalidRequest) as problem:
            refuse(stream, problem, door.telling.metrics)
            return
        except Problem as problem:
            answer(problem)
            return
        try:
            within_s = door.within_s
            if asked.HasField("within_ms"):
                within_s = fields.whole("within_ms", asked.within_ms, 1, LONGEST_MS) / 1000
            ask = ask_from(asked.request)
            principal.take(1)
            pending = Pending(ask, time.monotonic() + within_s, answer, "DecideStream")
            if door.telling.traces is not None:
                pending.traced = door.telling.traces.sampled(stream.metadata)
            door.waiting.submit(pending, bool(asked.request.decision_id))
        except Problem as problem:
            answer(problem)

    def _answer(self, stream: StreamCall, call_id: int, answer: bytes | Problem) -> None:
        if isinstance(answer, bytes):
            stream.send(stream_response(call_id, answer))
        else:
            count_refusal(stream, answer, self._door.telling.metrics)
            stream.send(problem_bytes(call_id, answer))
        with self._lock:
            self._n_open -= 1
            is_done = self._is_half_closed and not self._n_open
        if is_done:
            stream.end()

    def half_closed(self, stream: StreamCall) -> None:
        """End the stream once everything is answered."""
        with self._lock:
            self._is_half_closed = True
            is_done = not self._n_open
        if is_done:
            stream.end()

    def gone(self, stream: StreamCall) -> None:
        """Nobody is there to be told; what was asked is decided and logged all the same."""
        self._door.gone(stream)


def problem_bytes(call_id: int, problem: Problem) -> bytes:
    """A DecideStreamResponse that tells a problem."""
    told = strategy_pb2.StreamProblem(code=problem.status.value[0], words=str(problem))
    if problem.retry_after_s is not None:
        told.retry_after_ms = retry_after_ms(problem.retry_after_s)
    return bytes(strategy_pb2.DecideStreamResponse(call_id=call_id, problem=told).SerializeToString())


class BatchDoor:
    """Columnar requests, piece by piece in a pool of their own, so that single asks get their turn in between."""

    def __init__(self, decider: Decider) -> None:
        """Start no thread before it is needed."""
        self._decider, self._settings = decider, decider.settings
        self._pool = ThreadPoolExecutor(decider.settings.bulk_deciders, "bulk")
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, Future[strategy_pb2.DecideBatchResponse]]] = OrderedDict()

    def decide_batch(
        self, request: strategy_pb2.DecideBatchRequest, context: Context
    ) -> strategy_pb2.DecideBatchResponse:
        """Many shoppers in one message; the same batch_id gets the same answer for as long as it is remembered."""
        within_s = fields.time_left_s(context, self._settings.bulk_within_s)
        deadline_s = time.monotonic() + within_s
        batch_id, asks = asks_from(request, self._settings.request_rows)
        context.principal.take(len(asks))
        fingerprint = hash(tuple(ask.shopper_id for ask in asks))
        answer: Future[strategy_pb2.DecideBatchResponse] = Future()
        with self._lock:
            same, known = self._known.setdefault(batch_id, (fingerprint, answer))
            # The oldest is forgotten, unless it is still being decided: a repeat would be decided beside it.
            while len(self._known) > REMEMBERED_BATCHES and next(iter(self._known.values()))[1].done():
                self._known.popitem(last=False)
        if same != fingerprint:
            raise DecisionIdTaken(f"batch_id must be new for other shoppers, got {batch_id!r} again")
        if known is answer:
            self._decide(batch_id, asks, deadline_s, answer)
        return known.result()

    def _decide(
        self, batch_id: str, asks: list[Ask], deadline_s: float, answer: "Future[strategy_pb2.DecideBatchResponse]"
    ) -> None:
        """Decide a request and keep its answer; a problem is told to who waits and not kept."""
        try:
            columns = Columns(self._begun(batch_id, asks[0].at_s))
            for rows in self._pieces(asks, deadline_s):
                columns.add(rows)
        except BaseException as problem:
            with self._lock:
                self._known.pop(batch_id, None)
            answer.set_exception(problem)
            raise
        answer.set_result(columns.message)

    def _pieces(self, asks: list[Ask], deadline_s: float) -> Iterator[Rows]:
        """The pieces' rows in order; a few pieces are on their way at the same time."""
        pieces: Iterable[list[Ask]] = (
            asks[first : first + MOST_DECISIONS] for first in range(0, len(asks), MOST_DECISIONS)
        )
        running: list[Future[Rows]] = []
        for piece in pieces:
            running.append(self._pool.submit(self._decider.decide_rows, piece, deadline_s))
            if len(running) == self._settings.bulk_deciders:
                yield running.pop(0).result()
        for piece_rows in running:
            yield piece_rows.result()

    def _begun(self, batch_id: str, at_s: int) -> strategy_pb2.DecideBatchResponse:
        terms = self._decider.terms
        return strategy_pb2.DecideBatchResponse(
            batch_id=batch_id,
            shadow_price=terms.shadow_price,
            release=terms.release,
            plan_id=terms.plan_id,
            decided_at_s=at_s,
            currency_code=terms.currency_code,
        )

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown()


def ask_from(request: strategy_pb2.DecideRequest) -> Ask:
    """The ask in a request.

    raises  InvalidRequest  naming the first field that breaks its rule
    """
    shopper_id = fields.required_id("shopper_id", request.shopper_id)
    decision_id = request.decision_id or new_decision_id()
    at_s = request.time_s if request.HasField("time_s") else int(time.time())
    limit = request.max_candidates
    if not (1 <= at_s <= fields.LAST_TIME_S and 0 <= limit <= MOST_CANDIDATES and len(decision_id) <= 50):
        # Rare enough to name what is wrong in full.
        subject = f" (shopper {shopper_id!r})"
        fields.optional_id("decision_id", decision_id, subject)
        fields.moment("time_s", at_s, subject)
        fields.whole("max_candidates", limit, 0, MOST_CANDIDATES, subject)
    return Ask(decision_id, shopper_id, at_s, limit, request.without_reasons)


def new_decision_id() -> str:
    """An id that nobody else has: this process's own random half, and a count."""
    return f"{_OWN_HALF}{next(_COUNT):016x}"


def asks_from(request: strategy_pb2.DecideBatchRequest, most_rows: int) -> tuple[str, list[Ask]]:
    """The id of a columnar request and its asks.

    raises  InvalidRequest  naming the first field, or row, that breaks its rule
    """
    if len(request.batch_id.encode()) > BATCH_ID_BYTES:
        raise InvalidRequest(f"batch_id must be at most {BATCH_ID_BYTES} bytes, got {len(request.batch_id.encode())}")
    shopper_ids = shopper_ids_of(request)
    n_rows = len(shopper_ids)
    if not 1 <= n_rows <= most_rows:
        raise InvalidRequest(f"shopper_ids must have between 1 and {most_rows} rows, got {n_rows}")
    batch_id = request.batch_id or uuid.uuid4().hex
    times_s = list(request.times_s)
    if times_s:
        if len(times_s) != n_rows:
            raise InvalidRequest(f"times_s must have one entry per row, {n_rows}, got {len(times_s)}")
        fields.moment("times_s", min(times_s))
        fields.moment("times_s", max(times_s))
    else:
        times_s = [fields.moment_or_now(request)] * n_rows
    if min(map(len, shopper_ids)) == 0 or max(map(len, shopper_ids)) * 4 > fields.ID_BYTES:
        for row, shopper_id in enumerate(shopper_ids):
            fields.required_id("shopper_ids", shopper_id, f" (row {row})")
    named = zip(shopper_ids, times_s, strict=True)
    return batch_id, [Ask(f"{batch_id}/{row}", shopper_id, at_s) for row, (shopper_id, at_s) in enumerate(named)]


def shopper_ids_of(request: strategy_pb2.DecideBatchRequest) -> list[str]:
    """The shoppers of a columnar request, however it names them.

    raises  InvalidRequest
    """
    ends = list(request.shopper_key_ends)
    if not ends:
        return list(request.shopper_ids)
    if request.shopper_ids:
        raise InvalidRequest("shopper_ids must be empty beside shopper_keys, got both")
    keys, starts = request.shopper_keys, [0, *ends[:-1]]
    if ends[-1] != len(keys) or any(end < start for start, end in zip(starts, ends, strict=True)):
        raise InvalidRequest(f"shopper_key_ends must ascend to {len(keys)}, the length of shopper_keys, got {ends[-1]}")
    try:
        return [keys[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    except UnicodeDecodeError:
        raise InvalidRequest("shopper_keys must be UTF-8 at every end, got bytes that are not") from None
