"""Several workers on one port: what dies is started again, what is replaced costs no call, nothing is left behind."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc
from stratagem_client import Client, Deadlines

from server.feedback import read_log, writers_of
from server.settings import Settings
from tests.server.doors import N_SHOPPERS, PATIENT_S
from tests.server.supervised import started, supervised, until
from tests.server.triton.processes import ends_within
from tests.tiny_repository import AS_OF_S

AGE_S = 1.0  # so that a rolling restart takes seconds
# What gRPC itself repeats where a client's owner asks for it.
POLICY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
UNDER_WAY = 100
ALONE = ("grpc.use_local_subchannel_pool", 1)  # else channels of one address share one connection, and so one worker
# A connection that was refused is tried again after a second by default: later than five attempts of a call.
REPEATING: list[tuple[str, object]] = [
    ("grpc.service_config", json.dumps(POLICY)),
    ("grpc.initial_reconnect_backoff_ms", 100),
]
PATIENT = Deadlines(PATIENT_S, PATIENT_S, PATIENT_S, PATIENT_S)


@dataclass
class Tally:
    """What callers were told."""

    decided: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    is_over: bool = False


def ask(number: int, caller: str) -> strategy_pb2.DecideRequest:
    """The caller's next ask."""
    shopper_id = f"shopper-{number % N_SHOPPERS}"
    return strategy_pb2.DecideRequest(shopper_id=shopper_id, decision_id=f"{caller}-{number}", time_s=AS_OF_S)


Asking = Callable[[strategy_pb2.DecideRequest], Awaitable[str]]


async def call_on(tally: Tally, caller: str, asking: Asking) -> None:
    """Ask one after another until it is over."""
    number = 0
    while not tally.is_over:
        number += 1
        try:
            tally.decided.append(await asking(ask(number, caller)))
        except grpc.aio.AioRpcError as error:
            tally.failed.append(f"{caller}: {error.code().name}: {error.details()}")


async def plain_calls(tally: Tally, address: str, caller: str, options: list[tuple[str, object]]) -> None:
    """Calls over gRPC's own client, four at a time on one connection."""
    async with grpc.aio.insecure_channel(address, options=[ALONE, *options]) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)

        async def asking(request: strategy_pb2.DecideRequest) -> str:
            return str((await stub.Decide(request, timeout=PATIENT_S)).decision.decision_id)

        await asyncio.gather(*[call_on(tally, f"{caller}-{n}", asking) for n in range(4)])


async def short_connections(tally: Tally, address: str) -> None:
    """A new connection for every call."""
    number = 0
    while not tally.is_over:
        number += 1
        async with grpc.aio.insecure_channel(address, options=[ALONE]) as channel:
            try:
                answer = await strategy_pb2_grpc.StrategyServiceStub(channel).Decide(ask(number, "short"), timeout=10)
                tally.decided.append(answer.decision.decision_id)
            except grpc.aio.AioRpcError as error:
                tally.failed.append(f"short: {error.code().name}: {error.details()}")


async def typed_calls(tally: Tally, address: str) -> None:
    """Calls and a stream over our own client, which repeats by itself."""
    async with Client(address, deadlines=PATIENT) as client, client.stream(most_open=8) as stream:

        async def single(request: strategy_pb2.DecideRequest) -> str:
            return str((await client.decide(request)).decision_id)

        async def streamed(request: strategy_pb2.DecideRequest) -> str:
            return str((await stream.submit(request)).decision_id)

        await asyncio.gather(
            *[call_on(tally, f"typed-{n}", single) for n in range(4)],
            *[call_on(tally, f"stream-{n}", streamed) for n in range(4)],
        )


async def under_load(address: str, happening: Callable[[], None], calls: list[str]) -> Tally:
    """Callers of several kinds while something happens, once all are under way."""
    tally = Tally()
    kinds = {
        "bare": lambda: plain_calls(tally, address, "bare", []),
        "policy": lambda: plain_calls(tally, address, "policy", REPEATING),
        "short": lambda: short_connections(tally, address),
        "typed": lambda: typed_calls(tally, address),
    }

    async def end() -> None:
        try:
            await asyncio.to_thread(until, lambda: len(tally.decided) > UNDER_WAY)
            await asyncio.to_thread(happening)
        finally:
            tally.is_over = True

    await asyncio.gather(*[kinds[name]() for name in calls], end())
    return tally


