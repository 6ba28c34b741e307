"""DecideBatch over a real gateway: packed or named, at one moment or many, in pieces, row by row as single calls."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from grpc import StatusCode
from stratagem.v1 import strategy_pb2

from kernels.ledger import VIEW
from server.feedback import read_log
from server.gateway.strategy import REMEMBERED_BATCHES
from server.settings import Settings
from server.state.store import Happening
from server.triton.client import MOST_DECISIONS
from tests.faults.relay import Relay
from tests.faults.stage import within
from tests.server.doors import N_SHOPPERS, PATIENT_S, Doors, open_doors
from tests.tiny_repository import AS_OF_S, DAY_S

Request = strategy_pb2.DecideBatchRequest
NAMES = [f"shopper-{number}" for number in range(N_SHOPPERS)]
DECIDED, UNKNOWN = strategy_pb2.ROW_STATUS_DECIDED, strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER
PER_ROW = (
    "statuses", "action_index", "value_micros", "cost_micros", "score_micros", "propensity", "runner_up_index",
    "runner_up_score_micros", "rungs", "state_age_s", "vector_age_s", "predictions_age_s",
)  # fmt: skip


def packed(names: list[str], **fields: object) -> strategy_pb2.DecideBatchRequest:
    """The same names, one behind the other."""
    keys = [name.encode() for name in names]
    ends = [sum(map(len, keys[: row + 1])) for row in range(len(keys))]
    return Request(shopper_keys=b"".join(keys), shopper_key_ends=ends, **fields)


def row_of(answer: strategy_pb2.DecideBatchResponse, row: int) -> tuple[object, ...]:
    """What one row says of the decision itself."""
    items = [
        answer.item_ids[item] for item in answer.item_index[answer.item_offsets[row] : answer.item_offsets[row + 1]]
    ]
    action = answer.actions[answer.action_index[row]]
    told = (action.kind, action.channel, action.offer_id, action.campaign_id, action.category, items)
    money = (answer.value_micros[row], answer.cost_micros[row], answer.score_micros[row], answer.propensity[row])
    return told, money, answer.rungs[row], answer.state_age_s[row], answer.runner_up_score_micros[row]


def told_by(decision: strategy_pb2.Decision) -> tuple[object, ...]:
    """The same of a single decision."""
    action = decision.action
    told = (
        action.kind, action.channel, action.offer_id, action.campaign_id, action.category, list(action.item_ids),
    )  # fmt: skip
    money = (decision.value_micros, decision.cost_micros, decision.score_micros, decision.propensity)
    return told, money, decision.rung, decision.state_age_s, decision.runner_up.score_micros


def refused(call: Callable[[], object]) -> tuple[StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


def test_packed_names_and_listed_names_are_the_same(doors: Doors) -> None:
    names = ["shopper-3", "nobody", "Käthe", *NAMES]
    listed = doors.strategy.DecideBatch(Request(shopper_ids=names, batch_id="a", time_s=AS_OF_S))
    told = doors.strategy.DecideBatch(packed(names, batch_id="b", time_s=AS_OF_S))
    told.batch_id = "a"
    assert told == listed
    assert list(listed.statuses) == [DECIDED, UNKNOWN, UNKNOWN] + [DECIDED] * N_SHOPPERS
    for column in PER_ROW:
        assert len(getattr(listed, column)) == len(names)
        assert column == "statuses" or getattr(listed, column)[1] == 0


def test_each_row_may_have_a_moment_of_its_own(doors: Doors) -> None:
    times_s = [AS_OF_S + day * DAY_S for day in range(N_SHOPPERS)]
    answer = doors.strategy.DecideBatch(Request(shopper_ids=NAMES, times_s=times_s))
    for row, (name, time_s) in enumerate(zip(NAMES, times_s, strict=True)):
        single = doors.strategy.Decide(strategy_pb2.DecideRequest(shopper_id=name, time_s=time_s)).decision
        assert row_of(answer, row) == told_by(single)
    assert list(answer.state_age_s) == [time_s - (AS_OF_S - 12 * DAY_S) for time_s in times_s]


def test_a_broken_column_is_named(doors: Doors) -> None:
    batch, invalid = doors.strategy.DecideBatch, StatusCode.INVALID_ARGUMENT
    cases = {
        "times_s must have one entry per row, 2, got 1": Request(shopper_ids=["a", "b"], times_s=[AS_OF_S]),
        "times_s must be in [1, 7258118400], got 0": Request(shopper_ids=["a", "b"], times_s=[AS_OF_S, 0]),
        "shopper_ids must be empty beside shopper_keys, got both": Request(
            shopper_ids=["a"], shopper_keys=b"a", shopper_key_ends=[1]
        ),
        "shopper_key_ends must ascend to 2, the length of shopper_keys, got 1": Request(
            shopper_keys=b"ab", shopper_key_ends=[1]
        ),
        "shopper_key_ends must ascend to 2, the length of shopper_keys, got 2": Request(
            shopper_keys=b"ab", shopper_key_ends=[2, 1, 2]
        ),
        "shopper_keys must be UTF-8 at every end, got bytes that are not": Request(
            shopper_keys="é".encode(), shopper_key_ends=[1, 2]
        ),
        "shopper_ids must be set, got '' (row 1)": Request(shopper_keys=b"ab", shopper_key_ends=[1, 1, 2]),
        "shopper_ids must be at most 200 bytes, got 201 (row 0)": Request(shopper_ids=["x" * 201]),
        "batch_id must be at most 180 bytes, got 181": Request(shopper_ids=["a"], batch_id="x" * 181),
        "shopper_ids must have between 1 and 100000 rows, got 100001": Request(
            shopper_keys=b"a" * 100_001, shopper_key_ends=range(1, 100_002)
        ),
    }
    for words, request in cases.items():
        assert refused(lambda request=request: batch(request)) == (invalid, words)  # type: ignore[misc]
    batch(Request(shopper_ids=["shopper-1"], batch_id="taken"))
    code, words = refused(lambda: batch(Request(shopper_ids=["shopper-2"], batch_id="taken")))
    assert (code, words) == (StatusCode.ALREADY_EXISTS, "batch_id must be new for other shoppers, got 'taken' again")


def test_pieces_together_are_the_single_decisions_and_a_repeat_is_the_same(doors: Doors) -> None:
    names = [NAMES[row % N_SHOPPERS] if row % 7 else f"nobody-{row}" for row in range(3_000)]
    assert len(names) > 2 * MOST_DECISIONS
    request = packed(names, batch_id="b", time_s=AS_OF_S)
    answer = doors.strategy.DecideBatch(request, timeout=PATIENT_S)
    assert doors.strategy.DecideBatch(request, timeout=PATIENT_S) == answer
    single = {
        name: told_by(doors.strategy.Decide(strategy_pb2.DecideRequest(shopper_id=name, time_s=AS_OF_S)).decision)
        for name in NAMES
    }
    for row, name in enumerate(names):
        assert answer.statuses[row] == (DECIDED if row % 7 else UNKNOWN)
        if row % 7:
            assert row_of(answer, row) == single[name]
    logged = [record["decision_id"] for record in read_log(doors.settings.log)]
    in_batch = [name for name in logged if name.startswith("b/")]
    assert sorted(in_batch) == sorted(f"b/{row}" for row in range(3_000) if row % 7)


def test_ages_of_vectors_and_predictions_are_told(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    lagging = filled.model_copy(update={"vector_bound_s": 600.0, "models_within_s": 1.0})
    with open_doors(lagging, relay.address) as doors:
        request = Request(shopper_ids=NAMES[:3], time_s=AS_OF_S)
        assert list(doors.strategy.DecideBatch(request).vector_age_s) == [0.0] * 3
        doors.gateway.decider.states.apply([Happening("v", "shopper-1", AS_OF_S, VIEW, item=3)]).result()
        answer = doors.strategy.DecideBatch(request)
        assert [age > 0.0 for age in answer.vector_age_s] == [False, True, False]
        for name in NAMES[:3]:  # what single asks were told is remembered; an audience is not
            doors.strategy.Decide(strategy_pb2.DecideRequest(shopper_id=name, time_s=AS_OF_S))
        relay.close()
        assert within(PATIENT_S, lambda: not doors.gateway.decider.watch.is_up)
        answer = doors.strategy.DecideBatch(Request(shopper_ids=NAMES[:4], time_s=AS_OF_S))
        assert list(answer.rungs) == [strategy_pb2.RUNG_CACHED] * 3 + [strategy_pb2.RUNG_SAFE_DEFAULT]
        assert all(0.0 < age < PATIENT_S for age in answer.predictions_age_s[:3])
        assert (answer.predictions_age_s[3], answer.propensity[3]) == (0.0, 1.0)


def test_a_batch_in_a_hurry_takes_the_models_from_nobody(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    with open_doors(filled, relay.address) as doors:
        relay.delay_s = 0.5
        request = Request(shopper_ids=NAMES, time_s=AS_OF_S)
        with suppress(grpc.RpcError):  # in time, or not quite
            doors.strategy.DecideBatch(request, timeout=0.05)
        decision = doors.strategy.Decide(
            strategy_pb2.DecideRequest(shopper_id="shopper-3", time_s=AS_OF_S), timeout=PATIENT_S
        ).decision
        assert decision.rung == strategy_pb2.RUNG_FULL
    relay.close()


def test_a_batch_that_is_still_being_decided_is_not_forgotten(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    with open_doors(filled, relay.address) as doors, ThreadPoolExecutor(2) as pool:
        doors.strategy.DecideBatch(Request(shopper_ids=NAMES, time_s=AS_OF_S))  # their vectors are made
        relay.delay_s = 3.0
        slow = Request(shopper_ids=NAMES, time_s=AS_OF_S, batch_id="slow")
        first = pool.submit(doors.strategy.DecideBatch, slow, timeout=PATIENT_S)
        assert within(PATIENT_S, lambda: doors.gateway.server.n_open == 1)
        for number in range(REMEMBERED_BATCHES + 1):  # nobody known: no model is asked
            doors.strategy.DecideBatch(Request(shopper_ids=["nobody"], batch_id=f"quick-{number}"))
        again = pool.submit(doors.strategy.DecideBatch, slow, timeout=PATIENT_S)
        assert first.result() == again.result()
        assert not first.running()
    relay.close()
    logged = [record["decision_id"] for record in read_log(filled.log)]
    assert len(logged) == len(set(logged))
    assert doors.gateway.decider.rungs["full"] == 2 * N_SHOPPERS
