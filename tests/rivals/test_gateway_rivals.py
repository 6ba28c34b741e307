"""The gateway's rivals are real servers: each answers the contract, keeps to its core, and is gone with its block."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc
from tritonclient.grpc import service_pb2

from server.triton.client import HEAD_OUTPUTS
from server.triton.messages import arrays_of
from tests.benchmarks.rivals.gateway import messages, ten_actions
from tests.benchmarks.rivals.gateway.answers import WrongAnswers, check_answers
from tests.benchmarks.rivals.gateway.doors import Door, Server, new_door
from tests.benchmarks.rivals.gateway.driver import (
    DEBIAN_PACKAGE,
    Load,
    alternated,
    alternated_rates,
    driven,
    requests_per_s,
)
from tests.benchmarks.rivals.gateway.ensemble import ENSEMBLE, heads_of
from tests.benchmarks.rivals.gateway.starting import (
    ECHOES,
    RivalFailed,
    echo,
    naive,
    ray_serve,
    triton_ensemble,
)
from tests.requirements import require_program
from tests.server.triton.processes import descendants, ends_within

WITHIN_S = 10.0
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No test leaves a process that was not there before, Triton of the session aside."""
    before = set(descendants(os.getpid()))
    yield
    assert ends_within(sorted(set(descendants(os.getpid())) - before), WITHIN_S)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """A certificate and a token for every echo here."""
    require_program("openssl", "openssl")
    return new_door(tmp_path_factory.mktemp("door"))


def decide(server: Server, request: strategy_pb2.DecideRequest) -> strategy_pb2.Decision:
    """The answer of a server in clear text."""
    with grpc.insecure_channel(server.address) as channel:
        return strategy_pb2_grpc.StrategyServiceStub(channel).Decide(request, timeout=WITHIN_S).decision


@pytest.mark.parametrize("kind", ECHOES)
def test_an_echo_answers_what_it_was_given_to_whoever_brings_its_token(kind: str, door: Door) -> None:
    answer = messages.typical_answer()
    answer.decision.decision_id = kind
    asks = messages.stream_body(3)
    with echo(kind, door, cores=[CORE], answer=answer) as server:
        told = check_answers(server, messages.DECIDE, messages.decide_body(), answer.ByteSize())
        streamed = check_answers(server, messages.DECIDE_STREAM, asks, answer.ByteSize())
        stranger = replace(server, door=replace(door, token="guessed"))
        for path in (messages.DECIDE, messages.DECIDE_STREAM):
            with pytest.raises(WrongAnswers, match="UNAUTHENTICATED"):
                check_answers(stranger, path, messages.decide_body(), 0)
        affinity = os.sched_getaffinity(server.pid)
    assert [strategy_pb2.DecideResponse.FromString(message) for message in told] == [answer]
    answers = [strategy_pb2.DecideStreamResponse.FromString(message) for message in streamed]
    assert [(each.call_id, each.decision) for each in answers] == [(call, answer.decision) for call in (1, 2, 3)]
    assert affinity == {CORE}
    assert not Path(f"/proc/{server.pid}").exists()


@pytest.mark.parametrize("kind", ECHOES)
def test_an_echo_without_a_door_answers_in_clear_text(kind: str) -> None:
    with echo(kind) as server:
        assert decide(server, messages.decide_request()) == messages.typical_answer().decision


def test_a_rival_that_does_not_come_up_says_why() -> None:
    with pytest.raises(RivalFailed, match="KeyError: 'no such kind'"), echo("no such kind"):
        pass


def test_the_naive_server_answers_the_best_of_ten_actions(tiny_triton: str, tiny_repository: Path) -> None:
    request = messages.decide_request("shopper-7")
    with naive(tiny_triton, tiny_repository, cores=[CORE]) as server:
        decision = decide(server, request)
    assert decision == expected_of(tiny_repository, request)