def test_a_rolling_restart_fails_no_call(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said", connection_age_s=AGE_S) as server:
        first = set(server.workers())

        def restart() -> None:
            server.process.send_signal(signal.SIGHUP)
            until(lambda: len(server.workers()) == 2 and not first & set(server.workers()))

        tally = asyncio.run(under_load(server.address, restart, ["bare", "policy", "short", "typed"]))
    assert tally.failed == []
    assert len(tally.decided) > 100
    logged = [record["decision_id"] for record in read_log(filled.log)]
    assert set(tally.decided) <= set(logged)
    assert "Traceback" not in server.said()


def test_a_killed_worker_is_started_again_and_patient_clients_notice_nothing(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said", connection_age_s=AGE_S) as server:
        victim, _ = server.workers()

        def kill() -> None:
            os.kill(victim, signal.SIGKILL)
            until(lambda: server.said().count("listening on") == 3)

        tally = asyncio.run(under_load(server.address, kill, ["policy", "typed"]))
        assert victim not in server.workers()
    assert tally.failed == []
    assert "ended with status -9" in server.said()
    assert set(tally.decided) <= {record["decision_id"] for record in read_log(filled.log)}


def test_no_worker_outlives_a_killed_supervisor(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said") as server:
        family = server.family()
        files = [os.pidfd_open(pid) for pid in family]
        server.process.kill()
        assert ends_within(family, 30.0)
        for file in files:
            os.close(file)
    assert len(family) == 2


def test_all_drain_and_the_server_ends_well_when_told_to(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        with supervised(filled, tiny_triton, tmp_path / "said") as server:
            family = server.family()
            server.process.send_signal(name)
            assert server.process.wait(30) == 0
            assert ends_within(family, 1.0)
        assert "Traceback" not in server.said()


def test_every_worker_has_a_log_and_a_core_of_its_own(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said", pin_cores=True) as server:
        cores = [os.sched_getaffinity(pid) for pid in server.workers()]
        with ExitStack() as stack:
            channels = [stack.enter_context(grpc.insecure_channel(server.address, options=[ALONE])) for _ in range(40)]
            for number, channel in enumerate(channels):
                strategy_pb2_grpc.StrategyServiceStub(channel).Decide(ask(number, "call"), timeout=PATIENT_S)
    assert all(len(own) == 1 for own in cores)
    n_cores = len(os.sched_getaffinity(0))
    assert len(set.union(*cores)) == min(2, n_cores)
    # Each of 40 connections goes to either worker: all to one would be a chance of 2 in 10^12.
    assert [any(folder.glob("*.log")) for folder in writers_of(filled.log)] == [True, True]
    assert len(list(read_log(filled.log))) == 40


def test_a_port_that_is_taken_is_said_before_anything_starts(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(filled, tiny_triton, tmp_path / "said", workers=2, port=port) as process:
            assert process.wait(60) == 1
    said = (tmp_path / "said").read_text()
    assert said.splitlines() == [f"STRATAGEM_PORT must be free, got {port}: something else listens on 127.0.0.1:{port}"]
    assert not filled.log.exists()


def test_a_server_with_workers_keeps_its_port_to_itself(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said") as server:
        port = int(server.address.rpartition(":")[2])
        with started(filled, tiny_triton, tmp_path / "second", workers=2, port=port) as second:
            assert second.wait(60) == 1
    assert "STRATAGEM_PORT must be free" in (tmp_path / "second").read_text()


def test_what_every_worker_lacks_is_said_once_and_ends_the_server(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    (filled.plan / "plan.json").write_text("{}")
    with started(filled, tiny_triton, tmp_path / "said", workers=2) as process:
        assert process.wait(60) == 1
    assert "plan" in (tmp_path / "said").read_text().splitlines()[-1]


def test_a_worker_that_ends_again_and_again_ends_the_server(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said") as server:
        keeps, _ = server.workers()

        def kill_the_other() -> bool:
            for pid in server.workers():
                if pid != keeps:
                    os.kill(pid, signal.SIGKILL)
            return server.process.poll() is not None

        until(kill_the_other)
        assert server.process.wait(30) == 1
    rule = "a worker must live for 30 s, got 5 in a row that did not"
    assert server.said().splitlines()[-1].startswith(f"{rule}; the last words: it ended with status -9")


def test_a_rolling_restart_that_cannot_go_on_leaves_who_serves(
    filled: Settings, tiny_triton: str, tmp_path: Path
) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said", connection_age_s=AGE_S) as server:
        before = server.workers()
        plan = (filled.plan / "plan.json").read_bytes()
        (filled.plan / "plan.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "the rolling restart ends" in server.said())
        assert server.workers() == before
        (filled.plan / "plan.json").write_bytes(plan)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len(server.workers()) == 2 and not set(before) & set(server.workers()))


def test_signals_during_a_rolling_restart_are_heeded(filled: Settings, tiny_triton: str, tmp_path: Path) -> None:
    with supervised(filled, tiny_triton, tmp_path / "said", connection_age_s=AGE_S) as server:
        for _ in range(3):
            server.process.send_signal(signal.SIGHUP)
        until(lambda: "is replaced" in server.said())
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert ends_within(family, 1.0)
