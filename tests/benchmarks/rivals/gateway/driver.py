"""Drives any gRPC server by h2load and tells its requests/s; what is counted are answers, not HTTP statuses.

In: a Server and a Load. Out: answers per second. gRPC reports a failed call inside a successful HTTP response, which
h2load cannot see: so every run is checked by the bytes that came back, and by a call of our own before and after.
Called by tests.benchmarks gateway and `python -m tests.benchmarks.rivals.gateway`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.rivals.gateway.answers import PREFIX, WrongAnswers, check_answers, unframed
from tests.benchmarks.rivals.gateway.doors import Server

DEBIAN_PACKAGE = "nghttp2-client"
ROOT = Path(__file__).resolve().parents[4]
# Rounds of every stream at once, before anything is counted.
N_WARM_ROUNDS = 20
SAID = re.compile(
    r"finished in \S+, (?P<rate>[\d.]+) req/s.*?"
    r"^requests: (?P<outcome>.*?(?P<succeeded>\d+) succeeded[^\n]*).*?\((?P<bytes>\d+)\) data$",
    re.DOTALL | re.MULTILINE,
)

Rates = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Load:
    """What h2load sends.

    path          "/package.Service/Method"
    body          framed messages; more than one is a stream
    within_s      how long the counted part takes, roughly
    n_clients     connections
    n_streams     calls in flight on each
    answer_bytes  the least that one message's answer has, without its prefix
    """

    path: str
    body: bytes
    within_s: float = 3.0
    n_clients: int = 4
    n_streams: int = 32
    answer_bytes: int = 1

    @cached_property
    def n_messages(self) -> int:
        """Asks in one call."""
        return sum(1 for _ in unframed(self.body))

    @property
    def n_in_flight(self) -> int:
        """Calls in flight over all connections."""
        return self.n_clients * self.n_streams


@dataclass(frozen=True)
class Driven:
    """One measurement.

    requests_per_s  messages answered per second
    cpu_us          CPU time that the server and its children spent on one of them, microseconds: where cores are
                    shared with others it repeats far better, and 1e6 / cpu_us is the rate of a core of its own
    """

    requests_per_s: float
    cpu_us: float


def driven(server: Server, load: Load, *, cores: Collection[int] = ()) -> Driven:
    """Warm a server up, count its answers for a while, and tell how many came per second and what they cost.

    server   to be driven
    load     what is sent
    cores    h2load keeps to these; none: to no particular ones
    raises   WrongAnswers  if a single call failed or an answer was too short; FileNotFoundError  without h2load
    """
    _check(server, load)
    with tempfile.TemporaryDirectory(prefix="h2load-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(load.body)
        command = _command(server, load, body)
        if cores:
            command = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
        guess = _counted(command, load, N_WARM_ROUNDS * load.n_in_flight)
        n_calls = max(2 * load.n_in_flight, round(guess * load.within_s))
        before_s = cpu_s(server.pid)
        calls_per_s = _counted(command, load, n_calls)
        taken_s = cpu_s(server.pid) - before_s
    _check(server, load)
    return Driven(calls_per_s * load.n_messages, 1e6 * taken_s / (n_calls * load.n_messages))


def requests_per_s(server: Server, load: Load, *, cores: Collection[int] = ()) -> float:
    """The rate alone of `driven`."""
    return driven(server, load, cores=cores).requests_per_s


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its living descendants have used so far, in the kernel too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = (file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return own_s + sum(cpu_s(int(child)) for some in children for child in some)


def _check(server: Server, load: Load) -> None:
    """Ask once from Python, beside the server where its address exists only there."""
    if not server.is_shut:
        check_answers(server, load.path, load.body, load.answer_bytes)
        return
    told = {"address": server.address, "pid": server.pid, "path": load.path, "least": load.answer_bytes}
    command = [*server.beside(), sys.executable, "-m", check_answers.__module__, json.dumps(told)]
    done = subprocess.run(command, input=load.body, capture_output=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise WrongAnswers(done.stderr.decode(errors="replace").strip().splitlines()[-1])


def _command(server: Server, load: Load, body: Path) -> list[str]:
    command = ["h2load", "-c", str(load.n_clients), "-m", str(load.n_streams), "-t", "1", "-d", str(body)]
    headers = {"content-type": "application/grpc", "te": "trailers"}
    if server.door is not None:
        headers["authorization"] = server.door.authorization
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    scheme = "http" if server.door is None else "https"
    return [*server.beside(), *command, f"{scheme}://{server.address}{load.path}"]


def _counted(command: list[str], load: Load, n_calls: int) -> float:
    """Calls per second over `n_calls` of them, all of which must be answered in full."""
    said = subprocess.run([*command, "-n", str(n_calls)], capture_output=True, text=True, check=True).stdout
    found = SAID.search(said)
    if found is None:
        raise WrongAnswers(f"h2load must tell its figures, but said: {said[-300:]}")
    rate, n_succeeded, n_bytes = float(found["rate"]), int(found["succeeded"]), int(found["bytes"])
    least = n_calls * load.n_messages * (load.answer_bytes + PREFIX.size)
    if n_succeeded < n_calls or n_bytes < least:
        raise WrongAnswers(
            f"{n_calls} calls of {load.path} must be answered with {least} bytes or more,"
            f" got {n_succeeded} and {n_bytes} (h2load: {found['outcome']})"
        )
    return rate


def alternated_rates(drives: Mapping[str, Callable[[], float]], n_rounds: int) -> Rates:
    """Drive every server once a round, in an order drawn anew: this machine's speed drifts with its neighbours.

    drives    name -> one measurement, requests/s
    n_rounds  of all of them
    returns   name -> (n_rounds,) float64
    """
    rates = {name: np.empty(n_rounds) for name in drives}
    for n_round, name in _turns(list(drives), n_rounds):
        rates[name][n_round] = drives[name]()
    return rates


def alternated(drives: Mapping[str, Callable[[], Driven]], n_rounds: int) -> tuple[Rates, Rates]:
    """The same with what each request costs.

    returns  name -> (n_rounds,) float64, requests/s; and so microseconds of CPU per request
    """
    rates, costs = ({name: np.empty(n_rounds) for name in drives} for _ in range(2))
    for n_round, name in _turns(list(drives), n_rounds):
        one = drives[name]()
        rates[name][n_round], costs[name][n_round] = one.requests_per_s, one.cpu_us
    return rates, costs


def _turns(names: list[str], n_rounds: int) -> Iterator[tuple[int, str]]:
    order = np.random.default_rng(0)
    for n_round in range(n_rounds):
        for name in order.permutation(names).tolist():
            yield n_round, name


def medians_of(rates: Rates) -> dict[str, float]:
    """The middle of the rounds, by name."""
    return {name: float(np.median(taken)) for name, taken in rates.items()}


def spreads_of(rates: Rates) -> dict[str, float]:
    """The interquartile range over the rounds, by name."""
    return {name: float(np.subtract(*np.quantile(taken, [0.75, 0.25]))) for name, taken in rates.items()}
