"""The wall clock may step: deadlines hold, and no age is negative or as large as the step."""

from collections.abc import Callable

from tests.faults import clock_scenes
from tests.faults.conftest import measured
from tests.faults.figures import MOST_LATE_SHARE
from tests.faults.stage import Stage
from tests.requirements import require_program


def test_no_deadline_is_missed_and_no_age_is_absurd(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    require_program("cc", "gcc")
    figures = measured(stage, clock_scenes.clock_steps)
    record_property("figures", figures)
    assert (figures["failed"], figures["refused"]) == (0, 0)
    assert figures["late"] <= MOST_LATE_SHARE * figures["calls"]
    assert figures["full_share"] > 0.9
    assert figures["youngest_s"] >= 0
    assert figures["oldest_s"] < 60
