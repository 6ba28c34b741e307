"""One call of one client: what it asks, how long it has, and how it is answered from any thread.

In: events of the completion queue, answers as bytes. Out: batches of operations. Made by server.py; answered by doors.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from grpc import StatusCode
from grpc._cython import cygrpc

from server.problems import Problem
from server.survival import survived

Metadata = Sequence[tuple[str, str | bytes]]
NO_FLAGS = 0
# More follows at once: the transport may wait with the packet.
MORE_FOLLOWS = cygrpc.WriteFlag.buffer_hint
STATUS = {status: status.value[0] for status in StatusCode}
# gRPC tells a call without a deadline as one in some hundred years.
FOREVER_S = 1e9
# Messages of a stream that are not answered, or whose answers are not taken, from which on the stream is not read.
MOST_OPEN = 256


# Told when a call needs nothing more from the server.
Done = Callable[["Call"], None]


class Call:
    """What unary calls and streams have in common.

    method      full name, "/package.Service/Method"
    metadata    what the client sent
    deadline_s  moment of time.monotonic; None: the client set none
    principal   who the server's guard found the client to be
    """

    principal: Any = None

    def __init__(self, event: cygrpc.BaseEvent, done: Done) -> None:
        """Take a call in.

        done  told once, on the polling thread
        """
        details = event.call_details
        self._call = event.call
        self._done = done
        self.method: str = details.method.decode(errors="replace")
        self.metadata: Metadata = event.invocation_metadata
        # The wall clock may step; from here on only the monotonic one is asked.
        left_s = details.deadline - time.time()
        self.deadline_s: float | None = None if left_s > FOREVER_S else time.monotonic() + left_s
        self.began_s = time.monotonic()

    def time_remaining(self) -> float | None:
        """Seconds until the client gives up, ≥ 0; None if it never does."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())

    def invocation_metadata(self) -> Metadata:
        """What the client sent, under grpc's name for it."""
        return self.metadata

    def identities(self) -> Sequence[bytes]:
        """Names in the client's certificate; none without one."""
        return cygrpc.peer_identities(self._call) or ()

    def peer(self) -> str:
        """Where the client is, as gRPC writes it."""
        return str(self._call.peer())


