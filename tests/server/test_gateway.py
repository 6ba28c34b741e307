"""The four services over a real channel, a real Triton, a real store and a real log; each status is provoked once."""

import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from stratagem.v1 import event_pb2, feedback_pb2, profile_pb2, recommendation_pb2, strategy_pb2

from kernels.features import columns, features_at
from kernels.future_tags import FUTURE_TAGS
from kernels.ledger import COLUMNS, ledger_of
from server.feedback import read_log
from server.problems import PortInUse, Problem, WrongPlan, WrongRepository, WrongState
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from tests.server.conftest import write_plan_of
from tests.server.doors import Doors, fill, open_doors, orders
from tests.tiny_repository import AS_OF_S, DAY_S


def ask(shopper_id: str = "shopper-3", **fields: object) -> strategy_pb2.DecideRequest:
    """A request at the time the tiny shop knows."""
    return strategy_pb2.DecideRequest(**{"shopper_id": shopper_id, "time_s": AS_OF_S} | fields)


def order(event_id: str = "event-1", **fields: object) -> event_pb2.Event:
    """An order line of shopper-3."""
    line = {"shopper_id": "shopper-3", "time_s": AS_OF_S, "kind": event_pb2.EVENT_KIND_ORDER, "item_id": "item-5"}
    return event_pb2.Event(**{"event_id": event_id, "paid_micros": 2_000_000, "order_id": "o-1"} | line | fields)


def problem_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status and the sentence a call ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


def test_decision_carries_its_economics_its_runner_up_and_its_reasons(doors: Doors) -> None:
    decision = doors.strategy.Decide(ask(decision_id="d-1", max_candidates=10)).decision
    assert (decision.decision_id, decision.shopper_id, decision.plan_id) == ("d-1", "shopper-3", "plan-1")
    assert decision.rung == strategy_pb2.RUNG_FULL
    assert decision.score_micros == round(decision.value_micros - decision.shadow_price * decision.cost_micros)
    assert decision.candidates[0].action == decision.action
    assert decision.candidates[1] == decision.runner_up
    scores = [candidate.score_micros for candidate in decision.candidates]
    assert scores == sorted(scores, reverse=True)
    assert decision.propensity == 1.0
    assert decision.reasons[0].code == "worth"
    assert decision.state_age_s == 12 * DAY_S
    assert decision.release == doors.gateway.decider.repository.release


def test_decision_is_on_disk_before_it_is_answered(doors: Doors) -> None:
    decision = doors.strategy.Decide(ask()).decision
    (record,) = [record for record in read_log(doors.settings.log) if record["kind"] == "decision"]
    assert record["decision_id"] == decision.decision_id
    assert record["propensity"] == decision.propensity
    assert sum(record["eligible"]["propensity"]) == pytest.approx(1.0, rel=1e-12)  # a sum of ten floats


def test_the_same_decision_id_gets_the_same_decision_and_costs_once(doors: Doors) -> None:
    first = doors.strategy.Decide(ask(decision_id="d-1"))
    doors.feedback.Record(feedback_pb2.RecordRequest(events=[order()]))
    assert doors.strategy.Decide(ask(decision_id="d-1")) == first
    assert len([record for record in read_log(doors.settings.log) if record["kind"] == "decision"]) == 1


def test_decide_after_an_event_sees_the_new_state(doors: Doors) -> None:
    before = doors.strategy.Decide(ask(max_candidates=10)).decision
    doors.feedback.Record(feedback_pb2.RecordRequest(events=[order()]))
    after = doors.strategy.Decide(ask(max_candidates=10)).decision
    assert (before.state_age_s, after.state_age_s) == (12 * DAY_S, 0)
    assert after.candidates != before.candidates


def test_a_sent_campaign_is_not_offered_again(doors: Doors) -> None:
    request = ask(max_candidates=100)
    offered = {candidate.action.campaign_id for candidate in doors.strategy.Decide(request).decision.candidates}
    assert offered == {"", "1", "2", "3"}
    sent = feedback_pb2.Exposure(
        event_id="x-1",
        shopper_id="shopper-3",
        time_s=AS_OF_S,
        channel=event_pb2.CHANNEL_PROMOTIONS,
        campaign_id="2",
    )
    doors.feedback.Record(feedback_pb2.RecordRequest(exposures=[sent]))
    offered = {candidate.action.campaign_id for candidate in doors.strategy.Decide(request).decision.candidates}
    assert offered == {"", "1", "3"}


