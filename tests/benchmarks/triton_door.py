"""What the model `decide` behind Triton's own front end answers a second, beside a bare ensemble of that front end.

In: the settings of a shop whose shoppers are in the store. Out: both rates, round by round, and what a request costs.
Called by tests.benchmarks gateway; `python -m tests.benchmarks.triton_door` measures the built shop.
"""

import argparse
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2

from server.load.h2load import ClosedLoop, driven
from server.load.target import Target
from server.repository import open_repository
from server.settings import Settings, load_settings
from server.state.embedded import EmbeddedStates
from server.triton.process import DECIDE, started
from tests.benchmarks.rivals.gateway.doors import Server
from tests.benchmarks.rivals.gateway.driver import Driven, alternated, cpu_s, medians_of, spreads_of
from tests.benchmarks.rivals.gateway.ensemble import ENSEMBLE
from tests.benchmarks.rivals.gateway.messages import MODEL_INFER, framed
from tests.benchmarks.rivals.gateway.starting import triton_ensemble

# What a bidder acts on; the Decision with its reasons is measured beside it.
BID = ("action_kind", "offer_id", "category", "value_micros", "cost_micros", "propensity")
DECISION = ("decision",)
N_BODIES = 10_000
LOOP = ClosedLoop(n_connections=4, n_open=32, seconds=2.0, warm_s=1.0)


@dataclass(frozen=True)
class World:
    """A shop to measure.

    shopper_ids  known shoppers, of one length as UTF-8
    at_s         moment to decide for
    """

    settings: Settings
    shopper_ids: Sequence[str]
    at_s: int


@contextmanager
def door(settings: Settings) -> Iterator[Server]:
    """A Triton of its own with the door and what a decision asks."""
    with mock.patch.dict(os.environ, variables_of(settings)):
        served = open_repository(settings.repository).served
        with started(settings.repository, (*served, DECIDE), folder=settings.triton) as running:
            yield Server(running.address, running.guard.pid)


def variables_of(settings: Settings) -> dict[str, str]:
    """The settings that are not as they come, as the variables that a process of their own reads."""
    told = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        told[f"STRATAGEM_{name.upper()}"] = json.dumps(value) if isinstance(value, dict) else text
    return told


def door_bodies(world: World, outputs: Sequence[str]) -> list[bytes]:
    """A framed request for each shopper in turn, which brings an id of its own and names the outputs it wants."""
    bodies = []
    for number in range(N_BODIES):
        request = service_pb2.ModelInferRequest(model_name=DECIDE)
        _add_text(request, "shopper_id", world.shopper_ids[number % len(world.shopper_ids)])
        request.inputs.add(name="time_s", datatype="INT64", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<q", world.at_s))
        for name in outputs:
            request.outputs.add(name=name)
        bodies.append(framed([request.SerializeToString()]))
    return bodies


def ensemble_bodies(world: World) -> list[bytes]:
    """The same shoppers for the bare ensemble."""
    bodies = []
    for number in range(N_BODIES):
        request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
        _add_text(request, "shopper_key", world.shopper_ids[number % len(world.shopper_ids)])
        bodies.append(framed([request.SerializeToString()]))
    return bodies


def _add_text(request: service_pb2.ModelInferRequest, name: str, text: str) -> None:
    """KServe's strings carry their length in four bytes."""
    request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(text.encode())) + text.encode())


def drive(server: Server, bodies: Sequence[bytes], loop: ClosedLoop = LOOP) -> Driven:
    """Requests a second, and about what each cost the server's processes."""
    before_s = _spent_s(server)
    answered = driven(Target(server.address), MODEL_INFER, bodies, loop)
    taken_s = _spent_s(server) - before_s
    return Driven(answered.rate_per_s, 1e6 * taken_s / (answered.rate_per_s * (loop.warm_s + loop.seconds)))


def _spent_s(server: Server) -> float:
    while True:
        with suppress(FileNotFoundError):  # the door's stubs start a thread a call, and one ended while we looked
            return cpu_s(server.pid)


def measured(world: World, n_rounds: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rates and costs of `door`, `door_decision` and `ensemble`, (n_rounds,) each, alternating."""
    with door(world.settings) as ours, triton_ensemble(world.settings.repository) as bare:
        drives = {
            "door": partial(drive, ours, door_bodies(world, BID)),
            "door_decision": partial(drive, ours, door_bodies(world, DECISION)),
            "ensemble": partial(drive, bare, ensemble_bodies(world)),
        }
        return alternated(drives, n_rounds)


def figures_of(rates: dict[str, np.ndarray]) -> dict[str, float]:
    """The figures of a run: rates, and the ratio to the ensemble in the median round."""
    figures = {f"triton_{name}_per_s": float(np.median(taken)) for name, taken in rates.items() if name != "ensemble"}
    figures["triton_door_ratio"] = float(np.median(rates["door"] / rates["ensemble"]))
    figures["triton_door_decision_ratio"] = float(np.median(rates["door_decision"] / rates["ensemble"]))
    return figures


@contextmanager
def built_world(state: Path) -> Iterator[World]:
    """The shop of the environment's settings, over a copy of its shoppers, so that measuring spends nobody's budget."""
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="triton-door-") as name:
        shutil.copytree(state, Path(name) / "state")
        places = {"state": Path(name) / "state", "log": Path(name) / "log"}
        settings = Settings.model_validate(settings.model_dump(exclude_unset=True) | places)
        repository = open_repository(settings.repository)
        states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
        shopper_ids = next(states.shopper_ids(N_BODIES))
        states.close()
        length = len(shopper_ids[len(shopper_ids) // 2])
        yield World(settings, [each for each in shopper_ids if len(each) == length], repository.catalogue.as_of_s)


def main() -> None:
    """Measure the built shop and print rates and costs."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.triton_door", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--state", type=Path, default=load_settings().state)
    arguments = parser.parse_args()
    with built_world(arguments.state) as world:
        rates, costs = measured(world, arguments.rounds)
    table, spreads, cpu_us = (
        Table("", "requests/s", "interquartile range", "CPU µs a request"),
        spreads_of(rates),
        medians_of(costs),
    )
    for name, rate in medians_of(rates).items():
        table.add_row(name, f"{rate:,.0f}", f"{spreads[name]:,.0f}", f"{cpu_us[name]:,.0f}")
    Console(width=100).print(table, figures_of(rates))


if __name__ == "__main__":
    main()
