"""The curve, the soak and the spike on a real gateway; their arithmetic on made-up calls."""

import os
import subprocess
import sys

import numpy as np
import pytest

from server.load import curve as curves
from server.load.bench import Lengths, bench_load
from server.load.calls import Calls, Part
from server.load.curve import Loaded, saturation
from server.load.memory import Sample, family_of, growth_percent, sampled, watched
from server.load.profiles import FULL, recovery_s, soak, spike, windows
from server.load.target import Target
from tests.load.workload import Workload
from tests.requirements import require_program

PATIENT_S = 20.0
MIB = 2**20


@pytest.fixture
def loaded(target: Target, shopper_ids: list[str], lived: Workload) -> Loaded:
    return Loaded(target, shopper_ids, lived.at_s, deadline_s=PATIENT_S)


def said() -> tuple[list[str], object]:
    lines: list[str] = []
    return lines, lines.append


def test_a_whole_bench_measures_every_part(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    require_program("h2load", "nghttp2-client")
    monkeypatch.setattr(curves, "SHARES", (0.1, 0.5))
    monkeypatch.setattr(curves, "OPEN_CALLS", (1, 4))
    lines, show = said()
    told = bench_load(loaded, Lengths(step_s=0.5, point_s=0.5, soak_s=1.0, spike_s=0.5), show)
    assert told["saturated_per_s"] == max(step["rate_per_s"] for step in told["steps"]) > 0
    assert [point["share"] for point in told["points"]] == [0.1, 0.5]
    for part in (*told["points"], told["soak"], told["spike"]):
        assert part["statuses"] == {"OK": part["n_calls"]}
        assert part["n_events_failed"] == 0
    assert told["made"]["generators"].startswith("h2load nghttp2/")
    assert len(lines) == 2 + 2 + 2


def test_steps_end_when_more_callers_bring_no_more_answers(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    require_program("h2load", "nghttp2-client")
    monkeypatch.setattr(curves, "OPEN_CALLS", (4, 4, 4, 4, 4, 4, 4, 4))
    monkeypatch.setattr(curves, "WORTH_A_STEP", 1e9)  # nothing is ever worth it, the first step aside
    _, show = said()
    _, steps = saturation(loaded, 0.3, show)
    assert len(steps) == 3


def test_a_soak_watches_the_memory_of_the_process_it_is_given(loaded: Loaded) -> None:
    lines, show = said()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        watched_one = Loaded(loaded.target, loaded.shopper_ids, loaded.at_s, deadline_s=PATIENT_S, pid=process.pid)
        told = soak(watched_one, 20.0, 2.0, show)
        process.communicate(b"\n")
    assert len(told["memory"]) >= 10
    assert abs(told["growth_percent"]) < 2
    assert sum(window["n_calls"] for window in told["windows"]) == told["n_calls"]
    assert "memory grew by" in lines[0]


def test_a_spike_is_survived(loaded: Loaded) -> None:
    _, show = said()
    told = spike(loaded, 10.0, 1.0, show)
    during = [window["n_calls"] for window in told["windows"] if 1.0 <= window["at_s"] < 2.0]
    assert sum(during) == pytest.approx(50, abs=30)
    assert told["statuses"] == {"OK": told["n_calls"]}


def made_up(intended_s: list[float], latency_s: list[float], status: list[int]) -> Calls:
    part = Part.empty(np.array(intended_s))
    part.timeline.sent_s[:] = intended_s
    part.timeline.ended_s[:] = np.array(intended_s) + np.array(latency_s)
    part.status[:] = status
    part.rung[:] = FULL
    return Calls(part, PATIENT_S)


def test_windows_hold_the_calls_that_should_have_gone_out_in_them() -> None:
    told = windows(made_up([0.1, 0.2, 0.6, 1.2], [0.9, 0.01, 0.02, 0.03], [0, 0, 14, 0]), 1.5, 0.5)
    assert [window["n_calls"] for window in told] == [2, 1, 1]
    assert [window["n_failed"] for window in told] == [0, 1, 0]
    assert told[0]["p99_ms"] == pytest.approx(900)
    assert np.isnan(told[1]["p99_ms"])


@pytest.mark.parametrize(
    ("slow_until_s", "expected_s"),
    [(4.0, 0.0), (5.2, 1.5), (20.0, None)],
)
def test_recovery_is_when_the_last_poor_window_ends(slow_until_s: float, expected_s: float | None) -> None:
    intended = [place / 100 + 0.001 for place in range(1_000)]
    latency = [1.0 if 2.0 <= moment < slow_until_s else 0.01 for moment in intended]
    told = windows(made_up(intended, latency, [0] * len(intended)), 10.0, 0.5)
    assert recovery_s(told, 2.0, 4.0) == expected_s


def test_memory_of_a_family_counts_what_each_of_it_holds() -> None:
    held = "import subprocess, sys; kept = b'x' * (40 * 2**20); print('held', flush=True); input()"
    parent = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {held!r}]); child.wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert len(family_of(process.pid)) == 2
        sample = sampled(process.pid, 0.0)
        process.communicate(b"\n")
    assert sample.n_processes == 2
    assert 40 < sample.largest_mib < sample.own_mib < 120
    assert sample.own_mib <= sample.uss_mib <= sample.pss_mib <= sample.rss_mib


@pytest.mark.parametrize("percent", [0.0, 5.0, -3.0])
def test_growth_is_that_of_the_second_half(percent: float) -> None:
    """The first half fills caches; over the second, own memory goes from 100 - p/2 to 100 + p/2 in a straight line."""
    first = [Sample(at, 1, 0, 0, 0, 10.0 * at, 0) for at in range(10)]
    second = [Sample(10.0 + at, 1, 0, 0, 0, 100 + percent * (at / 10 - 0.5), 0) for at in range(11)]
    assert growth_percent(first + second) == pytest.approx(percent, abs=1e-6)
    assert np.isnan(growth_percent(first[:3]))


def test_a_gateway_elsewhere_has_no_memory_to_watch() -> None:
    with watched(None) as watch:
        pass
    assert watch.samples == []
    with watched(os.getpid(), period_s=0.01) as watch:
        pass
    assert watch.samples[0].rss_mib > 10
