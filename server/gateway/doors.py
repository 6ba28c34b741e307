"""How a method of a service meets the wire: messages become requests, problems become statuses, once for every door.

In: methods of servicers, as the generated code names them. Out: methods of a WireServer. Called by assembly.py.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from server.access.gate import Access, Principal
from server.problems import InvalidRequest, Overloaded, Problem
from server.wire.calls import Metadata, StreamCall, UnaryCall
from server.wire.server import Unary

# Requests that wait for a door's thread, from which on more are refused at once.
MOST_WAITING = 256
_logger = logging.getLogger(__name__)


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

    def __init__(self, access: Access) -> None:
        """Guard with one gate."""
        self._admit = access.admit

    def __call__(self, call: UnaryCall | StreamCall) -> bool:
        """See server.wire.server.Guard."""
        try:
            call.principal = self._admit(call.method, call.metadata, call.identities())
        except Problem as problem:
            refuse(call, problem)
            return False
        return True


class Doors:
    """A thread pool before methods that take their time."""

    def __init__(self, n_threads: int, name: str) -> None:
        """Start no thread before it is needed."""
        self._pool = ThreadPoolExecutor(n_threads, name)
        self._n_waiting = 0

    def unary(self, handler: Handler, request_type: type[Message]) -> Unary:
        """A method whose handler runs in the pool."""

        def take(call: UnaryCall, message: bytes) -> None:
            if self._n_waiting >= MOST_WAITING:
                refuse(call, Overloaded(f"fewer than {MOST_WAITING} requests must wait here, got as many", 0.1))
                return
            self._n_waiting += 1
            self._pool.submit(self._answer, handler, request_type, call, message)

        return Unary(take)

    def _answer(self, handler: Handler, request_type: type[Message], call: UnaryCall, message: bytes) -> None:
        try:
            answer = handler(request_of(request_type, message), call).SerializeToString()
        except Problem as problem:
            refuse(call, problem)
        except Exception:  # the one place: the caller gets a status, the log gets the traceback
            _logger.exception("%s failed", call.method)
            call.refuse(StatusCode.INTERNAL, "the server failed in a way it has no name for; its log says more")
        else:
            call.answer(answer)
        finally:
            self._n_waiting -= 1

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


def refuse(call: UnaryCall | StreamCall, problem: Problem) -> None:
    """End a call with a problem's status and sentence, and with the time to ask again where waiting helps."""
    end = call.refuse if isinstance(call, UnaryCall) else call.end
    end(problem.status, str(problem), retry_trailers(problem))


def retry_trailers(problem: Problem) -> Metadata:
    """When to ask again: as gRPC's own retries read it, and as google.rpc tells it."""
    if problem.retry_after_s is None:
        return ()
    after_ms = retry_after_ms(problem.retry_after_s)
    told = status_pb2.Status(code=problem.status.value[0], message=str(problem))
    delay = Duration(seconds=after_ms // 1000, nanos=after_ms % 1000 * 1_000_000)
    told.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return (("grpc-retry-pushback-ms", str(after_ms)), ("grpc-status-details-bin", told.SerializeToString()))


def retry_after_ms(retry_after_s: float) -> int:
    """Whole milliseconds, rounded up, at least one."""
    return max(1, -int(-retry_after_s * 1000 // 1))
