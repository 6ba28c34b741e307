"""What a fault cost, in figures that are the same for every fault.

In: the calls of a load, and when what was broken was whole again. Out: names and numbers, as docs/faults.md shows them.
"""

import grpc
import numpy as np
from stratagem.v1 import strategy_pb2

from server.load.calls import CODES, Calls
from server.load.latencies import latency_figures

Figures = dict[str, float]
RUNGS = ("full", "cached", "safe_default")
EXHAUSTED = CODES[grpc.StatusCode.RESOURCE_EXHAUSTED]
MOST_LATE_SHARE, BACK_WITHIN_S = 0.001, 5.0


def figures_of(calls: Calls) -> Figures:
    """Calls, those that failed, answers after their deadline, each rung's share of the answers, latencies."""
    # Said at once, and when to come again: no failure, but no answer either.
    is_refused = np.equal(calls.part.status, EXHAUSTED)
    told = {
        "calls": float(calls.is_ok.size),
        "failed": float((~calls.is_ok & ~is_refused).sum()),
        "refused": float(is_refused.sum()),
        "late": float(n_late(calls)),
        "callers_late_ms": calls.figures["generator_late_p99_ms"],
    }
    n_answered = max(1, int(calls.is_ok.sum()))
    told |= {f"{rung}_share": calls.rungs.get(rung, 0) / n_answered for rung in RUNGS}
    latencies = latency_figures(calls.timeline.latency_s[calls.is_ok])
    told |= {f"n_{status.lower()}": float(n) for status, n in calls.statuses.items()}
    return told | {name: latencies[name] for name in ("p50_ms", "p99_ms", "max_ms")}


def n_late(calls: Calls) -> int:
    """Answers after their deadline, by more than what the callers' own process was late at its worst."""
    own_s = float(calls.timeline.late_s.max(initial=0.0))
    return int((calls.is_ok & (calls.timeline.service_s > calls.deadline_s + own_s)).sum())


def back_s(calls: Calls, returned_s: float, broken_s: float = np.inf) -> float:
    """Seconds from a return to the last call that was not decided in full.

    returned_s  when what was broken was whole again, on the load's clock
    broken_s    when something was broken again
    returns     0 where everything was full at once; inf where it was not yet full in the end
    """
    intended_s = calls.timeline.intended_s
    after = (intended_s >= returned_s) & (intended_s < broken_s)
    is_full = calls.is_ok & (calls.part.rung == strategy_pb2.RUNG_FULL)
    if not after.any() or not is_full[after][-1]:
        return float("inf")
    worse = intended_s[after & ~is_full]
    return float(worse.max() - returned_s) if worse.size else 0.0


def largest(figures: list[Figures]) -> Figures:
    """The worst of each figure over several turns of one fault, counts added up."""
    names = dict.fromkeys(name for turn in figures for name in turn)
    return {name: _worst(name, [turn.get(name, 0.0) for turn in figures]) for name in names}


def _worst(name: str, values: list[float]) -> float:
    is_count = name in ("calls", "failed", "refused", "late") or name.startswith("n_")
    return float(sum(values) if is_count else max(values))
