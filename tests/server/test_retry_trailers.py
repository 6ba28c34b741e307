"""Whoever is refused for now is told when to come again: as gRPC's retries read it and as google.rpc writes it."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stratagem.v1 import profile_pb2, strategy_pb2

from server.gateway.doors import retry_after_ms
from server.settings import Settings
from tests.faults.relay import Relay
from tests.faults.stage import within
from tests.server.doors import PATIENT_S, Doors, open_doors
from tests.tiny_repository import AS_OF_S


def ask() -> strategy_pb2.DecideRequest:
    """Any decision."""
    return strategy_pb2.DecideRequest(shopper_id="shopper-3", time_s=AS_OF_S)


def told_ms(refusal: grpc.RpcError) -> tuple[int, int]:
    """Milliseconds as both ways tell them; everything else in the trailers must agree with the status."""
    trailers = dict(refusal.trailing_metadata())
    told = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (told.code, told.message) == (refusal.code().value[0], refusal.details())
    (detail,) = told.details
    info = error_details_pb2.RetryInfo()
    assert detail.Unpack(info)
    delay = info.retry_delay
    return int(trailers["grpc-retry-pushback-ms"]), delay.seconds * 1000 + delay.nanos // 1_000_000


def refusal_of(call: object, request: object) -> grpc.RpcError:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=PATIENT_S)  # type: ignore[operator]
    return raised.value


def test_a_client_past_its_rate_is_told_when_its_rows_fit(filled: Settings, tiny_triton: str) -> None:
    with open_doors(filled.model_copy(update={"rate_per_s": 0.1, "burst": 1}), tiny_triton) as doors:
        doors.strategy.Decide(ask())
        batch = strategy_pb2.DecideBatchRequest(shopper_ids=["shopper-3"])
        for call, request in ((doors.strategy.Decide, ask()), (doors.strategy.DecideBatch, batch)):
            refusal = refusal_of(call, request)
            assert refusal.code() is StatusCode.RESOURCE_EXHAUSTED
            pushback_ms, delay_ms = told_ms(refusal)
            assert pushback_ms == delay_ms
            assert 0 < delay_ms <= 10_000  # one row every ten seconds


def test_a_full_queue_tells_when_to_come_again(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    changes = {"queue_rows": 1, "deciders": 1, "batch_rows": 1}
    with open_doors(filled.model_copy(update=changes), relay.address) as doors:
        relay.delay_s = PATIENT_S
        waiting = doors.gateway.waiting
        held = [doors.strategy.Decide.future(ask())]
        assert within(PATIENT_S, lambda: waiting._n_running == 1)
        held.append(doors.strategy.Decide.future(ask()))
        assert within(PATIENT_S, lambda: waiting.n_waiting == 1)
        refusal = refusal_of(doors.strategy.Decide, ask())
        assert refusal.code() is StatusCode.RESOURCE_EXHAUSTED
        pushback_ms, delay_ms = told_ms(refusal)
        assert pushback_ms == delay_ms > 0
        relay.close()  # Triton hangs up
        assert {call.result().decision.rung for call in held} == {strategy_pb2.RUNG_SAFE_DEFAULT}


def test_what_waiting_does_not_mend_says_nothing_of_it(doors: Doors) -> None:
    refusal = refusal_of(doors.strategy.Decide, strategy_pb2.DecideRequest(shopper_id="nobody"))
    assert not [name for name, _ in refusal.trailing_metadata() if name.startswith("grpc-")]


@pytest.mark.parametrize(("after_s", "after_ms"), [(1e-9, 1), (0.001, 1), (0.0011, 2), (1.5, 1500), (61.0, 61_000)])
def test_a_retry_is_told_in_whole_milliseconds_never_too_early(after_s: float, after_ms: int) -> None:
    assert retry_after_ms(after_s) == after_ms


def test_the_health_is_told_while_every_other_door_is_stuck(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    with open_doors(filled.model_copy(update={"door_threads": 1, "models_within_s": 5.0}), relay.address) as doors:
        relay.delay_s = PATIENT_S
        request = profile_pb2.GetRequest(shopper_id="shopper-3", time_s=AS_OF_S)
        held = [doors.profile.Get.future(request, timeout=PATIENT_S) for _ in range(3)]
        assert within(PATIENT_S, lambda: doors.gateway.server.n_open == 3)
        check = health_pb2_grpc.HealthStub(doors.channel).Check
        check(health_pb2.HealthCheckRequest(), timeout=2.0)
        relay.close()
        for waiting in held:
            waiting.cancel()
