"""The Python client against the real gateway, its Triton, its store and its log."""

import asyncio

import grpc
import pytest
from stratagem.v1 import event_pb2, feedback_pb2, strategy_pb2
from stratagem_client import Client, Deadlines, Refused, Sizes, decision_in_words

from server.feedback import read_log
from tests.clients.loops import in_a_loop
from tests.server.doors import PATIENT_S, Doors
from tests.tiny_repository import AS_OF_S

PATIENT = Deadlines(PATIENT_S, PATIENT_S, PATIENT_S, PATIENT_S)
NAMES = [f"shopper-{n}" for n in range(20)]


def ask(shopper_id: str, decision_id: str = "") -> strategy_pb2.DecideRequest:
    """At the time the tiny shop knows."""
    return strategy_pb2.DecideRequest(shopper_id=shopper_id, decision_id=decision_id, time_s=AS_OF_S)


def known(doors: Doors) -> Client:
    """A patient client of the gateway, with messages of seven rows."""
    return Client(doors.gateway.address, deadlines=PATIENT, sizes=Sizes(batch_rows=7))


@in_a_loop
async def test_many_at_once_get_the_decisions_that_are_in_the_log(doors: Doors) -> None:
    async with known(doors) as client:
        decisions = await asyncio.gather(*[client.decide(ask(name)) for name in NAMES])
    logged = {record["decision_id"]: record for record in read_log(doors.settings.log) if record["kind"] == "decision"}
    assert {decision.decision_id for decision in decisions} == set(logged)
    assert [decision.shopper_id for decision in decisions] == NAMES
    assert all(decision.propensity == logged[decision.decision_id]["propensity"] for decision in decisions)
    assert decision_in_words(decisions[3]).startswith("shopper-3: ")


@in_a_loop
async def test_an_unknown_shopper_is_refused_in_the_gateways_words(doors: Doors) -> None:
    async with known(doors) as client:
        with pytest.raises(Refused, match="nobody") as raised:
            await client.decide(ask("nobody"))
    assert raised.value.code is grpc.StatusCode.NOT_FOUND


@in_a_loop
async def test_columns_and_stream_decide_like_single_calls(doors: Doors) -> None:
    async with known(doors) as client:
        single = [await client.decide(ask(name)) for name in NAMES]
        decisions = await client.decide_many([*NAMES, "nobody"], time_s=AS_OF_S, batch_id="b")
        async with client.stream(most_open=8) as stream:
            streamed = await asyncio.gather(*[stream.submit(ask(name)) for name in NAMES])
    for one, row, other in zip(single, decisions.complete(), streamed, strict=False):
        assert (one.action.kind, list(one.action.item_ids)) == (row.action.kind, list(row.action.item_ids))
        assert (one.value_micros, one.cost_micros, one.score_micros) == (
            row.value_micros,
            row.cost_micros,
            row.score_micros,
        )
        assert (one.action, one.value_micros, one.shopper_id) == (other.action, other.value_micros, other.shopper_id)
    assert decisions.row(20).status == strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER
    assert decisions.row(20).in_words() == "nobody: nobody by this id"
    logged = {record["decision_id"] for record in read_log(doors.settings.log) if record["kind"] == "decision"}
    assert {row.decision_id for row in decisions if row.status == strategy_pb2.ROW_STATUS_DECIDED} <= logged


@in_a_loop
async def test_a_batch_asked_for_again_is_the_same_batch(doors: Doors) -> None:
    async with known(doors) as client:
        first = await client.decide_many(NAMES, time_s=AS_OF_S, batch_id="again")
        second = await client.decide_many(NAMES, time_s=AS_OF_S, batch_id="again")
    assert list(first.complete()) == list(second.complete())


@in_a_loop
async def test_events_move_the_state_and_count_once(doors: Doors) -> None:
    kind = event_pb2.EVENT_KIND_ORDER
    order = event_pb2.Event(shopper_id="shopper-3", time_s=AS_OF_S, kind=kind, item_id="item-5", paid_micros=2_000_000)
    async with known(doors) as client:
        before = await client.profile("shopper-3")
        first = (await client.record_events([order])).complete()
        again = (await client.record_events(first.rows)).complete()
        after = await client.profile("shopper-3")
        recommended = await client.recommend("shopper-3")
    assert first.statuses.tolist() == [feedback_pb2.RECORD_STATUS_RECORDED]
    assert again.statuses.tolist() == [feedback_pb2.RECORD_STATUS_DUPLICATE]
    assert after.summary.n_orders == before.summary.n_orders + 1
    assert recommended.items


@in_a_loop
async def test_rows_that_are_refused_are_told_by_their_place(doors: Doors) -> None:
    good = event_pb2.Event(shopper_id="shopper-3", time_s=AS_OF_S, kind=event_pb2.EVENT_KIND_VIEW)
    async with known(doors) as client:
        recorded = (await client.record_events([good, event_pb2.Event(shopper_id="shopper-3"), good])).complete()
    assert list(recorded.problems) == [1]
    assert recorded.statuses.tolist() == [
        feedback_pb2.RECORD_STATUS_RECORDED,
        feedback_pb2.RECORD_STATUS_INVALID,
        feedback_pb2.RECORD_STATUS_RECORDED,
    ]
