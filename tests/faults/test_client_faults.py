"""What one client does wrong, the others do not notice, and when it is gone nothing of it is left."""

from collections.abc import Callable

import pytest

from tests.faults import client_scenes
from tests.faults.conftest import SCALE, measured
from tests.faults.figures import MOST_LATE_SHARE
from tests.faults.stage import Stage

Note = Callable[[str, object], None]
# A hundredth of the clients; each may cost the state of its connection and 256 open messages.
MOST_GROWTH_MIB = 48.0
# A storm may fill the queue for a moment: who comes then is told when to come again.
MOST_REFUSED_SHARE = 0.05


@pytest.mark.parametrize("fault", ["never_reads", "vanishes", "half_open", "cancels"])
def test_the_others_do_not_notice_and_nothing_is_left(stage: Stage, fault: str, record_property: Note) -> None:
    figures = measured(stage, getattr(client_scenes, fault))
    record_property("figures", figures)
    assert figures["failed"] == 0
    assert figures["late"] <= MOST_LATE_SHARE * figures["calls"]
    assert figures["open_in_the_end"] == 0
    assert figures["refused"] <= MOST_REFUSED_SHARE * figures["calls"]
    assert figures["growth_mib"] < MOST_GROWTH_MIB


def test_callers_with_no_time_do_not_cost_others_their_models(stage: Stage, record_property: Note) -> None:
    figures = client_scenes.impatient(stage, SCALE)
    record_property("figures", figures)
    assert figures["failed"] == 0
    assert figures["late"] <= MOST_LATE_SHARE * figures["calls"]
    assert figures["full_share"] > 0.99
    assert figures["in_20_ms_share"] > 0.5
    assert figures["open_in_the_end"] == 0
