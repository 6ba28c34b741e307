"""Load over time: a soak that would show a leak, and a spike that would show a queue which never empties.

In: whom to load, and a rate. Out: windows and samples, ready for JSON. Called by bench.py and by the benchmarks.
"""

from dataclasses import asdict

import numpy as np
from stratagem.v1 import strategy_pb2

from server.load.arrivals import Phase
from server.load.calls import Calls
from server.load.curve import Figures, Loaded, Show, Told, in_words, told_of
from server.load.latencies import percentile
from server.load.memory import PERIOD_S, growth_percent, watched
from server.load.open_loop import put_on

FULL = int(strategy_pb2.RUNG_FULL)
SPIKE = 5.0
WINDOW_S = 0.5
# Half a second's p99 of a few hundred calls varies by itself; twice the usual one and some more is trouble.
RECOVERED_TIMES, RECOVERED_MS = 2.0, 5.0


def soak(loaded: Loaded, rate_per_s: float, seconds: float, show: Show) -> Told:
    """Keep one rate up and watch the gateway's memory.

    returns  figures, a window for each minute, memory samples and how much they grow in the second half
    """
    period_s = min(PERIOD_S, seconds / 20)
    load = loaded.open_loop(Phase(rate_per_s, seconds))
    with watched(loaded.pid, period_s) as watch:
        calls = put_on(loaded.target, loaded.shopper_ids, loaded.at_s, load)
    growth = growth_percent(watch.samples)
    show(f"soak, {rate_per_s:,.0f} calls/s for {seconds:,.0f} s: {in_words(calls)}; memory grew by {growth:.2f} %")
    return {
        "rate_per_s": rate_per_s,
        "seconds": seconds,
        **told_of(calls, seconds),
        "windows": windows(calls, seconds, min(60.0, seconds / 10)),
        "memory": [asdict(sample) for sample in watch.samples],
        "growth_percent": growth,
    }


def spike(loaded: Loaded, rate_per_s: float, seconds: float, show: Show) -> Told:
    """Let SPIKE times the callers come for some seconds, and see when the rest are served as before again.

    seconds  of the spike; as long before it, and three times as long after
    returns  figures, windows, and recovery_s from the spike's end; None if it was not reached
    """
    phases = (Phase(rate_per_s, seconds), Phase(SPIKE * rate_per_s, seconds), Phase(rate_per_s, 3 * seconds))
    calls = put_on(loaded.target, loaded.shopper_ids, loaded.at_s, loaded.open_loop(*phases))
    told = windows(calls, 5 * seconds, WINDOW_S)
    recovered_s = recovery_s(told, seconds, 2 * seconds)
    words = "not recovered" if recovered_s is None else f"recovered {recovered_s:.1f} s after it"
    show(f"spike, {rate_per_s:,.0f} to {SPIKE * rate_per_s:,.0f} calls/s for {seconds:g} s: {in_words(calls)}; {words}")
    return {
        "rate_per_s": rate_per_s,
        "times": SPIKE,
        "begins_s": seconds,
        "ends_s": 2 * seconds,
        **told_of(calls, 5 * seconds),
        "windows": told,
        "recovery_s": recovered_s,
    }


def windows(calls: Calls, seconds: float, width_s: float) -> list[Figures]:
    """Calls by when they should have gone out.

    returns  at_s, n_calls, n_failed, n_not_full, p50_ms and p99_ms of each; a window without answers has no p50 or p99
    """
    intended_s, latency_ms = calls.timeline.intended_s, calls.timeline.latency_s * 1e3
    is_full = calls.is_ok & (calls.part.rung == FULL)
    told: list[Figures] = []
    edges = np.arange(0.0, seconds - 1e-9, width_s)
    for first, end in zip(
        np.searchsorted(intended_s, edges), np.searchsorted(intended_s, edges + width_s), strict=True
    ):
        is_ok = calls.is_ok[first:end]
        answered = np.sort(latency_ms[first:end][is_ok])
        told.append(
            {
                "at_s": float(edges[len(told)]),
                "n_calls": int(end - first),
                "n_failed": int((~is_ok).sum()),
                "n_not_full": int((is_ok & ~is_full[first:end]).sum()),
                "p50_ms": percentile(answered, 0.5) if answered.size else float("nan"),
                "p99_ms": percentile(answered, 0.99) if answered.size else float("nan"),
            }
        )
    return told


def recovery_s(told: list[Figures], begins_s: float, ends_s: float) -> float | None:
    """Seconds from a spike's end until every later window is as those before it were.

    told  windows in order
    """
    before = [window for window in told if window["at_s"] + WINDOW_S <= begins_s]
    usual_ms = max(window["p99_ms"] for window in before)
    most_ms = max(RECOVERED_TIMES * usual_ms, usual_ms + RECOVERED_MS)
    after = [window for window in told if window["at_s"] >= ends_s]
    poor = [window["at_s"] for window in after if window["n_failed"] or not window["p99_ms"] <= most_ms]
    if not after or (poor and poor[-1] == after[-1]["at_s"]):
        return None
    return max(poor) + WINDOW_S - ends_s if poor else 0.0
