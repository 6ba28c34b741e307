"""What a caller waited, from every single call: exact percentiles, and the wait that a late generator would hide.

In: when each call should have gone out, when it did, when it ended. Out: figures. Pure; called by h2load.py and
calls.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

SHARES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}
# A generator that runs late asks less than it was told to: its figures are of another load.
LATE_SHARE, LATE_S = 0.99, 0.01


def percentile(sorted_values: Times, share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed; no value that nobody saw.

    sorted_values  (n,) float64  ascending, n ≥ 1
    share          in (0, 1]
    """
    rank = int(np.ceil(share * sorted_values.size - 1e-9))  # 0.99 · 100 is a hair above 99 in binary
    return float(sorted_values[max(rank, 1) - 1])


def latency_figures(latency_s: Times) -> dict[str, float]:
    """Mean, spread, extremes and percentiles in milliseconds, by name; NaN where there is no call."""
    if not latency_s.size:
        return dict.fromkeys(("mean_ms", "sd_ms", "min_ms", "max_ms", *SHARES), float("nan"))
    ordered = np.sort(latency_s) * 1e3
    figures = {
        "mean_ms": float(ordered.mean()),
        "sd_ms": float(ordered.std()),
        "min_ms": float(ordered[0]),
        "max_ms": float(ordered[-1]),
    }
    return figures | {name: percentile(ordered, share) for name, share in SHARES.items()}


@dataclass(frozen=True)
class Timeline:
    """Calls of an open loop, in seconds since its start.

    intended_s  (n,) float64  when each should have gone out, ascending
    sent_s      (n,) float64  when it did
    ended_s     (n,) float64  when its answer or its failure came; NaN: never
    """

    intended_s: Times
    sent_s: Times
    ended_s: Times

    @property
    def latency_s(self) -> Times:
        """From the intended moment: waiting for a busy generator or a full connection is waiting too."""
        return np.asarray(self.ended_s - self.intended_s)

    @property
    def service_s(self) -> Times:
        """From the moment of sending: what a closed loop would have reported."""
        return np.asarray(self.ended_s - self.sent_s)

    @property
    def late_s(self) -> Times:
        """How late each call went out, ≥ 0."""
        return np.maximum(self.sent_s - self.intended_s, 0.0)

    @property
    def is_generator_bound(self) -> bool:
        """Whether more than one call in a hundred went out too late to speak of the load that was meant."""
        return self.late_s.size > 0 and percentile(np.sort(self.late_s), LATE_SHARE) > LATE_S


def joined(parts: list[Timeline]) -> Timeline:
    """The calls of several generators that began at the same moment, ordered by when they should have gone out."""
    intended, sent, ended = (
        np.concatenate([np.zeros(0), *(getattr(part, name) for part in parts)])
        for name in ("intended_s", "sent_s", "ended_s")
    )
    order = np.argsort(intended, kind="stable")
    return Timeline(intended[order], sent[order], ended[order])
