"""Load on a real gateway: what the generators say agrees with what the gateway logged."""

import shutil
from pathlib import Path

import pytest

from server.feedback import read_log
from server.load.arrivals import Phase
from server.load.calls import OpenLoop
from server.load.changes import changed_ones, changing
from server.load.h2load import ClosedLoop, driven
from server.load.open_loop import put_on
from server.load.target import (
    DECIDE,
    DECIDE_BATCH,
    DECIDE_STREAM,
    LoadFailed,
    Target,
    batch_body,
    decide_bodies,
    stream_body,
)
from server.state.embedded import EmbeddedStates
from tests.load.workload import Workload
from tests.requirements import require_program

PATIENT_S = 20.0


@pytest.fixture
def h2load() -> None:
    require_program("h2load", "nghttp2-client")
    require_program("cc", "gcc")


def decided(log: Path) -> list[str]:
    """The shopper of every decision in the gateway's log."""
    return [record["shopper_id"] for record in read_log(log) if record["kind"] == "decision"]


def test_every_call_of_the_open_loop_is_a_decision_in_the_log(
    target: Target, shopper_ids: list[str], log: Path, lived: Workload
) -> None:
    before = len(decided(log))
    load = OpenLoop((Phase(100.0, 1.0),), deadline_s=PATIENT_S)
    calls = put_on(target, shopper_ids, lived.at_s, load)
    assert calls.statuses == {"OK": calls.figures["n_calls"]}
    assert calls.rungs == {"full": calls.figures["n_calls"]}
    assert len(decided(log)) - before == calls.figures["n_calls"]


@pytest.mark.usefixtures("h2load")
def test_h2load_asks_about_another_shopper_with_each_request(
    target: Target, shopper_ids: list[str], log: Path, lived: Workload
) -> None:
    before = len(decided(log))
    answered = driven(
        target, DECIDE, decide_bodies(shopper_ids, lived.at_s), ClosedLoop(seconds=1.0, warm_s=0.2, n_open=2)
    )
    assert answered.n_failed == 0
    assert answered.latency_s.size == pytest.approx(answered.rate_per_s * 1.0)
    asked = decided(log)[before:]
    assert len(asked) >= answered.latency_s.size
    assert len(set(asked)) >= min(len(asked), len(shopper_ids)) // 2


@pytest.mark.usefixtures("h2load")
def test_h2load_posts_a_batch(target: Target, shopper_ids: list[str], lived: Workload) -> None:
    body = batch_body(shopper_ids, lived.at_s)
    answered = driven(target, DECIDE_BATCH, [body], ClosedLoop(n_connections=1, n_open=1, seconds=1.0, warm_s=0.1))
    assert answered.n_failed == 0
    assert answered.answer_bytes > len(shopper_ids)


@pytest.mark.usefixtures("h2load")
def test_h2load_posts_streams_of_asks(target: Target, shopper_ids: list[str], log: Path, lived: Workload) -> None:
    before, n_asks = len(decided(log)), 20
    bodies = [stream_body(shopper_ids[first : first + n_asks], lived.at_s) for first in range(0, 100, n_asks)]
    loop = ClosedLoop(n_connections=1, n_open=1, seconds=1.0, warm_s=0.1)
    answered = driven(target, DECIDE_STREAM, bodies, loop)
    assert answered.n_failed == 0
    asked = decided(log)[before:]
    assert len(asked) >= n_asks * (answered.latency_s.size + len(bodies))  # the sampled ones too
    assert len(set(asked)) == 100


def test_several_bodies_that_would_be_sent_in_pieces_are_refused(target: Target) -> None:
    with pytest.raises(LoadFailed, match="one of several bodies must have at most 16384 bytes, got 20000"):
        driven(target, DECIDE, [bytes(20_000), bytes(20_000)], ClosedLoop())


@pytest.mark.usefixtures("h2load")
def test_a_request_that_the_gateway_refuses_is_no_measurement(target: Target, lived: Workload) -> None:
    with pytest.raises(LoadFailed, match="answers NOT_FOUND: shopper_id must be known"):
        driven(target, DECIDE, decide_bodies(["nobody"], lived.at_s), ClosedLoop())


def test_without_h2load_the_sentence_names_its_package(
    target: Target, lived: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", {}.get)
    with pytest.raises(LoadFailed, match="h2load must be installed"):
        driven(target, DECIDE, decide_bodies(["nobody"], lived.at_s), ClosedLoop())


def test_bodies_of_several_lengths_are_refused(target: Target) -> None:
    with pytest.raises(LoadFailed, match="bodies must be of one length"):
        driven(target, DECIDE, [b"short", b"longer"], ClosedLoop())


def test_bodies_are_of_the_commonest_length() -> None:
    assert len(decide_bodies(["a", "bb", "cc"], 1)) == 2


def test_every_twentieth_shopper_changes() -> None:
    assert changed_ones([str(place) for place in range(100)], 0.05) == ["0", "20", "40", "60", "80"]


def test_changed_shoppers_have_one_more_event(
    target: Target, shopper_ids: list[str], lived: Workload, states: EmbeddedStates
) -> None:
    changed = changed_ones(shopper_ids, 0.1)
    before = {shopper_id: states.shopper(shopper_id).ring["clock"][0, 0] for shopper_id in changed}
    load = OpenLoop((Phase(20.0, 1.0),), deadline_s=PATIENT_S)
    with changing(target, changed, rate_per_s=12.0, at_s=lived.at_s) as recorded:
        put_on(target, shopper_ids, lived.at_s, load)
    assert (recorded.n_failed, recorded.problem) == (0, "")
    assert recorded.n_acknowledged >= len(changed)
    assert all(states.shopper(shopper_id).ring["clock"][0, 0] > n for shopper_id, n in before.items())


def test_callers_ask_about_shoppers_who_have_just_changed(
    target: Target, shopper_ids: list[str], lived: Workload, states: EmbeddedStates
) -> None:
    before = sum(states.shopper(shopper_id).ring["clock"][0, 0] for shopper_id in shopper_ids)
    load = OpenLoop((Phase(100.0, 1.5),), deadline_s=PATIENT_S, changed_share=0.2)
    calls = put_on(target, shopper_ids, lived.at_s, load)
    recorded, n_calls = calls.recorded, calls.figures["n_calls"]
    assert (recorded.n_failed, recorded.problem) == (0, "")
    assert recorded.n_acknowledged == pytest.approx(0.2 * n_calls, abs=25)  # five standard deviations
    after = sum(states.shopper(shopper_id).ring["clock"][0, 0] for shopper_id in shopper_ids)
    assert after - before == recorded.n_acknowledged


def test_events_that_the_gateway_refuses_are_counted_and_told(target: Target) -> None:
    with changing(target, ["shopper-0000001"], rate_per_s=200.0, at_s=-1) as recorded:
        put_on(target, ["shopper-0000001"], 1_500_000_000, OpenLoop((Phase(5.0, 0.3),), deadline_s=PATIENT_S))
    assert recorded.n_acknowledged == 0
    assert recorded.n_failed > 0
    assert "time_s must be" in recorded.problem