def test_batch_answers_in_columns_and_an_unknown_shopper_spoils_its_own_row_only(doors: Doors) -> None:
    names = [f"shopper-{row % 20}" for row in range(300)] + ["nobody"]
    request = strategy_pb2.DecideBatchRequest(shopper_ids=names, time_s=AS_OF_S, batch_id="b")
    answer = doors.strategy.DecideBatch(request)
    known = strategy_pb2.ROW_STATUS_DECIDED
    assert list(answer.statuses) == [known] * 300 + [strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER]
    single = doors.strategy.Decide(ask("shopper-7", decision_id="b/7 again")).decision
    assert answer.actions[answer.action_index[7]].kind == single.action.kind
    assert answer.value_micros[7] == single.value_micros
    assert answer.runner_up_score_micros[7] == single.runner_up.score_micros
    shown = answer.item_index[answer.item_offsets[7] : answer.item_offsets[8]]
    assert [answer.item_ids[item] for item in shown] == list(single.action.item_ids)
    assert len(answer.item_offsets) == 302
    assert doors.strategy.DecideBatch(request) == answer


def test_free_actions_only_when_the_budget_is_spent(filled: Settings, tiny_triton: str) -> None:
    write_plan_of(filled, budget_micros=11_000)
    with open_doors(filled, tiny_triton) as doors:
        names = [f"shopper-{row}" for row in range(20)]
        answer = doors.strategy.DecideBatch(strategy_pb2.DecideBatchRequest(shopper_ids=names, time_s=AS_OF_S))
        assert 0 < sum(answer.cost_micros) <= 11_000
        decision = doors.strategy.Decide(ask()).decision
        assert decision.action.kind == strategy_pb2.ACTION_KIND_NOTHING
        assert decision.cost_micros == 0
        assert "beyond what is left of the budget" in " ".join(reason.words for reason in decision.reasons)
        spent = sum(answer.cost_micros)
    with open_doors(filled, tiny_triton) as doors:  # a new process knows what the old one spent
        assert doors.gateway.decider.states.spent_micros("plan-1") == spent


def test_nothing_that_costs_is_done_without_a_plan(filled: Settings, tiny_triton: str) -> None:
    shutil.rmtree(filled.plan)
    with open_doors(filled, tiny_triton) as doors:
        decision = doors.strategy.Decide(ask()).decision
        assert decision.action.kind == strategy_pb2.ACTION_KIND_NOTHING
        assert [reason.code for reason in decision.reasons][-1] == "no_plan"


def test_profile_is_bit_for_bit_what_training_computes(doors: Doors) -> None:
    happenings = [
        happening for happening in orders(doors.gateway.decider.repository.catalogue.items, 20)
        if happening.shopper_id == "shopper-3"
    ]  # fmt: skip
    table = {name: np.array([getattr(row, name) for row in happenings], dtype) for name, dtype in COLUMNS.items()}
    ledger = ledger_of(np.zeros(len(happenings), np.int64), 1, table)
    features, history = features_at(ledger, np.array([0]), np.array([AS_OF_S]))
    profile = doors.profile.Get(profile_pb2.GetRequest(shopper_id="shopper-3", time_s=AS_OF_S))
    served: list[float] = []
    for field in profile.features.DESCRIPTOR.fields:
        value = getattr(profile.features, field.name)
        if field.name != "item_history":
            served += [value] if isinstance(value, float) else list(value)
    assert np.array(served, np.float32).tobytes() == features[0].tobytes()
    assert list(profile.features.item_history) == history[0].tolist()
    assert len(served) == len(columns())
    assert profile.summary.n_orders == 5
    # Four float32 shares: their sum is 1 up to rounding.
    assert sum(profile.outlook.next_kind_prob) == pytest.approx(1.0, abs=1e-5)
    assert [tag.name for tag in profile.outlook.tags] == [tag.name for tag in FUTURE_TAGS]
    assert profile.outlook.expected_spend_90d_micros > 0
    assert [event.time_s for event in profile.latest_events] == [row.time_s for row in reversed(happenings)]


