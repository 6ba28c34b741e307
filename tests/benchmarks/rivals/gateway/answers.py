"""Asks a server once and compares its answers with what they must be, so that no figure counts failures.

In: a server and framed messages. Out: nothing, or WrongAnswers. Called by driver.py; started as a program of its own
(`python -m`, JSON as its argument, the body on standard input) beside a server in a network namespace of its own.
"""

import json
import struct
import sys
from collections.abc import Iterator

import grpc

from tests.benchmarks.rivals.gateway.doors import Door, Server

WITHIN_S = 30.0
PREFIX = struct.Struct(">BI")  # not compressed, length


class WrongAnswers(Exception):  # noqa: N818 - the name says what is wrong
    """A server that is being measured did not answer as it must; its figure would be worth nothing."""


def unframed(body: bytes) -> Iterator[bytes]:
    """The messages of a framed body."""
    place = 0
    while place < len(body):
        _, length = PREFIX.unpack_from(body, place)
        place += PREFIX.size + length
        yield body[place - length : place]


def check_answers(server: Server, path: str, body: bytes, least: int) -> list[bytes]:
    """Send the messages of one call.

    path     "/package.Service/Method"
    body     framed messages; more than one is a stream
    least    bytes that every answer must have
    returns  the answers
    raises   WrongAnswers  with the status, or with the number or size of answers
    """
    asks = list(unframed(body))
    headers = [("authorization", server.door.authorization)] if server.door else []
    with _channel(server.address, server.door) as channel:
        try:
            # One ask on a stream is a unary call on the wire. Without serializers it is bytes in, bytes out.
            call = channel.stream_stream(path)(iter(asks), timeout=WITHIN_S, metadata=headers)
            answers: list[bytes] = list(call)
        except grpc.RpcError as error:
            said = f"{error.code()}: {error.details()}"
            raise WrongAnswers(f"{path} at {server.address} must answer OK, got {said}") from None
    if len(answers) != len(asks):
        raise WrongAnswers(f"{path} at {server.address} must answer {len(asks)} messages, got {len(answers)}")
    shortest = min(map(len, answers))
    if shortest < least:
        raise WrongAnswers(f"an answer of {server.address} must have {least} bytes or more, got {shortest}")
    return answers


def _channel(address: str, door: Door | None) -> grpc.Channel:
    if door is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(door.certificate.read_bytes()))


def main() -> None:
    """Check a server in clear text."""
    told = json.loads(sys.argv[1])
    try:
        check_answers(Server(told["address"], told["pid"]), told["path"], sys.stdin.buffer.read(), told["least"])
    except WrongAnswers as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
