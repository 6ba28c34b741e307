"""Decisions on a stream: any order, bounded, mended when it breaks, and never twice for one ask."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import grpc
import pytest
from stratagem.v1 import strategy_pb2
from stratagem_client import Access, Client, Refused, RetryPolicy, WrongUse

from tests.clients.faulty import faulty_gateway, shopper_ids
from tests.clients.loops import in_a_loop, until
from tests.servers.cutting import relay

PATIENT_S = 20.0
QUICK = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.01)


def problem(code: grpc.StatusCode, retry_after_ms: int | None = None) -> strategy_pb2.StreamProblem:
    """As a gateway sends it."""
    return strategy_pb2.StreamProblem(code=code.value[0], words="told to fail", retry_after_ms=retry_after_ms)


@in_a_loop
async def test_answers_find_their_asks_in_any_order() -> None:
    names = [f"{'held' if n % 3 == 0 else 'shopper'}-{n}" for n in range(300)] + ["shopper-last"]
    async with (
        faulty_gateway() as (gateway, address),
        Client(address) as client,
        client.stream(within_s=PATIENT_S) as stream,
    ):
        answers = await asyncio.gather(*[stream.submit(name) for name in names])
        assert [answer.shopper_id for answer in answers] == names
        assert (gateway.n_streams, len(gateway.decisions)) == (1, len(names))


@in_a_loop
async def test_asks_wait_for_their_turn_and_no_more_are_open_than_allowed() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address) as client,
        client.stream(most_open=5, within_s=1.0) as stream,
    ):
        gateway.is_silent = True
        asked = [asyncio.create_task(stream.submit(name)) for name in shopper_ids(50)]
        await until(lambda: gateway.n_most_open == 5)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {answer.code for answer in answers} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert gateway.n_most_open == 5


@in_a_loop
async def test_a_broken_stream_is_opened_again_and_every_ask_keeps_its_decision() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address, retry=QUICK) as client,
        client.stream(most_open=20, within_s=PATIENT_S) as stream,
    ):
        gateway.breaks.extend([10, 10])
        answers = await asyncio.gather(*[stream.submit(name) for name in shopper_ids(200)])
        assert gateway.n_streams == 3
        assert {answer.shopper_id for answer in answers} == set(shopper_ids(200))
        assert len(gateway.decisions) == 200
        assert all(answer == gateway.decisions[answer.decision_id] for answer in answers)


@in_a_loop
async def test_connections_cut_in_mid_answer_cost_nobody_a_decision() -> None:
    async with faulty_gateway() as (gateway, address):
        with relay(address, n_bytes_between_cuts=2000) as between:
            between.n_cuts = 3
            async with (
                Client(between.address.removeprefix("http://"), retry=QUICK) as client,
                client.stream(most_open=30, within_s=PATIENT_S) as stream,
            ):
                answers = [answer async for _, answer in stream.answers(shopper_ids(400))]
        assert between.n_cuts < 0
        assert len({answer.shopper_id for answer in answers}) == 400
        assert len(gateway.decisions) == 400


@in_a_loop
async def test_a_gateway_that_stops_under_load_hands_its_stream_to_the_other() -> None:
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        one, address = await first.enter_async_context(faulty_gateway())
        other, second_address = await second.enter_async_context(faulty_gateway())
        async with (
            Client([address, second_address]) as client,
            client.stream(most_open=20, within_s=PATIENT_S) as stream,
        ):
            n_answers = 0
            async for ask, answer in stream.answers(shopper_ids(1000)):
                assert not isinstance(answer, Refused), answer
                assert answer.shopper_id == ask
                n_answers += 1
                if n_answers == 200:
                    await (first if one.n_streams else second).aclose()
        assert (n_answers, one.n_streams, other.n_streams) == (1000, 1, 1)


@in_a_loop
async def test_a_stream_that_always_breaks_costs_no_more_than_its_budget() -> None:
    policy = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.001, retry_share=0.1, retry_burst=10)
    async with (
        faulty_gateway() as (gateway, address),
        Client(address, retry=policy) as client,
        client.stream(most_open=10, within_s=PATIENT_S) as stream,
    ):
        gateway.breaks.extend([0] * 10_000)
        answers = await asyncio.gather(*[stream.submit(name) for name in shopper_ids(100)], return_exceptions=True)
        assert {answer.code for answer in answers} == {grpc.StatusCode.UNAVAILABLE}
        assert len(gateway.requests) <= 100 + 2 * 10 + 10 + 0.1 * 100


@in_a_loop
async def test_a_stream_that_is_refused_is_told_and_the_next_ask_opens_another() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.tokens.add("needed")
        async with client.stream(within_s=PATIENT_S) as stream:
            with pytest.raises(Refused, match="UNAUTHENTICATED: the token must be valid"):
                await stream.submit("shopper-1")
            gateway.tokens.clear()
            assert (await stream.submit("shopper-1")).shopper_id == "shopper-1"


@in_a_loop
async def test_one_ask_that_is_refused_spoils_no_other() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address) as client,
        client.stream(within_s=PATIENT_S) as stream,
    ):
        gateway.problems.append(problem(grpc.StatusCode.NOT_FOUND))
        with pytest.raises(Refused) as raised:
            await stream.submit("nobody")
        assert (raised.value.code, raised.value.words) == (grpc.StatusCode.NOT_FOUND, "told to fail")
        assert (await stream.submit("shopper-1")).shopper_id == "shopper-1"
        assert gateway.n_streams == 1


@in_a_loop
async def test_an_ask_that_is_refused_for_now_is_asked_again_when_the_gateway_said() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address, retry=QUICK) as client,
        client.stream(within_s=PATIENT_S) as stream,
    ):
        gateway.problems.append(problem(grpc.StatusCode.RESOURCE_EXHAUSTED, 50))
        began_s = asyncio.get_running_loop().time()
        decision = await stream.submit("shopper-1")
        assert asyncio.get_running_loop().time() - began_s >= 0.05
        assert [ask.request.decision_id for ask in gateway.requests] == [decision.decision_id] * 2
        gateway.problems.append(problem(grpc.StatusCode.RESOURCE_EXHAUSTED, 60_000))
        with pytest.raises(Refused) as raised:
            await stream.submit("shopper-1", within_s=5.0)
        assert raised.value.retry_after_s == 60


@in_a_loop
async def test_a_break_does_not_hurry_an_ask_that_was_told_to_wait() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address, retry=QUICK) as client,
        client.stream(within_s=PATIENT_S) as stream,
    ):
        gateway.problems.append(problem(grpc.StatusCode.RESOURCE_EXHAUSTED, 500))
        gateway.breaks.append(1)
        waiting = asyncio.create_task(stream.submit("patient"))
        await until(lambda: not gateway.problems)
        await stream.submit("shopper-1")
        assert (await waiting).shopper_id == "patient"
        asked = [ask.request.shopper_id for ask in gateway.requests]
        assert asked == ["patient", "shopper-1", "shopper-1", "patient"]


@in_a_loop
async def test_a_stream_that_falls_silent_is_dropped_and_another_one_opened() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client, client.stream() as stream:
        gateway.is_silent = True
        with pytest.raises(Refused) as raised:
            await stream.submit("shopper-1", within_s=1.2)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        gateway.is_silent = False
        assert (await stream.submit("shopper-2", PATIENT_S)).shopper_id == "shopper-2"
        assert gateway.n_streams == 2


@in_a_loop
async def test_a_caller_that_gives_up_frees_its_place() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address) as client,
        client.stream(most_open=1, within_s=PATIENT_S) as stream,
    ):
        gateway.is_silent = True
        asked = asyncio.create_task(stream.submit("shopper-1"))
        await until(lambda: len(gateway.requests) == 1)
        asked.cancel()
        gateway.is_silent = False
        assert (await stream.submit("shopper-2")).shopper_id == "shopper-2"


@in_a_loop
async def test_the_gateway_is_told_how_much_time_is_left() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client, client.stream() as stream:
        await stream.submit("shopper-1", within_s=10.0)
        await stream.submit("shopper-1", within_s=100_000.0)
        assert 9_000 < gateway.requests[0].within_ms <= 10_000
        assert gateway.requests[1].within_ms == 60_000


@in_a_loop
async def test_closing_refuses_what_is_open() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.is_silent = True
        async with client.stream(within_s=PATIENT_S) as stream:
            asked = asyncio.create_task(stream.submit("shopper-1"))
            await until(lambda: len(gateway.requests) == 1)
        with pytest.raises(Refused, match="CANCELLED: the stream was closed"):
            await asked
        with pytest.raises(WrongUse, match="inside"):
            await stream.submit("shopper-1")
        with pytest.raises(WrongUse, match="most_open must be ≥ 1, got 0"):
            client.stream(most_open=0)


@in_a_loop
async def test_a_token_source_that_fails_is_heard_of() -> None:
    def fetch() -> str:
        raise LookupError("no token for you")

    async with (
        faulty_gateway() as (_, address),
        Client(address, Access(token=fetch)) as client,
        client.stream(within_s=PATIENT_S) as stream,
    ):
        with pytest.raises(LookupError, match="no token for you"):
            await stream.submit("shopper-1")


@in_a_loop
async def test_asks_are_taken_only_as_fast_as_they_are_answered() -> None:
    taken: list[str] = []

    def names() -> Iterator[str]:
        for name in shopper_ids(100):
            taken.append(name)
            yield name

    async with (
        faulty_gateway() as (gateway, address),
        Client(address) as client,
        client.stream(most_open=7, within_s=PATIENT_S) as stream,
    ):
        n_answers = 0
        async for ask, answer in stream.answers(names()):
            n_answers += 1
            assert not isinstance(answer, Refused)
            assert answer.shopper_id == ask
            assert len(taken) <= n_answers + 7
        assert n_answers == 100
        assert len(gateway.decisions) == 100
