"""What a micro-batch pays to be seen: `python -m tests.server.telemetry.cost`, microseconds, best of seven.

In: nothing. Out: one line per batch size and one per call of the traces, which export to a collector in this process.
"""

import sys
import timeit
from collections.abc import Callable

import numpy as np

from server.telemetry.laps import Laps
from server.telemetry.logs import SlowDecisions
from server.telemetry.metrics import STAGES, Metrics
from server.telemetry.traces import Traces
from tests.server.telemetry.collector import collecting

CALLER = [("user-agent", "grpc-python"), ("accept-encoding", "identity"), ("authorization", "Bearer " + "0" * 40)]
PARENT = f"00-{'ab' * 16}-{'cd' * 8}-"


def micros(call: Callable[[], object], n: int = 2000) -> str:
    """One call's time, the best of seven rounds."""
    return f"{min(timeit.repeat(call, number=n, repeat=7)) / n * 1e6:.2f}"


def tell(words: str) -> None:
    """One line on stdout."""
    sys.stdout.write(words + "\n")


def batches() -> None:
    """Everything that one micro-batch tells metrics and the log of slow decisions."""
    metrics, slow, random = Metrics(), SlowDecisions(100.0), np.random.default_rng(1)
    stage_s = dict.fromkeys(STAGES, 0.0003)
    for n_rows in (1, 10, 64, 256):
        waited_s, latency_s = random.random(n_rows) * 1e-3, random.random(n_rows) * 1e-2
        age_s = random.random(-(-n_rows // 20))  # one shopper in twenty changed since the last decision
        decision_ids = [str(row) for row in range(n_rows)]

        def all_of_it(n_rows=n_rows, waited_s=waited_s, latency_s=latency_s, age_s=age_s, ids=decision_ids) -> None:
            metrics.decided("full", n_rows)
            metrics.batch(n_rows, waited_s, stage_s)
            metrics.answered("Decide", "OK", latency_s)
            metrics.vectors(n_rows - age_s.size, age_s.size, age_s)
            slow.batch(ids, waited_s, stage_s)

        tell(f"{n_rows} rows: {micros(all_of_it)} us")


def calls() -> None:
    """What one call tells the traces."""
    with collecting() as collector:
        traces = Traces(collector.url, share=0.0)
        untraced, traced = ([*CALLER, ("traceparent", PARENT + flags)] for flags in ("00", "01"))
        found = traces.sampled(traced)
        assert found is not None
        laps = Laps()
        for stage in STAGES:
            laps.lap(stage)
        tell(f"sampled, no traceparent: {micros(lambda: traces.sampled(CALLER))} us")
        tell(f"sampled, not traced: {micros(lambda: traces.sampled(untraced))} us")
        tell(f"sampled, traced: {micros(lambda: traces.sampled(traced))} us")
        record = lambda: traces.record(found, "Decide", "decision", laps.began_ns, laps.laps, "OK")  # noqa: E731
        tell(f"record: {micros(record, 200)} us")
        tell(f"triton_metadata of 64, none traced: {micros(lambda: traces.triton_metadata([None] * 64))} us")
        traces.close()


if __name__ == "__main__":
    batches()
    calls()
