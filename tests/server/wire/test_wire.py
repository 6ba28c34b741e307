"""The server of one polling thread, with doors of a few lines before real clients: every way that a call can end."""

import random
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from server.wire import calls
from server.wire.calls import StreamCall, UnaryCall
from server.wire.server import WireServer
from tests.faults.stage import within
from tests.server.wire.standing import ENDS_WITHIN_S, MOST_BYTES, OPTIONS, Doors, Serving, listening, refused


def test_a_call_and_a_stream_are_answered(serving: Serving) -> None:
    assert serving.unary("Echo")(b"hello", timeout=ENDS_WITHIN_S) == b"hello"
    assert serving.unary("Echo")(b"", timeout=ENDS_WITHIN_S) == b""
    stream = serving.stream()
    for number in range(600):
        stream.send(b"%d" % number)
    stream.half_close()
    assert list(stream.call) == [b"%d" % number for number in range(600)]
    assert stream.call.code() is StatusCode.OK
    assert serving.is_idle()
    assert serving.doors.listeners[0].is_gone


def test_an_unknown_method_is_unimplemented(serving: Serving) -> None:
    code, words = refused(lambda: serving.unary("Nothing")(b"", timeout=ENDS_WITHIN_S))
    assert (code, words) == (StatusCode.UNIMPLEMENTED, "method must be one that is served, got /t/Nothing")
    assert serving.is_idle()


def test_whom_the_guard_refuses_leaves_nothing_open(serving: Serving) -> None:
    serving.doors.is_open = False
    for _ in range(5):
        assert refused(lambda: serving.unary("Echo")(b"", timeout=ENDS_WITHIN_S))[0] is StatusCode.PERMISSION_DENIED
        stream = serving.stream()
        stream.send(b"unread")
        assert stream.ended() is StatusCode.PERMISSION_DENIED
    assert serving.is_idle()
    assert serving.doors.listeners == []


def test_a_message_beyond_the_limit_is_refused(serving: Serving) -> None:
    large = bytes(MOST_BYTES + 1)
    assert refused(lambda: serving.unary("Echo")(large, timeout=ENDS_WITHIN_S))[0] is StatusCode.RESOURCE_EXHAUSTED
    stream = serving.stream()
    stream.send(b"small")
    assert next(stream.call) == b"small"
    stream.send(large)
    assert stream.ended() is StatusCode.RESOURCE_EXHAUSTED
    assert serving.is_idle()
    assert serving.unary("Echo")(b"after", timeout=ENDS_WITHIN_S) == b"after"


def test_a_deadline_is_told_as_the_time_that_remains(serving: Serving) -> None:
    left_s = float(serving.unary("Left")(b"", timeout=15.0))
    assert 5.0 < left_s < 15.1  # gRPC tells it by the wall clock, read twice
    assert serving.unary("Left")(b"") == b"None"
    assert refused(lambda: serving.unary("Hold")(b"", timeout=0.2))[0] is StatusCode.DEADLINE_EXCEEDED
    assert within(ENDS_WITHIN_S, lambda: bool(serving.doors.held))
    (call,) = serving.doors.held
    assert call.time_remaining() == 0.0
    call.answer(b"too late")
    assert serving.is_idle()


