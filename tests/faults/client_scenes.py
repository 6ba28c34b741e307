"""What clients do to a gateway by being slow, rude, hasty or too many, and what the others notice of it.

In: a stage, and the share of the full counts. Out: figures. Run by test_client_faults.py and the benchmark.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import numpy as np
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.load.http2 import END_HEADERS, HEADERS, SETTINGS, frame, request_fields
from server.load.memory import sampled
from server.load.target import DECIDE, DECIDE_STREAM
from tests.faults.figures import Figures, figures_of
from tests.faults.generator import Generator, Running, even
from tests.faults.mutations import PREFACE, fields_of
from tests.faults.observed import Observed
from tests.faults.stage import Stage, within

SETTLES_WITHIN_S = 20.0
# With a second each: whether others wait is told by the latencies, and this machine may be busy elsewhere for a while.
OTHERS_PER_S, OTHERS_S, OTHERS_WITHIN_S = 100.0, 3.0, 1.0
STORM_CALLS = 50
# A client whose window grows takes megabytes of answers before anybody can say that it does not read.
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]


def never_reads(stage: Stage, scale: float) -> Figures:
    """Streams whose clients ask and ask and take no answer."""
    n_streams, gateway, stop = max(10, int(1_000 * scale)), stage.gateway, threading.Event()
    own_mib = sampled(gateway.pid, 0.0).own_mib
    with grpc.insecure_channel(gateway.address, options=NARROW) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        streams = [stub.DecideStream(_asks(stage, stop)) for _ in range(n_streams)]
        # What fits between the gateway and them is decided first, as fast as it comes; then nothing of theirs is read.
        assert within(SETTLES_WITHIN_S, lambda: gateway.look().n_open >= n_streams), "every stream is open"
        assert within(SETTLES_WITHIN_S, lambda: _is_calm(gateway)), "who does not read is not read from"
        figures = _beside_others(stage, lambda load: load.until(OTHERS_S / 2), n_streams)
        figures["growth_mib"] = sampled(gateway.pid, 0.0).own_mib - own_mib
        stop.set()
        for stream in streams:
            stream.cancel()
    return figures | _left(gateway)


def _is_calm(gateway: Observed) -> bool:
    """Whether nothing waits, at several moments."""
    pause = threading.Event()
    return all(gateway.look().n_waiting == 0 and not pause.wait(0.02) for _ in range(10))


def _asks(stage: Stage, stop: threading.Event) -> Iterator[strategy_pb2.DecideStreamRequest]:
    """Asks without an end."""
    call_id = 0
    while not stop.is_set():
        call_id += 1
        shopper_id = stage.shopper_ids[call_id % len(stage.shopper_ids)]
        request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=stage.at_s)
        yield strategy_pb2.DecideStreamRequest(call_id=call_id, request=request, within_ms=60_000)


def vanishes(stage: Stage, scale: float) -> Figures:
    """A client that opens a thousand streams and is gone without a word, several times over."""

    def harm(load: Running) -> None:
        for _ in range(max(1, round(100 * scale))):
            with _opened_streams(stage.gateway, 1_000, DECIDE_STREAM) as wire:
                assert within(SETTLES_WITHIN_S, lambda: stage.gateway.look().n_open >= 1_000), "every stream is open"
                # With no time to linger the end is a reset, as if the machine had lost its power and come back.
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert within(SETTLES_WITHIN_S, lambda: stage.gateway.look().n_open < 1_000), "no stream is kept"

    return _beside_others(stage, harm)


@contextmanager
def _opened_streams(gateway: Observed, n_streams: int, path: str) -> Iterator[socket.socket]:
    """A connection with calls that have begun and bring no message."""
    host, _, port = gateway.address.rpartition(":")
    first, later = request_fields(fields_of(gateway.address, path, 60.0))
    with socket.create_connection((host, int(port)), SETTLES_WITHIN_S) as wire:
        begun = [frame(HEADERS, END_HEADERS, 1 + 2 * n, later if n else first) for n in range(n_streams)]
        wire.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + b"".join(begun))
        yield wire


def half_open(stage: Stage, scale: float) -> Figures:
    """Connections that say nothing, half of a preface, half of the header fields, or all but the message."""
    n_connections, gateway = max(80, int(4_000 * scale)), stage.gateway
    host, _, port = gateway.address.rpartition(":")
    first, _ = request_fields(fields_of(gateway.address, DECIDE, 1.0))
    whole = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, first)
    starts = (b"", whole[:9], whole[:-20], whole)

    def harm(load: Running) -> None:
        with ExitStack() as stack:
            wires = []
            for place in range(n_connections):
                wires.append(stack.enter_context(socket.create_connection((host, int(port)), SETTLES_WITHIN_S)))
                wires[-1].sendall(starts[place % len(starts)])
            # What is missing of the fields comes a byte at a time.
            for byte in range(len(whole) - 20, len(whole) - 10):
                for wire in wires[2 :: len(starts)]:
                    with suppress(OSError):
                        wire.send(whole[byte : byte + 1])
            load.until(OTHERS_S)

    return _beside_others(stage, harm)


def cancels(stage: Stage, scale: float) -> Figures:
    """Calls that are cancelled before, while and after they are answered."""
    n_calls, rng = max(500, int(100_000 * scale)), np.random.default_rng(8)

    def harm(load: Running) -> None:
        with grpc.insecure_channel(stage.gateway.address) as channel:
            stub = strategy_pb2_grpc.StrategyServiceStub(channel)
            for _ in range(n_calls // STORM_CALLS):
                _storm(stage, stub, rng)

    return _beside_others(stage, harm)


def _storm(stage: Stage, stub: strategy_pb2_grpc.StrategyServiceStub, rng: np.random.Generator) -> None:
    """Calls of one moment, of which half are cancelled at some other and the rest in the end."""
    calls: list[grpc.Future] = []
    for place in range(STORM_CALLS):
        shopper_id = stage.shopper_ids[place % len(stage.shopper_ids)]
        request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=stage.at_s)
        calls.append(stub.Decide.future(request, timeout=10.0))
        if rng.random() < 0.5:
            calls[int(rng.integers(max(0, place - 20), place + 1))].cancel()
    for call in calls[: STORM_CALLS // 2]:
        with suppress(grpc.FutureCancelledError, grpc.RpcError):
            call.result()
    for call in calls:
        call.cancel()


def impatient(stage: Stage, scale: float) -> Figures:
    """Callers who give 1, 5 and 20 ms, beside others who have time: these must not notice."""
    figures: Figures = {}
    rate_per_s = max(100.0, 1_000.0 * scale)
    with _second_generator() as hasty:
        for deadline_ms in (1, 5, 20):
            load = hasty.begin(
                stage.gateway.address, stage.shopper_ids, stage.at_s,
                even(rate_per_s, OTHERS_S / 2, deadline_s=deadline_ms / 1000),
            )  # fmt: skip
            others = _others(stage, OTHERS_S / 2)
            told, calls = figures_of(others.ended()), load.ended()
            in_time = calls.is_ok & (calls.timeline.service_s <= calls.deadline_s)
            figures[f"in_{deadline_ms}_ms_share"] = float(in_time.mean())
            figures[f"n_late_{deadline_ms}_ms"] = float((calls.is_ok & ~in_time).sum())
            for name in ("calls", "failed", "refused", "late"):
                figures[name] = figures.get(name, 0.0) + told[name]
            figures["full_share"] = min(figures.get("full_share", 1.0), told["full_share"])
            figures["p99_ms"] = max(figures.get("p99_ms", 0.0), told["p99_ms"])
    return figures | _left(stage.gateway)


@contextmanager
def _second_generator() -> Iterator[Generator]:
    generator = Generator()
    try:
        yield generator
    finally:
        generator.close()


def _others(stage: Stage, seconds: float = OTHERS_S) -> Running:
    """Callers who do nothing wrong."""
    load = even(OTHERS_PER_S, seconds, deadline_s=OTHERS_WITHIN_S)
    return stage.generator.begin(stage.gateway.address, stage.shopper_ids, stage.at_s, load)


def _beside_others(stage: Stage, harm: Callable[[Running], None], n_kept: int = 0) -> Figures:
    """What callers who do nothing wrong notice, and what is left when the others are gone.

    n_kept  calls of others that stay
    """
    own_mib = sampled(stage.gateway.pid, 0.0).own_mib
    load = _others(stage)
    harm(load)
    grown_mib = sampled(stage.gateway.pid, 0.0).own_mib - own_mib
    return figures_of(load.ended()) | {"growth_mib": grown_mib} | _left(stage.gateway, n_kept)


def _left(gateway: Observed, n_kept: int = 0) -> Figures:
    """Calls and asks that stay open."""
    is_settled = within(SETTLES_WITHIN_S, lambda: gateway.look().n_open <= n_kept and gateway.look().n_waiting == 0)
    return {"open_in_the_end": 0.0 if is_settled else float(gateway.look().n_open)}
