"""One run of an open loop: what was asked of the generators, and what became of every call.

In: phases and limits. Out: Calls with figures. Shared by open_loop.py and by the two callers.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import grpc
import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import strategy_pb2

from server.load.arrivals import Phase
from server.load.changes import Recorded
from server.load.latencies import LATE_S, Timeline, joined, latency_figures, percentile
from server.load.target import Target

OK, NEVER_ENDED = 0, -1
# Without the caller's cutting it off, an answer that comes too late is seen for this long.
LATE_ANSWERS_S = 0.5
# How long before a decision its shopper may have changed, seconds.
CHANGED_WITHIN_S = 1.0
CODES = {code: int(code.value[0]) for code in grpc.StatusCode}
DEADLINE_EXCEEDED = CODES[grpc.StatusCode.DEADLINE_EXCEEDED]
_NAMES = {number: code.name for code, number in CODES.items()}

Client = Literal["wire", "grpc.aio"]


@dataclass(frozen=True)
class OpenLoop:
    """How callers come.

    deadline_s   time that each call gives the gateway
    client       wire: server/load/http2.py, 70 µs of processor time a call; grpc.aio: as Python clients are, 200 µs
    n_processes  generators that share the load
    n_channels   connections of each
    skew         of the shoppers; see drawn_shoppers
    changed_share  of the calls, those about a shopper who did something up to CHANGED_WITHIN_S before
    most_calls   more are refused: every call is remembered
    cpus         cores that the generators may use; none: all
    """

    phases: tuple[Phase, ...]
    deadline_s: float = 0.25
    client: Client = "wire"
    n_processes: int = 1
    n_channels: int = 4
    skew: float = 0.0
    changed_share: float = 0.0
    seed: int = 0
    most_calls: int = 10_000_000
    cpus: frozenset[int] = frozenset()

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(phase.seconds for phase in self.phases)


@dataclass(frozen=True)
class Work:
    """One generator's part.

    intended_s   (n,) float64  when each call should go out, seconds since the beginning, ascending
    shopper_ids  (n,)          whom it is about
    """

    target: Target
    intended_s: NDArray[np.float64]
    shopper_ids: list[str]
    at_s: int
    load: OpenLoop


@dataclass(frozen=True)
class Part:
    """What one generator saw.

    status        (n,) int16    gRPC status, 0 is OK; NEVER_ENDED if it was still open when the generator gave up
    rung          (n,) int8     of the decision; 0 without one
    vector_age_s  (n,) float32  how long the shopper's vector had been behind, 0 if it was not, or without a decision
    """

    timeline: Timeline
    status: NDArray[np.int16]
    rung: NDArray[np.int8]
    vector_age_s: NDArray[np.float32]

    @classmethod
    def empty(cls, intended_s: NDArray[np.float64]) -> "Part":
        """Calls of which nothing is known yet, to be filled in place."""
        n_calls = intended_s.size
        timeline = Timeline(intended_s, np.full(n_calls, np.nan), np.full(n_calls, np.nan))
        status = np.full(n_calls, NEVER_ENDED, np.int16)
        return cls(timeline, status, np.zeros(n_calls, np.int8), np.zeros(n_calls, np.float32))

    def answered(self, call: int, message: bytes) -> None:
        """Note what a DecideResponse says."""
        decision = strategy_pb2.DecideResponse.FromString(message).decision
        self.rung[call], self.vector_age_s[call] = decision.rung, decision.vector_age_s


# Says that the generator is ready and returns the moment of time.monotonic at which all begin.
Begin = Callable[[], float]


@dataclass(frozen=True)
class Calls:
    """What became of every call of all generators, in the order in which they should have gone out.

    recorded  what became of the events of those who changed
    """

    part: Part
    deadline_s: float
    recorded: Recorded = field(default_factory=Recorded)

    @classmethod
    def of(cls, parts: list[Part], deadline_s: float, recorded: Recorded) -> "Calls":
        """The calls of generators that began at the same moment."""
        order = np.argsort(np.concatenate([part.timeline.intended_s for part in parts]), kind="stable")
        timeline = joined([part.timeline for part in parts])
        status = np.concatenate([part.status for part in parts])[order]
        rung = np.concatenate([part.rung for part in parts])[order]
        age_s = np.concatenate([part.vector_age_s for part in parts])[order]
        return cls(Part(timeline, status, rung, age_s), deadline_s, recorded)

    @property
    def timeline(self) -> Timeline:
        """When each call should have gone out, did, and ended."""
        return self.part.timeline

    @property
    def is_ok(self) -> NDArray[np.bool_]:
        """Which calls were answered."""
        return np.equal(self.part.status, OK)

    @property
    def statuses(self) -> dict[str, int]:
        """How many calls ended with each status."""
        counts = Counter(self.part.status.tolist())
        return {_NAMES.get(code, "NEVER_ENDED"): n for code, n in sorted(counts.items())}

    @property
    def rungs(self) -> dict[str, int]:
        """How many decisions each rung of the ladder gave."""
        counts = Counter(self.part.rung[self.is_ok].tolist())
        return {strategy_pb2.Rung.Name(rung).removeprefix("RUNG_").lower(): n for rung, n in sorted(counts.items())}

    @property
    def n_answered_late(self) -> int:
        """Decisions that came after their deadline, and by more than the generator may be late in reading them."""
        return int((self.is_ok & (self.timeline.service_s > self.deadline_s + LATE_S)).sum())

    @property
    def figures(self) -> dict[str, float]:
        """Latencies of answered calls, counts, stale vectors, and how late the generator itself was."""
        is_ok, late_s = self.is_ok, np.sort(self.timeline.late_s)
        age_s = self.part.vector_age_s[is_ok]
        return latency_figures(self.timeline.latency_s[is_ok]) | {
            "stale_share": float((age_s > 0).mean()) if age_s.size else 0.0,
            "oldest_vector_s": float(age_s.max(initial=0.0)),
            "n_calls": int(is_ok.size),
            "n_failed": int((~is_ok).sum()),
            "n_answered_late": self.n_answered_late,
            "generator_late_p99_ms": percentile(late_s, 0.99) * 1e3 if late_s.size else 0.0,
        }
