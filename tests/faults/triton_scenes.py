"""What becomes of decisions while Triton is killed, stopped, slow, mad or reloading under load.

In: a stage, and the share of the full counts. Out: figures. Run by test_triton_faults.py and the benchmark.
"""

from collections.abc import Callable

from tests.faults.figures import BACK_WITHIN_S, RUNGS, Figures, back_s, figures_of, largest
from tests.faults.garbage import KINDS
from tests.faults.generator import Running, even
from tests.faults.observed import Observed
from tests.faults.stage import Stage, within

# Calls of one turn, of all turns at full scale, and how long a turn is at the least: Triton needs some of it to start.
FULL_CALLS, TURN_S, MOST_RATE = 60_000, 9.0, 1_000.0
BREAKS_AT_S, BROKEN_FOR_S, SEEN_FOR_S = 0.7, 1.5, 1.5


def killed(stage: Stage, scale: float) -> Figures:
    """SIGKILL, and a start on the same port."""
    return _turns(stage, scale, stage.gateway, stage.triton.kill, stage.triton.start)


def stopped(stage: Stage, scale: float) -> Figures:
    """SIGSTOP, and SIGCONT: connections stay and nothing is said."""
    return _turns(stage, scale, stage.gateway, stage.triton.stop, stage.triton.go_on, TURN_S / 2)


def slow(stage: Stage, scale: float) -> Figures:
    """Every answer a second late."""

    def delay(seconds: float) -> Callable[[], None]:
        return lambda: setattr(stage.relay, "delay_s", seconds)

    return _turns(stage, scale, stage.relayed, delay(1.0), delay(0.0), TURN_S / 2)


def reloaded(stage: Stage, scale: float) -> Figures:
    """The heads unloaded, and loaded again."""

    def unload() -> None:
        stage.triton.unload("heads")

    def load() -> None:
        stage.triton.load("heads")

    return _turns(stage, scale, stage.gateway, unload, load, TURN_S / 2)


def garbage(stage: Stage, scale: float) -> Figures:
    """Something else answers at Triton's address, one kind of nonsense after the other."""

    def speak_nonsense() -> None:
        stage.relay.lead_to(stage.garbage.address)

    def every_kind(load: Running) -> None:
        for place, kind in enumerate(KINDS):
            stage.garbage.kind = kind
            n_before = stage.garbage.n_answers
            # The gateway asks again ten times a second; each kind must be heard twice and not be believed.
            assert within(5.0, lambda n=n_before: stage.garbage.n_answers > n + 2), f"{kind}: nobody asks any more"
            assert not stage.relayed.look().is_up, f"{kind}: nonsense was believed (kind {place})"

    def speak_sense() -> None:
        stage.relay.lead_to(stage.triton.address)

    return _turns(stage, scale, stage.relayed, speak_nonsense, speak_sense, TURN_S, every_kind)


def _turns(
    stage: Stage,
    scale: float,
    gateway: Observed,
    harm: Callable[[], None],
    mend: Callable[[], None],
    turn_s: float = TURN_S,
    meanwhile: Callable[[Running], None] | None = None,
) -> Figures:
    """Break and mend under load, as often as the scale says."""
    n_calls = FULL_CALLS * scale
    rate_per_s = min(MOST_RATE, max(60.0, n_calls / turn_s))
    n_turns = max(1, round(n_calls / (rate_per_s * turn_s)))
    return largest([_turn(stage, gateway, (rate_per_s, turn_s), harm, mend, meanwhile) for _ in range(n_turns)])


def _turn(
    stage: Stage,
    gateway: Observed,
    shape: tuple[float, float],
    harm: Callable[[], None],
    mend: Callable[[], None],
    meanwhile: Callable[[Running], None] | None,
) -> Figures:
    rate_per_s, turn_s = shape
    load = _begun(stage, gateway, rate_per_s, turn_s)
    load.until(BREAKS_AT_S)
    harm()
    if meanwhile is not None:
        meanwhile(load)
    load.until(BREAKS_AT_S + BROKEN_FOR_S)
    mend()
    returned_s = load.now_s
    seen = [load.ended()]
    if returned_s > turn_s - SEEN_FOR_S or back_s(seen[0], returned_s) > BACK_WITHIN_S:
        # On a busy machine Triton may start for longer than a turn: the callers go on until the end can be seen.
        more = _begun(stage, gateway, rate_per_s, BACK_WITHIN_S + 1.0)
        returned_s -= more.began_s - load.began_s
        seen.append(more.ended())
    told = largest([figures_of(calls) for calls in seen])
    n_answered = [max(1, int(calls.is_ok.sum())) for calls in seen]
    for rung in RUNGS:
        told[f"{rung}_share"] = sum(calls.rungs.get(rung, 0) for calls in seen) / sum(n_answered)
    return told | {"back_s": back_s(seen[-1], returned_s)}


def _begun(stage: Stage, gateway: Observed, rate_per_s: float, seconds: float) -> Running:
    return stage.generator.begin(gateway.address, stage.shopper_ids, stage.at_s, even(rate_per_s, seconds))
