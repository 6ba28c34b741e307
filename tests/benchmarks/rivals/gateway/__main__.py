"""`python -m tests.benchmarks.rivals.gateway`: every rival's requests/s on this machine, alternating within its group.

In: what to measure. Out: a table of medians over the rounds, each server on core 0 and h2load on core 1.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from server.triton.process import started
from tests.benchmarks.rivals.gateway import messages
from tests.benchmarks.rivals.gateway.doors import Server, new_door
from tests.benchmarks.rivals.gateway.driver import (
    Driven,
    Load,
    alternated,
    driven,
    medians_of,
    spreads_of,
)
from tests.benchmarks.rivals.gateway.ensemble import ENSEMBLE, heads_of
from tests.benchmarks.rivals.gateway.starting import (
    ECHOES,
    STREAM_ECHOES,
    echo,
    naive,
    pin,
    ray_serve,
    triton_ensemble,
)

SERVER_CORES, DRIVER_CORES = {0}, {1}
REPOSITORY = Path("model_repository")
N_ASKS = 1_000

Drives = dict[str, Callable[[], Driven]]


@contextmanager
def echoes(within_s: float) -> Iterator[Drives]:
    """Every bare echo, with and without TLS and token."""
    answer_bytes = messages.typical_answer().ByteSize()
    unary = Load(messages.DECIDE, messages.decide_body(), within_s, answer_bytes=answer_bytes)
    stream = Load(messages.DECIDE_STREAM, messages.stream_body(N_ASKS), within_s, 2, 2, answer_bytes)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="door-"))
        drives = {}
        for door in (None, new_door(Path(folder))):
            behind = ", TLS and token" if door else ""
            for kind in ECHOES:
                rival = stack.enter_context(echo(kind, door, cores=SERVER_CORES))
                drives[f"unary echo, {kind}{behind}"] = _drive(rival, unary)
                if kind in STREAM_ECHOES:
                    drives[f"stream echo, {kind}{behind}"] = _drive(rival, stream)
        yield drives


@contextmanager
def naive_servers(within_s: float) -> Iterator[Drives]:
    """The naive server; its Triton shares h2load's core."""
    load = Load(messages.DECIDE, messages.decide_body(), within_s)
    with ExitStack() as stack:
        triton = stack.enter_context(started(REPOSITORY, [heads_of(REPOSITORY)]))
        pin(triton.guard.pid, DRIVER_CORES)
        rival = stack.enter_context(naive(triton.address, REPOSITORY, cores=SERVER_CORES))
        yield {"naive server": _drive(rival, load)}


@contextmanager
def rays(within_s: float, is_direct: bool) -> Iterator[Drives]:
    """Ray Serve on whatever cores it likes."""
    load = Load(messages.DECIDE, messages.decide_body(), within_s)
    with ray_serve(REPOSITORY, is_direct=is_direct) as rival:
        yield {f"Ray Serve{', past its proxy' if is_direct else ''}, all cores": partial(driven, rival, load)}


@contextmanager
def ensembles(within_s: float) -> Iterator[Drives]:
    """The bare Triton ensemble, on one core and on all."""
    body = messages.framed([messages.infer_request(ENSEMBLE)])
    load = Load(messages.MODEL_INFER, body, within_s)
    with ExitStack() as stack:
        one = stack.enter_context(triton_ensemble(REPOSITORY, cores=SERVER_CORES))
        every = stack.enter_context(triton_ensemble(REPOSITORY))
        yield {
            "Triton ensemble, one core": _drive(one, load),
            "Triton ensemble, all cores": partial(driven, every, load),
        }


def _drive(rival: Server, load: Load) -> Callable[[], Driven]:
    return partial(driven, rival, load, cores=DRIVER_CORES)


GROUPS: dict[str, Callable[[float], AbstractContextManager[Drives]]] = {
    "echoes": echoes,
    "naive": naive_servers,
    "ray": partial(rays, is_direct=False),
    "ray_direct": partial(rays, is_direct=True),
    "ensemble": ensembles,
}


def main() -> None:
    """Measure the groups named on the command line and print them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rivals.gateway", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="all of them, if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--within-s", type=float, default=2.0, help="seconds of one measurement")
    arguments = parser.parse_args()
    table = Table("rival", "requests/s", "interquartile range", "CPU µs a request", "of a core of its own /s")
    for group in arguments.groups or GROUPS:
        with GROUPS[group](arguments.within_s) as drives:
            rates, costs = alternated(drives, arguments.rounds)
        spreads, cpu_us = spreads_of(rates), medians_of(costs)
        for name, rate in medians_of(rates).items():
            cost = cpu_us[name]
            table.add_row(name, f"{rate:,.0f}", f"{spreads[name]:,.0f}", f"{cost:,.1f}", f"{1e6 / cost:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
