"""A gateway that does wrong on command, over real connections; otherwise it keeps the contract of the protos.

In: the faults to have. Out: an address, and what was asked there. What the real gateway does is in test_gateway.py.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from stratagem.v1 import feedback_pb2, feedback_pb2_grpc, strategy_pb2, strategy_pb2_grpc

from tests.clients.shop_rows import ShopRow, columns_message

NOBODY = "nobody"
Trailing = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Fault:
    """How one call goes wrong.

    code      the status it ends with
    trailing  metadata that ends it
    is_after  whether the work is done before it ends so
    hangs     never answers instead
    """

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    trailing: Trailing = ()
    is_after: bool = False
    hangs: bool = False


HANG = Fault(hangs=True)


@dataclass
class FaultyGateway(strategy_pb2_grpc.StrategyServiceServicer, feedback_pb2_grpc.FeedbackServiceServicer):
    """What it was told, and what it saw.

    faults         of the next unary calls, one each; None: none
    breaks         after how many answers the next streams break, one each
    problems       answers to the next asks on streams, one each
    is_silent      streams are read and not answered
    tokens         that are good; empty: no token is asked for
    decisions      by decision_id; value_micros counts them, so a second decision for one id would show
    """

    faults: deque[Fault | None] = field(default_factory=deque)
    breaks: deque[int] = field(default_factory=deque)
    problems: deque[strategy_pb2.StreamProblem] = field(default_factory=deque)
    is_silent: bool = False
    tokens: set[str] = field(default_factory=set)
    decisions: dict[str, strategy_pb2.Decision] = field(default_factory=dict)
    requests: list[object] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    recorded: dict[str, object] = field(default_factory=dict)
    n_streams: int = 0
    n_most_open: int = 0
    left_s: list[float] = field(default_factory=list)

    async def Decide(  # noqa: N802 - gRPC method names
        self, request: strategy_pb2.DecideRequest, context: grpc.aio.ServicerContext
    ) -> strategy_pb2.DecideResponse:
        """One decision, or the next fault."""
        fault = await self._begun(request, context)
        if request.shopper_id == NOBODY:
            await context.abort(grpc.StatusCode.NOT_FOUND, "shopper_id must be known, got 'nobody'")
        decision = self.decision(request)
        await _end(fault, context)
        return strategy_pb2.DecideResponse(decision=decision)

    async def DecideBatch(  # noqa: N802
        self, request: strategy_pb2.DecideBatchRequest, context: grpc.aio.ServicerContext
    ) -> strategy_pb2.DecideBatchResponse:
        """Columns, or the next fault."""
        fault = await self._begun(request, context)
        ends = list(request.shopper_key_ends)
        keys = [request.shopper_keys[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
        rows = []
        for row, shopper_id in enumerate(keys):
            ask = strategy_pb2.DecideRequest(shopper_id=shopper_id, decision_id=f"{request.batch_id}/{row}")
            rows.append(ShopRow(shopper_id, shopper_id != NOBODY, value_micros=self.decision(ask).value_micros))
        await _end(fault, context)
        return columns_message(rows, request.batch_id, release="aaaabbbbcccc", decided_at_s=request.time_s)

    async def DecideStream(  # noqa: N802
        self, asks: AsyncIterator[strategy_pb2.DecideStreamRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[strategy_pb2.DecideStreamResponse]:
        """Answers, always the second of two asks first where two are there; breaks when told to."""
        await self._admitted(context)
        self.n_streams += 1
        n_left = self.breaks.popleft() if self.breaks else -1
        held: strategy_pb2.DecideStreamRequest | None = None
        n_open = 0
        async for ask in asks:
            self.requests.append(ask)
            n_open += 1
            self.n_most_open = max(self.n_most_open, n_open)
            if self.is_silent:
                continue
            if held is None and ask.request.shopper_id.startswith("held"):
                held = ask
                continue
            for answered in [ask] if held is None else [ask, held]:
                if n_left == 0:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "told to break")
                n_left -= 1
                n_open -= 1
                yield self._stream_answer(answered)
            held = None

    async def Record(  # noqa: N802
        self, request: feedback_pb2.RecordRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.RecordResponse:
        """Counts every event_id once, or the next fault."""
        fault = await self._begun(request, context)
        answer = feedback_pb2.RecordResponse()
        for name in ("events", "exposures", "outcomes"):
            for row in getattr(request, name):
                is_new = self.recorded.setdefault(row.event_id, row) is row
                status = feedback_pb2.RECORD_STATUS_RECORDED if is_new else feedback_pb2.RECORD_STATUS_DUPLICATE
                getattr(answer, name).add(status=status)
        await _end(fault, context)
        return answer

    def decision(self, request: strategy_pb2.DecideRequest) -> strategy_pb2.Decision:
        """The decision of an id: made once."""
        made = strategy_pb2.Decision(
            decision_id=request.decision_id, shopper_id=request.shopper_id, value_micros=len(self.decisions) + 1
        )
        return self.decisions.setdefault(request.decision_id, made)

    def _stream_answer(self, ask: strategy_pb2.DecideStreamRequest) -> strategy_pb2.DecideStreamResponse:
        if self.problems:
            return strategy_pb2.DecideStreamResponse(call_id=ask.call_id, problem=self.problems.popleft())
        return strategy_pb2.DecideStreamResponse(call_id=ask.call_id, decision=self.decision(ask.request))

    async def _begun(self, request: object, context: grpc.aio.ServicerContext) -> Fault | None:
        self.requests.append(request)
        self.left_s.append(context.time_remaining())
        await self._admitted(context)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not fault.is_after:
            await _end(fault, context)
        return fault

    async def _admitted(self, context: grpc.aio.ServicerContext) -> None:
        self.peers.add(context.peer())
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self.tokens and given.removeprefix("Bearer ") not in self.tokens:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token must be valid")


async def _end(fault: Fault | None, context: grpc.aio.ServicerContext) -> None:
    if fault is None:
        return
    if fault.hangs:
        await asyncio.Event().wait()
    await context.abort(fault.code, "told to fail", fault.trailing)


@asynccontextmanager
async def faulty_gateway(
    credentials: grpc.ServerCredentials | None = None, port: int = 0
) -> AsyncIterator[tuple[FaultyGateway, str]]:
    """One on a free port; yields it and its address."""
    gateway, server = FaultyGateway(), grpc.aio.server()
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(gateway, server)
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(gateway, server)
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield gateway, f"127.0.0.1:{bound}"
    finally:
        await server.stop(grace=0)


def shopper_ids(n_shoppers: int) -> Sequence[str]:
    """shopper-0, shopper-1 ..."""
    return [f"shopper-{n}" for n in range(n_shoppers)]
