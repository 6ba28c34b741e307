"""The client's calls: pooling, tokens, TLS, batches in pieces, feedback that counts once."""

import asyncio
import itertools
import subprocess
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from stratagem.v1 import event_pb2, feedback_pb2, strategy_pb2
from stratagem_client import Access, Client, Refused, RetryPolicy, Sizes, Tls, WrongUse
from stratagem_client.access import Tokens
from stratagem_client.pool import Pool

from tests.clients.faulty import HANG, NOBODY, Fault, faulty_gateway, shopper_ids
from tests.clients.loops import in_a_loop, until
from tests.requirements import require_program
from tests.servers.cutting import relay
from tests.servers.ports import free_port

PATIENT_S = 20.0
ONCE = RetryPolicy(most_attempts=1)


@in_a_loop
async def test_a_refusal_tells_the_code_and_the_words() -> None:
    async with faulty_gateway() as (_, address), Client(address) as client:
        with pytest.raises(Refused) as raised:
            await client.decide(NOBODY, PATIENT_S)
        assert raised.value.code is grpc.StatusCode.NOT_FOUND
        assert str(raised.value) == "NOT_FOUND: shopper_id must be known, got 'nobody'"


@in_a_loop
async def test_channels_are_connections_of_their_own_and_the_least_busy_is_taken() -> None:
    async with faulty_gateway() as (gateway, address), Client(address, sizes=Sizes(n_connections=3)) as client:
        gateway.faults.append(HANG)
        hanging = asyncio.create_task(client.decide("shopper-0", PATIENT_S))
        await until(lambda: len(gateway.requests) == 1)
        (busy,) = gateway.peers
        gateway.peers.clear()
        for _ in range(6):
            await client.decide("shopper-1", PATIENT_S)
        assert len(gateway.peers) == 2
        assert busy not in gateway.peers
        hanging.cancel()


@in_a_loop
async def test_a_dead_address_does_not_draw_the_calls() -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with faulty_gateway() as (gateway, address), Client([dead, address], sizes=Sizes(2)) as client:
        answers = await asyncio.gather(*[client.decide(name, PATIENT_S) for name in shopper_ids(50)])
        assert {answer.shopper_id for answer in answers} == set(shopper_ids(50))
        assert len(gateway.requests) == 50


@in_a_loop
async def test_a_gateway_that_comes_back_is_found_within_the_deadline() -> None:
    port = free_port()
    policy = RetryPolicy(most_attempts=100, retry_burst=100, longest_wait_s=0.1)
    async with Client(f"127.0.0.1:{port}", retry=policy) as client:
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await client.decide("shopper-1", within_s=0.3)
        asked = asyncio.create_task(client.decide("shopper-1", PATIENT_S))
        async with faulty_gateway(port=port):
            assert (await asked).shopper_id == "shopper-1"


@in_a_loop
async def test_a_token_is_fetched_once_for_all_and_again_when_it_is_refused() -> None:
    fetched: list[str] = []

    async def fetch() -> str:
        fetched.append(f"token-{len(fetched)}")
        await asyncio.sleep(0)
        return fetched[-1]

    async with faulty_gateway() as (gateway, address), Client(address, Access(token=fetch)) as client:
        gateway.tokens.add("token-0")
        await asyncio.gather(*[client.decide("shopper-1", PATIENT_S) for _ in range(5)])
        assert fetched == ["token-0"]
        gateway.tokens = {"token-1"}
        await asyncio.gather(*[client.decide("shopper-1", PATIENT_S) for _ in range(5)])
        assert fetched == ["token-0", "token-1"]
        async with client.stream(within_s=PATIENT_S) as stream:
            gateway.tokens = {"token-2"}
            assert (await stream.submit("shopper-1")).shopper_id == "shopper-1"
        gateway.tokens = {"another"}
        with pytest.raises(Refused, match="UNAUTHENTICATED"):
            await client.decide("shopper-1", PATIENT_S)


@in_a_loop
async def test_a_fixed_token_that_is_refused_is_refused_once() -> None:
    async with faulty_gateway() as (gateway, address), Client(address, Access(token="old")) as client:
        gateway.tokens.add("new")
        with pytest.raises(Refused, match="UNAUTHENTICATED: the token must be valid"):
            await client.decide("shopper-1", PATIENT_S)
        assert len(gateway.requests) == 1


@in_a_loop
async def test_a_token_that_lasts_is_fetched_anew_when_its_time_is_over() -> None:
    fetched: list[str] = []

    def fetch() -> str:
        fetched.append("token")
        return "token"

    async with faulty_gateway() as (_, address), Client(address, Access(token=fetch, token_lasts_s=0.0)) as client:
        await client.decide("shopper-1", PATIENT_S)
        await client.decide("shopper-1", PATIENT_S)
        assert len(fetched) == 2


@pytest.mark.parametrize("address", ["gateway:8470", "10.1.2.3:8470", "dns:///gateway:8470", "[2001:db8::1]:8470"])
@in_a_loop
async def test_a_token_never_leaves_this_machine_in_the_clear(address: str) -> None:
    with pytest.raises(WrongUse, match="must not be sent in the clear"):
        await Client(address, Access(token="secret")).__aenter__()


