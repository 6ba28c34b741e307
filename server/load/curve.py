"""Latency against load: where the gateway is saturated, and what callers wait on the way there and beyond.

In: whom to load, with what. Out: steps and points, ready for JSON. Called by bench.py and by the benchmarks.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from server.load import h2load
from server.load.arrivals import Phase
from server.load.calls import Calls, OpenLoop
from server.load.changes import Recorded, changed_ones, changing
from server.load.h2load import ClosedLoop
from server.load.open_loop import put_on
from server.load.target import DECIDE, Target, decide_bodies

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
OPEN_CALLS = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048)
N_CONNECTIONS = 4
# A step that brings less than this is noise, and two of them in a row are the end of the climb.
WORTH_A_STEP = 1.03

Show = Callable[[str], None]
Figures = dict[str, float]
Told = dict[str, object]


@dataclass(frozen=True)
class Loaded:
    """Whom to load, and with what.

    at_s           the moment that decisions are asked for, seconds since 1970 UTC
    changed_share  of the shoppers asked about, those with a new event
    deadline_s     of each call of the open loop
    pid            the gateway's process, for its memory; None: it runs elsewhere
    n_processes    generators of the open loop
    cpus           cores that the generators may use; none: all
    """

    target: Target
    shopper_ids: Sequence[str]
    at_s: int
    changed_share: float = 0.05
    deadline_s: float = 0.25
    pid: int | None = None
    n_processes: int = 1
    cpus: frozenset[int] = frozenset()

    def changing(self, rate_per_s: float) -> AbstractContextManager[Recorded]:
        """Events of changed_share of the shoppers, in step with h2load's decisions at a rate."""
        changed = changed_ones(self.shopper_ids, self.changed_share) if self.changed_share else []
        if not changed or not rate_per_s:
            return nullcontext(Recorded())
        return changing(self.target, changed, self.changed_share * rate_per_s, self.at_s)

    def open_loop(self, *phases: Phase) -> OpenLoop:
        """An open loop through phases."""
        return OpenLoop(
            phases,
            self.deadline_s,
            n_processes=self.n_processes,
            changed_share=self.changed_share,
            cpus=self.cpus,
        )


def saturation(loaded: Loaded, seconds: float, show: Show) -> tuple[float, list[Figures]]:
    """Let ever more callers ask as fast as they are answered, until more of them bring no more whole answers.

    seconds  of each step
    returns  the highest rate of whole answers, and the steps: open_calls, is_whole, rate_per_s and latencies
    raises   LoadFailed
    """
    bodies = decide_bodies(loaded.shopper_ids, loaded.at_s)
    steps: list[Figures] = []
    best_per_s, n_poor = 0.0, 0
    for n_open in OPEN_CALLS:
        n_connections = min(n_open, N_CONNECTIONS)
        warm_s = min(1.0, seconds / 2)
        loop = ClosedLoop(
            n_connections, n_open // n_connections, seconds, warm_s, deadline_s=loaded.deadline_s, cpus=loaded.cpus
        )
        with loaded.changing(best_per_s) as recorded:
            answered = h2load.put_on(loaded.target, DECIDE, bodies, loop)
        figures = answered.figures
        steps.append(
            {"open_calls": n_open, "events_per_s": recorded.rate_per_s, "is_whole": answered.is_whole} | figures
        )
        words = (
            "" if answered.is_whole else "; some were refused or answered from a lesser rung, so this does not count"
        )
        show(f"{n_open} open calls: {figures['rate_per_s']:,.0f} decisions/s, p99 {figures['p99_ms']:.1f} ms{words}")
        if not answered.is_whole:
            break
        n_poor = 0 if figures["rate_per_s"] > WORTH_A_STEP * best_per_s else n_poor + 1
        best_per_s = max(best_per_s, figures["rate_per_s"])
        if n_poor == 2:
            break
    return best_per_s, steps


def curve(loaded: Loaded, saturated_per_s: float, seconds: float, show: Show) -> list[Told]:
    """Let callers come at shares of the saturated rate, however long answers take.

    seconds  of each point
    returns  a point for each of SHARES
    """
    points = []
    for share in SHARES:
        rate_per_s = share * saturated_per_s
        load = loaded.open_loop(Phase(rate_per_s, seconds))
        calls = put_on(loaded.target, loaded.shopper_ids, loaded.at_s, load)
        point = {"share": share, "asked_per_s": rate_per_s} | told_of(calls, seconds)
        points.append(point)
        show(f"{share:.0%} of saturation, {rate_per_s:,.0f} calls/s: {in_words(calls)}")
    return points


def told_of(calls: Calls, seconds: float) -> Told:
    """Figures, statuses and rungs of a run; a generator that was late is owned up to.

    seconds  of the run
    """
    return {
        "answered_per_s": float(calls.is_ok.sum() / seconds),
        "events_per_s": calls.recorded.n_acknowledged / seconds,
        "n_events_failed": calls.recorded.n_failed,
        "statuses": calls.statuses,
        "rungs": calls.rungs,
        "is_generator_bound": calls.timeline.is_generator_bound,
        **calls.figures,
    }


def in_words(calls: Calls) -> str:
    """One line for people."""
    figures = calls.figures
    if calls.timeline.is_generator_bound:
        return f"the generator was {figures['generator_late_p99_ms']:.0f} ms late, so this is no measurement"
    parts = [f"p50 {figures['p50_ms']:.1f} ms", f"p99 {figures['p99_ms']:.1f} ms"]
    parts += [f"{n:,} {status}" for status, n in calls.statuses.items() if status != "OK"]
    parts += [f"{n:,} {rung}" for rung, n in calls.rungs.items() if rung != "full"]
    return ", ".join(parts)
