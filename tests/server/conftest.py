"""Fixtures of the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from server.repository import open_repository
from server.settings import Settings
from tests.server.doors import Doors, fill, open_doors, settings_in

BUDGET_MICROS = 5_000_000_000


def write_plan_of(settings: Settings, **changes: object) -> None:
    """A plan.json that a gateway accepts."""
    settings.plan.mkdir(parents=True, exist_ok=True)
    release = open_repository(settings.repository).release
    plan = {"plan_id": "plan-1", "release": release, "shadow_price": 1.5, "budget_micros": BUDGET_MICROS} | changes
    (settings.plan / "plan.json").write_bytes(orjson.dumps(plan))


@pytest.fixture
def filled(tmp_path: Path, tiny_repository: Path) -> Settings:
    """Settings of a shop with shoppers and a plan."""
    settings = settings_in(tmp_path, tiny_repository)
    fill(settings)
    write_plan_of(settings)
    return settings


@pytest.fixture
def doors(filled: Settings, tiny_triton: str) -> Iterator[Doors]:
    """A gateway over that shop."""
    with open_doors(filled, tiny_triton) as opened:
        yield opened