class UnaryCall(Call):
    """One message in, one out."""

    def read(self, take: Callable[["UnaryCall", bytes], None]) -> None:
        """Ask for the message.

        take  gets the call and the message, on the polling thread; never called if the client went away before
        """
        self._take = take
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self._received)

    def _received(self, event: cygrpc.BaseEvent) -> None:
        message = event.batch_operations[0].message()
        if message is None:  # the client went away, or sent more than the server takes
            self.refuse(StatusCode.INVALID_ARGUMENT, "a call must bring one message, got none")
        else:
            survived(partial(self._take, self, message), self._failed, self.method)

    def _failed(self, problem: Problem) -> None:
        self.refuse(problem.status, str(problem))

    def answer(self, message: bytes) -> None:
        """Send the answer and OK; from any thread, once."""
        operations = (
            cygrpc.SendInitialMetadataOperation((), NO_FLAGS),
            cygrpc.SendMessageOperation(message, NO_FLAGS),
            cygrpc.SendStatusFromServerOperation((), 0, b"", NO_FLAGS),
            # In the same batch, for an event less per call.
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
        )
        self._call.start_server_batch(operations, self._ended)

    def refuse(self, status: StatusCode, words: str, trailers: Metadata = ()) -> None:
        """End the call with another status; from any thread, once."""
        operations = (
            cygrpc.SendInitialMetadataOperation((), NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(trailers, STATUS[status], words.encode(), NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
        )
        self._call.start_server_batch(operations, self._ended)

    def _ended(self, _event: cygrpc.BaseEvent) -> None:
        self._done(self)


class Listener(Protocol):
    """What a door does with a stream; every method is called on the polling thread and must be quick."""

    def received(self, stream: "StreamCall", message: bytes) -> None:
        """Take the next message. Every message taken must be answered, or `stream.forget` be called."""

    def half_closed(self, stream: "StreamCall") -> None:
        """The client sends nothing more; `stream.end` is the door's to call."""

    def gone(self, stream: "StreamCall") -> None:
        """The call is over, however it ended."""


class _Nobody:
    """Listens to a stream that was refused."""

    def received(self, stream: "StreamCall", message: bytes) -> None:
        """Nothing is read."""

    def half_closed(self, stream: "StreamCall") -> None:
        """Nothing is read."""

    def gone(self, stream: "StreamCall") -> None:
        """Nothing is kept."""


NOBODY = _Nobody()


class StreamCall(Call):
    """Messages in and out, at the pace at which the client takes the answers.

    most_open  messages that may be open before the next is read; a door may change it at any time
    """

    def __init__(self, event: cygrpc.BaseEvent, done: Done) -> None:
        """Take a stream in; `listen` starts it."""
        super().__init__(event, done)
        self.most_open = MOST_OPEN
        self._lock = threading.Lock()
        self._unsent: deque[bytes] = deque()
        self._is_sending = False
        self._is_reading = self._is_read = False  # read: to the end
        self._n_open = 0  # messages taken and not yet answered on the wire
        self._end: tuple[int, bytes, Metadata] | None = None
        self._has_ended = False
        self._n_due = 0  # batches of the call that the queue has not reported yet
        self._is_gone = False
        self._has_begun = False
        self._listener: Listener = NOBODY

    def listen(self, listener: Listener) -> None:
        """Start to read, for `listener`."""
        self._listener = listener
        with self._lock:  # a server that stops ends the stream from another thread, perhaps before this
            self._has_begun = True
            self._begin((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), self._closed)
            if not self._has_ended:
                self._begin((cygrpc.SendInitialMetadataOperation((), NO_FLAGS),), self._settled)
        self._read()

    def leave_unread(self) -> None:
        """Let a stream go that was ended before anybody listened; where somebody does, this changes nothing."""
        with self._lock:
            if not self._has_begun:
                self._has_begun = True
                self._begin((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), self._closed)

    def _begin(self, operations: Sequence[object], tag: Callable[[cygrpc.BaseEvent], None]) -> None:
        self._n_due += 1
        self._call.start_server_batch(operations, tag)

    def _read(self) -> None:
        with self._lock:
            is_full = self._n_open >= self.most_open
            if is_full or self._is_reading or self._is_read or self._is_gone or self._end is not None:
                return
            self._is_reading = True
            self._begin((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self._received)

    def _received(self, event: cygrpc.BaseEvent) -> None:
        message = event.batch_operations[0].message()
        with self._lock:
            self._is_reading, self._is_read = False, message is None
            self._n_open += message is not None
            is_gone = self._is_gone
        if message is None:
            survived(partial(self._listener.half_closed, self), self._failed, self.method)
        elif not is_gone:  # a client that left at once may be heard of after it was seen off
            survived(partial(self._listener.received, self, message), self._failed, self.method)
            self._read()
        self._settled(event)

    def _failed(self, problem: Problem) -> None:
        self.end(problem.status, str(problem))

    def send(self, message: bytes, n_answered: int = 1) -> None:
        """Send one message, after those before it; from any thread. A stream that has ended drops it.

        n_answered  how many messages of the client it answers
        """
        with self._lock:
            if self._is_gone or self._has_ended:
                return
            self._unsent.append(message)
            if n_answered != 1:
                self._n_open += 1 - n_answered
            if not self._is_sending:
                self._send_next()

    def forget(self) -> None:
        """One message taken will get no answer."""
        with self._lock:
            self._n_open -= 1
        self._read()

    def _send_next(self) -> None:
        self._is_sending = True
        message = self._unsent.popleft()
        flags = MORE_FOLLOWS if self._unsent else NO_FLAGS
        self._begin((cygrpc.SendMessageOperation(message, flags),), self._sent)

    def _sent(self, event: cygrpc.BaseEvent) -> None:
        with self._lock:
            self._is_sending = False
            self._n_open -= 1
            if self._unsent and not self._is_gone:
                self._send_next()
            elif self._end is not None:
                self._send_end()
        self._read()
        self._settled(event)

    def end(self, status: StatusCode = StatusCode.OK, words: str = "", trailers: Metadata = ()) -> None:
        """End the stream once everything sent so far is out; from any thread. Later calls change nothing."""
        with self._lock:
            if self._end is None and not self._is_gone:
                self._end = (STATUS[status], words.encode(), trailers)
                if not self._is_sending:
                    self._send_end()

    def _send_end(self) -> None:
        if self._end is None or self._has_ended:
            return
        self._has_ended = True
        code, words, trailers = self._end
        status = cygrpc.SendStatusFromServerOperation(trailers, code, words, NO_FLAGS)
        # Without initial metadata before it, gRPC keeps the status to itself.
        first = () if self._has_begun else (cygrpc.SendInitialMetadataOperation((), NO_FLAGS),)
        self._begin((*first, status), self._settled)

    def _closed(self, event: cygrpc.BaseEvent) -> None:
        """The client cancelled, or the status is out."""
        with self._lock:
            self._is_gone = True
            self._unsent.clear()
        survived(partial(self._listener.gone, self), self._failed, self.method)
        self._settled(event)

    def _settled(self, _event: cygrpc.BaseEvent) -> None:
        with self._lock:
            self._n_due -= 1
            is_over = self._n_due == 0 and self._is_gone
        if is_over:
            self._done(self)
