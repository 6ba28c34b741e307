"""A gateway of its own for a benchmark, over a copy of the built shoppers, so that measuring spends nobody's budget."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.gateway.client import gateway_process
from server.planner import PLAN_FILE
from server.repository import open_repository
from server.settings import load_settings
from server.state.embedded import EmbeddedStates

WITHIN_S = 10.0
N_SHOPPERS = 1_000


@contextmanager
def decide_leg(triton: str) -> Iterator[Callable[[], object]]:
    """Yield a call that decides for the next of the shop's shoppers over loopback.

    triton  address of the Triton that every leg shares
    raises  FileNotFoundError  if states or plan were not built
    """
    settings = load_settings()
    for needed in (settings.state / "data.mdb", settings.plan / PLAN_FILE):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} must exist")
    with tempfile.TemporaryDirectory() as folder:
        own = settings.model_copy(
            update={"state": Path(folder) / "state", "log": Path(folder) / "log", "port": 0},
        )
        shutil.copytree(settings.state, own.state)
        repository = open_repository(own.repository)
        states = EmbeddedStates(own.state, repository.vocabulary, own.state_mib)
        shopper_ids = next(states.shopper_ids(N_SHOPPERS))
        states.close()
        with (
            gateway_process(own, triton, Path(folder) / "gateway.log") as address,
            grpc.insecure_channel(address) as channel,
        ):
            stub = strategy_pb2_grpc.StrategyServiceStub(channel)
            n_calls = 0

            def call() -> object:
                nonlocal n_calls
                n_calls += 1
                shopper_id = shopper_ids[n_calls % len(shopper_ids)]
                request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=repository.catalogue.as_of_s)
                return stub.Decide(request, timeout=WITHIN_S)

            yield call
