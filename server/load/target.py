"""Whom load is put on, and the messages that are sent there, framed as gRPC frames them.

In: an address, how to be let in, shopper ids. Out: channels and bodies. Called by every generator here.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from stratagem.v1 import strategy_pb2

from server.problems import Problem

DECIDE = "/stratagem.v1.StrategyService/Decide"
DECIDE_STREAM = "/stratagem.v1.StrategyService/DecideStream"
DECIDE_BATCH = "/stratagem.v1.StrategyService/DecideBatch"
MESSAGE_MIB = 64


class LoadFailed(Problem):
    """The load could not be put on, or what came back is no measurement."""


@dataclass(frozen=True)
class Target:
    """A listening gateway.

    address  "host:port"
    token    bearer token or API key; empty: none is sent
    root     PEM file of the authority behind the gateway's certificate; None: no TLS
    """

    address: str
    token: str = field(default="", repr=False)
    root: Path | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self) -> grpc.Channel:
        """A connection of its own for a caller that waits."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        return grpc.secure_channel(self.address, credentials, options=_OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """A connection of its own for a caller with an event loop."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return grpc.aio.secure_channel(self.address, credentials, options=_OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        return None if self.root is None else grpc.ssl_channel_credentials(self.root.read_bytes())


_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_MIB * 2**20),
    ("grpc.max_send_message_length", MESSAGE_MIB * 2**20),
    # Channels to one address would share one connection, and a pool of them would be a pool of one.
    ("grpc.use_local_subchannel_pool", 1),
]


def framed(message: bytes) -> bytes:
    """A message behind its uncompressed flag and its length."""
    return b"\0" + struct.pack(">I", len(message)) + message


def messages_in(frames: bytes) -> Iterator[bytes]:
    """The messages of a whole body."""
    place = 0
    while place < len(frames):
        (size,) = struct.unpack_from(">I", frames, place + 1)
        yield frames[place + 5 : place + 5 + size]
        place += 5 + size


def decide_message(shopper_id: str, at_s: int) -> bytes:
    """A DecideRequest without reasons: callers that ask thousands a second read none."""
    request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=at_s, without_reasons=True)
    message: bytes = request.SerializeToString()
    return message


def decide_bodies(shopper_ids: Sequence[str], at_s: int) -> list[bytes]:
    """A body for each shopper, all of one length: of the ids, those of the commonest length."""
    bodies = [framed(decide_message(shopper_id, at_s)) for shopper_id in shopper_ids]
    ((length, _),) = Counter(map(len, bodies)).most_common(1)
    return [body for body in bodies if len(body) == length]


def stream_body(shopper_ids: Sequence[str], at_s: int) -> bytes:
    """One stream's worth of asks, numbered from 0."""
    asks = [
        strategy_pb2.DecideStreamRequest(
            call_id=call_id,
            request=strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=at_s, without_reasons=True),
        )
        for call_id, shopper_id in enumerate(shopper_ids)
    ]
    return b"".join(framed(ask.SerializeToString()) for ask in asks)


def batch_body(shopper_ids: Sequence[str], at_s: int) -> bytes:
    """One DecideBatchRequest with packed keys."""
    keys = [shopper_id.encode() for shopper_id in shopper_ids]
    ends, end = [], 0
    for key in keys:
        end += len(key)
        ends.append(end)
    request = strategy_pb2.DecideBatchRequest(time_s=at_s, shopper_keys=b"".join(keys), shopper_key_ends=ends)
    return framed(request.SerializeToString())
