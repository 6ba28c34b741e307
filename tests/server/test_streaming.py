"""DecideStream over a real gateway: answered by id in any order, each problem its own, bounded, and cached at need."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from stratagem.v1 import strategy_pb2

from kernels.ledger import VIEW
from server.feedback import read_log
from server.gateway.strategy import LEAST_OPEN
from server.settings import Settings
from server.state.store import Happening
from tests.faults.own_triton import OwnTriton
from tests.faults.stage import within
from tests.server.conftest import write_plan_of
from tests.server.doors import N_SHOPPERS, PATIENT_S, Doors, open_doors
from tests.tiny_repository import AS_OF_S

ANSWERS_WITHIN_S = 30.0
NAMES = [f"shopper-{number}" for number in range(N_SHOPPERS)]


def ask(shopper_id: str = "shopper-3", **fields: object) -> strategy_pb2.DecideRequest:
    """A request at the time the tiny shop knows."""
    return strategy_pb2.DecideRequest(**{"shopper_id": shopper_id, "time_s": AS_OF_S} | fields)


class Asking:
    """A stream, ask by ask."""

    def __init__(self, doors: Doors, channel: grpc.Channel | None = None) -> None:
        self._asks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Bytes, so that a message can be wrong.
        method = (channel or doors.channel).stream_stream(
            "/stratagem.v1.StrategyService/DecideStream",
            response_deserializer=strategy_pb2.DecideStreamResponse.FromString,
        )
        self.call = method(iter(self._asks.get, None), timeout=ANSWERS_WITHIN_S)

    def send(self, call_id: int, request: strategy_pb2.DecideRequest, **fields: object) -> None:
        """Ask once."""
        self.send_bytes(
            strategy_pb2.DecideStreamRequest(call_id=call_id, request=request, **fields).SerializeToString()
        )

    def send_bytes(self, message: bytes) -> None:
        """Send something."""
        self._asks.put(message)

    def half_close(self) -> None:
        """Ask nothing more."""
        self._asks.put(None)

    def answers(self, n_answers: int) -> dict[int, strategy_pb2.DecideStreamResponse]:
        """The next ones by their id."""
        read = [next(self.call) for _ in range(n_answers)]
        told = {answer.call_id: answer for answer in read}
        assert len(told) == n_answers
        return told

    def rest(self) -> list[strategy_pb2.DecideStreamResponse]:
        """Everything up to the end."""
        self.half_close()
        return list(self.call)


def test_asks_are_answered_by_their_ids_as_single_calls_are(doors: Doors) -> None:
    stream = Asking(doors)
    for number, name in enumerate(NAMES):
        stream.send(2**63 + number, ask(name, decision_id=f"s-{number}", max_candidates=3))
    told = {answer.call_id - 2**63: answer.decision for answer in stream.rest()}
    assert stream.call.code() is StatusCode.OK
    assert sorted(told) == list(range(N_SHOPPERS))
    for number, name in enumerate(NAMES):
        single = doors.strategy.Decide(ask(name, decision_id=f"u-{number}", max_candidates=3)).decision
        single.decision_id = f"s-{number}"
        assert told[number] == single
        assert doors.strategy.Decide(ask(name, decision_id=f"s-{number}", max_candidates=3)).decision == single
    logged = [record["decision_id"] for record in read_log(doors.settings.log)]
    assert sorted(logged) == sorted(f"{way}-{number}" for way in "su" for number in range(N_SHOPPERS))


def test_each_problem_is_its_own_and_the_stream_goes_on(doors: Doors) -> None:
    stream = Asking(doors)
    stream.send(1, ask("nobody"))
    stream.send(2, ask(max_candidates=101))
    stream.send(3, ask(), within_ms=0)
    stream.send(4, ask(), within_ms=60_001)
    stream.send(5, ask("shopper-1", decision_id="d"))
    stream.send(6, ask(), within_ms=20_000)
    told = stream.answers(6)
    assert told[1].problem.code == StatusCode.NOT_FOUND.value[0]
    assert told[2].problem.code == StatusCode.INVALID_ARGUMENT.value[0]
    assert told[3].problem.words == "within_ms must be in [1, 60000], got 0"
    assert told[4].problem.words == "within_ms must be in [1, 60000], got 60001"
    assert not told[4].problem.HasField("retry_after_ms")
    assert told[6].decision.rung == strategy_pb2.RUNG_FULL
    stream.send(7, ask("shopper-2", decision_id="d"))
    assert stream.answers(1)[7].problem.code == StatusCode.ALREADY_EXISTS.value[0]
    assert stream.rest() == []
    assert stream.call.code() is StatusCode.OK


def test_whoever_asks_too_fast_is_told_when_to_ask_again(filled: Settings, tiny_triton: str) -> None:
    with open_doors(filled.model_copy(update={"rate_per_s": 0.01, "burst": 2}), tiny_triton) as doors:
        stream = Asking(doors)
        for number in range(3):
            stream.send(number, ask())
        told = stream.answers(3)
        assert [told[number].HasField("decision") for number in range(3)] == [True, True, False]
        assert told[2].problem.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert 50_000 < told[2].problem.retry_after_ms <= 200_000  # one row a hundred seconds
        stream.send_bytes(b"\xff\xff")  # neither an ask nor in time
        with pytest.raises(grpc.RpcError) as raised:
            next(stream.call)
        assert raised.value.code() is StatusCode.INVALID_ARGUMENT
        stream.half_close()


def test_a_message_that_is_no_ask_ends_the_stream(doors: Doors) -> None:
    stream = Asking(doors)
    stream.send(1, ask())
    stream.answers(1)
    stream.send_bytes(b"\xff\xff")
    with pytest.raises(grpc.RpcError) as raised:
        next(stream.call)
    assert raised.value.code() is StatusCode.INVALID_ARGUMENT
    assert "DecideStreamRequest" in raised.value.details()
    stream.half_close()
    assert within(ANSWERS_WITHIN_S, lambda: doors.gateway.server.n_open == 0)


def test_reasons_are_left_out_for_whoever_does_not_read_them(doors: Doors) -> None:
    stream = Asking(doors)
    stream.send(1, ask(decision_id="with"))
    stream.send(2, ask(decision_id="without", without_reasons=True))
    told = stream.answers(2)
    assert told[1].decision.reasons
    assert not told[2].decision.reasons
    assert told[1].decision.action == told[2].decision.action
    assert stream.rest() == []


def test_a_client_that_does_not_read_is_bounded_and_harms_nobody(doors: Doors) -> None:
    # The least that HTTP/2 takes in advance, and answers of a hundred candidates.
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
    with grpc.insecure_channel(doors.gateway.address, options=options) as channel:
        _leave_unread(doors, Asking(doors, channel), n_asks=2_000)


def _leave_unread(doors: Doors, stream: Asking, n_asks: int) -> None:
    for number in range(n_asks):
        stream.send(number, ask(NAMES[number % N_SHOPPERS], max_candidates=100))
    assert within(ANSWERS_WITHIN_S, lambda: sum(doors.gateway.decider.rungs.values()) > 20)
    is_at_rest = threading.Event()

    def rests() -> bool:
        before = sum(doors.gateway.decider.rungs.values())
        is_at_rest.wait(0.3)
        return sum(doors.gateway.decider.rungs.values()) == before

    assert within(ANSWERS_WITHIN_S, rests)
    assert sum(doors.gateway.decider.rungs.values()) < n_asks
    assert doors.gateway.waiting.n_waiting == 0
    assert doors.strategy.Decide(ask(), timeout=ANSWERS_WITHIN_S).decision.shopper_id == "shopper-3"
    assert len(stream.rest()) == n_asks  # read at last, it gets every answer


def test_many_streams_share_the_queue(filled: Settings, tiny_triton: str) -> None:
    with open_doors(filled.model_copy(update={"queue_rows": 64}), tiny_triton) as doors:
        streams = [Asking(doors) for _ in range(8)]
        for stream in streams:
            for number in range(100):
                stream.send(number, ask(NAMES[number % N_SHOPPERS]))
        for stream in streams:
            answers = stream.rest()
            assert len(answers) == 100
            # Half of sixty-four places are theirs: none is refused, although 800 asks came at once.
            assert all(answer.HasField("decision") for answer in answers)
        assert LEAST_OPEN * 8 <= 64


def test_a_vector_may_lag_behind_an_event_and_the_answer_says_so(filled: Settings, tiny_triton: str) -> None:
    with open_doors(filled.model_copy(update={"vector_bound_s": 600.0}), tiny_triton) as doors:
        stream = Asking(doors)
        stream.send(1, ask())
        assert stream.answers(1)[1].decision.vector_age_s == 0.0
        encoder = doors.gateway.decider.encoder
        # To the store, past the door that would have the vector made anew at once.
        doors.gateway.decider.states.apply([Happening("v", "shopper-3", AS_OF_S, VIEW, item=3)]).result()
        before = encoder.rows["waiting"]
        stream.send(2, ask())
        lagging = stream.answers(1)[2].decision
        assert 0.0 < lagging.vector_age_s < ANSWERS_WITHIN_S
        assert lagging.state_age_s == 0  # the features know the event at once
        assert encoder.rows["waiting"] == before + 1
        assert within(ANSWERS_WITHIN_S, lambda: encoder.rows["refreshed"] >= 1)
        stream.send(3, ask())
        assert stream.answers(1)[3].decision.vector_age_s == 0.0
        assert stream.rest() == []


@pytest.fixture
def own_triton(tiny_repository: Path) -> Iterator[OwnTriton]:
    """A Triton that may be killed."""
    triton = OwnTriton(tiny_repository)
    try:
        yield triton
    finally:
        triton.close()


def test_without_a_triton_the_known_get_cached_decisions_within_the_budget(
    filled: Settings, own_triton: OwnTriton
) -> None:
    with open_doors(filled, own_triton.address) as doors:
        (cost,) = doors.strategy.DecideBatch(
            strategy_pb2.DecideBatchRequest(shopper_ids=["shopper-3"], time_s=AS_OF_S)
        ).cost_micros
    assert cost > 0
    write_plan_of(filled, plan_id="plan-2", budget_micros=3 * cost)
    with open_doors(filled, own_triton.address) as doors:
        first = doors.strategy.Decide(ask(), timeout=PATIENT_S).decision
        assert (first.rung, first.cost_micros) == (strategy_pb2.RUNG_FULL, cost)
        own_triton.kill()
        stream = Asking(doors)
        stream.send(1, ask("shopper-4"))
        stream.send(2, ask())
        told = stream.answers(2)
        assert told[1].decision.rung == strategy_pb2.RUNG_SAFE_DEFAULT
        cached = told[2].decision
        assert (cached.rung, cached.action, cached.cost_micros) == (strategy_pb2.RUNG_CACHED, first.action, cost)
        assert 0.0 < cached.predictions_age_s < 60.0
        assert cached.reasons[0].code == "cached"
        costs = [cost, cost]
        for number in range(3, 8):
            stream.send(number, ask())
            costs.append(stream.answers(1)[number].decision.cost_micros)
        assert sum(costs) <= 3 * cost
        assert costs[-1] == 0
        assert stream.rest() == []
    rungs = [record["rung"] for record in read_log(doors.settings.log) if record["plan_id"] == "plan-2"]
    assert sorted(rungs) == ["cached"] * 6 + ["full", "safe_default"]
