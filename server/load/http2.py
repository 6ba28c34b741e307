"""As much of HTTP/2 as a client of unary gRPC needs: a generator must cost less than what it measures.

In: a connected socket, messages. Out: how each call ended. Called by wire_caller.py.
source: RFC 9113 (frames), RFC 7541 (header fields), the protocol page "gRPC over HTTP2"
"""

import functools
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
REFUSED_STREAM, CANCEL = 7, 8
WIDEST, FIRST_WINDOW = 2**31 - 1, 65_535
# Fields that a table of 4,096 bytes, the least that every server keeps, would not hold are sent as they are.
TABLE_BYTES, FIELD_BYTES, FIRST_DYNAMIC = 4_096, 32, 62
HEAD = struct.Struct(">BHBBL")
READ_BYTES = 262_144

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE = (
    int(code.value[0])
    for code in (
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
    )
)

# Not a gRPC status: the server says that it never looked at the call, so that asking again is safe.
NOT_PROCESSED = -2

# Called with the call's number, its gRPC status or NOT_PROCESSED, and the answer's bytes, framed.
Ended = Callable[[int, int, bytes], None]


class Wire(Protocol):
    """A socket that does not block, plain or TLS."""

    def fileno(self) -> int: ...
    def send(self, data: bytes) -> int: ...
    def recv(self, size: int) -> bytes: ...
    def close(self) -> None: ...


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def encoded_int(value: int, prefix_bits: int, first: int) -> bytes:
    """A whole number behind the bits of `first` (RFC 7541, 5.1)."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytearray([first | limit]), value - limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decoded_int(block: bytes, place: int, prefix_bits: int) -> tuple[int, int]:
    """The number at `place` and where the next thing stands."""
    limit = (1 << prefix_bits) - 1
    value, place = block[place] & limit, place + 1
    if value < limit:
        return value, place
    shift = 0
    while True:
        byte, place = block[place], place + 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def request_fields(fields: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """Header fields as the first request of a connection tells them, and as every later one refers to them."""
    size = sum(len(name) + len(value) + FIELD_BYTES for name, value in fields)
    kept = size <= TABLE_BYTES
    first = b"".join(_literal(name, value, 0x40 if kept else 0x00) for name, value in fields)
    later = b"".join(encoded_int(FIRST_DYNAMIC + len(fields) - 1 - place, 7, 0x80) for place in range(len(fields)))
    return first, later if kept else first


def late_fields(fields: Sequence[tuple[str, str]], later: bytes, left_s: float) -> bytes:
    """What a request that had to wait in line says: `later`, but for the time that is left, the last field."""
    name, value = fields[-1]
    in_table = later[-1] == 0x80 | FIRST_DYNAMIC  # a value's last letter is none of these
    n_last = 1 if in_table else len(_literal(name, value))
    return later[:-n_last] + _literal(name, f"{max(1, round(left_s * 1e6))}u")


def _literal(name: str, value: str, kind: int = 0x00) -> bytes:
    """A field in full; of kind 0x40 the other end keeps it in its table."""
    return bytes([kind]) + b"".join(encoded_int(len(text), 7, 0) + text for text in (name.encode(), value.encode()))


@functools.lru_cache(256)  # most calls end with the same few bytes
def grpc_status(block: bytes) -> int | None:
    """The status in a block of header fields that was written without a table; None if there is none in it."""
    place = 0
    while place < len(block):
        byte = block[place]
        if byte & 0x80:
            _, place = decoded_int(block, place, 7)
            continue
        if byte & 0xE0 == 0x20:
            _, place = decoded_int(block, place, 5)
            continue
        index, place = decoded_int(block, place, 6 if byte & 0x40 else 4)
        name = b""
        if index == 0:
            name, place = _string(block, place)
        value, place = _string(block, place)
        if name == b"grpc-status":
            return int(value) if value.isdigit() else UNKNOWN
    return None


def _string(block: bytes, place: int) -> tuple[bytes, int]:
    size, start = decoded_int(block, place, 7)
    # Huffman's code is not read: gRPC's own server writes none, and another's status counts as UNKNOWN.
    return b"?" if block[place] & 0x80 else block[start : start + size], start + size


class Connection:
    """One connection with its open calls."""

    def __init__(self, wire: Wire, fields: Sequence[tuple[str, str]], ended: Ended) -> None:
        """Open with generous windows and without a table for the server's fields, which keeps reading cheap."""
        self.wire = wire
        self.is_open, self.takes_calls = True, True
        self._fields = fields
        self._first, self._later = request_fields(fields)
        self._ended = ended
        self._calls: dict[int, int] = {}
        self._answers: dict[int, bytes] = {}
        self._stream = 1
        self._most_calls, self._window, self._unread = WIDEST, FIRST_WINDOW, 0
        self._waiting: deque[tuple[int, bytes, float]] = deque()
        self._received = b""
        ours = ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WIDEST))
        settings = b"".join(struct.pack(">HL", name, value) for name, value in ours)
        self._out = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))
        self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", WIDEST - FIRST_WINDOW))

    @property
    def wants_to_send(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._out)

    @property
    def n_open(self) -> int:
        """Calls without an end, those that wait for the server's leave included."""
        return len(self._calls) + len(self._waiting)

    def ask(self, call: int, body: bytes, until_s: float = math.inf) -> None:
        """Put one unary call on its way, or in line where the server allows no more.

        until_s  moment of time.monotonic that ends what the last field, grpc-timeout, says; a call that waited in
                 line says what is left of it, and is not sent when nothing is
        """
        if self._waiting or len(self._calls) >= self._most_calls or self._window < len(body):
            self._waiting.append((call, body, until_s))
        else:
            self._put(call, body, self._later)

    def _put(self, call: int, body: bytes, later: bytes) -> None:
        stream, fields = self._stream, later if self._stream > 1 else self._first
        self._stream += 2
        self._window -= len(body)
        self._calls[stream] = call
        self._out += frame(HEADERS, END_HEADERS, stream, fields) + frame(DATA, END_STREAM, stream, body)

    def give_up(self, call: int) -> None:
        """Tell the server that nobody waits for this call any longer."""
        for stream, open_call in self._calls.items():
            if open_call == call:
                self._out += frame(RST_STREAM, 0, stream, struct.pack(">L", CANCEL))
                self._answers.pop(stream, None)
                del self._calls[stream]
                return
        self._waiting = deque(entry for entry in self._waiting if entry[0] != call)

    def flush(self) -> None:
        """Send what the socket takes."""
        try:
            while self._out:
                del self._out[: self.wire.send(bytes(self._out[:65_536]))]
        except BlockingIOError:
            pass  # the socket is full
        except OSError:
            self.close()

    def read(self) -> None:
        """Take in whatever has come; every call that it ends is told."""
        try:
            while True:
                part = self.wire.recv(READ_BYTES)
                if not part:
                    return self.close()
                self._take(self._received + part)
                if len(part) < READ_BYTES and isinstance(self.wire, socket.socket):
                    return None  # all that there was; TLS may hold back more than it tells
        except BlockingIOError:
            return None
        except OSError:
            return self.close()

    def close(self) -> None:
        """End every open call as UNAVAILABLE."""
        if not self.is_open:
            return
        self.is_open = self.takes_calls = False
        self.wire.close()
        lost = [*self._calls.values(), *(call for call, *_ in self._waiting)]
        self._calls.clear()
        self._waiting.clear()
        for call in lost:
            self._ended(call, UNAVAILABLE, b"")

    def _take(self, received: bytes) -> None:
        place, size = 0, len(received)
        while size - place >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(received, place)
            end = place + HEAD.size + (high << 16 | low)
            if end > size:
                break
            self._frame(kind, flags, stream, received[place + HEAD.size : end])
            place = end
        self._received = received[place:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._data(flags, stream, payload)
        elif kind == HEADERS:
            if flags & END_STREAM:
                self._end(stream, _status_of(flags, payload))
        elif kind == RST_STREAM:
            (code,) = struct.unpack(">L", payload)
            self._end(stream, {REFUSED_STREAM: NOT_PROCESSED, CANCEL: CANCELLED}.get(code, INTERNAL))
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += struct.unpack(">L", payload)[0] & WIDEST
            self._put_waiting()
        elif kind == GOAWAY:
            self._leave(last=struct.unpack_from(">L", payload)[0] & WIDEST)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        if stream in self._calls:
            self._answers[stream] = self._answers.get(stream, b"") + payload
        if flags & END_STREAM:
            self._end(stream, UNKNOWN)  # without trailers nobody knows how it went
        self._unread += len(payload)
        if self._unread > WIDEST // 2:
            self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", self._unread))
            self._unread = 0

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", payload):
            if name == MAX_CONCURRENT_STREAMS:
                self._most_calls = value
        self._out += frame(SETTINGS, ACK, 0, b"")
        self._put_waiting()

    def _leave(self, last: int) -> None:
        """The server takes no more calls here and has looked at none behind `last`."""
        self.takes_calls = False
        waiting = [call for call, *_ in self._waiting]
        self._waiting.clear()
        for stream in [stream for stream in self._calls if stream > last]:
            self._end(stream, NOT_PROCESSED)
        for call in waiting:
            self._ended(call, NOT_PROCESSED, b"")

    def _end(self, stream: int, status: int) -> None:
        call = self._calls.pop(stream, None)
        answer = self._answers.pop(stream, b"")
        if call is not None:
            self._ended(call, status, answer)
        if self._waiting:
            self._put_waiting()

    def _put_waiting(self) -> None:
        while self._waiting and len(self._calls) < self._most_calls and self._window >= len(self._waiting[0][1]):
            call, body, until_s = self._waiting.popleft()
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                self._ended(call, DEADLINE_EXCEEDED, b"")
            else:
                self._put(
                    call, body, late_fields(self._fields, self._later, left_s) if left_s < math.inf else self._later
                )


def _status_of(flags: int, payload: bytes) -> int:
    if not flags & END_HEADERS:
        return UNKNOWN  # goes on in another frame: more than a status has to say
    if flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    if flags & PRIORITY:
        payload = payload[5:]
    status = grpc_status(payload)
    return UNKNOWN if status is None else status
