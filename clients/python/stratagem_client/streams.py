"""Many decisions on one stream: answers come in any order, a broken stream is mended, nothing is asked twice in vain.

In: asks. Out: their decisions, or Refused. A stream that breaks is opened again, on another connection where there is
one, and what is open is asked again under its decision_id, so that it gets the decision that was made already, if any.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from types import TracebackType

import grpc
from stratagem.v1 import strategy_pb2

from stratagem_client.calls import Caller
from stratagem_client.pool import Connection
from stratagem_client.refusals import Refused, WrongUse, refusal_from, refusal_of, too_late
from stratagem_client.requests import DecideAsk, decide_request
from stratagem_client.retries import GONE, RetryBudget

LONGEST_WITHIN_MS = 60_000
STALLED_AFTER_S = 1.0
# What grpc.aio makes of any break, whatever its real status, that meets an ask on its way out.
WRITE_FAILED = "Internal error from Core"
_BROKE = Refused(grpc.StatusCode.UNAVAILABLE, "the stream broke while an ask was written")
_ENDED = Refused(grpc.StatusCode.UNAVAILABLE, "the gateway ended the stream")
_STALLED = Refused(
    grpc.StatusCode.UNAVAILABLE, f"the stream must not be silent for {STALLED_AFTER_S:g} s while asks are open"
)


@dataclass(eq=False)
class _Open:
    """An ask without an answer."""

    call_id: int
    request: strategy_pb2.DecideRequest
    ends_s: float
    answer: asyncio.Future[strategy_pb2.Decision]
    n_failed: int = 0
    is_sent: bool = False
    is_waiting: bool = False


@dataclass
class DecideStream:
    """Made by Client.stream(); an asynchronous context.

    most_open  asks without an answer at one time, ≥ 1; further ones wait for their turn
    within_s   time for one ask, its wait for a turn and its retries included, unless it says otherwise
    """

    caller: Caller
    most_open: int
    within_s: float
    _open: dict[int, _Open] = field(default_factory=dict, init=False)
    _to_send: deque[_Open] = field(default_factory=deque, init=False)
    _heard_s: float = field(default=0.0, init=False)
    _unheard_since_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check the bound and make what belongs to this event loop."""
        if self.most_open < 1:
            raise WrongUse(f"most_open must be ≥ 1, got {self.most_open}")
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.most_open)
        self._is_wanted = asyncio.Event()
        self._call_ids = itertools.count(1)
        self._stream: grpc.aio.StreamStreamCall | None = None
        self._is_stalled = False
        policy = self.caller.policy
        # Two breaks with every ask open, one soon after the other, must cost nobody an answer.
        self._budget = RetryBudget(policy.retry_share, 2 * self.most_open + policy.retry_burst)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DecideStream":
        """Ready for asks; the stream itself is opened by the first."""
        self._task = asyncio.create_task(self._keep_asking())
        self._task.add_done_callback(self._fail_all_after)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream; asks that are still open are refused as CANCELLED."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def submit(self, ask: DecideAsk, within_s: float | None = None) -> strategy_pb2.Decision:
        """Ask, and wait for the decision; run several at once to use the stream.

        ask      a shopper_id, or a whole request
        raises   Refused
        """
        if self._task is None or self._task.done():
            raise WrongUse("submit must be called inside `async with client.stream()`")
        allowed_s = self.within_s if within_s is None else within_s
        request, ends_s = decide_request(ask), self._loop.time() + allowed_s
        found: _Open | None = None
        try:
            async with asyncio.timeout_at(ends_s), self._slots:
                self._budget.earn()
                found = _Open(next(self._call_ids), request, ends_s, self._loop.create_future())
                self._open[found.call_id] = found
                self._send(found)
                return await found.answer
        except TimeoutError:
            self._drop_if_stalled()
            raise too_late(allowed_s) from None
        finally:
            if found is not None:
                self._open.pop(found.call_id, None)

    async def answers(
        self, asks: Iterable[DecideAsk], within_s: float | None = None
    ) -> AsyncIterator[tuple[DecideAsk, strategy_pb2.Decision | Refused]]:
        """Every ask with its answer, as they come in; no more are taken from `asks` than may be open.

        within_s  time for one ask
        """
        waiting, running = iter(asks), dict[asyncio.Task[strategy_pb2.Decision], DecideAsk]()
        try:
            while True:
                for ask in itertools.islice(waiting, self.most_open - len(running)):
                    running[asyncio.create_task(self.submit(ask, within_s))] = ask
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    ask, problem = running.pop(task), task.exception()
                    if problem is not None and not isinstance(problem, Refused):
                        raise problem
                    yield ask, problem if isinstance(problem, Refused) else task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _send(self, ask: _Open) -> None:
        ask.is_waiting = False
        self._to_send.append(ask)
        self._is_wanted.set()

    async def _keep_asking(self) -> None:
        """One stream after the other, for as long as somebody asks."""
        n_breaks = 0
        while True:
            await self._is_wanted.wait()
            began_s, renewed = self._loop.time(), False
            metadata = await self.caller.tokens.metadata()
            with self.caller.pool.lent() as connection:
                refused = await self._until_it_breaks(connection, connection.strategy.DecideStream(metadata=metadata))
                if refused.code in GONE and refused is not _ENDED:
                    connection.failed()
            n_breaks = 1 if self._heard_s >= began_s else n_breaks + 1
            if refused.code is grpc.StatusCode.UNAUTHENTICATED and n_breaks == 1:
                renewed = self.caller.tokens.forget(metadata)
            wait_s = 0.0 if renewed else self.caller.policy.wait_s(n_breaks, refused, self.caller.clock.chance)
            self._ask_again_or_fail(refused, wait_s is not None)
            await asyncio.sleep(wait_s or 0.0)

    async def _until_it_breaks(self, connection: Connection, stream: grpc.aio.StreamStreamCall) -> Refused:
        """Write and read on one stream until it ends, and say how it ended."""
        self._stream, self._is_stalled, self._unheard_since_s = stream, False, None
        writer = asyncio.create_task(self._write(stream))
        try:
            while (answer := await stream.read()) is not grpc.aio.EOF:
                self._heard_s, self._unheard_since_s = self._loop.time(), None
                connection.answered()
                self._take(answer)
            return _ENDED
        except grpc.aio.AioRpcError as error:
            return _BROKE if error.details() == WRITE_FAILED else refusal_from(error)
        except asyncio.CancelledError:
            # gRPC says the same when this client drops a stalled stream and when the task itself is to end.
            if self._is_stalled and not _is_to_end():
                return _STALLED
            raise
        finally:
            self._stream = None
            writer.cancel()
            stream.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, stream: grpc.aio.StreamStreamCall) -> None:
        while True:
            await self._is_wanted.wait()
            while self._to_send:
                ask = self._to_send[0]
                left_ms = int((ask.ends_s - self._loop.time()) * 1000)
                if not ask.answer.done() and left_ms >= 1:
                    within_ms = min(left_ms, LONGEST_WITHIN_MS)
                    message = strategy_pb2.DecideStreamRequest(
                        call_id=ask.call_id, request=ask.request, within_ms=within_ms
                    )
                    ask.is_sent = True
                    if self._unheard_since_s is None:
                        self._unheard_since_s = self._loop.time()
                    await stream.write(message)
                self._to_send.popleft()
            self._is_wanted.clear()

    def _take(self, answer: strategy_pb2.DecideStreamResponse) -> None:
        """Hand one answer to whoever waits for it; nobody may, if its time was up."""
        ask = self._open.get(answer.call_id)
        if ask is None or ask.answer.done():
            return
        if answer.HasField("decision"):
            ask.answer.set_result(answer.decision)
            return
        refused = refusal_of(answer.problem)
        ask.n_failed += 1
        wait_s = self.caller.policy.wait_s(ask.n_failed, refused, self.caller.clock.chance)
        if (
            wait_s is None
            or ask.n_failed >= self.caller.policy.most_attempts
            or self._loop.time() + wait_s >= ask.ends_s
            or not self._budget.take()
        ):
            ask.answer.set_exception(refused)
            return
        ask.is_sent, ask.is_waiting = False, True
        self._loop.call_later(wait_s, self._send, ask)

    def _ask_again_or_fail(self, refused: Refused, may_retry: bool) -> None:
        """After a break: what was never sent goes first when its turn comes; what was costs the budget."""
        self._to_send.clear()
        for ask in self._open.values():
            if ask.answer.done():
                continue
            if not may_retry or (ask.is_sent and not self._budget.take()):
                ask.answer.set_exception(refused.copy())
            elif not ask.is_waiting:
                ask.is_sent = False
                self._to_send.append(ask)
        if self._to_send:
            self._is_wanted.set()
        else:
            self._is_wanted.clear()

    def _drop_if_stalled(self) -> None:
        """An ask ran out of time: give up the stream if it said nothing for long, for the asks that are still open."""
        since_s = self._unheard_since_s
        if self._stream is not None and since_s is not None and self._loop.time() - since_s >= STALLED_AFTER_S:
            self._is_stalled = True
            self._stream.cancel()

    def _fail_all_after(self, task: asyncio.Task[None]) -> None:
        """Nobody will answer any more: the stream was closed, or the token's source failed."""
        problem = None if task.cancelled() else task.exception()
        for ask in self._open.values():
            if not ask.answer.done():
                ask.answer.set_exception(problem or Refused(grpc.StatusCode.CANCELLED, "the stream was closed"))


def _is_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
