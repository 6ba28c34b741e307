"""The model `decide`: Triton's own front end decides as the gateway does, over the same shoppers, log and budget."""

import os
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from stratagem.v1 import event_pb2, feedback_pb2, strategy_pb2
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.feedback import read_log
from server.gateway.fields import LAST_TIME_S
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.triton.environment import Environment
from server.triton.process import DECIDE, Running, started
from server.triton.self_test import not_ready
from tests.benchmarks.triton_door import variables_of
from tests.server.conftest import write_plan_of
from tests.server.doors import N_SHOPPERS, PATIENT_S, Doors, fill, open_doors, settings_in
from tests.server.triton.processes import descendants
from tests.tiny_repository import AS_OF_S, MODELS

NUMBERS = {
    "action_kind": np.int32,
    "rung": np.int32,
    "value_micros": np.int64,
    "cost_micros": np.int64,
    "propensity": np.float64,
}
DECISION = ("decision",)
RETURNS_S = 30.0

Texts = list[bytes]


@dataclass
class Opened:
    """A Triton with the door, and the settings that it was started with."""

    running: Running
    stub: GRPCInferenceServiceStub
    settings: Settings


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory, triton_environment: Environment, tiny_repository: Path
) -> Iterator[Opened]:
    """The door of a shop of its own."""
    settings = settings_in(tmp_path_factory.mktemp("shop"), tiny_repository, explore_share=0.5)
    fill(settings)
    write_plan_of(settings)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables_of(settings).items():
            patch.setenv(name, value)
        with (
            started(tiny_repository, [*MODELS, DECIDE]) as running,
            grpc.insecure_channel(running.address) as channel,
        ):
            both = Opened(running, GRPCInferenceServiceStub(channel), settings)
            _wait_for_full_decisions(both)
            yield both


@pytest.fixture(scope="module")
def gateway(opened: Opened) -> Iterator[Doors]:
    """A gateway over the same folders, which asks the same Triton."""
    with open_doors(opened.settings, opened.running.address) as doors:
        yield doors


def _wait_for_full_decisions(opened: Opened) -> None:
    """Ask until both instances have the models' answers."""
    until_s, rungs = time.monotonic() + RETURNS_S, set[int]()
    while rungs != {strategy_pb2.RUNG_FULL}:
        assert time.monotonic() < until_s, f"the door must decide in full, got rungs {rungs}"
        calls = [opened.stub.ModelInfer.future(request_of("shopper-0"), timeout=PATIENT_S) for _ in range(16)]
        rungs = {decision_in(call.result()).rung for call in calls}


def request_of(
    shopper_ids: str | list[str],
    decision_ids: list[str] | None = None,
    time_s: int = AS_OF_S,
    outputs: tuple[str, ...] = DECISION,
) -> service_pb2.ModelInferRequest:
    """A KServe request for one shopper or several."""
    names = [shopper_ids] if isinstance(shopper_ids, str) else shopper_ids
    request = service_pb2.ModelInferRequest(model_name=DECIDE)
    for name, texts in (("shopper_id", names), ("decision_id", decision_ids)):
        if texts is not None:
            request.inputs.add(name=name, datatype="BYTES", shape=[len(texts), 1])
            told = [struct.pack("<I", len(text.encode())) + text.encode() for text in texts]
            request.raw_input_contents.append(b"".join(told))
    request.inputs.add(name="time_s", datatype="INT64", shape=[len(names), 1])
    request.raw_input_contents.append(struct.pack("<q", time_s) * len(names))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def texts_in(content: bytes) -> Texts:
    """KServe's strings."""
    texts = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        texts.append(content[4 : 4 + length])
        content = content[4 + length :]
    return texts


def columns_in(response: service_pb2.ModelInferResponse) -> dict[str, np.ndarray | Texts]:
    """Every output by name, one value a row."""
    named = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        tensor.name: np.frombuffer(content, NUMBERS[tensor.name]) if tensor.name in NUMBERS else texts_in(content)
        for tensor, content in named
    }


def decisions_in(response: service_pb2.ModelInferResponse) -> list[strategy_pb2.Decision]:
    """The Decision messages in a response."""
    return [strategy_pb2.Decision.FromString(text) for text in columns_in(response)["decision"]]


def decision_in(response: service_pb2.ModelInferResponse) -> strategy_pb2.Decision:
    """The only one."""
    (decision,) = decisions_in(response)
    return decision


def logged(settings: Settings) -> Mapping[str, Mapping[str, object]]:
    """Every decision that the door has put on disk, by its id."""
    writers = [read_log(folder) for folder in settings.log.glob("writer-*")]
    return {str(record["decision_id"]): record for records in writers for record in records}


