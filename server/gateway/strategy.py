"""StrategyService: decisions go out, one by one or in columns.

In: stratagem.v1 requests. Out: stratagem.v1 responses. server/decide.py does the work.
"""

import asyncio
import uuid
from collections import OrderedDict

import grpc
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.batch import Ask
from server.decide import Decider
from server.gateway import fields
from server.gateway.columns import Columns
from server.gateway.errors import names_its_problems
from server.gateway.words import decision_message
from server.problems import DecisionIdTaken, InvalidRequest

MOST_CANDIDATES = 100
BATCH_ID_BYTES = 180
REMEMBERED_BATCHES = 8


class StrategyServicer(strategy_pb2_grpc.StrategyServiceServicer):
    """The door onto the composed path."""

    def __init__(self, decider: Decider) -> None:
        """Serve one composed path."""
        self._decider = decider
        self._settings = decider.settings
        self._batches: OrderedDict[str, tuple[list[str], asyncio.Task[strategy_pb2.DecideBatchResponse]]] = (
            OrderedDict()
        )

    @names_its_problems
    async def Decide(
        self, request: strategy_pb2.DecideRequest, context: grpc.aio.ServicerContext
    ) -> strategy_pb2.DecideResponse:
        """One shopper, one decision."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        ask = ask_from(request)
        decision = await self._decider.decide(ask, within_s)
        return strategy_pb2.DecideResponse(decision=decision_message(decision))

    @names_its_problems
    async def DecideBatch(
        self, request: strategy_pb2.DecideBatchRequest, context: grpc.aio.ServicerContext
    ) -> strategy_pb2.DecideBatchResponse:
        """Many shoppers in one message; the same batch_id gets the same answer for as long as it is remembered."""
        left_s: float | None = context.time_remaining()
        asks = asks_from(request, self._settings.request_rows)
        batch_id, shopper_ids = asks[0].decision_id.rpartition("/")[0], list(request.shopper_ids)
        if batch_id not in self._batches:
            task = asyncio.get_running_loop().create_task(self._decide_batch(batch_id, asks, left_s))
            self._batches[batch_id] = (shopper_ids, task)
            task.add_done_callback(lambda done: self._forget_failure(batch_id, done))
            if len(self._batches) > REMEMBERED_BATCHES:
                self._batches.popitem(last=False)
        same_ids, task = self._batches[batch_id]
        if same_ids != shopper_ids:
            raise DecisionIdTaken(f"batch_id must be new for other shoppers, got {batch_id!r} again")
        return await asyncio.shield(task)

    async def _decide_batch(
        self, batch_id: str, asks: list[Ask], left_s: float | None
    ) -> strategy_pb2.DecideBatchResponse:
        """Decide piece by piece, so that single decisions get their turn in between."""
        decider, clock = self._decider, asyncio.get_running_loop().time
        deadline_s = None if left_s is None else clock() + left_s
        terms = decider.terms
        columns = Columns(
            strategy_pb2.DecideBatchResponse(
                batch_id=batch_id,
                shadow_price=terms.shadow_price,
                release=terms.release,
                plan_id=terms.plan_id,
                decided_at_s=asks[0].at_s,
                currency_code=terms.currency_code,
            )
        )
        for first in range(0, len(asks), self._settings.batch_rows):
            within_s = self._settings.decide_within_s if deadline_s is None else deadline_s - clock()
            columns.add(await decider.decide_rows(asks[first : first + self._settings.batch_rows], within_s))
        return columns.message

    def _forget_failure(self, batch_id: str, done: asyncio.Task[strategy_pb2.DecideBatchResponse]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._batches.pop(batch_id, None)


def ask_from(request: strategy_pb2.DecideRequest) -> Ask:
    """The ask in a request.

    raises  InvalidRequest  naming the first field that breaks its rule
    """
    shopper_id = fields.required_id("shopper_id", request.shopper_id)
    subject = f" (shopper {shopper_id!r})"
    decision_id = fields.optional_id("decision_id", request.decision_id, subject) or uuid.uuid4().hex
    at_s = fields.moment_or_now(request, subject)
    if not request.HasField("max_candidates"):
        return Ask(decision_id, shopper_id, at_s)
    limit = fields.whole("max_candidates", request.max_candidates, 0, MOST_CANDIDATES, subject)
    return Ask(decision_id, shopper_id, at_s, limit)


def asks_from(request: strategy_pb2.DecideBatchRequest, most_rows: int) -> list[Ask]:
    """The asks in a columnar request.

    raises  InvalidRequest  naming the first field, or row, that breaks its rule
    """
    n_rows = len(request.shopper_ids)
    if not 1 <= n_rows <= most_rows:
        raise InvalidRequest(f"shopper_ids must have between 1 and {most_rows} rows, got {n_rows}")
    if len(request.batch_id.encode()) > BATCH_ID_BYTES:
        raise InvalidRequest(f"batch_id must be at most {BATCH_ID_BYTES} bytes, got {len(request.batch_id.encode())}")
    batch_id = request.batch_id or uuid.uuid4().hex
    at_s = fields.moment_or_now(request)
    return [
        Ask(f"{batch_id}/{row}", fields.required_id("shopper_ids", shopper_id, f" (row {row})"), at_s)
        for row, shopper_id in enumerate(request.shopper_ids)
    ]
