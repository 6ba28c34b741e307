"""A server of one polling thread with doors of a few lines, and a client to it; for the tests of server/wire/."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from grpc import StatusCode

from server.wire.calls import StreamCall, UnaryCall
from server.wire.server import Stream, Unary, WireServer
from tests.faults.stage import within

ENDS_WITHIN_S = 20.0
MOST_BYTES = 100_000
SLOW_S = 0.02
OPTIONS = (("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0))


@dataclass
class Doors:
    """What the server under test serves: echoes, one that holds its calls, one that fails."""

    held: list[UnaryCall] = field(default_factory=list)
    listeners: list["Echo"] = field(default_factory=list)
    is_open: bool = True
    n_drained: int = 0
    n_slow: int = 0
    n_blocked: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)
    waited_s: list[float] = field(default_factory=list)

    def drained(self) -> None:
        """Count how often nothing more waited."""
        self.n_drained += 1

    def slow(self, call: UnaryCall, message: bytes) -> None:
        """Hold the polling thread up, and with it everybody."""
        self.n_slow += 1
        time.sleep(SLOW_S)
        call.answer(message)

    def block(self, call: UnaryCall, message: bytes) -> None:
        """Stop the polling thread until it is let go."""
        self.n_blocked += 1
        self.go_on.wait(ENDS_WITHIN_S)
        call.answer(message)

    def shed(self, call: UnaryCall, waited_s: float) -> None:
        """Refuse unread."""
        self.waited_s.append(waited_s)
        call.refuse(StatusCode.RESOURCE_EXHAUSTED, "too many")

    def guard(self, call: UnaryCall | StreamCall) -> bool:
        """Let everybody in, or nobody."""
        if not self.is_open:
            end = call.refuse if isinstance(call, UnaryCall) else call.end
            end(StatusCode.PERMISSION_DENIED, "nobody may")
        return self.is_open

    def opened(self, stream: StreamCall) -> None:
        """Echo the messages of a stream."""
        self.listeners.append(Echo(stream))
        stream.listen(self.listeners[-1])

    def methods(self) -> dict[str, Unary | Stream]:
        """By name."""
        return {
            "/t/Echo": Unary(lambda call, message: call.answer(message)),
            "/t/Hold": Unary(lambda call, _: self.held.append(call)),
            "/t/Fail": Unary(lambda _call, _message: 1 // 0),
            "/t/Slow": Unary(self.slow, self.shed),
            "/t/Block": Unary(self.block),
            "/t/Left": Unary(lambda call, _: call.answer(repr(call.time_remaining()).encode())),
            "/t/Stream": Stream(self.opened),
            "/t/FailStream": Stream(lambda stream: stream.listen(Failing(stream))),
        }


class Echo:
    """Answers at once, or holds what it got until it is told."""

    def __init__(self, stream: StreamCall) -> None:
        self.stream, self.held = stream, list[bytes]()
        self.holds, self.is_half_closed, self.is_gone = False, False, False
        self.most_open, self.n_open = 0, 0
        self._lock = threading.Lock()

    def received(self, stream: StreamCall, message: bytes) -> None:
        """Take one message."""
        with self._lock:
            self.n_open += 1
            self.most_open = max(self.most_open, self.n_open)
            if message.startswith(b"hold"):
                self.held.append(message)
                return
        self.answer(stream, message)

    def answer(self, stream: StreamCall, message: bytes) -> None:
        """Answer it, and end the stream where it was the last."""
        stream.send(message)
        with self._lock:
            self.n_open -= 1
            is_done = self.is_half_closed and not self.n_open
        if is_done:
            stream.end()

    def let_go(self, order: random.Random) -> None:
        """Answer what is held, in any order."""
        with self._lock:
            held, self.held = self.held, []
        order.shuffle(held)
        for message in held:
            self.answer(self.stream, message)

    def half_closed(self, stream: StreamCall) -> None:
        """Nothing more comes."""
        with self._lock:
            self.is_half_closed = True
            is_done = not self.n_open
        if is_done:
            stream.end()

    def gone(self, _stream: StreamCall) -> None:
        """The call is over."""
        assert not self.is_gone
        self.is_gone = True


class Failing(Echo):
    """Fails with every message."""

    def received(self, _stream: StreamCall, _message: bytes) -> None:
        """Fail."""
        raise ZeroDivisionError("not a problem that has a name")


@dataclass
class Serving:
    """A server, its doors, and a channel to it."""

    server: WireServer
    doors: Doors
    channel: grpc.Channel
    address: str

    def unary(self, name: str) -> grpc.UnaryUnaryMultiCallable:
        """A method of one message."""
        return self.channel.unary_unary(f"/t/{name}")

    def stream(self, name: str = "Stream") -> "Asking":
        """A stream."""
        return Asking(self.channel.stream_stream(f"/t/{name}"))

    def is_idle(self) -> bool:
        """Whether no call is left within the time that calls take to end."""
        return within(ENDS_WITHIN_S, lambda: self.server.n_open == 0)


class Asking:
    """A client's stream, message by message."""

    def __init__(self, method: grpc.StreamStreamMultiCallable) -> None:
        self._asks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = method(iter(self._asks.get, None), timeout=ENDS_WITHIN_S)

    def send(self, message: bytes) -> None:
        """Send one."""
        self._asks.put(message)

    def half_close(self) -> None:
        """Send nothing more."""
        self._asks.put(None)

    def ended(self) -> StatusCode:
        """How it ends; what is left to read is read."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return error.code()
        finally:
            self.half_close()
        return self.call.code()


@contextmanager
def listening() -> Iterator[Serving]:
    """A server on a free port, stopped at the end."""
    doors = Doors()
    server = WireServer(doors.methods(), OPTIONS, doors.guard, doors.drained)
    address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    server.start()
    try:
        with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            yield Serving(server, doors, channel, address)
    finally:
        server.stop(0.0)


def refused(call: Callable[[], object]) -> tuple[StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()
