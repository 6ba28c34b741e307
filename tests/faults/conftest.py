"""One stage for all fault tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.triton.environment import Environment
from tests.faults.stage import Stage, staged

SCALE = 0.01


@pytest.fixture(scope="session")
def stage(
    triton_environment: Environment, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A Triton, gateways and callers, each started when a test first needs it."""
    with staged(tiny_repository, tmp_path_factory.mktemp("faults")) as opened:
        yield opened
