"""Retries: only what is safe, never past the deadline, never more than the budget, and with the same ids."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem_client import Client, Clock, Refused, RetryPolicy, WrongUse
from stratagem_client.retries import RetryBudget, retried

from tests.clients.faulty import HANG, Fault, faulty_gateway
from tests.clients.loops import in_a_loop

Answer = TypeVar("Answer")
UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass
class Hand:
    """A clock that is set by hand; sleeping moves it."""

    now_s: float = 100.0
    chances: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        """As retries read it."""
        return Clock(lambda: self.now_s, self.sleep, lambda: self.chances.pop() if self.chances else 0.999)

    async def sleep(self, wait_s: float) -> None:
        """Pass the time."""
        self.now_s += wait_s


def run(work: Coroutine[object, object, Answer]) -> Answer:
    """Run what never waits for anything outside."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waited")


refusals = st.builds(
    Refused,
    st.sampled_from([UNAVAILABLE, EXHAUSTED, grpc.StatusCode.INTERNAL]),
    st.just("words"),
    st.none() | st.floats(0.0, 3.0),
    st.booleans(),
)
steps = st.tuples(st.floats(0.0, 2.0), refusals | st.none())
policies = st.builds(
    RetryPolicy,
    most_attempts=st.integers(1, 8),
    first_wait_s=st.floats(0.001, 0.1),
    longest_wait_s=st.floats(0.1, 2.0),
    retry_share=st.floats(0.0, 1.0),
    retry_burst=st.floats(0.0, 5.0),
)


@settings(deadline=None)  # this machine is shared
@given(
    policy=policies,
    calls=st.lists(st.lists(steps, min_size=8, max_size=8), min_size=1, max_size=20),
    within_s=st.floats(0.01, 5.0),
    chances=st.lists(st.floats(0.0, 0.999), max_size=20),
)
def test_retries_never_outlast_the_deadline_or_the_budget(
    policy: RetryPolicy, calls: list[list[tuple[float, Refused | None]]], within_s: float, chances: list[float]
) -> None:
    hand, n_attempts = Hand(chances=chances), 0
    budget = RetryBudget(policy.retry_share, policy.retry_burst)
    for call in calls:
        began_s, own_attempts, waiting = hand.now_s, 0, iter(call)

        async def attempt(ends_s: float) -> str:
            nonlocal own_attempts
            own_attempts += 1
            assert hand.now_s < ends_s
            took_s, refused = next(waiting)  # noqa: B023 - used within this round
            hand.now_s += min(took_s, ends_s - hand.now_s)  # gRPC ends an attempt at its deadline
            if refused is not None:
                raise refused
            return "answer"

        with suppress(Refused):
            run(retried(attempt, within_s, policy, budget, hand.clock()))
        assert hand.now_s <= began_s + within_s + 1e-9  # sums of floats around 100: an ulp is 1.4e-14
        assert own_attempts <= policy.most_attempts
        n_attempts += own_attempts
    n_retries = n_attempts - len(calls)
    assert n_retries <= policy.retry_burst + policy.retry_share * len(calls) + 1e-6  # of the budget's own rounding


def test_only_a_gateway_that_is_gone_and_told_exhaustion_are_asked_again() -> None:
    policy = RetryPolicy()
    for code in grpc.StatusCode:
        assert (policy.wait_s(1, Refused(code, ""), lambda: 0.5) is not None) == (
            code in (UNAVAILABLE, grpc.StatusCode.CANCELLED)
        )
    assert policy.wait_s(1, Refused(EXHAUSTED, "", 1.5), lambda: 0.0) == 1.5
    assert policy.wait_s(1, Refused(UNAVAILABLE, "", None, is_final=True), lambda: 0.0) is None


