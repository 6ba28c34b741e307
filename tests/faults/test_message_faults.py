"""Whatever bytes come, the gateway answers with a status that has a name, forgets the call and goes on."""

from collections.abc import Callable

from tests.faults import message_scenes
from tests.faults.conftest import SCALE
from tests.faults.stage import Stage

Note = Callable[[str, object], None]
# Arenas of malloc and caches that fill; a message kept by mistake would be a hundred times that.
MOST_GROWTH_MIB = 24.0


def test_mutated_messages_are_answered_with_named_statuses_and_leave_nothing(
    stage: Stage, record_property: Note
) -> None:
    figures = message_scenes.mutated_messages(stage, SCALE)
    record_property("figures", figures)
    assert figures["failed"] == 0
    assert figures["n_ok"] > 0
    assert figures["n_invalid_argument"] > 0
    assert figures["late"] == 0
    assert figures["open_in_the_end"] == 0
    assert figures["growth_mib"] < MOST_GROWTH_MIB
    stage.warm(stage.gateway)


def test_mutated_frames_close_their_own_connection_and_leave_nothing(stage: Stage, record_property: Note) -> None:
    figures = message_scenes.mutated_frames(stage, SCALE)
    record_property("figures", figures)
    assert figures["unclosed"] == 0
    assert figures["open_in_the_end"] == 0
    assert figures["growth_mib"] < MOST_GROWTH_MIB
    stage.warm(stage.gateway)
