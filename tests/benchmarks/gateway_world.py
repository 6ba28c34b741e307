"""The gateway as it is measured: a million shoppers in state, ten actions, the log on disk, TLS and a key.

In: a prepared workload. Out: a Triton and a gateway in processes of their own, on cores of their own, and what reaches
them. Used by tests/benchmarks/gateway.py and gateway_profile.py.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.access.keys import add_entry, new_key
from server.load.target import Target
from server.repository import open_repository
from server.settings import Settings
from server.triton.process import started
from tests.benchmarks.rivals.gateway.doors import Door, new_door
from tests.benchmarks.rivals.gateway.starting import pin
from tests.benchmarks.triton_door import variables_of
from tests.load.workload import FULL, Workload, prepared_workload
from tests.servers.ports import free_port

REPOSITORY = Path("model_repository")
# The gateway has a core to itself; Triton and the generator share the other.
OWN, OTHERS = frozenset({0}), frozenset({1})
N_ASKED = 20_000
STOPS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Asked:
    """What is asked.

    shopper_ids  drawn at random, all of one length
    """

    workload: Workload
    shopper_ids: list[str]
    at_s: int


@dataclass(frozen=True)
class Served:
    """A running gateway.

    pid      of its process
    metrics  URL of its Prometheus page
    ready_s  from the process's start to its first answer
    """

    target: Target
    pid: int
    metrics: str
    ready_s: float

    def counted(self) -> dict[str, float]:
        """Every number of the Prometheus page by its series."""
        with urllib.request.urlopen(self.metrics) as page:
            lines = page.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def asked_of(n_shoppers: int = FULL) -> Asked:
    """The workload, built where it is missing, and whom it is asked about.

    raises  FileNotFoundError  if nothing was exported
    """
    workload = prepared_workload(n_shoppers, REPOSITORY, lambda words: print(words, file=sys.stderr))
    drawn = np.random.default_rng(0).integers(0, n_shoppers, N_ASKED)
    return Asked(workload, [workload.shopper_id(int(shopper)) for shopper in drawn], workload.at_s)


def warmed(folder: Path) -> None:
    """Read a store once: what is measured is not how fast a disk finds a page for the first time."""
    with (folder / "data.mdb").open("rb") as file:
        while file.read(2**24):
            pass


@contextmanager
def triton_of(workload: Workload, cores: Collection[int] = OTHERS) -> Iterator[tuple[str, int]]:
    """Address and pid of a Triton that serves the workload's models."""
    served = open_repository(workload.repository).served
    with started(workload.repository, served) as running:
        pin(running.guard.pid, cores)
        yield running.address, running.guard.pid


@contextmanager
def guarded(folder: Path) -> Iterator[tuple[Door, Path]]:
    """A certificate, a key of a client and the file that knows its hash."""
    made = new_door(folder)
    keys = folder / "clients.toml"
    key, entry = new_key("bench", ["strategy", "feedback"])
    add_entry(keys, entry)
    yield Door(made.certificate, made.key, key), keys


@contextmanager
def gateway(
    workload: Workload, triton: str, guard: tuple[Door, Path] | None, cores: Collection[int] = OWN, **changes: object
) -> Iterator[Served]:
    """Run a gateway over the workload until the block ends.

    triton   address of a ready Triton
    guard    certificate, key and clients' file; None: clear text, anybody
    changes  further settings
    """
    with tempfile.TemporaryDirectory(prefix="gateway-", dir="build") as name:
        settings = workload.settings(Path(name) / "log", port=free_port(), metrics_port=free_port(), **changes)
        if guard is not None:
            door, keys = guard
            tls = {"tls_certificate": door.certificate, "tls_key": door.key, "api_keys": keys}
            settings = settings.model_copy(update=tls)
        with (Path(name) / "said").open("w") as said:
            yield from _running(settings, triton, guard, cores, said.fileno())


def _running(
    settings: Settings, triton: str, guard: tuple[Door, Path] | None, cores: Collection[int], said: int
) -> Iterator[Served]:
    began_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "server"],
        env=os.environ | variables_of(settings) | {"TRITON_URL": triton},
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )
    try:
        os.sched_setaffinity(process.pid, cores or os.sched_getaffinity(0))
        address = process.stdout.readline().strip() if process.stdout else ""
        if not address:
            raise FileNotFoundError(
                f"the gateway must listen, but it ended: {Path(f'/proc/self/fd/{said}').readlink()}"
            )
        target = Target(address) if guard is None else Target(address, guard[0].token, guard[0].certificate)
        with target.channel() as channel:
            strategy_pb2_grpc.StrategyServiceStub(channel).Decide(
                strategy_pb2.DecideRequest(shopper_id="shopper-0000001"),
                metadata=target.metadata,
                timeout=STOPS_WITHIN_S,
            )
        ready_s = time.monotonic() - began_s
        yield Served(target, process.pid, f"http://127.0.0.1:{settings.metrics_port}/metrics", ready_s)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def decided(target: Target, shopper_id: str, at_s: int, without_reasons: bool = False) -> strategy_pb2.DecideResponse:
    """One real answer, for servers that repeat it."""
    request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=at_s, without_reasons=without_reasons)
    with target.channel() as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        answer: strategy_pb2.DecideResponse = stub.Decide(request, metadata=target.metadata)
        return answer