@pytest.mark.parametrize(
    "address", ["localhost:8470", "127.0.0.1:8470", "[::1]:8470", "unix:/run/gateway", "ipv4:127.0.0.1:1"]
)
@in_a_loop
async def test_a_token_may_be_sent_in_the_clear_on_this_machine(address: str) -> None:
    async with Client(address, Access(token="secret")):
        pass


def test_secrets_are_not_in_what_objects_say_of_themselves() -> None:
    access = Access(Tls(None, b"certificate", b"private"), "secret")
    assert "secret" not in repr(access)
    assert "private" not in repr(access)
    assert "secret" not in repr(Client("127.0.0.1:1", access))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, gateway and client: .pem and .key, the two latter signed by the first."""
    require_program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=shop")
    for name in ("gateway", "client"):
        openssl(
            "req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            "-addext", "subjectAltName=DNS:gateway.shop", "-CA", "ca.pem", "-CAkey", "ca.key",
        )  # fmt: skip
    return folder


@in_a_loop
async def test_both_sides_prove_who_they_are(certificates: Path) -> None:
    pem = {name: (certificates / name).read_bytes() for name in ("ca.pem", "gateway.key", "gateway.pem")}
    asks_back = grpc.ssl_server_credentials([(pem["gateway.key"], pem["gateway.pem"])], pem["ca.pem"], True)
    own = Tls.from_files(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    async with faulty_gateway(asks_back) as (_, address):
        named = Tls(own.root_certificates, own.client_certificate, own.client_key, "gateway.shop")
        async with Client(address, Access(named, "token")) as client:
            assert (await client.decide("shopper-1", PATIENT_S)).shopper_id == "shopper-1"
        for wrong in (Tls(pem["ca.pem"], server_name="gateway.shop"), Tls(server_name="gateway.shop"), own):
            async with Client(address, Access(wrong), retry=ONCE) as client:
                with pytest.raises(Refused, match="UNAVAILABLE"):
                    await client.decide("shopper-1", PATIENT_S)


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(WrongUse, match="must be given together"):
        Tls(client_certificate=b"pem")


@in_a_loop
async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(WrongUse, match="must be open"):
        await Client("127.0.0.1:1").decide("shopper-1")
    with pytest.raises(WrongUse, match="addresses must name at least one"):
        Pool((), 1, Access())
    with pytest.raises(WrongUse, match="n_connections must be ≥ 1, got 0"):
        Sizes(n_connections=0)
    assert await Tokens(Access()).metadata() == ()


@in_a_loop
async def test_a_batch_goes_in_messages_of_bounded_size_and_comes_back_in_order() -> None:
    names = [*shopper_ids(24), NOBODY]
    async with faulty_gateway() as (gateway, address), Client(address, sizes=Sizes(batch_rows=10)) as client:
        decisions = (
            await client.decide_many(names, time_s=range(100, 125), batch_id="b", within_s=PATIENT_S)
        ).complete()
        assert sorted(request.batch_id for request in gateway.requests) == ["b.0", "b.1", "b.2"]
        assert sorted(len(request.times_s) for request in gateway.requests) == [5, 10, 10]
        assert [row.shopper_id for row in decisions] == names
        assert decisions.row(17).decision_id == "b.1/7"
        for row in decisions:
            assert row.value_micros == gateway.decisions[row.decision_id].value_micros or row.shopper_id == NOBODY
        statuses = decisions.columns.rows["statuses"]
        assert statuses.tolist() == [strategy_pb2.ROW_STATUS_DECIDED] * 24 + [strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER]
        assert decisions.columns.rows["value_micros"].dtype == np.int64


@in_a_loop
async def test_what_failed_of_a_batch_is_told_and_can_be_asked_for_again() -> None:
    names, sizes = shopper_ids(35), Sizes(batch_rows=10, batch_messages=1)
    async with faulty_gateway() as (gateway, address), Client(address, sizes=sizes, retry=ONCE) as client:
        gateway.faults.extend([None, Fault(grpc.StatusCode.INTERNAL, is_after=True), None, None])
        part = await client.decide_many(names, batch_id="b", within_s=PATIENT_S)
        assert [(failure.first, failure.end, failure.refused.code) for failure in part.failures] == [
            (10, 20, grpc.StatusCode.INTERNAL)
        ]
        assert [row.status for row in part] == [1] * 10 + [0] * 10 + [1] * 15
        with pytest.raises(Refused, match="INTERNAL"):
            part.complete()
        before = len(gateway.decisions)
        whole = (await client.decide_rest(part, PATIENT_S)).complete()
        assert len(gateway.decisions) == before  # the failed message was decided before it failed
        assert [row.value_micros for row in whole] == [gateway.decisions[row.decision_id].value_micros for row in whole]
        assert [request.batch_id for request in gateway.requests[4:]] == ["b.1"]


@in_a_loop
async def test_a_dead_gateway_is_not_asked_for_every_message_of_a_batch() -> None:
    sizes = Sizes(batch_rows=1, batch_messages=1)
    async with faulty_gateway() as (gateway, address), Client(address, sizes=sizes, retry=ONCE) as client:
        gateway.faults.extend([None, *[Fault()] * 100])
        decisions = await client.decide_many(shopper_ids(50), within_s=PATIENT_S)
        assert len(decisions.failures) == 49
        assert len(gateway.requests) == 2


@in_a_loop
async def test_no_more_messages_are_on_their_way_than_allowed() -> None:
    sizes = Sizes(batch_rows=1, batch_messages=3)
    async with faulty_gateway() as (gateway, address), Client(address, sizes=sizes, retry=ONCE) as client:
        gateway.faults.extend([HANG] * 10)
        asked = asyncio.create_task(client.decide_many(shopper_ids(10), within_s=1.0))
        await until(lambda: len(gateway.requests) == 3)
        await asked
        assert len(gateway.requests) == 10


def orders(n_orders: int) -> Sequence[event_pb2.Event]:
    """Order lines; every second one without an id."""
    kind = event_pb2.EVENT_KIND_ORDER
    return [
        event_pb2.Event(event_id=f"e-{n}" if n % 2 else "", shopper_id="shopper-1", time_s=100 + n, kind=kind)
        for n in range(n_orders)
    ]


@in_a_loop
async def test_events_get_ids_once_and_count_once_however_often_they_are_sent() -> None:
    async with faulty_gateway() as (gateway, address), Client(address, sizes=Sizes(record_rows=4)) as client:
        gateway.faults.extend([Fault(is_after=True), None, None])
        recorded = (await client.record_events(orders(6))).complete()
        assert len(gateway.requests) == 3
        assert list(gateway.recorded) == [row.event_id for row in recorded.rows]
        assert [row.time_s for row in recorded.rows] == [100, 101, 102, 103, 104, 105]
        assert (
            recorded.statuses.tolist()
            == [feedback_pb2.RECORD_STATUS_DUPLICATE] * 4 + [feedback_pb2.RECORD_STATUS_RECORDED] * 2
        )


@in_a_loop
async def test_events_after_a_failure_wait_and_can_be_recorded_again() -> None:
    async with (
        faulty_gateway() as (gateway, address),
        Client(address, sizes=Sizes(record_rows=2), retry=ONCE) as client,
    ):
        gateway.faults.extend([None, Fault(is_after=True)])
        recorded = await client.record_events(orders(6))
        assert [(failure.first, failure.end) for failure in recorded.failures] == [(2, 6)]
        again = (await client.record_events(recorded.unacknowledged())).complete()
        assert [row.time_s for row in gateway.recorded.values()] == [100, 101, 102, 103, 104, 105]
        assert (
            again.statuses.tolist()
            == [feedback_pb2.RECORD_STATUS_DUPLICATE] * 2 + [feedback_pb2.RECORD_STATUS_RECORDED] * 2
        )


@in_a_loop
async def test_exposures_and_outcomes_go_the_same_way() -> None:
    async with faulty_gateway() as (gateway, address), Client(address) as client:
        await client.record_exposures([feedback_pb2.Exposure(shopper_id="shopper-1", time_s=1)])
        await client.record_outcomes([feedback_pb2.Outcome(shopper_id="shopper-1", time_s=1)])
        assert [len(request.exposures) + 2 * len(request.outcomes) for request in gateway.requests] == [1, 2]
        with pytest.raises(WrongUse, match="outcomes must have at least one row"):
            await client.record_outcomes([])


@in_a_loop
async def test_connections_cut_under_load_cost_nobody_a_decision() -> None:
    async with faulty_gateway() as (gateway, address):
        with relay(address, n_bytes_between_cuts=4000) as between:
            between.n_cuts = 5
            async with Client(between.address.removeprefix("http://")) as client:
                waiting = iter(shopper_ids(600))

                async def ask_in_turn() -> list[strategy_pb2.Decision]:
                    return [await client.decide(name, PATIENT_S) for name in waiting]

                answers = [*itertools.chain(*await asyncio.gather(*[ask_in_turn() for _ in range(30)]))]
        assert between.n_cuts < 0
        assert {answer.shopper_id for answer in answers} == set(shopper_ids(600))
        assert len(gateway.decisions) == 600


@in_a_loop
async def test_a_gateway_that_stops_under_load_costs_nobody_a_decision() -> None:
    async with faulty_gateway() as (staying, one), AsyncExitStack() as leaving:
        gateway, other = await leaving.enter_async_context(faulty_gateway())
        async with Client([one, other]) as client:
            waiting, n_answers = iter(shopper_ids(400)), 0

            async def ask_in_turn() -> None:
                nonlocal n_answers
                for name in waiting:
                    assert (await client.decide(name, PATIENT_S)).shopper_id == name
                    n_answers += 1

            asked = asyncio.gather(*[ask_in_turn() for _ in range(20)])
            await until(lambda: len(gateway.requests) > 50)
            await leaving.aclose()
            await asked
            assert n_answers == 400
            assert len(staying.requests) + len(gateway.requests) >= 400
