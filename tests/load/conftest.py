"""A small workload and a real gateway over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.gateway.client import gateway_process
from server.load.target import Target
from server.repository import open_repository
from server.state.embedded import EmbeddedStates
from tests.load.workload import Workload, prepared_workload

N_SHOPPERS = 120


def silent(words: str) -> None:
    """Nobody reads what a test's workload says."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_repository: Path, tiny_triton: str) -> Workload:
    """N_SHOPPERS in a store; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_URL", tiny_triton)
        return prepared_workload(N_SHOPPERS, tiny_repository, silent, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def lived(made: Workload, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """A copy of the store that a gateway may change."""
    return made.copied(tmp_path_factory.mktemp("lived") / "state")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the gateway logs."""
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def states(target: Target, lived: Workload) -> Iterator[EmbeddedStates]:
    """The store that the gateway changes, opened as a second worker would."""
    opened = EmbeddedStates(lived.state, open_repository(lived.repository).vocabulary, lived.state_mib)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def target(lived: Workload, log: Path, tiny_triton: str) -> Iterator[Target]:
    """A listening gateway in a process of its own."""
    with gateway_process(lived.settings(log), tiny_triton, log.with_suffix(".txt")) as address:
        yield Target(address)


@pytest.fixture(scope="session")
def shopper_ids(made: Workload) -> list[str]:
    """Everybody in the store."""
    return [made.shopper_id(shopper) for shopper in range(N_SHOPPERS)]