def refusal(opened: Opened, request: service_pb2.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    """Status and sentence of a request that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        opened.stub.ModelInfer(request, timeout=PATIENT_S)
    return caught.value.code(), caught.value.details()


SHOPPERS = [f"shopper-{number}" for number in range(N_SHOPPERS)]


def test_the_door_decides_as_the_gateway_does_bit_for_bit(opened: Opened, gateway: Doors) -> None:
    for shopper_id in SHOPPERS:  # vectors first, so that neither door makes them
        gateway.strategy.Decide(strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=AS_OF_S))
    named = {f"both-{shopper_id}": shopper_id for shopper_id in SHOPPERS}
    by_door = decisions_in(opened.stub.ModelInfer(request_of(SHOPPERS, list(named))))
    for decision, (decision_id, shopper_id) in zip(by_door, named.items(), strict=True):
        asked = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=AS_OF_S, decision_id=decision_id)
        assert decision == gateway.strategy.Decide(asked).decision
    by_gateway = {record.get("decision_id"): record for record in read_log(opened.settings.log)}  # its own come first
    records = logged(opened.settings)
    for decision_id in named:
        # The features' and the vectors' bytes are among it: numpy 1 there, numpy 2 here.
        assert records[decision_id] == by_gateway[decision_id]
        assert records[decision_id] is not by_gateway[decision_id]


def test_the_plain_tensors_say_what_the_decision_says(opened: Opened) -> None:
    columns = columns_in(opened.stub.ModelInfer(request_of(SHOPPERS, outputs=())))
    assert set(columns) == {*NUMBERS, "offer_id", "category", "decision"}
    kinds = set()
    for row, text in enumerate(columns["decision"]):
        decision = strategy_pb2.Decision.FromString(text)
        kinds.add(decision.action.kind)
        assert columns["action_kind"][row] == decision.action.kind
        assert columns["rung"][row] == decision.rung
        assert columns["offer_id"][row] == decision.action.offer_id.encode()
        assert columns["category"][row] == decision.action.category.encode()
        assert columns["value_micros"][row] == decision.value_micros
        assert columns["cost_micros"][row] == decision.cost_micros
        assert columns["propensity"][row] == decision.propensity
    assert len(kinds) > 1


def test_only_the_outputs_asked_for_come_back(opened: Opened) -> None:
    bid = ("action_kind", "value_micros")
    assert set(columns_in(opened.stub.ModelInfer(request_of("shopper-1", outputs=bid)))) == set(bid)


def test_a_decision_is_in_the_log_before_it_is_answered(opened: Opened) -> None:
    for number in range(20):
        decision_id = f"logged-{number}"
        opened.stub.ModelInfer(request_of("shopper-2", [decision_id], outputs=("rung",)), timeout=PATIENT_S)
        assert logged(opened.settings)[decision_id]["shopper_id"] == "shopper-2"
    assert sorted(path.name for path in opened.settings.log.glob("writer-*")) == ["writer-1000", "writer-1001"]


def test_a_bad_request_among_many_fails_alone_and_in_its_own_words(opened: Opened) -> None:
    bad = {
        5: (request_of("nobody"), grpc.StatusCode.NOT_FOUND, "shopper_id must be known, got 'nobody'"),
        11: (request_of(""), grpc.StatusCode.INVALID_ARGUMENT, "shopper_id must be set, got ''"),
        17: (
            request_of("shopper-1", time_s=LAST_TIME_S + 1),
            grpc.StatusCode.INVALID_ARGUMENT,
            f"time_s must be in [1, {LAST_TIME_S}], got {LAST_TIME_S + 1} (shopper 'shopper-1')",
        ),
        23: (
            request_of("shopper-1", ["x" * 201]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "decision_id must be at most 200 bytes, got 201 (shopper 'shopper-1')",
        ),
    }
    requests = [bad[n][0] if n in bad else request_of(SHOPPERS[n % N_SHOPPERS]) for n in range(60)]
    calls = [opened.stub.ModelInfer.future(request, timeout=PATIENT_S) for request in requests]
    for number, call in enumerate(calls):
        if number in bad:
            _, status, sentence = bad[number]
            assert (call.exception().code(), sentence in call.exception().details()) == (status, True)
        else:
            assert decision_in(call.result()).shopper_id == SHOPPERS[number % N_SHOPPERS]


def test_a_request_with_one_unknown_row_is_refused_whole(opened: Opened) -> None:
    status, sentence = refusal(opened, request_of(["shopper-1", "nobody"]))
    assert status is grpc.StatusCode.NOT_FOUND
    assert sentence == "shopper_id must be known, got 'nobody'; record an event of the shopper first"


def test_the_same_decision_id_gets_the_same_decision_or_a_refusal(opened: Opened) -> None:
    twice = decisions_in(opened.stub.ModelInfer(request_of(["shopper-4", "shopper-4"], ["again", "again"])))
    assert twice[0] == twice[1]
    status, sentence = refusal(opened, request_of(["shopper-4", "shopper-5"], ["taken", "taken"]))
    assert status is grpc.StatusCode.ALREADY_EXISTS
    assert "decision_id must be new for another shopper, got 'taken' of 'shopper-4'" in sentence


def test_an_event_recorded_through_the_gateway_is_seen_by_the_door(opened: Opened, gateway: Doors) -> None:
    before = decision_in(opened.stub.ModelInfer(request_of("shopper-6", time_s=AS_OF_S + 60)))
    event = event_pb2.Event(
        event_id="seen-by-the-door", shopper_id="shopper-6", time_s=AS_OF_S + 50, kind=event_pb2.EVENT_KIND_ORDER,
        item_id="item-5", paid_micros=2_000_000, order_id="o-door",
    )  # fmt: skip
    gateway.feedback.Record(feedback_pb2.RecordRequest(events=[event]))
    after = decision_in(opened.stub.ModelInfer(request_of("shopper-6", time_s=AS_OF_S + 60)))
    assert before.state_age_s > 60
    assert after.state_age_s == 10


def test_without_time_the_door_answers_at_once_from_a_lower_rung(opened: Opened) -> None:
    request = request_of("shopper-7")
    request.parameters["timeout"].int64_param = 1  # microseconds
    assert decision_in(opened.stub.ModelInfer(request)).rung in (
        strategy_pb2.RUNG_CACHED,
        strategy_pb2.RUNG_SAFE_DEFAULT,
    )


# One last: Triton lets go of the killed instance's neighbour only when it stops, so that it stays, idle.
@pytest.mark.parametrize("n_killed", [2, 1])
def test_killed_instances_are_started_anew_and_what_was_answered_stays(
    opened: Opened, gateway: Doors, n_killed: int
) -> None:
    answered = [f"kept-{n_killed}-{number}" for number in range(8)]
    for decision_id in answered:
        opened.stub.ModelInfer(request_of("shopper-8", [decision_id]), timeout=PATIENT_S)
    instances = _instances(opened.running)
    assert len(instances) == 2
    for pid in instances[:n_killed]:
        os.kill(pid, signal.SIGKILL)
    assert set(answered) <= set(logged(opened.settings))
    full = gateway.strategy.Decide(strategy_pb2.DecideRequest(shopper_id="shopper-8", time_s=AS_OF_S)).decision
    assert full.rung == strategy_pb2.RUNG_FULL  # the gateway's own Triton models do not notice
    until_s = time.monotonic() + RETURNS_S
    while len(set(_instances(opened.running)) - set(instances)) < 2 or not_ready(opened.running.address, [DECIDE]):
        assert time.monotonic() < until_s, "instances must be started anew"
    _wait_for_full_decisions(opened)


def _instances(running: Running) -> list[int]:
    """The door's stubs that live."""
    stubs = []
    for pid in descendants(running.guard.pid):
        with suppress(FileNotFoundError):  # it ended meanwhile
            if f"/{DECIDE}/1/model.py".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                stubs.append(pid)
    return stubs


def test_a_stopped_door_gives_the_rest_of_its_leases_back(
    tmp_path: Path, triton_environment: Environment, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, tiny_repository, explore_share=0.5)
    fill(settings)
    write_plan_of(settings)
    for name, value in variables_of(settings).items():
        monkeypatch.setenv(name, value)
    with started(tiny_repository, [*MODELS, DECIDE]) as running, grpc.insecure_channel(running.address) as channel:
        both = Opened(running, GRPCInferenceServiceStub(channel), settings)
        _wait_for_full_decisions(both)
        both.stub.ModelInfer(request_of(SHOPPERS), timeout=PATIENT_S)
        assert spent_micros(settings) > sum(record["cost_micros"] for record in logged(settings).values()) > 0
    assert spent_micros(settings) == sum(record["cost_micros"] for record in logged(settings).values())


def spent_micros(settings: Settings) -> int:
    """What the plan's budget has lost so far, leases included."""
    states = EmbeddedStates(settings.state, open_repository(settings.repository).vocabulary, settings.state_mib)
    try:
        return states.spent_micros("plan-1")
    finally:
        states.close()


def test_the_door_is_loaded_only_where_it_is_asked_for(tiny_triton: str) -> None:
    assert DECIDE in not_ready(tiny_triton, [DECIDE])
