"""What the wire's generator says of a call is what a gRPC server did, over clear text and TLS."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.load.arrivals import Phase
from server.load.calls import Calls, Client, OpenLoop
from server.load.h2load import ClosedLoop, driven
from server.load.http2 import decoded_int, encoded_int
from server.load.open_loop import open_loop, put_on
from server.load.target import DECIDE, LoadFailed, Target, decide_bodies
from tests.requirements import missing, require_program

AT_S = 1_500_000_000
Decide = Callable[[strategy_pb2.DecideRequest, grpc.ServicerContext], strategy_pb2.DecideResponse]
CLIENTS: tuple[Client, ...] = ("wire", "grpc.aio")


class Strategy(strategy_pb2_grpc.StrategyServiceServicer):
    """A real gRPC server's door whose answer each test chooses."""

    def __init__(self, decide: Decide) -> None:
        self.Decide = decide


@contextmanager
def served(
    decide: Decide, credentials: grpc.ServerCredentials | None = None, n_open: int = 100
) -> Iterator[tuple[str, grpc.Server]]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_concurrent_streams", n_open)])
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(Strategy(decide), server)
    port = (
        server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    )
    server.start()
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        server.stop(None).wait()


def full(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
    decision = strategy_pb2.Decision(shopper_id=request.shopper_id, rung=strategy_pb2.RUNG_FULL)
    return strategy_pb2.DecideResponse(decision=decision)


def asked(target: Target, rate_per_s: float = 200.0, **changes: object) -> Calls:
    load = OpenLoop(**({"phases": (Phase(rate_per_s, 0.5),), "deadline_s": 20.0, "n_channels": 2} | changes))
    return put_on(target, ["shopper-1", "shopper-2"], AT_S, load)


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_whole_numbers_of_header_fields_come_back(value: int, prefix_bits: int) -> None:
    written = encoded_int(value, prefix_bits, 0)
    assert decoded_int(written, 0, prefix_bits) == (value, len(written))


@pytest.mark.parametrize("client", CLIENTS)
def test_every_call_is_answered_once_and_timed(client: Client) -> None:
    with served(full) as (address, _):
        calls = asked(Target(address), client=client)
    n_calls = calls.figures["n_calls"]
    assert n_calls > 50
    assert calls.statuses == {"OK": n_calls}
    assert calls.rungs == {"full": n_calls}
    assert (calls.timeline.sent_s >= calls.timeline.intended_s).all()
    assert (calls.timeline.ended_s > calls.timeline.sent_s).all()


@pytest.mark.parametrize("key", ["short", "k" * 5_000])  # the second leaves no room for a table of fields
def test_a_call_that_waits_in_line_says_what_is_left_of_its_time(key: str) -> None:
    left_s: list[float] = []

    def slow(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        left_s.append(context.time_remaining())
        time.sleep(0.1)
        return full(request, context)

    with served(slow, n_open=1) as (address, _):
        target = Target(address, key)
        calls = asked(target, rate_per_s=100.0, phases=(Phase(100.0, 0.3),), deadline_s=0.55, n_channels=1)
    n_answered = calls.statuses["OK"]
    assert 3 <= n_answered <= 9  # the last call comes after 0.3 s and has 0.55 s, and each takes 0.1 s
    assert calls.statuses["DEADLINE_EXCEEDED"] == calls.figures["n_calls"] - n_answered
    waited_s = [0.55 - left for left in left_s[1:n_answered]]
    assert waited_s == sorted(waited_s)
    assert waited_s[1] > 0.1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_is_told_with_its_status(client: Client) -> None:
    def decide(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        if request.shopper_id == "shopper-1":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        return full(request, context)

    with served(decide) as (address, _):
        statuses = asked(Target(address), client=client).statuses
    assert set(statuses) == {"OK", "RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_that_nobody_answers_ends_with_its_deadline(client: Client) -> None:
    release = threading.Event()

    def decide(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        release.wait(30)
        return full(request, context)

    with served(decide) as (address, _):
        calls = asked(Target(address), rate_per_s=10.0, deadline_s=0.2, client=client)
        release.set()
    assert calls.statuses == {"DEADLINE_EXCEEDED": calls.figures["n_calls"]}


@pytest.mark.parametrize("token", ["", "short", "t" * 900, "t" * 5_000])
def test_every_call_carries_the_token(token: str) -> None:
    """The first request tells the fields and later ones refer to them; one too long for that is told each time."""
    seen = set()

    def decide(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        seen.add((dict(context.invocation_metadata()).get("authorization"), request.time_s))
        return full(request, context)

    with served(decide) as (address, _):
        calls = asked(Target(address, token))
    assert set(calls.statuses) == {"OK"}
    assert seen == {(f"Bearer {token}" if token else None, AT_S)}


def test_more_calls_than_the_server_takes_at_once_wait_in_line() -> None:
    open_now, most, lock, release = 0, 0, threading.Lock(), threading.Event()

    def decide(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        nonlocal open_now, most
        with lock:
            open_now, most = open_now + 1, max(most, open_now + 1)
        release.wait(0.01)
        with lock:
            open_now -= 1
        return full(request, context)

    with served(decide) as (address, _):
        calls = asked(Target(address), rate_per_s=2_000.0, n_channels=1)
    assert set(calls.statuses) == {"OK"}
    assert most == 8


class After:
    """Answers, and does something once when the n-th call has come."""

    def __init__(self, n_calls: int, then: Callable[[], object]) -> None:
        self._left, self._lock, self._then = n_calls, threading.Lock(), then
        self.is_done = threading.Event()

    def __call__(
        self, request: strategy_pb2.DecideRequest, context: grpc.ServicerContext
    ) -> strategy_pb2.DecideResponse:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                threading.Thread(target=self._do).start()
        return full(request, context)

    def _do(self) -> None:
        self._then()
        self.is_done.set()


def test_a_server_that_leaves_is_followed_to_its_successor() -> None:
    """The old one drains while the new one listens on the same port."""
    successor = grpc.server(ThreadPoolExecutor(8))
    strategy_pb2_grpc.add_StrategyServiceServicer_to_server(Strategy(full), successor)

    def replace() -> None:
        successor.add_insecure_port(address)
        successor.start()
        server.stop(5.0).wait()

    decide = After(50, replace)
    with served(decide) as (address, server):
        calls = asked(Target(address), phases=(Phase(300.0, 1.0),))
        assert decide.is_done.wait(20)
        successor.stop(None).wait()
    # grpc's server in Python cancels what it has read but not begun when it is told to stop, a call or two.
    assert calls.statuses["OK"] >= calls.figures["n_calls"] - 8
    assert set(calls.statuses) <= {"OK", "CANCELLED"}


def test_calls_to_a_server_that_is_gone_are_unavailable_and_later_ones_too() -> None:
    decide = After(50, lambda: server.stop(None).wait())
    with served(decide) as (address, server):
        calls = asked(Target(address), phases=(Phase(200.0, 1.0),))
    assert set(calls.statuses) <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert calls.statuses["OK"] >= 40
    assert calls.statuses["UNAVAILABLE"] > 10


def test_nobody_listening_is_said_in_one_sentence() -> None:
    with served(full) as (address, _):
        pass
    with pytest.raises(LoadFailed, match=r"127.0.0.1:\d+ must listen, got: .*refused"):
        asked(Target(address))


def test_too_many_calls_are_refused_before_any_is_sent() -> None:
    with pytest.raises(LoadFailed, match="calls must be at most 100, got about 500"):
        asked(Target("127.0.0.1:1"), phases=(Phase(500.0, 1.0),), most_calls=100)


def test_a_generator_that_cannot_keep_up_does_not_report() -> None:
    load = OpenLoop(phases=(Phase(100_000.0, 0.1),), deadline_s=0.1, client="grpc.aio")
    with served(full) as (address, _), pytest.raises(LoadFailed, match="generator must send within 10 ms"):
        open_loop(Target(address), ["shopper-1"], AT_S, load)


def test_generators_share_the_load() -> None:
    with served(full) as (address, _):
        calls = asked(Target(address), n_processes=2)
    assert set(calls.statuses) == {"OK"}
    assert (calls.timeline.intended_s[1:] >= calls.timeline.intended_s[:-1]).all()
    assert calls.figures["n_calls"] == pytest.approx(100, abs=40)


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_is_spoken_and_checked(tmp_path: Path, client: Client) -> None:
    key, certificate = self_signed(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    with served(full, credentials) as (address, _):
        calls = asked(Target(address, "token", certificate), client=client)
    assert set(calls.statuses) == {"OK"}


def test_h2load_speaks_tls_and_carries_the_token(tmp_path: Path) -> None:
    require_program("h2load", "nghttp2-client")
    seen = set()

    def decide(request: strategy_pb2.DecideRequest, context: grpc.ServicerContext) -> strategy_pb2.DecideResponse:
        seen.add((dict(context.invocation_metadata()).get("authorization"), request.shopper_id))
        return full(request, context)

    key, certificate = self_signed(tmp_path)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    bodies = decide_bodies(["shopper-1", "shopper-2", "shopper-3"], AT_S)
    with served(decide, credentials) as (address, _):
        loop = ClosedLoop(1, 2, seconds=0.5, warm_s=0.1, deadline_s=20.0)
        answered = driven(Target(address, "token", certificate), DECIDE, bodies, loop)
    assert answered.latency_s.size > 10
    assert seen == {("Bearer token", f"shopper-{place}") for place in (1, 2, 3)}


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed (Debian package openssl)")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate
