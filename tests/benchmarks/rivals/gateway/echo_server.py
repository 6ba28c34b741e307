"""A bare grpcio server: it parses each request, looks its token up, and answers one fixed message.

In: JSON from starting.py: the kind of server, the answer, and the door. Out: the most that a server of that kind can
give for messages of this size: nothing is read, computed, asked or written between request and answer.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import uvloop
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from tests.benchmarks.rivals.gateway.child import HOST, say_ready, told
from tests.benchmarks.rivals.gateway.tokens import Tokens
from tests.benchmarks.rivals.gateway.wire_echo import WORDS, WireEcho

REFUSAL = (grpc.StatusCode.UNAUTHENTICATED, WORDS)


@dataclass(frozen=True)
class Echo:
    """What is served.

    answer       to every ask
    tokens       who is let in
    credentials  TLS; None: clear text
    ready        told the port, once it answers
    """

    answer: strategy_pb2.DecideResponse
    tokens: Tokens
    credentials: grpc.ServerCredentials | None
    ready: Callable[[int], None]

    def bind(self, server: grpc.Server | grpc.aio.Server) -> int:
        """The port that `server` now has."""
        if self.credentials is None:
            return int(server.add_insecure_port(f"{HOST}:0"))
        return int(server.add_secure_port(f"{HOST}:0", self.credentials))


class AsyncServicer(strategy_pb2_grpc.StrategyServiceServicer):
    """For grpc.aio."""

    def __init__(self, echo: Echo) -> None:
        """Serve one echo."""
        self._answer, self._tokens = echo.answer, echo.tokens

    async def Decide(  # noqa: N802 - gRPC's name
        self, _request: strategy_pb2.DecideRequest, context: grpc.aio.ServicerContext
    ) -> strategy_pb2.DecideResponse:
        """The fixed answer; gRPC serialises it anew for each call."""
        if not self._tokens.let_in(context):
            await context.abort(*REFUSAL)
        return self._answer

    async def DecideStream(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[strategy_pb2.DecideStreamRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[strategy_pb2.DecideStreamResponse]:
        """One answer per ask, in order."""
        if not self._tokens.let_in(context):
            await context.abort(*REFUSAL)
        answer = strategy_pb2.DecideStreamResponse(decision=self._answer.decision)
        async for ask in request_iterator:
            answer.call_id = ask.call_id
            yield answer


class ThreadedServicer(strategy_pb2_grpc.StrategyServiceServicer):
    """For grpc.server."""

    def __init__(self, echo: Echo) -> None:
        """Serve one echo."""
        self._answer, self._tokens = echo.answer, echo.tokens

    def Decide(  # noqa: N802 - gRPC's name
        self, _request: strategy_pb2.DecideRequest, context: grpc.ServicerContext
    ) -> strategy_pb2.DecideResponse:
        """The fixed answer; gRPC serialises it anew for each call."""
        if not self._tokens.let_in(context):
            context.abort(*REFUSAL)
        return self._answer

    def DecideStream(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[strategy_pb2.DecideStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[strategy_pb2.DecideStreamResponse]:
        """One answer per ask, in order."""
        if not self._tokens.let_in(context):
            context.abort(*REFUSAL)
        answer = strategy_pb2.DecideStreamResponse(decision=self._answer.decision)
        for ask in request_iterator:
            answer.call_id = ask.call_id
            yield answer


def serve_async(echo: Echo) -> None:
    """grpc.aio on asyncio's own loop."""
    asyncio.run(_serve(echo))


def serve_uvloop(echo: Echo) -> None:
    """grpc.aio on uvloop."""
    uvloop.run(_serve(echo))


async def _serve(echo: Echo) -> None:
    server = grpc.aio.server()
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(AsyncServicer(echo), server)
    port = echo.bind(server)
    await server.start()
    echo.ready(port)
    await server.wait_for_termination()


def serve_threads(echo: Echo, n_threads: int) -> None:
    """grpc.server with a pool of threads."""
    server = grpc.server(ThreadPoolExecutor(n_threads))
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(ThreadedServicer(echo), server)
    port = echo.bind(server)
    server.start()
    echo.ready(port)
    server.wait_for_termination()


def serve_wire(echo: Echo) -> None:
    """server/wire; its polling thread does all the work."""
    server = WireEcho(echo.answer, echo.tokens).server()
    port = server.listen(f"{HOST}:0", echo.credentials)
    server.start()
    echo.ready(port)
    signal.pause()


SERVERS: dict[str, Callable[[Echo], None]] = {
    "aio": serve_async,
    "aio_uvloop": serve_uvloop,
    "threads_1": partial(serve_threads, n_threads=1),
    "threads_2": partial(serve_threads, n_threads=2),
    "threads_4": partial(serve_threads, n_threads=4),
    "wire": serve_wire,
}


def main() -> None:
    """Serve until the parent ends this process."""
    message = told()
    credentials = None
    if message["key"]:
        pair = Path(message["key"]).read_bytes(), Path(message["certificate"]).read_bytes()
        credentials = grpc.ssl_server_credentials([pair])
    SERVERS[message["kind"]](
        Echo(
            strategy_pb2.DecideResponse.FromString(Path(message["answer"]).read_bytes()),
            Tokens(message["scopes"], message["scope"]),
            credentials,
            partial(say_ready, message),
        )
    )


if __name__ == "__main__":
    main()
