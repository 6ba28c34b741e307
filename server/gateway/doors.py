"""How a method of a service meets the wire: messages become requests, problems become statuses, once for every door.

In: methods of servicers, as the generated code names them. Out: methods of a WireServer. Called by assembly.py.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from server.access.gate import Access, Principal
from server.problems import InvalidRequest, Overloaded, Problem
from server.survival import survived
from server.telemetry.metrics import Metrics
from server.wire.calls import Metadata, StreamCall, UnaryCall
from server.wire.server import Unary

# Requests that wait for a door's thread, from which on more are refused at once.
MOST_WAITING = 256
# Steps in which those who are refused unread are told when to come again: few sentences, each made once.
SHED_STEP_S = 0.01


class Context(Protocol):
    """What a servicer may know of its call."""

    principal: Principal

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None: it never does."""

    def invocation_metadata(self) -> Metadata:
        """What the caller sent."""


Handler = Callable[[Any, Context], Message]


class Guard:
    """Lets in whom access admits, and remembers with the call who it is."""

    def __init__(self, access: Access, metrics: Metrics) -> None:
        """Guard with one gate; refusals are counted."""
        self._admit, self._metrics = access.admit, metrics

    def __call__(self, call: UnaryCall | StreamCall) -> bool:
        """See server.wire.server.Guard."""
        try:
            call.principal = self.principal_of(call)
        except Problem as problem:
            refuse(call, problem, self._metrics)
            return False
        return True

    def principal_of(self, call: UnaryCall | StreamCall) -> Principal:
        """Who sent a message of a call; a stream's next message may come from somebody who may no longer.

        raises  Unauthenticated, Forbidden, RateExceeded, Overloaded
        """
        return self._admit(call.method, call.metadata, call.identities())


class Doors:
    """A thread pool before methods that take their time."""

    def __init__(self, n_threads: int, name: str, metrics: Metrics | None = None) -> None:
        """Start no thread before it is needed; what is refused is counted."""
        self._pool = ThreadPoolExecutor(n_threads, name)
        self._metrics = metrics or Metrics()
        self._counting = threading.Lock()
        self._n_waiting = 0

    def unary(self, handler: Handler, request_type: type[Message]) -> Unary:
        """A method whose handler runs in the pool."""

        def take(call: UnaryCall, message: bytes) -> None:
            if self._n_waiting >= MOST_WAITING:
                problem = Overloaded(f"fewer than {MOST_WAITING} requests must wait here, got as many", 0.1)
                refuse(call, problem, self._metrics)
                return
            self._count(1)
            self._pool.submit(
                survived,
                partial(self._answer, handler, request_type, call, message),
                lambda problem: refuse(call, problem, self._metrics),
                call.method,
            )

        return Unary(take, partial(shed, self._metrics))

    def at_once(self, handler: Handler, request_type: type[Message]) -> Unary:
        """A method whose handler only looks something up, on the polling thread, whatever the pool waits for."""

        def take(call: UnaryCall, message: bytes) -> None:
            self._count(1)
            self._answer(handler, request_type, call, message)

        return Unary(take)

    def _count(self, n_more: int) -> None:
        with self._counting:
            self._n_waiting += n_more

    def _answer(self, handler: Handler, request_type: type[Message], call: UnaryCall, message: bytes) -> None:
        try:
            answer = handler(request_of(request_type, message), call).SerializeToString()
        except Problem as problem:
            refuse(call, problem, self._metrics)
        else:
            call.answer(answer)
            self._metrics.answered(call.method.rpartition("/")[2], "OK", time.monotonic() - call.began_s)
        finally:
            self._count(-1)

    def close(self) -> None:
        """Answer what runs."""
        self._pool.shutdown()


def request_of(request_type: type[Message], message: bytes) -> Any:
    """The request in a message.

    raises  InvalidRequest  if it is none
    """
    try:
        return request_type.FromString(message)
    except DecodeError:
        name = request_type.DESCRIPTOR.full_name
        raise InvalidRequest(f"message must be a {name}, got {len(message)} bytes that are none") from None


def refuse(call: UnaryCall | StreamCall, problem: Problem, metrics: Metrics) -> None:
    """End a call with a problem's status and sentence, and with the time to ask again where waiting helps."""
    count_refusal(call, problem, metrics)
    end = call.refuse if isinstance(call, UnaryCall) else call.end
    end(problem.status, str(problem), retry_trailers(problem))


def shed(metrics: Metrics, call: UnaryCall, waited_s: float) -> None:
    """Refuse a call unread: more come than can be looked at."""
    after_s = math.ceil(waited_s / SHED_STEP_S) * SHED_STEP_S
    problem = Overloaded(f"calls must come no faster than they are read, got {after_s:.2f} s behind", after_s)
    refuse(call, problem, metrics)


def count_refusal(call: UnaryCall | StreamCall, problem: Problem, metrics: Metrics) -> None:
    """Count what a client was refused."""
    metrics.refused(problem.status.name, "" if call.principal is None else call.principal.name)


def retry_trailers(problem: Problem) -> Metadata:
    """When to ask again: as gRPC's own retries read it, and as google.rpc tells it."""
    if problem.retry_after_s is None:
        return ()
    return _retry_trailers(problem.status, str(problem), retry_after_ms(problem.retry_after_s))


@lru_cache(256)
def _retry_trailers(status: StatusCode, sentence: str, after_ms: int) -> Metadata:
    """Remembered, for an overloaded server tells thousands the same at a time when it has the least to spare."""
    told = status_pb2.Status(code=status.value[0], message=sentence)
    delay = Duration(seconds=after_ms // 1000, nanos=after_ms % 1000 * 1_000_000)
    told.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return (("grpc-retry-pushback-ms", str(after_ms)), ("grpc-status-details-bin", told.SerializeToString()))


def retry_after_ms(retry_after_s: float) -> int:
    """Whole milliseconds, rounded up, at least one."""
    return max(1, -int(-retry_after_s * 1000 // 1))