def test_recommendations_descend_and_say_why(doors: Doors) -> None:
    request = recommendation_pb2.RecommendRequest(shopper_id="shopper-3", time_s=AS_OF_S, limit=4)
    items = doors.recommendation.Recommend(request).items
    assert len(items) == 4
    probs = [item.purchase_prob for item in items]
    assert probs == sorted(probs, reverse=True)
    assert all(item.title in item.reason for item in items)


def test_an_event_counts_once_however_often_it_is_sent(doors: Doors) -> None:
    request = feedback_pb2.RecordRequest(events=[order(), order()])
    status = [result.status for result in doors.feedback.Record(request).events]
    assert status == [feedback_pb2.RECORD_STATUS_RECORDED, feedback_pb2.RECORD_STATUS_DUPLICATE]
    again = doors.feedback.Record(request).events
    assert {result.status for result in again} == {feedback_pb2.RECORD_STATUS_DUPLICATE}
    profile = doors.profile.Get(profile_pb2.GetRequest(shopper_id="shopper-3", time_s=AS_OF_S))
    assert profile.summary.n_orders == 6
    assert [record["event_id"] for record in read_log(doors.settings.log)] == ["event-1"]


def test_a_bad_row_is_refused_in_one_sentence_and_the_others_are_kept(doors: Doors) -> None:
    rows = [
        order("good"),
        order("negative", paid_micros=-3),
        order("nan", quantity=float("nan")),
        order("when", time_s=0),
        order("what", kind=event_pb2.EVENT_KIND_UNSPECIFIED),
        order("", paid_micros=1),
    ]
    outcome = feedback_pb2.Outcome(event_id="o", shopper_id="new", time_s=AS_OF_S)
    exposure = feedback_pb2.Exposure(
        event_id="x", shopper_id="new", time_s=AS_OF_S, channel=event_pb2.CHANNEL_ADS, propensity=1.5
    )
    answer = doors.feedback.Record(feedback_pb2.RecordRequest(events=rows, outcomes=[outcome], exposures=[exposure]))
    assert answer.events[0].status == feedback_pb2.RECORD_STATUS_RECORDED
    assert [result.problem for result in [*answer.events[1:], *answer.outcomes, *answer.exposures]] == [
        "paid_micros must be in [0, 1000000000000000], got -3 (event 'negative')",
        "quantity must be finite and in [0, 1e+09], got nan (event 'nan')",
        "time_s must be in [1, 7258118400], got 0 (event 'when')",
        "kind must be view, cart, order or refund, got 0 (event 'what')",
        "event_id must be set, got ''",
        "kind must be redemption, got 0 (event 'o')",
        "propensity must be in (0, 1], got 1.5 (event 'x')",
    ]


def test_a_shopper_begins_with_the_first_event(doors: Doors) -> None:
    redeemed = feedback_pb2.Outcome(
        event_id="o-1", shopper_id="new", time_s=AS_OF_S, kind=feedback_pb2.OUTCOME_KIND_REDEMPTION, offer_id="1:milk"
    )
    doors.feedback.Record(feedback_pb2.RecordRequest(outcomes=[redeemed]))
    assert doors.strategy.Decide(ask("new")).decision.shopper_id == "new"


def test_a_broken_field_is_invalid_argument(doors: Doors) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    decide, batch = doors.strategy.Decide, doors.strategy.DecideBatch
    assert problem_of(lambda: decide(strategy_pb2.DecideRequest())) == (invalid, "shopper_id must be set, got ''")
    assert problem_of(lambda: decide(ask(time_s=-1))) == (
        invalid,
        "time_s must be in [1, 7258118400], got -1 (shopper 'shopper-3')",
    )
    assert problem_of(lambda: decide(ask(max_candidates=101)))[0] == invalid
    assert problem_of(lambda: decide(ask("x" * 201)))[1] == "shopper_id must be at most 200 bytes, got 201"
    assert problem_of(lambda: batch(strategy_pb2.DecideBatchRequest()))[0] == invalid
    assert problem_of(lambda: doors.feedback.Record(feedback_pb2.RecordRequest()))[0] == invalid


