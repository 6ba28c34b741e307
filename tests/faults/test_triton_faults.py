"""Triton killed, stopped, slow, mad or reloading under load: every call is answered in time, and soon in full again."""

from collections.abc import Callable

import pytest

from tests.faults import triton_scenes
from tests.faults.conftest import measured
from tests.faults.figures import BACK_WITHIN_S, MOST_LATE_SHARE
from tests.faults.stage import Stage


@pytest.mark.parametrize("fault", ["killed", "stopped", "slow", "reloaded", "garbage"])
def test_no_call_fails_and_decisions_are_soon_full_again(
    stage: Stage, fault: str, record_property: Callable[[str, object], None]
) -> None:
    figures = measured(stage, getattr(triton_scenes, fault))
    record_property("figures", figures)
    assert (figures["failed"], figures["refused"]) == (0, 0)
    assert figures["late"] <= MOST_LATE_SHARE * figures["calls"]
    assert figures["back_s"] <= BACK_WITHIN_S
    assert 0 < figures["full_share"] < 1
    assert figures["cached_share"] > 0
