"""Where the CPU time of one decision goes: every step of a micro-batch on its own, in one thread, best of several.

In: the workload and a Triton. Out: microseconds a row by step. Called by tests/benchmarks/gateway.py; what the wire and
gRPC's own threads take is the rest of `unary_cpu_us`.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from stratagem.v1 import strategy_pb2

from server.batch import Ask, Batch, Draws, batch_of
from server.decide import Decider, Pending
from server.decision_block import block_of
from server.feedback import framed
from server.gateway.assembly import opened
from server.gateway.strategy import ask_from
from server.gateway.words import decide_response, decision_bytes
from server.telemetry.laps import Laps
from server.telemetry.metrics import STAGES
from server.triton.client import predictions_of
from tests.benchmarks.gateway_world import Asked

N_ROWS, N_TIMES, N_BEST = 64, 50, 5
WITHIN_S = 30.0

Step = Callable[[], object]


def profiled(asked: Asked, triton: str) -> dict[str, float]:
    """Microseconds of CPU that each step of a batch of N_ROWS takes a row.

    triton   address of a ready Triton
    returns  step -> microseconds a row, in the order of the path
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="profile-", dir="build"))
        settings = asked.workload.settings(Path(folder) / "log", models_within_s=WITHIN_S, slow_ms=1e6)
        decider = opened(settings, triton, stack)
        return {name: _cpu_us(step) / N_ROWS for name, step in _steps(decider, asked).items()}


def _steps(decider: Decider, asked: Asked) -> dict[str, Step]:
    asks = [Ask(f"d-{row}", shopper_id, asked.at_s) for row, shopper_id in enumerate(asked.shopper_ids[:N_ROWS])]
    messages = [
        strategy_pb2.DecideRequest(shopper_id=ask.shopper_id, time_s=ask.at_s).SerializeToString() for ask in asks
    ]
    seen, _ = decider._seen(asks, Laps())
    assert seen is not None
    rows, shopper_ids, draws = np.arange(N_ROWS), [ask.shopper_id for ask in asks], Draws(10**12, "key")

    def answer() -> dict[str, object]:
        return dict(decider.models.asked(seen.features, seen.snapshot.encodings, WITHIN_S).answer())

    asked_now = decider.models.asked(seen.features, seen.snapshot.encodings, WITHIN_S)
    predicted = predictions_of(asked_now.answer(), seen.snapshot.encodings)
    catalogue, economics, terms = decider.repository.catalogue, decider.settings.economics, decider.terms

    def choose() -> Batch:
        return batch_of(seen, predicted, catalogue, economics, terms, draws)

    batch = choose()
    terse = replace(batch, seen=replace(seen, asks=[ask._replace(without_reasons=True) for ask in asks]))
    waiting = [Pending(ask, time.monotonic() + WITHIN_S, lambda _: None) for ask in asks]
    return {
        "parse": lambda: [ask_from(strategy_pb2.DecideRequest.FromString(message)) for message in messages],
        "read the states": lambda: decider.states.read(shopper_ids),
        "features": lambda: decider._seen(asks, Laps()),
        "vectors": lambda: decider.encoder.freshened(shopper_ids, seen.snapshot, WITHIN_S, 5.0),
        "ask the heads": answer,
        "menu and choice": choose,
        "remember": lambda: decider.remembered.keep(shopper_ids, predicted, time.monotonic()),
        "log": lambda: decider.log.append_block(framed(block_of(batch, rows))),
        "words": lambda: [decide_response(decision_bytes(batch, row)) for row in range(N_ROWS)],
        "words without reasons": lambda: [decide_response(decision_bytes(terse, row)) for row in range(N_ROWS)],
        "metrics": lambda: decider.telling.answered(waiting, _lapped(), "full", seen.vector_age_s),
    }


def _lapped() -> Laps:
    laps = Laps()
    for stage in STAGES:
        laps.lap(stage)
    return laps


def _cpu_us(step: Step) -> float:
    """CPU time of this thread for one call, the best of several runs: a neighbour can only add to it."""
    step()
    taken: Sequence[float] = [_run_s(step) for _ in range(N_BEST)]
    return 1e6 * min(taken) / N_TIMES


def _run_s(step: Step) -> float:
    began_s = time.thread_time()
    for _ in range(N_TIMES):
        step()
    return time.thread_time() - began_s
