"""One stage for all fault tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.triton.environment import Environment
from tests.faults.figures import Figures
from tests.faults.stage import Stage, staged

SCALE = 0.01
# Callers who are themselves held up for longer tell of a machine that is busy elsewhere and not of the gateway.
MOST_CALLERS_LATE_MS, N_TRIES = 10.0, 3


def measured(stage: Stage, scene: Callable[[Stage, float], Figures]) -> Figures:
    """A scene's figures at SCALE, from the first try in which the callers' own process got its turns."""
    figures = scene(stage, SCALE)
    for _ in range(N_TRIES - 1):
        if figures["callers_late_ms"] <= MOST_CALLERS_LATE_MS:
            break
        figures = scene(stage, SCALE)
    return figures


@pytest.fixture(scope="session")
def stage(
    triton_environment: Environment, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A Triton, gateways and callers, each started when a test first needs it."""
    with staged(tiny_repository, tmp_path_factory.mktemp("faults")) as opened:
        yield opened