def test_an_unknown_shopper_is_not_found(doors: Doors) -> None:
    not_found = grpc.StatusCode.NOT_FOUND
    sentence = "shopper_id must be known, got 'nobody'; record an event of the shopper first"
    assert problem_of(lambda: doors.strategy.Decide(ask("nobody"))) == (not_found, sentence)
    assert problem_of(lambda: doors.profile.Get(profile_pb2.GetRequest(shopper_id="nobody"))) == (not_found, sentence)
    request = recommendation_pb2.RecommendRequest(shopper_id="nobody")
    assert problem_of(lambda: doors.recommendation.Recommend(request)) == (not_found, sentence)


def test_a_decision_id_of_another_shopper_already_exists(doors: Doors) -> None:
    doors.strategy.Decide(ask("shopper-1", decision_id="d"))
    code, words = problem_of(lambda: doors.strategy.Decide(ask("shopper-2", decision_id="d")))
    assert code == grpc.StatusCode.ALREADY_EXISTS
    assert words == "decision_id must be new for another shopper, got 'd' of 'shopper-1' (shopper 'shopper-2')"


def test_without_a_triton_nothing_is_done_and_the_health_says_so(filled: Settings) -> None:
    with socket.socket() as closed:  # bound and never listening: nobody answers there
        closed.bind(("127.0.0.1", 0))
        with open_doors(filled, f"127.0.0.1:{closed.getsockname()[1]}") as doors:
            decision = doors.strategy.Decide(ask(decision_id="d")).decision
            assert decision.rung == strategy_pb2.RUNG_SAFE_DEFAULT
            assert decision.action.kind == strategy_pb2.ACTION_KIND_NOTHING
            assert health_of(doors) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert [record["rung"] for record in read_log(doors.settings.log)] == ["safe_default"]
            recommend = recommendation_pb2.RecommendRequest(shopper_id="shopper-3")
            code, words = problem_of(lambda: doors.recommendation.Recommend(recommend))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert words.startswith("Triton at 127.0.0.1:")
            # What is known needs no model; only the outlook is left out.
            profile = doors.profile.Get(profile_pb2.GetRequest(shopper_id="shopper-3", time_s=AS_OF_S))
            assert profile.summary.n_orders == 5
            assert not profile.HasField("outlook")


def health_of(doors: Doors) -> int:
    """What the gateway says of itself."""
    return health_pb2_grpc.HealthStub(doors.channel).Check(health_pb2.HealthCheckRequest()).status


def test_health_serves_and_reflection_lists_the_services(doors: Doors) -> None:
    watched = health_pb2_grpc.HealthStub(doors.channel).Watch(
        health_pb2.HealthCheckRequest(service="stratagem.v1.StrategyService")
    )
    assert any(answer.status == health_pb2.HealthCheckResponse.SERVING for answer in watched)
    watched.cancel()
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(doors.channel).ServerReflectionInfo(iter([request]))
    listed = {service.name for answer in answers for service in answer.list_services_response.service}
    names = {f"stratagem.v1.{name}Service" for name in ("Strategy", "Profile", "Recommendation", "Feedback")}
    assert listed >= names | {"grpc.health.v1.Health"}


def test_too_little_time_gets_the_safe_default_and_it_is_counted(filled: Settings, tiny_triton: str) -> None:
    hurried = filled.model_copy(update={"reserve_s": 1.0, "decide_within_s": 0.5, "bulk_within_s": 0.5})
    with open_doors(hurried, tiny_triton) as doors:
        decision = doors.strategy.Decide(ask()).decision
        assert decision.rung == strategy_pb2.RUNG_SAFE_DEFAULT
        assert decision.action.kind == strategy_pb2.ACTION_KIND_NOTHING
        assert decision.propensity == 1.0
        assert re.match(r"Nothing is done: [45]\d\d ms were left of the caller's time", decision.reasons[0].words)
        rows = doors.strategy.DecideBatch(strategy_pb2.DecideBatchRequest(shopper_ids=["shopper-1", "nobody"]))
        assert list(rows.rungs) == [strategy_pb2.RUNG_SAFE_DEFAULT, strategy_pb2.RUNG_UNSPECIFIED]
        assert doors.gateway.decider.rungs["safe_default"] == 2
        assert problem_of(lambda: doors.strategy.Decide(ask("nobody")))[0] == grpc.StatusCode.NOT_FOUND
        assert len(list(read_log(doors.settings.log))) == 2


