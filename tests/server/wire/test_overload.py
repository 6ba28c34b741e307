"""Where more calls come than can be taken, some are refused unread, and those that nobody waits for are let go."""

import time

from grpc import StatusCode

from server.wire.server import BEHIND_S
from tests.faults.stage import within
from tests.server.wire.standing import ENDS_WITHIN_S, SLOW_S, Serving, refused


def test_where_calls_wait_too_long_some_are_refused_and_then_no_more(serving: Serving) -> None:
    slow = serving.unary("Slow")
    assert slow(b"connects", timeout=ENDS_WITHIN_S) == b"connects"
    asked = []
    for number in range(300):
        asked.append(slow.future(b"%d" % number, timeout=ENDS_WITHIN_S))
        time.sleep(SLOW_S / 20)  # far faster than they can be taken
    codes = [call.code() for call in asked]
    n_refused = codes.count(StatusCode.RESOURCE_EXHAUSTED)
    assert set(codes) == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
    assert n_refused == len(serving.doors.waited_s) > 0
    assert serving.doors.n_slow == 301 - n_refused > 1
    assert min(serving.doors.waited_s) > BEHIND_S
    assert serving.is_idle()
    assert [slow(b"after", timeout=ENDS_WITHIN_S) for _ in range(20)] == [b"after"] * 20


def test_a_call_that_nobody_waits_for_any_more_is_not_looked_at(serving: Serving) -> None:
    serving.doors.go_on.clear()
    holds_up = serving.unary("Block").future(b"", timeout=ENDS_WITHIN_S)
    assert within(ENDS_WITHIN_S, lambda: serving.doors.n_blocked == 1)
    code, _ = refused(lambda: serving.unary("Hold")(b"", timeout=0.05))
    assert code is StatusCode.DEADLINE_EXCEEDED
    serving.doors.go_on.set()
    assert holds_up.code() is StatusCode.OK
    assert serving.unary("Echo")(b"after", timeout=ENDS_WITHIN_S) == b"after"
    assert serving.is_idle()
    assert serving.doors.held == []


def test_the_server_says_when_nothing_more_waits(serving: Serving) -> None:
    assert serving.unary("Echo")(b"hello", timeout=ENDS_WITHIN_S) == b"hello"
    assert within(ENDS_WITHIN_S, lambda: serving.doors.n_drained > 0)
