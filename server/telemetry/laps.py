"""The moments of one micro-batch, taken once and told to metrics, traces and the log of slow decisions alike.

In: the name of a stage as it ends. Out: (stage, began_ns, ended_ns) on the monotonic clock. Used by server/decide.py.
"""

from time import monotonic_ns

Lap = tuple[str, int, int]


class Laps:
    """A stopwatch of one thread."""

    __slots__ = ("_last_ns", "began_ns", "laps")

    def __init__(self) -> None:
        """Start."""
        self.began_ns = self._last_ns = monotonic_ns()
        self.laps: list[Lap] = []

    def lap(self, stage: str) -> None:
        """Say that a stage of server.telemetry.metrics.STAGES ended just now; it began where the last one ended."""
        now_ns = monotonic_ns()
        self.laps.append((stage, self._last_ns, now_ns))
        self._last_ns = now_ns

    def skip(self) -> None:
        """Let the time since the last lap belong to no stage."""
        self._last_ns = monotonic_ns()

    def seconds(self) -> dict[str, float]:
        """Seconds by stage; a stage that came twice is added up."""
        told: dict[str, float] = {}
        for stage, began_ns, ended_ns in self.laps:
            told[stage] = told.get(stage, 0.0) + (ended_ns - began_ns) * 1e-9
        return told
