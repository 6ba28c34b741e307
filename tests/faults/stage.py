"""Where faults happen: a Triton of our own, a gateway before it, shoppers, and callers; each made when first needed.

In: a model repository and a folder. Out: a Stage. Called by the tests at a hundredth of the counts and by
`python -m tests.benchmarks gateway --full` at all of them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import grpc
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.settings import Settings
from tests.faults.garbage import Garbage
from tests.faults.generator import Generator
from tests.faults.observed import Observed, observed
from tests.faults.own_triton import OwnTriton
from tests.faults.relay import Relay
from tests.server.conftest import write_plan_of
from tests.server.doors import fill, settings_in
from tests.tiny_repository import AS_OF_S

N_SHOPPERS = 100
# Defaults as an operator has them, but for the folders: a fault is survived by what is shipped.
SHIPPED = {
    name: Settings.model_fields[name].default for name in ("decide_within_s", "models_within_s", "explore_share")
}


class Stage:
    """Everything that scenes share; what a scene breaks, it mends."""

    def __init__(self, repository: Path, folder: Path, stack: ExitStack) -> None:
        self.repository, self.folder, self._stack = repository, folder, stack
        self.shopper_ids = [f"shopper-{number}" for number in range(N_SHOPPERS)]
        self.at_s = AS_OF_S

    @cached_property
    def triton(self) -> OwnTriton:
        """Ours to break."""
        triton = OwnTriton(self.repository)
        self._stack.callback(triton.close)
        return triton

    @cached_property
    def generator(self) -> Generator:
        """Callers in a process of their own."""
        generator = Generator()
        self._stack.callback(generator.close)
        return generator

    @cached_property
    def gateway(self) -> Observed:
        """A gateway before our Triton."""
        return self._stack.enter_context(self.opened("gateway", self.triton.address))

    @cached_property
    def relay(self) -> Relay:
        """A way to our Triton that can be slow, or lead elsewhere."""
        relay = Relay(self.triton.address)
        self._stack.callback(relay.close)
        return relay

    @cached_property
    def relayed(self) -> Observed:
        """A gateway whose Triton is behind the relay."""
        return self._stack.enter_context(self.opened("relayed", self.relay.address))

    @cached_property
    def garbage(self) -> Garbage:
        """Something that speaks as Triton does and says nonsense."""
        garbage = Garbage()
        self._stack.callback(garbage.close)
        return garbage

    @contextmanager
    def opened(
        self, name: str, triton: str, environment: dict[str, str] | None = None, **changes: object
    ) -> Iterator[Observed]:
        """A gateway of its own state and log until the end of the block, warm: every shopper was decided for once.

        environment  variables for its process
        changes      settings by name
        """
        settings = self.settings(name, **changes)
        with observed(settings, triton, self.folder / name / "said.txt", environment) as gateway:
            self.warm(gateway)
            yield gateway

    def settings(self, name: str, **changes: object) -> Settings:
        """Settings of a gateway with shoppers and a plan of its own."""
        settings = settings_in(self.folder / name, self.repository, **(SHIPPED | changes))
        fill(settings, N_SHOPPERS)
        write_plan_of(settings)
        return settings

    def warm(self, gateway: Observed) -> None:
        """Decide for every shopper once, so that vectors and predictions are there."""
        with grpc.insecure_channel(gateway.address) as channel:
            request = strategy_pb2.DecideBatchRequest(shopper_ids=self.shopper_ids, time_s=self.at_s)
            answer = strategy_pb2_grpc.StrategyServiceStub(channel).DecideBatch(request, timeout=30.0)
        assert set(answer.rungs) == {strategy_pb2.RUNG_FULL}, "a warm gateway decides in full"


@contextmanager
def staged(repository: Path, folder: Path) -> Iterator[Stage]:
    """A stage for the length of the block."""
    with ExitStack() as stack:
        yield Stage(repository, folder, stack)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold in time."""
    deadline_s, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        pause.wait(0.01)
    return True
