"""One run of an open loop: what was asked of the generators, and what became of every call.

In: phases and limits. Out: Calls with figures. Shared by open_loop.py and by the two callers.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import grpc
import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import strategy_pb2

from server.load.arrivals import Phase
from server.load.latencies import Timeline, latency_figures, percentile
from server.load.target import Target

OK, NEVER_ENDED = 0, -1
# Without the caller's cutting it off, an answer that comes too late is seen for this long.
LATE_ANSWERS_S = 0.5
CODES = {code: int(code.value[0]) for code in grpc.StatusCode}
DEADLINE_EXCEEDED = CODES[grpc.StatusCode.DEADLINE_EXCEEDED]
_NAMES = {number: code.name for code, number in CODES.items()}

Client = Literal["wire", "grpc.aio"]


@dataclass(frozen=True)
class OpenLoop:
    """How callers come.

    deadline_s   time that each call gives the gateway
    client       wire: server/load/http2.py, some 20,000 calls a second; grpc.aio: as Python clients are, some 3,000
    n_processes  generators that share the load
    n_channels   connections of each
    skew         of the shoppers; see drawn_shoppers
    most_calls   more are refused: every call is remembered
    cpus         cores that the generators may use; none: all
    """

    phases: tuple[Phase, ...]
    deadline_s: float = 0.25
    client: Client = "wire"
    n_processes: int = 1
    n_channels: int = 4
    skew: float = 0.0
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


# Times, statuses and rungs of one generator's calls.
Part = tuple[Timeline, NDArray[np.int16], NDArray[np.int8]]
# Says that the generator is ready and returns the moment of time.monotonic at which all begin.
Begin = Callable[[], float]


@dataclass(frozen=True)
class Calls:
    """What became of every call.

    status    (n,) int16  gRPC status, 0 is OK; NEVER_ENDED if it was still open when the generator gave up
    rung      (n,) int8   of the decision; 0 without one
    """

    timeline: Timeline
    status: NDArray[np.int16]
    rung: NDArray[np.int8]
    deadline_s: float

    @property
    def statuses(self) -> dict[str, int]:
        """How many calls ended with each status."""
        counts = Counter(self.status.tolist())
        return {_NAMES.get(code, "NEVER_ENDED"): n for code, n in sorted(counts.items())}

    @property
    def rungs(self) -> dict[str, int]:
        """How many decisions each rung of the ladder gave."""
        counts = Counter(self.rung[self.status == OK].tolist())
        return {strategy_pb2.Rung.Name(rung).removeprefix("RUNG_").lower(): n for rung, n in sorted(counts.items())}

    @property
    def n_answered_late(self) -> int:
        """Decisions that came after their deadline: nobody can use them."""
        return int(((self.status == OK) & (self.timeline.service_s > self.deadline_s)).sum())

    @property
    def figures(self) -> dict[str, float]:
        """Latencies of answered calls, counts, and how late the generator itself was."""
        is_ok, late_s = self.status == OK, np.sort(self.timeline.late_s)
        return latency_figures(self.timeline.latency_s[is_ok]) | {
            "n_calls": int(is_ok.size),
            "n_failed": int((~is_ok).sum()),
            "n_answered_late": self.n_answered_late,
            "generator_late_p99_ms": percentile(late_s, 0.99) * 1e3 if late_s.size else 0.0,
        }
