"""One unary call: a connection, a token, a deadline, retries.

In: which method, and its request. Out: its response, or Refused. Used by client.py, batches.py and feedback.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from stratagem_client.access import Metadata, Tokens
from stratagem_client.pool import Connection, Pool
from stratagem_client.refusals import Refused, WrongUse, refusal_from, too_late
from stratagem_client.retries import GONE, Clock, RetryBudget, RetryPolicy, retried

Response = TypeVar("Response")
Method = Callable[[Connection], Callable[..., Awaitable[Response]]]


@dataclass(frozen=True)
class Caller:
    """What all calls of one client share."""

    pool: Pool
    tokens: Tokens
    policy: RetryPolicy
    budget: RetryBudget
    clock: Clock

    async def call(self, method: Method[Response], request: object, within_s: float) -> Response:
        """Call until it is answered, must not be repeated, or its time is up.

        method    picks the stub's method on a connection
        within_s  time for everything, retries included, > 0
        raises    Refused
        """
        if not within_s > 0:
            raise WrongUse(f"within_s must be > 0, got {within_s}")

        async def attempt(ends_s: float) -> Response:
            with self.pool.lent() as connection:
                try:
                    return await self._attempt(connection, method(connection), request, ends_s)
                except Refused as refused:
                    if refused.code in GONE:
                        connection.failed()
                    raise

        return await retried(attempt, within_s, self.policy, self.budget, self.clock)

    async def _attempt(
        self, connection: Connection, method: Callable[..., Awaitable[Response]], request: object, ends_s: float
    ) -> Response:
        """Once; twice if the token is refused and another one can be had."""
        is_first = True
        while True:
            metadata = await self.metadata(ends_s)
            try:
                answer = await method(request, timeout=ends_s - self.clock.now_s(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                refused = refusal_from(error)
            else:
                connection.answered()
                return answer
            may_renew = is_first and refused.code is grpc.StatusCode.UNAUTHENTICATED
            if not (may_renew and self.tokens.forget(metadata)):
                raise refused
            is_first = False

    async def metadata(self, ends_s: float) -> Metadata:
        """The token; its source has no longer than the call.

        raises  Refused  DEADLINE_EXCEEDED if the source takes longer
        """
        left_s = ends_s - self.clock.now_s()
        try:
            async with asyncio.timeout(left_s):
                return await self.tokens.metadata()
        except TimeoutError:
            raise too_late(left_s) from None