def test_a_clock_that_steps_back_moves_no_deadline(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = serving.unary("Hold").future(b"", timeout=15.0)
    assert within(ENDS_WITHIN_S, lambda: bool(serving.doors.held))
    (call,) = serving.doors.held
    stepped_s = time.time() - 3600.0
    monkeypatch.setattr(calls.time, "time", lambda: stepped_s)
    left_s = call.time_remaining()
    monkeypatch.undo()
    assert left_s is not None
    assert left_s < 15.1
    call.answer(b"in time")
    assert waiting.result() == b"in time"


def test_a_client_that_cancels_leaves_nothing_open(serving: Serving) -> None:
    waiting = [serving.unary("Hold").future(b"") for _ in range(10)]
    assert within(ENDS_WITHIN_S, lambda: len(serving.doors.held) == 10)
    streams = [serving.stream() for _ in range(10)]
    for stream in streams:
        stream.send(b"hold")
    assert within(ENDS_WITHIN_S, lambda: sum(bool(echo.held) for echo in serving.doors.listeners) == 10)
    for call in [*waiting, *(stream.call for stream in streams)]:
        call.cancel()
    assert within(ENDS_WITHIN_S, lambda: all(echo.is_gone for echo in serving.doors.listeners))
    for held in serving.doors.held:
        held.answer(b"nobody reads it")
    for echo in serving.doors.listeners:
        echo.let_go(random.Random(1))
    assert serving.is_idle()


def test_a_door_that_fails_ends_its_call_and_no_other(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    other = serving.stream()
    other.send(b"first")
    assert next(other.call) == b"first"
    for _ in range(3):
        assert refused(lambda: serving.unary("Fail")(b"", timeout=ENDS_WITHIN_S))[0] is StatusCode.INTERNAL
        failing = serving.stream("FailStream")
        failing.send(b"")
        assert failing.ended() is StatusCode.INTERNAL
    other.send(b"second")
    assert next(other.call) == b"second"
    other.half_close()
    assert other.ended() is StatusCode.OK
    assert serving.is_idle()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("method", ["Echo", "Stream"])
def test_a_guard_that_fails_ends_the_call_and_stops_with_the_server(
    serving: Serving, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    serving.doors.guard = lambda _call: 1 // 0 == 0  # type: ignore[method-assign]
    serving.server._guard = serving.doors.guard
    if method == "Echo":
        code = refused(lambda: serving.unary(method)(b"", timeout=ENDS_WITHIN_S))[0]
    else:
        code = serving.stream(method).ended()
    assert code is StatusCode.INTERNAL
    assert serving.is_idle()
    assert "ZeroDivisionError" in caplog.text


def test_stopping_answers_what_runs_and_ends_streams() -> None:
    with listening() as serving:
        waiting = serving.unary("Hold").future(b"", timeout=ENDS_WITHIN_S)
        stream = serving.stream()
        stream.send(b"hold")
        assert within(ENDS_WITHIN_S, lambda: bool(serving.doors.held) and bool(serving.doors.listeners[-1].held))
        stopping = threading.Thread(target=serving.server.stop, args=(ENDS_WITHIN_S,))
        stopping.start()
        assert stream.ended() is StatusCode.UNAVAILABLE
        assert stopping.is_alive()
        serving.doors.held[0].answer(b"at last")
        assert waiting.result() == b"at last"
        stopping.join(ENDS_WITHIN_S)
        assert not stopping.is_alive()
        assert refused(lambda: serving.unary("Echo")(b"", timeout=ENDS_WITHIN_S))[0] is StatusCode.UNAVAILABLE
        serving.server.stop = lambda _grace_s: None  # type: ignore[method-assign]  # it is stopped


def test_a_second_listener_on_the_port_is_refused_unless_the_port_is_shared(serving: Serving) -> None:
    assert WireServer({}, OPTIONS).listen(serving.address) == 0
    shared = (("grpc.so_reuseport", 1),)
    first, second = WireServer({}, shared), WireServer({}, shared)
    port = first.listen("127.0.0.1:0")
    assert second.listen(f"127.0.0.1:{port}") == port


@pytest.fixture(scope="module")
def standing() -> Iterator[Serving]:
    """One server for every example."""
    with listening() as opened:
        yield opened


STEPS = st.lists(st.sampled_from(["send", "hold", "let go", "read"]), max_size=30)


@settings(max_examples=40)
@given(steps=STEPS, ends=st.sampled_from(["half-close", "cancel", "leave unread"]), seed=st.integers(0, 9))
def test_every_message_of_a_stream_is_answered_once(standing: Serving, steps: list[str], ends: str, seed: int) -> None:
    """Any order of sends, reads, answers, half-closes and cancels, against a set of what was asked."""
    order = random.Random(seed)
    standing.doors.listeners.clear()
    stream = standing.stream()
    asked, read = set[bytes](), list[bytes]()
    assert within(ENDS_WITHIN_S, lambda: bool(standing.doors.listeners))
    echo = standing.doors.listeners[-1]
    echo.stream.most_open = 4
    for number, step in enumerate(steps):
        if step == "let go":
            echo.let_go(order)
        elif step == "read":
            n_held = sum(message.startswith(b"hold") for message in asked)
            # Four that are held keep everything behind them from being read.
            if n_held < 4 and len(read) < len(asked) - n_held:
                read.append(next(stream.call))
        elif step in {"send", "hold"}:
            asked.add(b"%s %d" % (step.encode(), number))
            stream.send(b"%s %d" % (step.encode(), number))
    if ends == "half-close":
        stream.half_close()
        reading = threading.Thread(target=read.extend, args=(stream.call,))
        reading.start()
        assert within(ENDS_WITHIN_S, lambda: echo.let_go(order) or not reading.is_alive())
        assert sorted(read) == sorted(asked)
    else:
        stream.call.cancel()
        stream.half_close()
        assert len(read) == len(set(read))
        assert set(read) <= asked
    assert echo.most_open <= 4
    assert within(ENDS_WITHIN_S, lambda: echo.is_gone)
    echo.let_go(order)
    assert standing.is_idle()


def test_a_client_that_does_not_read_is_read_no_further(serving: Serving) -> None:
    stream = serving.stream()
    for _ in range(1000):
        stream.send(bytes(20_000))
    assert within(ENDS_WITHIN_S, lambda: bool(serving.doors.listeners))
    wire = serving.doors.listeners[0].stream
    assert within(ENDS_WITHIN_S, lambda: wire._n_open >= 1)
    # What is taken and not sent stays bounded, however much the client has sent.
    assert not within(0.5, lambda: wire._n_open > calls.MOST_OPEN)
    stream.call.cancel()
    stream.half_close()
    assert serving.is_idle()
    assert not wire._unsent


def test_calls_that_came_just_before_the_stop_are_answered_and_the_server_ends() -> None:
    doors, stops = Doors(), list[str]()

    def guard(call: UnaryCall | StreamCall) -> bool:
        """Begin to stop at the first Echo, as another thread may at any moment."""
        if call.method == "/t/Echo" and not stops:
            stops.append(call.method)
            server._server.shutdown(server._queue, server._shut_down)
        return True

    server = WireServer(doors.methods(), OPTIONS, guard)
    address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        blocked = channel.unary_unary("/t/Block").future(b"", timeout=ENDS_WITHIN_S)
        assert within(ENDS_WITHIN_S, lambda: doors.n_blocked == 1)
        asked = [channel.unary_unary("/t/Echo").future(b"%d" % number, timeout=ENDS_WITHIN_S) for number in range(3)]
        time.sleep(0.2)  # until they wait to be polled
        doors.go_on.set()
        assert blocked.result() == b""
        assert [call.result() for call in asked] == [b"0", b"1", b"2"]
    assert server._stopped.wait(ENDS_WITHIN_S)
    server._thread.join()
    server._server.destroy()
