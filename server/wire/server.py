"""Listens, hands calls to doors, drains. One thread polls; doors answer from any thread.

In: methods with what takes their calls. Out: a listening address. Put together by server/gateway/assembly.py.
Stands on grpcio's private `cygrpc`, whose version pyproject.toml pins: a bare unary echo answers 2.6 times as many
requests a second as the fastest public server of grpcio, `python -m tests.benchmarks gateway` measures it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import grpc
from grpc import StatusCode
from grpc._cython import cygrpc

from server.problems import Problem
from server.survival import survived
from server.wire.calls import Call, StreamCall, UnaryCall

# Calls that the server is ready to take before the polling thread comes round. More of them wait in gRPC's own queue,
# where nobody sees for how long; these wait among the events, and how long is measured.
N_WAITING = 1024
POLL_S = 0.2
AT_ONCE = 0.0  # a moment long past
# Wait of an event from which on calls are refused unread, once so many events were polled in a row: a moment's stall
# is no overload. At twice the wait a quarter is taken, at three times a ninth: few enough to come out from behind, and
# never none, or callers who ask again at once would be refused for ever.
BEHIND_S, BEHIND_EVENTS = 0.03, 128
# How often the wait is measured.
MEASURED_EVERY_S = 0.005
DRAINS = StatusCode.UNAVAILABLE, "the gateway drains: ask what is open again, on a new stream"
_logger = logging.getLogger(__name__)


class Guard(Protocol):
    """Looks at every call before its message is read."""

    def __call__(self, call: UnaryCall | StreamCall) -> bool:
        """Let a call pass, or refuse it and say False; on the polling thread."""


@dataclass(frozen=True)
class Unary:
    """A method of one message.

    take  gets the call and its message on the polling thread; quick, and answers now or later
    shed  refuses a call unread and unseen by the guard where calls wait to be polled, told for how many seconds;
          None: no call is refused so
    """

    take: Callable[[UnaryCall, bytes], None]
    shed: Callable[[UnaryCall, float], None] | None = None


@dataclass(frozen=True)
class Stream:
    """A method of many messages.

    opened  gets the stream on the polling thread and calls its `listen`
    """

    opened: Callable[[StreamCall], None]


Method = Unary | Stream
Options = tuple[tuple[str, int], ...]


class WireServer:
    """Serves methods until it is stopped."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        options: Options,
        guard: Guard | None = None,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a server that does not listen yet.

        methods  by full name, "/package.Service/Method"
        options  gRPC's channel arguments
        guard    sees every call first
        drained  told on the polling thread whenever all that came is taken
        """
        self._methods = {name.encode(): method for name, method in methods.items()}
        self._guard, self._drained = guard, drained
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple((name.encode(), value) for name, value in options), False)
        self._server.register_completion_queue(self._queue)
        self._open: set[Call] = set()
        self._n_waiting = self._n_busy = 0
        self._taken = 0.0
        # How long the last event that was measured had waited, when it was, and whether another is on its way.
        self._behind_s = self._measured_s = 0.0
        self._is_measuring = False
        self._is_stopping = False
        self._has_shut_down = False
        self._beginning: Call | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="wire", daemon=True)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Bind an address; returns the port, 0 if it could not be bound.

        address      "host:port"; port 0 takes a free one
        credentials  None: clear text
        """
        arguments = [address.encode()] + ([] if credentials is None else [credentials._credentials])
        try:
            return int(self._server.add_http2_port(*arguments))
        except RuntimeError:
            return 0

    def start(self) -> None:
        """Answer from now on."""
        self._server.start()
        for _ in range(N_WAITING):
            self._request()
        self._thread.start()

    @property
    def n_open(self) -> int:
        """Calls that are not over."""
        return len(self._open)

    def stop(self, grace_s: float) -> None:
        """Take no new call, let open ones end for `grace_s`, cancel the rest; returns when all is over."""
        deadline_s = time.monotonic() + grace_s
        self._is_stopping = True
        self._server.shutdown(self._queue, self._shut_down)
        for call in list(self._open):
            if isinstance(call, StreamCall):
                call.end(*DRAINS)
        if not self._stopped.wait(max(0.0, deadline_s - time.monotonic())):
            self._server.cancel_all_calls()
            self._stopped.wait()
        self._thread.join()
        self._server.destroy()

    def _request(self) -> None:
        with suppress(ValueError):  # the server began to stop, on another thread, a moment ago
            self._server.request_call(self._queue, self._queue, self._requested)
            self._n_waiting += 1

    def _poll(self) -> None:
        while not self._stopped.is_set():
            survived(self._poll_on, self._failed, "a call's beginning")

    def _failed(self, problem: Problem) -> None:
        """End the call whose guard or door failed; a call that nobody ends would keep the server from stopping."""
        call, self._beginning = self._beginning, None
        if isinstance(call, StreamCall):
            call.end(problem.status, str(problem))
            call.leave_unread()
        elif isinstance(call, UnaryCall):
            call.refuse(problem.status, str(problem))

    def _poll_on(self) -> None:
        poll = self._queue.poll
        while not (self._has_shut_down and not self._open and not self._n_waiting):
            event = poll(AT_ONCE)
            if event.tag is None:
                self._behind_s, self._n_busy = 0.0, 0
                self._drained()
                event = poll(time.time() + POLL_S) if self._is_stopping else poll(None)
            self._n_busy += 1
            if event.tag is not None:
                event.tag(event)
            # An event that outlives its call would keep the call's memory until the next one comes.
            event = None
        self._stopped.set()

    def _measure(self, call: cygrpc.Call) -> None:
        """Put an event of our own behind those that wait; when its turn comes, it has waited as long as they."""
        now_s = time.monotonic()
        if not self._is_measuring and now_s - self._measured_s >= MEASURED_EVERY_S:
            self._is_measuring, self._measured_s = True, now_s
            call.start_server_batch((), partial(self._measured, call))

    def _measured(self, call: cygrpc.Call, _event: cygrpc.BaseEvent) -> None:
        now_s = time.monotonic()
        self._is_measuring, self._behind_s = False, now_s - self._measured_s
        if self._behind_s < MEASURED_EVERY_S:
            self._measured_s = now_s
        else:  # what came meanwhile is measured at once
            self._measure(call)

    def _is_behind(self) -> bool:
        """Whether a call comes where too many wait."""
        if self._is_measuring:
            self._behind_s = max(self._behind_s, time.monotonic() - self._measured_s)
        if self._behind_s <= BEHIND_S or self._n_busy < BEHIND_EVENTS:
            return False
        self._taken += (BEHIND_S / self._behind_s) ** 2
        if self._taken < 1.0:
            return True
        self._taken -= 1.0
        return False

    def _shut_down(self, _event: cygrpc.BaseEvent) -> None:
        self._has_shut_down = True

    def _requested(self, event: cygrpc.BaseEvent) -> None:
        self._n_waiting -= 1
        if not event.success or event.call is None:  # the server shuts down
            return
        if not self._is_stopping:
            self._request()
        method = self._methods.get(event.call_details.method)
        if isinstance(method, Stream):
            self._beginning = stream = StreamCall(event, self._open.discard)
            self._open.add(stream)
            if self._guard is None or self._guard(stream):
                method.opened(stream)
                if self._is_stopping:
                    stream.end(*DRAINS)
            else:
                stream.leave_unread()
            self._beginning = None
            return
        call = UnaryCall(event, self._open.discard)
        if call.deadline_s is not None and call.deadline_s <= call.began_s:
            return  # nobody waits for it: without a holder gRPC cancels it, and that costs no event
        self._beginning = call
        self._open.add(call)
        if method is not None and method.shed is not None and self._is_behind():
            method.shed(call, self._behind_s)
        elif method is None:
            call.refuse(StatusCode.UNIMPLEMENTED, f"method must be one that is served, got {call.method}")
        elif self._guard is None or self._guard(call):
            call.read(method.take)
        self._beginning = None
        self._measure(event.call)
