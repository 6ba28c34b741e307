"""A real gateway on a free port with a real store, log and Triton behind it, for the length of a test."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import uvloop
from stratagem.v1 import feedback_pb2_grpc, profile_pb2_grpc, recommendation_pb2_grpc, strategy_pb2_grpc

from kernels.ledger import ORDER
from server.gateway.assembly import Gateway, listening
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.state.store import Happening
from server.strategy.catalogue import Items
from tests.tiny_repository import AS_OF_S, DAY_S

Answer = TypeVar("Answer")
N_SHOPPERS = 20
PATIENT_S = 30.0  # a test is not about deadlines unless it says so: this machine is shared


def settings_in(folder: Path, repository: Path, **changes: object) -> Settings:
    """Settings whose files all lie in a test's own folder."""
    paths = {name: folder / name for name in ("state", "log", "plan")}
    fixed = {"repository": repository, "port": 0, "state_mib": 64, "decide_within_s": PATIENT_S, "explore_share": 0.0}
    return Settings.model_validate(paths | fixed | changes)


def fill(settings: Settings, n_shoppers: int = N_SHOPPERS) -> None:
    """Give shoppers shopper-0, shopper-1 ... a few orders each."""
    repository = open_repository(settings.repository)
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
    try:
        states.apply(orders(repository.catalogue.items, n_shoppers)).result()
    finally:
        states.close()


def orders(items: Items, n_shoppers: int) -> list[Happening]:
    """Five order lines per shopper, the same every time."""
    rng = np.random.default_rng(7)
    happenings = []
    for shopper in range(n_shoppers):
        for line in range(5):
            row = int(rng.integers(0, len(items.item_id)))
            happening = Happening(
                event_id=f"first-{shopper}-{line}",
                shopper_id=f"shopper-{shopper}",
                time_s=AS_OF_S - (40 - 7 * line) * DAY_S,
                kind=ORDER,
                item_row=row,
                item=int(items.item_index[row]),
                category=int(items.category[row]),
                order=1 + line,
                quantity=1.0,
                paid_micros=int(rng.integers(1, 9)) * 1_000_000,
            )
            happenings.append(happening)
    return happenings


@dataclass
class Doors:
    """Stubs of every service on one channel, and the gateway behind them."""

    gateway: Gateway
    channel: grpc.Channel
    loop: asyncio.AbstractEventLoop
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.gateway.decider.settings
        self.strategy = strategy_pb2_grpc.StrategyServiceStub(self.channel)
        self.profile = profile_pb2_grpc.ProfileServiceStub(self.channel)
        self.recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self.channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)

    def within(self, work: Callable[[], Coroutine[object, object, Answer]]) -> Answer:
        """Run a coroutine in the gateway's own loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENT_S)


@contextmanager
def open_doors(settings: Settings, triton: str) -> Iterator[Doors]:
    """A gateway in a thread of its own, drained and closed at the end."""
    ready, stop = threading.Event(), []
    found: list[Gateway | BaseException] = []

    async def serve() -> None:
        leave = asyncio.Event()
        stop.append((asyncio.get_running_loop(), leave))
        async with listening(settings, triton) as gateway:
            found.append(gateway)
            ready.set()
            await leave.wait()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as problem:  # noqa: BLE001 - raised again in the test's own thread
            found.append(problem)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="gateway")
    thread.start()
    ready.wait(PATIENT_S)
    if isinstance(found[0], BaseException):
        thread.join()
        raise found[0]
    loop, leave = stop[0]
    try:
        with grpc.insecure_channel(found[0].address) as channel:
            yield Doors(found[0], channel, loop)
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join()
    if isinstance(found[-1], BaseException):
        raise found[-1]
