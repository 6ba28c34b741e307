"""Callers who come when they come, however busy the gateway is: latency from the moment at which each meant to ask.

In: a target, shoppers, phases of a rate. Out: every call's times, statuses and rungs, or LoadFailed if the generator
itself was late. Called by curve.py, profiles.py, `stratagem bench load` and the benchmarks.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from server.load.arrivals import Phase, drawn_shoppers, poisson_arrivals
from server.load.calls import CHANGED_WITHIN_S, Calls, OpenLoop, Part, Work
from server.load.changes import Recorded, recording
from server.load.target import LoadFailed, Target

STARTS_WITHIN_S = 60.0
BEGINS_IN_S = 0.3


def open_loop(target: Target, shopper_ids: Sequence[str], at_s: int, load: OpenLoop) -> Calls:
    """Put a load on and wait for its end.

    at_s    the moment that decisions are asked for, seconds since 1970 UTC
    raises  LoadFailed  if there would be too many calls, or the generator could not keep up: its figures would be of
            another load
    """
    calls = put_on(target, shopper_ids, at_s, load)
    if calls.timeline.is_generator_bound:
        late_ms = calls.figures["generator_late_p99_ms"]
        raise LoadFailed(
            f"the generator must send within 10 ms of the intended moment, got {late_ms:.0f} ms late in the 99th "
            f"percentile; ask for fewer calls a second or for more processes than {load.n_processes}"
        )
    return calls


def put_on(target: Target, shopper_ids: Sequence[str], at_s: int, load: OpenLoop) -> Calls:
    """Do what `open_loop` does and leave it to the caller to see whether the generator was late."""
    expected = sum(phase.rate_per_s * phase.seconds for phase in load.phases)
    if expected > load.most_calls:
        raise LoadFailed(f"calls must be at most {load.most_calls}, got about {expected:.0f}")
    shares = [Work(target, *_share(shopper_ids, load, worker), at_s, load) for worker in range(load.n_processes)]
    workers: list[tuple[subprocess.Popen[bytes], Connection]] = []
    try:
        for work in shares:
            process, pipe = _started()
            workers.append((process, pipe))
            pipe.send(work)
        parts, recorded = _run([pipe for _, pipe in workers], shares)
    finally:
        for process, pipe in workers:
            pipe.close()
            process.terminate()
            process.wait()
    return Calls.of(parts, load.deadline_s, recorded)


def _share(shopper_ids: Sequence[str], load: OpenLoop, worker: int) -> tuple[NDArray[np.float64], list[str]]:
    """One generator's arrivals and shoppers: Poisson processes add up to one."""
    rng = np.random.default_rng([load.seed, worker])
    phases = [Phase(phase.rate_per_s / load.n_processes, phase.seconds) for phase in load.phases]
    intended_s = poisson_arrivals(phases, rng)
    drawn = drawn_shoppers(intended_s.size, len(shopper_ids), load.skew, rng)
    return intended_s, [shopper_ids[shopper] for shopper in drawn.tolist()]


def _changes(shares: Sequence[Work]) -> list[tuple[float, str]]:
    """Whose event is due when, so that a share of the calls are about somebody who has just changed."""
    load = shares[0].load
    rng = np.random.default_rng([load.seed, load.n_processes, 1])
    due: list[tuple[float, str]] = []
    for work in shares:
        places = np.flatnonzero(rng.random(work.intended_s.size) < load.changed_share)
        before_s = np.maximum(0.0, work.intended_s[places] - rng.uniform(0.0, CHANGED_WITHIN_S, places.size))
        due += zip(before_s.tolist(), [work.shopper_ids[place] for place in places.tolist()], strict=True)
    return sorted(due)


def _run(pipes: Sequence[Connection], shares: Sequence[Work]) -> tuple[list[Part], Recorded]:
    """Begin in all generators at the same moment and collect what they saw."""
    within_s, load, changes = STARTS_WITHIN_S, shares[0].load, _changes(shares)
    try:
        for pipe in pipes:
            _received(pipe, within_s)
        begins_s = time.monotonic() + BEGINS_IN_S
        for pipe in pipes:
            pipe.send(begins_s)
        within_s += 2 * load.seconds + load.deadline_s
        due = ((begins_s + moment_s, shopper_id) for moment_s, shopper_id in changes)
        with recording(shares[0].target, due, shares[0].at_s) if changes else nullcontext(Recorded()) as recorded:
            return [_received(pipe, within_s) for pipe in pipes], recorded
    except (EOFError, OSError) as error:
        raise LoadFailed("a generator must tell what it saw, but it ended; its own words stand above") from error


def _received(pipe: Connection, within_s: float) -> Part:
    if not pipe.poll(within_s):
        raise LoadFailed(f"a generator must answer within {within_s:.0f} s, got nothing")
    told: Part | LoadFailed = pipe.recv()
    if isinstance(told, LoadFailed):
        raise told
    return told


def _started() -> tuple["subprocess.Popen[bytes]", Connection]:
    """A generator and our end of its connection; not a fork, which gRPC does not survive."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "server.load.generator", str(theirs.fileno())]
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": paths})
    return process, Connection(ours.detach())
