"""A generator that speaks HTTP/2 itself: cheap enough to load a gateway to its limit from one core beside it.

In: one generator's part of an open loop. Out: what became of it. Called by open_loop.py.
"""

import math
import select
import socket
import ssl
import time

from server.load.calls import DEADLINE_EXCEEDED, LATE_ANSWERS_S, NEVER_ENDED, OK, Begin, Part, Work
from server.load.http2 import CANCELLED, NOT_PROCESSED, UNAVAILABLE, UNKNOWN, Connection, Wire
from server.load.target import DECIDE, LoadFailed, Target, decide_message, framed

CONNECTS_WITHIN_S = 1.0
TRIES_AGAIN_S = 0.05
RESET_EARLY_S = 0.005


def generated(work: Work, begin: Begin) -> Part:
    """Ask on several connections from one loop that never waits for an answer.

    raises  LoadFailed  if nothing listens
    """
    caller = _Caller(work)
    caller.run(begin())
    return caller.part


class _Tls:
    """A TLS socket that, like a plain one, says BlockingIOError when it would wait."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls

    def fileno(self) -> int:
        return self._tls.fileno()

    def send(self, data: bytes) -> int:
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as waits:
            raise BlockingIOError from waits

    def recv(self, size: int) -> bytes:
        try:
            return self._tls.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as waits:
            raise BlockingIOError from waits

    def close(self) -> None:
        self._tls.close()


def connected(target: Target, alpn: str = "h2") -> Wire:
    """A socket to the target that does not block.

    raises  OSError  if nobody listens
    """
    host, _, port = target.address.rpartition(":")
    plain = socket.create_connection((host.strip("[]"), int(port)), CONNECTS_WITHIN_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if target.root is None:
        plain.setblocking(False)
        return plain
    context = ssl.create_default_context(cafile=str(target.root))
    context.set_alpn_protocols([alpn])
    tls = context.wrap_socket(plain, server_hostname=host)
    tls.setblocking(False)
    return _Tls(tls)


class _Caller:
    def __init__(self, work: Work) -> None:
        target, n_calls = work.target, work.intended_s.size
        self._work, self._begins_s, self._part = work, 0.0, Part.empty(work.intended_s)
        # Lists: an element of an array costs ten times as much to read or to write.
        self._sent_s, self._ended_s = [math.nan] * n_calls, [math.nan] * n_calls
        self._status = [NEVER_ENDED] * n_calls
        self._bodies = [framed(decide_message(shopper_id, work.at_s)) for shopper_id in work.shopper_ids]
        self._fields = [
            (":method", "POST"), (":scheme", "http" if target.root is None else "https"), (":path", DECIDE),
            (":authority", target.address), ("te", "trailers"), ("content-type", "application/grpc"),
            *target.metadata, ("grpc-timeout", f"{max(1, round(work.load.deadline_s * 1e6))}u"),
        ]  # fmt: skip
        self._not_before_s = [0.0] * work.load.n_channels
        self._n_open, self._oldest, self._next = 0, 0, 0
        self._asked: list[Connection | None] = [None] * n_calls
        self._leaving: list[Connection] = []
        try:
            self._connections = [self._new_connection() for _ in self._not_before_s]
        except OSError as error:
            raise LoadFailed(f"{target.address} must listen, got: {error}") from error

    @property
    def part(self) -> Part:
        """What is known of every call."""
        timeline = self._part.timeline
        timeline.sent_s[:], timeline.ended_s[:], self._part.status[:] = self._sent_s, self._ended_s, self._status
        return self._part

    def _new_connection(self) -> Connection:
        return Connection(connected(self._work.target), self._fields, self._ended)

    def run(self, begins_s: float) -> None:
        """Send each call at its moment; afterwards wait no longer than an answer could take."""
        self._begins_s = begins_s
        intended_s = self._work.intended_s.tolist()
        while self._next < len(intended_s) or self._n_open:
            while self._next < len(intended_s) and intended_s[self._next] <= (now_s := self._now_s()):
                self._ask(self._next, now_s)
                self._next += 1
            self._turn(self._wait_s(intended_s))
            self._expire(self._now_s())
        for connection in (*self._connections, *self._leaving):
            connection.close()

    def _now_s(self) -> float:
        return time.monotonic() - self._begins_s

    def _wait_s(self, intended_s: list[float]) -> float:
        """Until the next call is due or the oldest open one is given up."""
        until_s = self._now_s() + LATE_ANSWERS_S
        if self._n_open and self._oldest < self._next:
            until_s = self._sent_s[self._oldest] + self._patience_s
        if self._next < len(intended_s):
            until_s = min(until_s, intended_s[self._next])
        return max(0.0, until_s - self._now_s())

    @property
    def _patience_s(self) -> float:
        return self._work.load.deadline_s + LATE_ANSWERS_S

    def _ask(self, call: int, now_s: float) -> None:
        if math.isnan(self._sent_s[call]):
            self._sent_s[call] = now_s
            self._n_open += 1
        slot = call % len(self._connections)
        connection = self._connections[slot]
        if not connection.takes_calls:
            if connection.is_open:
                self._leaving.append(connection)
            replaced = self._replaced(slot, now_s)
            if replaced is None:
                self._end(call, UNAVAILABLE)
                return
            connection = replaced
        self._asked[call] = connection
        until_s = self._begins_s + self._sent_s[call] + self._work.load.deadline_s
        connection.ask(call, self._bodies[call], until_s)

    def _replaced(self, slot: int, now_s: float) -> Connection | None:
        """A new connection for a slot whose old one takes no calls; None while nobody listens."""
        if now_s < self._not_before_s[slot]:
            return None
        try:
            self._connections[slot] = self._new_connection()
        except OSError:
            self._not_before_s[slot] = now_s + TRIES_AGAIN_S
            return None
        return self._connections[slot]

    def _turn(self, wait_s: float) -> None:
        """Send what waits, then take in what comes within wait_s."""
        self._leaving = [connection for connection in self._leaving if connection.is_open and connection.n_open]
        by_wire = {one.wire: one for one in (*self._connections, *self._leaving) if one.is_open}
        for connection in by_wire.values():
            if connection.wants_to_send:
                connection.flush()
        reading = [wire for wire, connection in by_wire.items() if connection.is_open]
        writing = [wire for wire in reading if by_wire[wire].wants_to_send]
        if not reading:
            time.sleep(min(wait_s, TRIES_AGAIN_S))
            return
        # select waits to the microsecond, where epoll rounds a wait up to the next millisecond.
        readable, _, _ = select.select(reading, writing, [], wait_s)
        for wire in readable:
            by_wire[wire].read()

    def _ended(self, call: int, status: int, answer: bytes) -> None:
        if status == NOT_PROCESSED:
            self._ask(call, self._now_s())
            return
        if status == CANCELLED and self._now_s() - self._sent_s[call] > self._work.load.deadline_s - RESET_EARLY_S:
            status = DEADLINE_EXCEEDED  # the server's clock ran out first, and it says so by a reset
        if status == OK:
            if len(answer) < 5 or answer[0]:
                status = UNKNOWN
            else:
                self._part.answered(call, answer[5:])
        self._end(call, status)

    def _end(self, call: int, status: int) -> None:
        self._ended_s[call], self._status[call] = self._now_s(), status
        self._asked[call] = None
        self._n_open -= 1

    def _expire(self, now_s: float) -> None:
        """Give up calls whose answer cannot be of use to anybody, oldest first."""
        while self._oldest < self._next:
            if self._status[self._oldest] == NEVER_ENDED:
                if now_s < self._sent_s[self._oldest] + self._patience_s:
                    return
                connection = self._asked[self._oldest]
                if connection is not None:
                    connection.give_up(self._oldest)
                self._end(self._oldest, DEADLINE_EXCEEDED)
            self._oldest += 1
