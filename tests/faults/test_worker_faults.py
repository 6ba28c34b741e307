"""A killed worker costs the calls that it held, seen at once by who may ask again, and is replaced."""

from collections.abc import Callable

from tests.faults import worker_scenes
from tests.faults.conftest import measured
from tests.faults.figures import BACK_WITHIN_S, MOST_LATE_SHARE
from tests.faults.stage import Stage


def test_a_killed_worker_costs_only_what_it_held(stage: Stage, record_property: Callable[[str, object], None]) -> None:
    figures = measured(stage, worker_scenes.worker_killed)
    record_property("figures", figures)
    assert (figures["failed"], figures["refused"]) == (0, 0)
    assert figures["broken_off"] <= 0.05 * figures["calls"]
    assert figures["late"] <= MOST_LATE_SHARE * figures["calls"]
    assert figures["back_s"] <= BACK_WITHIN_S
    assert figures["not_replaced"] == 0
