"""Everything that watches one worker, as one thing: metrics, traces, and the log of slow decisions.

In: what became of a micro-batch, once. Out: what each of the three wants of it. Made by the assembly; told by
server/decide.py, server/waiting.py and the doors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import numpy as np

from server.settings import Settings
from server.strategy.catalogue import Floats
from server.telemetry.laps import Laps
from server.telemetry.logs import SlowDecisions
from server.telemetry.metrics import Metrics
from server.telemetry.traces import Traced, Traces, open_traces


class Told(Protocol):
    """One ask that was answered.

    arrived_s  moment of time.monotonic at which it had come
    method     such as "Decide"
    traced     of its call; None for most
    """

    arrived_s: float
    method: str
    traced: Traced | None

    @property
    def decision_id(self) -> str: ...


@dataclass(frozen=True)
class Telling:
    """The watchers of one worker."""

    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces | None = None
    slow: SlowDecisions = field(default_factory=lambda: SlowDecisions(float("inf")))

    @classmethod
    def of(cls, settings: Settings) -> "Telling":
        """As the settings say."""
        return cls(Metrics(), open_traces(settings), SlowDecisions(settings.slow_ms))

    def answered(self, asks: Sequence[Told], laps: Laps, rung: str, vector_age_s: Floats) -> None:
        """Tell of asks of one micro-batch that one rung has answered.

        vector_age_s  (n_asks,) float64; fewer where no vector was read
        """
        now_s, began_s = monotonic(), laps.began_ns * 1e-9
        arrived_s = np.array([ask.arrived_s for ask in asks])
        stage_s, waited_s = laps.seconds(), np.maximum(0.0, began_s - arrived_s)
        self.metrics.decided(rung, len(asks))
        self.metrics.batch(len(asks), waited_s, stage_s)
        taken_s = now_s - arrived_s
        for method in {ask.method for ask in asks}:
            self.metrics.answered(method, "OK", taken_s[[ask.method == method for ask in asks]])
        stale = vector_age_s[vector_age_s > 0.0]
        self.metrics.vectors(vector_age_s.size - stale.size, stale.size, stale)
        self.slow.batch([ask.decision_id for ask in asks], waited_s, stage_s)
        if self.traces is not None:
            for ask in asks:
                if ask.traced is not None:
                    began_ns = int(ask.arrived_s * 1e9)
                    self.traces.record(ask.traced, ask.method, ask.decision_id, began_ns, laps.laps, "OK")

    def close(self) -> None:
        """Export what waits."""
        if self.traces is not None:
            self.traces.close()
