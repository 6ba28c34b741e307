"""A worker of `python -m server` killed under load: the others serve on, and another takes its place.

In: a stage, and the share of the full counts. Out: figures. Run by test_worker_faults.py and the benchmark.
"""

import os
import signal

import numpy as np

from server.load.http2 import UNAVAILABLE
from tests.faults.figures import Figures, figures_of, largest
from tests.faults.generator import even
from tests.faults.stage import Stage, within
from tests.server.supervised import Supervised, supervised

N_WORKERS, PER_S, KILLED_AT_S, TURN_S, N_CHANNELS = 2, 200.0, 1.0, 5.0, 8
STARTS_WITHIN_S = 60.0


def worker_killed(stage: Stage, scale: float) -> Figures:
    """SIGKILL to one of two workers, time and again: what it held is broken off, which its callers see at once."""
    settings = stage.settings("workers")
    with supervised(settings, stage.triton.address, stage.folder / "workers.txt", N_WORKERS) as server:
        return largest([_turn(stage, server) for _ in range(max(1, round(100 * scale)))])


def _turn(stage: Stage, server: Supervised) -> Figures:
    load = stage.generator.begin(
        server.address, stage.shopper_ids, stage.at_s, even(PER_S, TURN_S, n_channels=N_CHANNELS)
    )
    load.until(KILLED_AT_S)
    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    killed_s = load.now_s
    calls = load.ended()
    is_replaced = within(STARTS_WITHIN_S, lambda: len(server.workers()) == N_WORKERS and killed not in server.workers())
    is_failed = ~calls.is_ok
    # The wire says at once that a connection broke: a client that retries has the answer from the other worker.
    is_broken_off = is_failed & np.equal(calls.part.status, UNAVAILABLE)
    failed_s = calls.timeline.intended_s[is_failed]
    return figures_of(calls) | {
        "failed": float((is_failed & ~is_broken_off).sum()),
        "broken_off": float(is_broken_off.sum()),
        "back_s": float(max(0.0, failed_s.max() - killed_s)) if failed_s.size else 0.0,
        "not_replaced": float(not is_replaced),
    }