def test_waits_double_up_to_the_longest_and_are_drawn_from_all_of_it() -> None:
    policy, refused = RetryPolicy(first_wait_s=0.1, longest_wait_s=0.5), Refused(UNAVAILABLE, "")
    assert [policy.wait_s(n, refused, lambda: 1.0) for n in (1, 2, 3, 4, 5000)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert policy.wait_s(3, refused, lambda: 0.0) == 0.0


@pytest.mark.parametrize(
    ("field_name", "value"), [("most_attempts", 0), ("first_wait_s", 0), ("retry_share", 1.1), ("retry_burst", -1)]
)
def test_a_policy_out_of_range_is_refused(field_name: str, value: float) -> None:
    with pytest.raises(WrongUse, match=f"{field_name} must be .*, got {value}"):
        RetryPolicy(**{field_name: value})


@in_a_loop
async def test_a_retry_carries_the_same_decision_id_and_gets_the_same_decision() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.faults.extend([Fault(is_after=True), Fault(), None])
        decision = await client.decide("shopper-1", within_s=10)
        assert len({request.decision_id for request in gateway.requests}) == 1
        assert (len(gateway.requests), decision.value_micros, len(gateway.decisions)) == (3, 1, 1)


def retry_info(seconds: int, nanos: int) -> bytes:
    """A google.rpc.Status with a RetryInfo behind another detail, written field by field."""
    delay = duration_pb2.Duration(seconds=seconds, nanos=nanos).SerializeToString()
    info = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\x0a" + bytes([len(delay)]) + delay)
    other = any_pb2.Any(type_url="type.googleapis.com/google.rpc.Help", value=b"").SerializeToString()
    told = info.SerializeToString()
    return b"\x08\x08" + b"\x1a" + bytes([len(other)]) + other + b"\x1a" + bytes([len(told)]) + told


@pytest.mark.parametrize(
    ("trailing", "retry_after_s"),
    [
        ((("grpc-retry-pushback-ms", "250"),), 0.25),
        ((("grpc-status-details-bin", retry_info(0, 250_000_000)),), 0.25),
    ],
    ids=["pushback", "retry-info"],
)
@in_a_loop
async def test_exhaustion_is_asked_again_when_the_gateway_said(trailing: tuple, retry_after_s: float) -> None:
    slept: list[float] = []

    async def sleep(wait_s: float) -> None:
        slept.append(wait_s)

    clock = Clock(sleep=sleep, chance=lambda: 0.0)
    async with faulty_gateway() as (gateway, address), Client(address, clock=clock) as client:
        gateway.faults.append(Fault(EXHAUSTED, trailing))
        await client.decide("shopper-1", within_s=10)
        assert (slept, len(gateway.requests)) == ([retry_after_s], 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(EXHAUSTED),
        Fault(EXHAUSTED, (("grpc-retry-pushback-ms", "-1"),)),
        Fault(UNAVAILABLE, (("grpc-retry-pushback-ms", "-1"),)),
        Fault(UNAVAILABLE, (("grpc-retry-pushback-ms", "soon"),)),
        Fault(grpc.StatusCode.INTERNAL),
    ],
    ids=["untold", "final", "unavailable-final", "unreadable", "internal"],
)
@in_a_loop
async def test_what_must_not_be_asked_again_is_not(fault: Fault) -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.faults.append(fault)
        with pytest.raises(Refused) as raised:
            await client.decide("shopper-1", within_s=10)
        assert (raised.value.code, raised.value.words) == (fault.code, "told to fail")
        assert len(gateway.requests) == 1


@in_a_loop
async def test_a_wait_beyond_the_deadline_is_told_at_once() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.faults.append(Fault(EXHAUSTED, (("grpc-retry-pushback-ms", "60000"),)))
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(Refused) as raised:
            await client.decide("shopper-1", within_s=20)
        assert raised.value.retry_after_s == 60
        assert asyncio.get_running_loop().time() - began_s < 10


@in_a_loop
async def test_a_gateway_that_never_answers_costs_the_deadline_and_no_more() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        gateway.faults.append(HANG)
        with pytest.raises(Refused) as raised:
            await client.decide("shopper-1", within_s=0.2)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0 < gateway.left_s[0] <= 0.21  # gRPC tells whole milliseconds, rounded up, and two clocks are read


@in_a_loop
async def test_a_gateway_that_is_down_gets_no_more_than_the_budget() -> None:
    policy = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.001, retry_share=0.1, retry_burst=5)
    async with faulty_gateway() as (gateway, address), Client(address, retry=policy) as client:
        gateway.faults.extend([Fault()] * 1000)
        answers = await asyncio.gather(
            *[client.decide("shopper-1", within_s=20) for _ in range(100)], return_exceptions=True
        )
        assert {answer.code for answer in answers} == {UNAVAILABLE}
        assert 105 <= len(gateway.requests) <= 100 + 5 + 10