@pytest.mark.skipif(os.environ.get("STRATAGEM_RAY") != "1", reason="installs 600 MB; see issue 5, 2026-11")
@pytest.mark.parametrize("is_direct", [False, True])
def test_ray_serve_answers_the_best_of_ten_actions(tiny_repository: Path, is_direct: bool) -> None:
    load = Load(messages.DECIDE, messages.decide_body("shopper-7"), 0.2, 1, 4)
    expected = expected_of(tiny_repository, messages.decide_request("shopper-7"))
    with ray_serve(tiny_repository, is_direct) as server:
        # Its address exists only beside it, so that the answer's size is what can be compared from here.
        answer_bytes = strategy_pb2.DecideResponse(decision=expected).ByteSize()
        assert requests_per_s(server, replace(load, answer_bytes=answer_bytes)) > 0
        with pytest.raises(WrongAnswers):
            requests_per_s(server, replace(load, answer_bytes=answer_bytes + 1))
        network = network_of(server.pid)
        assert len(living_in(network)) > 3
    # Ray's daemons leave their parent; their network namespace tells them apart from everybody else.
    assert ends_within(living_in(network), WITHIN_S)


def network_of(pid: int) -> str:
    """The network namespace that a process lives in; nothing, if it has ended or is not ours to look at."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def living_in(network: str) -> list[int]:
    """Processes of one network namespace."""
    return [pid for pid in (int(file.name) for file in Path("/proc").glob("[0-9]*")) if network_of(pid) == network]


def expected_of(repository: Path, request: strategy_pb2.DecideRequest) -> strategy_pb2.Decision:
    """What the ten actions come to by ONNX Runtime in this process."""
    folder = repository / heads_of(repository) / "1"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    tensors = ten_actions.KnownRows(folder / "self_test.npz").of([request])
    heads = dict(zip(ten_actions.OUTPUTS, session.run(ten_actions.OUTPUTS, tensors), strict=True))
    return ten_actions.responses([request], heads)[0].decision


@pytest.mark.usefixtures("triton_environment")
def test_the_bare_ensemble_answers_what_its_heads_say(tiny_repository: Path) -> None:
    heads = heads_of(tiny_repository)
    body = messages.framed([messages.infer_request(ENSEMBLE)])
    with triton_ensemble(tiny_repository, cores=[CORE]) as server:
        (told,) = check_answers(server, messages.MODEL_INFER, body, 1)
        affinities = [os.sched_getaffinity(pid) for pid in (server.pid, *descendants(server.pid))]
    answers = arrays_of(service_pb2.ModelInferResponse.FromString(told))
    with np.load(tiny_repository / heads / "1" / "self_test.npz") as known:
        for name in HEAD_OUTPUTS.keys() & answers.keys():
            # ONNX Runtime answered both; a batch of one and of three may be summed in another order.
            np.testing.assert_allclose(answers[name], known[f"out_{name}"][:1], rtol=1e-5, atol=1e-6)
    assert {"redeem_prob", "category_prob"} <= answers.keys()
    assert set(map(frozenset, affinities)) == {frozenset({CORE})}


def test_the_driver_counts_every_message_of_every_kind_of_call(door: Door) -> None:
    require_program("h2load", DEBIAN_PACKAGE)
    size = messages.typical_answer().ByteSize()
    unary = Load(messages.DECIDE, messages.decide_body(), 0.2, 1, 4, size)
    stream = Load(messages.DECIDE_STREAM, messages.stream_body(200), 0.2, 1, 2, size)
    with echo("wire", door) as server:
        drives = {"unary": lambda: requests_per_s(server, unary), "stream": lambda: requests_per_s(server, stream)}
        rates = alternated_rates(drives, 2)
        _, costs = alternated({"unary": lambda: driven(server, unary)}, 1)
    assert {name: (taken.shape, bool((taken > 0).all())) for name, taken in rates.items()} == {
        "unary": ((2,), True),
        "stream": ((2,), True),
    }
    assert costs["unary"][0] > 1  # a microsecond: no server of ours is that fast


def test_the_driver_refuses_a_figure_made_of_refusals(door: Door) -> None:
    require_program("h2load", DEBIAN_PACKAGE)
    load = Load(messages.DECIDE, messages.decide_body(), 0.1, 1, 4)
    with echo("threads_2", door) as server, pytest.raises(WrongAnswers, match="UNAUTHENTICATED"):
        requests_per_s(replace(server, door=replace(door, token="guessed")), load)


def test_the_driver_refuses_answers_that_are_too_short(door: Door) -> None:
    require_program("h2load", DEBIAN_PACKAGE)
    size = messages.typical_answer().ByteSize()
    load = Load(messages.DECIDE, messages.decide_body(), 0.1, 1, 4, size + 1)
    with echo("threads_2", door) as server, pytest.raises(WrongAnswers, match=f"must have {size + 1} bytes"):
        requests_per_s(server, load)
