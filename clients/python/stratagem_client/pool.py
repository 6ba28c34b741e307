"""Several connections to one or more gateways; each call takes the one with the fewest calls open.

In: addresses. Out: a Connection with the stubs of every service. Used by calls.py and streams.py.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from stratagem.v1 import feedback_pb2_grpc, profile_pb2_grpc, recommendation_pb2_grpc, strategy_pb2_grpc

from stratagem_client.access import Access
from stratagem_client.refusals import WrongUse

MESSAGE_BYTES = 256 * 1024 * 1024
FIRST_REST_S, LONGEST_REST_S = 0.1, 5.0
OPTIONS = (
    # Without it gRPC lets channels of one address share one connection, and one worker would take every call.
    ("grpc.use_local_subchannel_pool", 1),
    # A gateway that restarts is back within the second; gRPC's own first pause would be a whole one.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)


class Connection:
    """One channel and the stubs on it."""

    def __init__(self, address: str, access: Access) -> None:
        """Connect when first used."""
        if access.tls is None:
            self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            name = access.tls.server_name
            options = (*OPTIONS, ("grpc.ssl_target_name_override", name)) if name else OPTIONS
            self.channel = grpc.aio.secure_channel(address, access.tls.credentials(), options=options)
        self.strategy = strategy_pb2_grpc.StrategyServiceStub(self.channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        self.profile = profile_pb2_grpc.ProfileServiceStub(self.channel)
        self.recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self.channel)
        self.n_open = 0
        self._n_failed = 0
        self._rests_until_s = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether it failed lately."""
        return self._rests_until_s > time.monotonic()

    def failed(self) -> None:
        """Let it rest, longer each time: a dead gateway has the fewest calls open and would draw every call."""
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self._n_failed, 10))
        self._n_failed += 1
        self._rests_until_s = time.monotonic() + rest_s

    def answered(self) -> None:
        """It works."""
        self._n_failed = 0
        self._rests_until_s = 0.0


class Pool:
    """Connections spread evenly over the addresses."""

    def __init__(self, addresses: tuple[str, ...], n_connections: int, access: Access) -> None:
        """Must be made inside the event loop that uses it.

        n_connections  in all; at least one per address is made
        raises         WrongUse  without an address, or if a token would be sent in the clear
        """
        if not addresses:
            raise WrongUse("addresses must name at least one gateway, got none")
        if n_connections < 1:
            raise WrongUse(f"n_connections must be ≥ 1, got {n_connections}")
        access.check(addresses)
        n_channels = max(n_connections, len(addresses))
        self._connections = [Connection(addresses[n % len(addresses)], access) for n in range(n_channels)]
        self._turn = 0

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """The connection with the fewest calls open for as long as the block runs; a resting one only if all rest."""
        n_connections = len(self._connections)
        self._turn = (self._turn + 1) % n_connections
        turns = self._connections[self._turn :] + self._connections[: self._turn]
        connection = min(turns, key=lambda each: (each.is_resting, each.n_open))
        connection.n_open += 1
        try:
            yield connection
        finally:
            connection.n_open -= 1

    async def close(self) -> None:
        """End every call and every connection."""
        for connection in self._connections:
            await connection.channel.close()