def test_recommending_without_time_is_deadline_exceeded(filled: Settings, tiny_triton: str) -> None:
    hurried = filled.model_copy(update={"decide_within_s": 1e-9})
    with open_doors(hurried, tiny_triton) as doors:
        request = recommendation_pb2.RecommendRequest(shopper_id="shopper-3")
        assert problem_of(lambda: doors.recommendation.Recommend(request))[0] == grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_has_no_name_is_internal_without_a_traceback_in_the_answer(
    doors: Doors, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors.gateway.decider.states, "shopper", None)
    code, words = problem_of(lambda: doors.profile.Get(profile_pb2.GetRequest(shopper_id="shopper-3")))
    assert code == grpc.StatusCode.INTERNAL
    assert "NoneType" not in words
    assert "NoneType" in caplog.text


def test_a_closed_log_is_unavailable_and_nothing_is_taken(doors: Doors) -> None:
    doors.gateway.decider.log.close()
    code, words = problem_of(lambda: doors.feedback.Record(feedback_pb2.RecordRequest(events=[order()])))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert words.startswith("the log in")
    assert doors.gateway.decider.states.seen(["event-1"]) == [False]


def refusal(settings: Settings, triton: str) -> Problem:
    """What a gateway that cannot start says."""
    with pytest.raises(Problem) as raised, open_doors(settings, triton):
        pass
    assert str(raised.value).count("\n") == 0
    return raised.value


def test_a_port_in_use_is_said_in_one_sentence(doors: Doors, tmp_path: Path, tiny_triton: str) -> None:
    port = int(doors.gateway.address.rpartition(":")[2])
    paths = {"state": tmp_path / "other", "log": tmp_path / "other log", "port": port}
    problem = refusal(doors.settings.model_copy(update=paths), tiny_triton)
    assert isinstance(problem, PortInUse)
    assert f"got {port}" in str(problem)


def test_an_altered_file_of_the_repository_is_named_with_both_hashes(
    filled: Settings, tmp_path: Path, tiny_triton: str
) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(filled.repository, folder)
    with (folder / "predictions" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    problem = refusal(filled.model_copy(update={"repository": folder}), tiny_triton)
    assert isinstance(problem, WrongRepository)
    assert str(problem).startswith(f"sha256 of {folder / 'predictions' / '1' / 'model.onnx'} must be ")


def test_states_of_another_vocabulary_are_refused(filled: Settings, tmp_path: Path, tiny_triton: str) -> None:
    other = tmp_path / "other"
    fill(filled.model_copy(update={"state": other}))
    release = open_repository(filled.repository)
    with pytest.raises(
        WrongState, match=f"vocabulary of the states in {other} must be 123, .* got {release.vocabulary}"
    ):
        EmbeddedStates(other, "123", 64)


def test_a_plan_of_another_release_is_refused(filled: Settings, tiny_triton: str) -> None:
    write_plan_of(filled, release="000000000000")
    assert isinstance(refusal(filled, tiny_triton), WrongPlan)
    (filled.plan / "plan.json").write_text('{"plan_id": 3')
    assert isinstance(refusal(filled, tiny_triton), WrongPlan)


@contextmanager
def silent_triton() -> Iterator[str]:
    """A gRPC server that takes every call and answers none."""
    leave = threading.Event()

    class Silent(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: leave.wait() and b"")

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Silent()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        leave.set()
        server.stop(None).wait()


def test_a_triton_that_never_answers_gets_the_safe_default_within_the_deadline(filled: Settings) -> None:
    patient = filled.model_copy(update={"reserve_s": 0.7})  # much for the log, because this machine is shared
    with silent_triton() as triton, open_doors(patient, triton) as doors:
        decision = doors.strategy.Decide(ask(decision_id="d"), timeout=1.0).decision
        assert decision.rung == strategy_pb2.RUNG_SAFE_DEFAULT
        assert doors.strategy.Decide(ask(decision_id="d")).decision == decision
        assert [record["decision_id"] for record in read_log(doors.settings.log)] == ["d"]
