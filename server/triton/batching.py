"""Gathers concurrent single calls into batches: the busier the server, the larger the batch.

In: items, one per caller. Out: each caller's own answer, or the error of its batch.
Used by server/decide.py; knows nothing of what an item is.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_Waiting = tuple[Item, asyncio.Future[Answer]]


class Gatherer(Generic[Item, Answer]):
    """While nothing runs, an item goes at once; while batches run, items wait for company, never longer than needed."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        most_items: int = 256,
        gather_s: float = 0.0003,
        n_in_flight: int = 2,
    ) -> None:
        """Remember how to answer a batch.

        run          answers a batch, one answer per item, in order
        most_items   of one batch
        gather_s     how long an item waits for company when another batch is running and one more may start
        n_in_flight  batches running at the same time; beyond it items wait until one comes back
        """
        self._run = run
        self._most_items = most_items
        self._gather_s = gather_s
        self._n_in_flight = n_in_flight
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._running: dict[asyncio.Task[Sequence[Answer]], list[_Waiting[Item, Answer]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, item: Item) -> Answer:
        """Return the answer for `item`; raise what its batch raised. A caller who gives up takes the item back."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._consider()
        return await answer

    def _consider(self) -> None:
        """Start a batch, or see to it that one starts."""
        if not self._waiting or len(self._running) >= self._n_in_flight:
            return  # a batch that comes back considers again
        if len(self._waiting) >= self._most_items:
            self._start()
        elif self._timer is None:
            # Even at once is one turn of the loop later: callers who arrive together go together.
            wait_s = self._gather_s if self._running else 0.0
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._start)

    def _start(self) -> None:
        self._stop_timer()
        if len(self._running) >= self._n_in_flight:
            return
        batch: list[_Waiting[Item, Answer]] = []
        while self._waiting and len(batch) < self._most_items:
            waiting = self._waiting.popleft()
            if not waiting[1].done():  # its caller has given up
                batch.append(waiting)
        if batch:
            task = asyncio.get_running_loop().create_task(self._answers([item for item, _ in batch]))
            self._running[task] = batch
            task.add_done_callback(self._finish)
        self._consider()

    async def _answers(self, items: Sequence[Item]) -> Sequence[Answer]:
        return await self._run(items)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, done: asyncio.Task[Sequence[Answer]]) -> None:
        batch = self._running.pop(done)
        if done.cancelled():
            for _, answer in batch:
                answer.cancel()
        elif (error := done.exception() or _wrong_count(batch, done.result())) is not None:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), result in zip(batch, done.result(), strict=True):
                if not answer.done():
                    answer.set_result(result)
        self._stop_timer()  # with one batch less running, who waits may go sooner
        self._consider()


def _wrong_count(batch: Sequence[object], answers: Sequence[object]) -> BaseException | None:
    if len(answers) == len(batch):
        return None
    return RuntimeError(f"a batch must get one answer per item, {len(batch)}, got {len(answers)}")
