"""Gatherer over plain functions: who goes with whom, and who hears of an error."""

import asyncio
from collections.abc import Sequence

import pytest

from server.triton.batching import Gatherer


class Doubler:
    """Doubles numbers once it is let; remembers the batches it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_let = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.is_let.wait()
        return [2 * item for item in items]


async def turns(n_turns: int = 3) -> None:
    """Let everybody else run."""
    for _ in range(n_turns):
        await asyncio.sleep(0)


def test_callers_who_arrive_together_go_together_and_get_their_own_answers() -> None:
    async def scene() -> None:
        doubler = Doubler()
        doubler.is_let.set()
        gatherer: Gatherer[int, int] = Gatherer(doubler)
        assert await asyncio.gather(*map(gatherer.submit, range(5))) == [0, 2, 4, 6, 8]
        assert doubler.batches == [[0, 1, 2, 3, 4]]

    asyncio.run(scene())


def test_callers_wait_for_the_running_batch_and_then_go_as_one() -> None:
    async def scene() -> None:
        doubler = Doubler()
        gatherer: Gatherer[int, int] = Gatherer(doubler, gather_s=0.0, n_in_flight=1)
        first = asyncio.create_task(gatherer.submit(1))
        await turns()
        later = [asyncio.create_task(gatherer.submit(item)) for item in (2, 3, 4)]
        await turns()
        assert doubler.batches == [[1]]
        doubler.is_let.set()
        assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
        assert doubler.batches == [[1], [2, 3, 4]]

    asyncio.run(scene())


def test_no_batch_is_larger_than_allowed_and_no_more_run_than_allowed() -> None:
    async def scene() -> None:
        doubler = Doubler()
        gatherer: Gatherer[int, int] = Gatherer(doubler, most_items=4, n_in_flight=2)
        tasks = [asyncio.create_task(gatherer.submit(item)) for item in range(11)]
        await turns()
        assert doubler.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
        doubler.is_let.set()
        assert await asyncio.gather(*tasks) == [2 * item for item in range(11)]
        assert doubler.batches[2] == [8, 9, 10]

    asyncio.run(scene())


def test_a_failed_batch_fails_every_caller_in_it_and_nobody_else() -> None:
    async def fails_on_negative(items: Sequence[int]) -> list[int]:
        if min(items) < 0:
            raise ValueError("an item must be ≥ 0, got -1")
        return list(items)

    async def scene() -> None:
        gatherer: Gatherer[int, int] = Gatherer(fails_on_negative, most_items=2, n_in_flight=2)
        answers = await asyncio.gather(*map(gatherer.submit, (-1, 1, 2, 3)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["an item must be ≥ 0, got -1"] * 2 + ["2", "3"]
        assert await gatherer.submit(5) == 5

    asyncio.run(scene())


def test_a_batch_with_an_answer_missing_is_an_error_for_all() -> None:
    async def forgets_one(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    async def scene() -> None:
        gatherer: Gatherer[int, int] = Gatherer(forgets_one)
        answers = await asyncio.gather(*map(gatherer.submit, (1, 2)), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["a batch must get one answer per item, 2, got 1"] * 2

    asyncio.run(scene())


def test_a_caller_who_gives_up_takes_the_item_back() -> None:
    async def scene() -> None:
        doubler = Doubler()
        gatherer: Gatherer[int, int] = Gatherer(doubler, n_in_flight=1)
        first, given_up, third = (asyncio.create_task(gatherer.submit(item)) for item in (1, 2, 3))
        given_up.cancel()
        await turns()
        waiting = asyncio.create_task(gatherer.submit(4))
        await turns()
        waiting.cancel()
        doubler.is_let.set()
        assert await asyncio.gather(first, third) == [2, 6]
        await turns()
        assert [item for batch in doubler.batches for item in batch if item == 4] == []
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())
