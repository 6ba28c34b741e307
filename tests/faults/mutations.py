"""Bytes that were valid once: messages and connections with something changed, the same for the same seed.

In: valid bytes and a generator of chance. Out: bytes that may mean anything. Pure; called by message_scenes.py.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from server.load.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    request_fields,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PRIORITY, PUSH_PROMISE, GOAWAY, CONTINUATION = 2, 5, 7, 9
KINDS = (DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, 77)


def fields_of(address: str, path: str, within_s: float) -> list[tuple[str, str]]:
    """The header fields of a gRPC request."""
    return [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address), ("te", "trailers"),
        ("content-type", "application/grpc"), ("grpc-timeout", f"{int(within_s * 1e6)}u"),
    ]  # fmt: skip


def mutated(valid: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """One of the messages with one to four changes."""
    message = bytearray(valid[int(rng.integers(len(valid)))])
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(message) + 1))
        change = int(rng.integers(8))
        if change == 0 and message:  # a bit flips
            message[place % len(message)] ^= 1 << int(rng.integers(8))
        elif change == 1 and message:  # a byte is another
            message[place % len(message)] = int(rng.integers(256))
        elif change == 2:  # bytes are lost
            del message[place : place + int(rng.integers(1, 9))]
        elif change == 3:  # bytes are added
            message[place:place] = rng.bytes(int(rng.integers(1, 9)))
        elif change == 4:  # the end is lost
            del message[place:]
        elif change == 5:  # a number is as large as can be written
            message[place:place] = b"\xff" * int(rng.integers(1, 10)) + b"\x01"
        elif change == 6:  # another message goes on here
            message[place:] = valid[int(rng.integers(len(valid)))][place // 2 :]
        else:  # a part stands there twice
            message[place:place] = message[place // 2 : place]
    return bytes(message)


def raw_requests(address: str, body: bytes, n_connections: int, rng: np.random.Generator) -> Iterator[bytes]:
    """What each connection sends: a request that is broken somewhere between the preface and the last byte."""
    shapes = (_flipped, _cut, _other_frames, _strange_fields, _strange_body)
    for place in range(n_connections):
        yield shapes[place % len(shapes)](address, body, rng)


def _request(address: str, body: bytes, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    first, _ = request_fields([*fields_of(address, "/stratagem.v1.StrategyService/Decide", 1.0), *fields])
    asked = frame(HEADERS, END_HEADERS, 1, first) + frame(DATA, END_STREAM, 1, body)
    return PREFACE + frame(SETTINGS, 0, 0, b"") + asked


def _flipped(address: str, body: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(_request(address, body))
    for _ in range(int(rng.integers(1, 6))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _cut(address: str, body: bytes, rng: np.random.Generator) -> bytes:
    data = _request(address, body)
    return data[: int(rng.integers(len(data)))]


def _other_frames(address: str, body: bytes, rng: np.random.Generator) -> bytes:
    data = _request(address, body)
    for _ in range(int(rng.integers(1, 5))):
        kind = int(rng.choice(KINDS))
        payload = rng.bytes(int(rng.choice([0, 4, 5, 6, 8, 40, 20_000])))
        data += frame(kind, int(rng.integers(256)), int(rng.choice([0, 1, 2, 3, 2**31 - 1])), payload)
    return data


def _strange_fields(address: str, body: bytes, rng: np.random.Generator) -> bytes:
    path = bytes(rng.integers(0, 256, 12, dtype=np.uint8)).decode("latin-1")
    strange = [
        ("grpc-timeout", "99999999999H"), ("grpc-encoding", "no-such"), (":path", f"/{path}"), (":method", "GET"),
        ("authorization", path), ("x-some-bin", "no base 64 !"), ("x" * 5_000, "y" * 5_000), ("te", "nothing"),
        ("grpc-timeout", "-1S"), ("content-length", "3"), ("traceparent", path), ("grpc-timeout", "0n"),
    ]  # fmt: skip
    return _request(address, body, [strange[int(rng.integers(len(strange)))]])


def _strange_body(address: str, body: bytes, rng: np.random.Generator) -> bytes:
    head = [
        b"\x01" + body[1:5],  # says that it is compressed
        b"\x00" + struct.pack(">I", 2**31),  # says that it is long
        b"\x00" + struct.pack(">I", len(body)),  # goes on where nothing comes
        b"\x07" + body[1:5],
        body + body[:5],  # a second message after the one that there may be
        b"",
    ][int(rng.integers(6))]
    return _request(address, head + body[5:])
