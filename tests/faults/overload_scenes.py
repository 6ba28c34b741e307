"""Too many callers, a caller who is faster than allowed, and a gateway that is told to stop while they call.

In: a stage, and the share of the full counts. Out: figures. Run by test_overload_faults.py and the benchmark.
"""

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.load.arrivals import Phase
from server.load.calls import OpenLoop
from server.load.latencies import latency_figures
from tests.faults.figures import EXHAUSTED, Figures, figures_of
from tests.faults.generator import even
from tests.faults.stage import Stage, within

# Rows of a columnar request, in times of all shoppers: enough to be still at work when the end begins.
DRAINED_TIMES, LARGE = 300, [("grpc.max_receive_message_length", 2**26)]
CALM_PER_S, CALM_S, HIGHEST_RATE = 200.0, 1.5, 15_000.0


def overload(stage: Stage, scale: float) -> Figures:
    """Three times as many calls as are decided, in an open loop: nobody slows down because the gateway does."""
    capacity = capacity_per_s(stage)
    rate_per_s, flood_s = min(3.0 * capacity, HIGHEST_RATE), max(1.0, min(60.0, 100.0 * scale))
    phases = (Phase(CALM_PER_S, CALM_S / 3), Phase(rate_per_s, flood_s), Phase(CALM_PER_S, 2 * CALM_S))
    told: list[float] = []
    load = stage.generator.begin(stage.gateway.address, stage.shopper_ids, stage.at_s, OpenLoop(phases))
    load.until(CALM_S / 3 + flood_s / 4)
    told += _told_to_wait(stage, CALM_S / 3 + flood_s - load.now_s)
    calls = load.ended()
    intended_s, is_ok = calls.timeline.intended_s, calls.is_ok
    is_refused = np.equal(calls.part.status, EXHAUSTED)
    refusal_ms = latency_figures(calls.timeline.service_s[is_refused])
    is_after = intended_s > CALM_S / 3 + flood_s + CALM_S
    figures = figures_of(calls)
    return figures | {
        "capacity_per_s": capacity,
        "asked_per_s": rate_per_s,
        "refused_share": float(is_refused.mean()),
        "refused_p50_ms": refusal_ms["p50_ms"],
        "refused_p99_ms": refusal_ms["p99_ms"],
        "told_to_wait_ms": max(told, default=0.0),
        "recovered_share": float(is_ok[is_after].mean()),
        "recovered_p99_ms": latency_figures(calls.timeline.latency_s[is_after & is_ok])["p99_ms"],
        "open_in_the_end": 0.0 if within(10.0, lambda: stage.gateway.look().n_open == 0) else 1.0,
    }


def capacity_per_s(stage: Stage, within_s: float = 1.0) -> float:
    """About how many calls a second are decided, from an open loop of more than that."""
    load = stage.generator.begin(
        stage.gateway.address, stage.shopper_ids, stage.at_s, even(HIGHEST_RATE / 2, within_s)
    )  # fmt: skip
    calls = load.ended()
    return float(calls.is_ok.sum()) / within_s


def _told_to_wait(stage: Stage, within_s: float) -> list[float]:
    """How long refused callers are told to wait, milliseconds."""
    waits, deadline_s = [], time.monotonic() + within_s
    with grpc.insecure_channel(stage.gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        while not waits and time.monotonic() < deadline_s:
            waits += _refusals(stub, stage, 64)
    return waits


def _refusals(stub: strategy_pb2_grpc.StrategyServiceStub, stage: Stage, n_calls: int) -> list[float]:
    """Ask at once; the waits that were told to those who were refused."""
    request = strategy_pb2.DecideRequest(shopper_id=stage.shopper_ids[0], time_s=stage.at_s)
    calls = [stub.Decide.future(request, timeout=5.0) for _ in range(n_calls)]
    waits = []
    for call in calls:
        if call.exception() is not None and call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            waits += [float(value) for name, value in call.trailing_metadata() if name == "grpc-retry-pushback-ms"]
    return waits


def rate_limited(stage: Stage, scale: float) -> Figures:
    """A client that asks ten times as fast as it may."""
    rate_per_s, seconds = 50.0, max(2.0, min(60.0, 100 * scale))
    with stage.opened("limited", stage.triton.address, rate_per_s=rate_per_s, burst=200) as gateway:
        load = stage.generator.begin(
            gateway.address, stage.shopper_ids, stage.at_s, even(10 * rate_per_s, seconds)
        )  # fmt: skip
        calls = load.ended()
        is_refused = np.equal(calls.part.status, EXHAUSTED)
        with grpc.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
            waits = _refusals(strategy_pb2_grpc.StrategyServiceStub(channel), stage, 300)
    return figures_of(calls) | {
        "allowed": 200 + rate_per_s * seconds,
        "decided": float(calls.is_ok.sum()),
        "told_to_wait_ms": max(waits, default=0.0),
        "refused_p99_ms": latency_figures(calls.timeline.service_s[is_refused])["p99_ms"],
    }


def drains(stage: Stage, scale: float) -> Figures:
    """SIGTERM while columns are decided and a stream is open: what runs is answered, and the process ends in order."""
    n_calls, stop = max(4, int(100 * scale)), threading.Event()
    shopper_ids = stage.shopper_ids * DRAINED_TIMES
    with stage.opened("drained", stage.triton.address) as gateway:
        with grpc.insecure_channel(gateway.address, options=LARGE) as channel:
            stub = strategy_pb2_grpc.StrategyServiceStub(channel)
            stream = stub.DecideStream(_one_ask(stage, stop))
            first = next(stream)
            batches = [strategy_pb2.DecideBatchRequest(shopper_ids=shopper_ids, time_s=stage.at_s)] * n_calls
            calls = [stub.DecideBatch.future(batch, timeout=60.0) for batch in batches]
            n_seen = 1 + n_calls
            assert within(10.0, lambda: gateway.look().n_open >= n_seen), "all have come before the end begins"
            gateway.terminate()
            answers = [call.exception() is None and len(call.result().statuses) for call in calls]
            ending = _end_of(stream)
            stop.set()
        status = gateway.ended()
    return {
        "calls": float(n_seen),
        "failed": float(sum(n != len(shopper_ids) for n in answers) + (first.WhichOneof("answer") != "decision")),
        "late": 0.0,
        "stream_is_told": float(ending is grpc.StatusCode.UNAVAILABLE),
        "exit_status": float(status),
    }


def _one_ask(stage: Stage, stop: threading.Event) -> Iterator[strategy_pb2.DecideStreamRequest]:
    """One ask, and then a stream that stays open."""
    request = strategy_pb2.DecideRequest(shopper_id=stage.shopper_ids[0], time_s=stage.at_s)
    yield strategy_pb2.DecideStreamRequest(call_id=1, request=request)
    stop.wait(60.0)


def _end_of(stream: grpc.Call) -> grpc.StatusCode:
    """How a stream ends."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
