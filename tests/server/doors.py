"""A real gateway on a free port with a real store, log and Triton behind it, for the length of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from stratagem.v1 import feedback_pb2_grpc, profile_pb2_grpc, recommendation_pb2_grpc, strategy_pb2_grpc

from kernels.ledger import ORDER
from server.gateway.assembly import Gateway, listening
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates
from server.state.store import Happening
from server.strategy.catalogue import Items
from tests.tiny_repository import AS_OF_S, DAY_S

N_SHOPPERS = 20
PATIENT_S = 30.0  # a test is not about deadlines unless it says so: this machine is shared


def settings_in(folder: Path, repository: Path, **changes: object) -> Settings:
    """Settings whose files all lie in a test's own folder."""
    paths = {name: folder / name for name in ("state", "log", "plan")}
    fixed = {
        "repository": repository,
        "port": 0,
        "state_mib": 64,
        "decide_within_s": PATIENT_S,
        "models_within_s": PATIENT_S,
        "reflection": True,
        "explore_share": 0.0,
    }
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
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.gateway.decider.settings
        self.strategy = strategy_pb2_grpc.StrategyServiceStub(self.channel)
        self.profile = profile_pb2_grpc.ProfileServiceStub(self.channel)
        self.recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self.channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)


@contextmanager
def open_doors(settings: Settings, triton: str) -> Iterator[Doors]:
    """A gateway in this process, drained and closed at the end."""
    with listening(settings, triton) as gateway, grpc.insecure_channel(gateway.address) as channel:
        yield Doors(gateway, channel)
