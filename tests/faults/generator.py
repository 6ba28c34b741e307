"""Callers in a process of their own, while the test does harm: the load that every fault is survived under.

In: a target, shoppers, a rate. Out: Calls, and the moments of the load's own clock at which things were done.
"""

import multiprocessing
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from server.load import wire_caller
from server.load.arrivals import Phase, poisson_arrivals
from server.load.calls import Calls, OpenLoop, Part, Work
from server.load.changes import Recorded
from server.load.target import LoadFailed, Target

STARTS_WITHIN_S, BEGINS_IN_S = 60.0, 0.05


class Running:
    """A load that is on.

    began_s  moment of time.monotonic
    """

    def __init__(self, pipe: Connection, load: OpenLoop, begins_s: float) -> None:
        self._pipe, self._load, self.began_s = pipe, load, begins_s

    @property
    def now_s(self) -> float:
        """Seconds since its beginning, as its calls count them."""
        return time.monotonic() - self.began_s

    def until(self, moment_s: float) -> None:
        """Let it run up to a moment of its own clock."""
        threading.Event().wait(max(0.0, moment_s - self.now_s))

    def ended(self) -> Calls:
        """Wait for its end."""
        within_s = max(0.0, self._load.seconds - self.now_s) + self._load.deadline_s + 30.0
        return Calls.of([_received(self._pipe, within_s)], self._load.deadline_s, Recorded())


class Generator:
    """A process that puts one load after the other on."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        # gRPC does not survive a fork.
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, address: str, shopper_ids: Sequence[str], at_s: int, load: OpenLoop) -> Running:
        """Begin a load; it goes on by itself."""
        rng = np.random.default_rng(load.seed)
        intended_s = poisson_arrivals(load.phases, rng)
        drawn = [shopper_ids[place] for place in rng.integers(0, len(shopper_ids), intended_s.size).tolist()]
        self._pipe.send(Work(Target(address), intended_s, drawn, at_s, load))
        _received(self._pipe, STARTS_WITHIN_S)
        begins_s = time.monotonic() + BEGINS_IN_S
        self._pipe.send(begins_s)
        return Running(self._pipe, load, begins_s)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(STARTS_WITHIN_S)


def even(rate_per_s: float, seconds: float, **limits: object) -> OpenLoop:
    """A load of one rate."""
    return OpenLoop((Phase(rate_per_s, seconds),), **limits)


def _received(pipe: Connection, within_s: float) -> Part:
    assert pipe.poll(within_s), f"a generator must answer within {within_s:.0f} s"
    told = pipe.recv()
    if isinstance(told, LoadFailed):
        raise told
    return told


def _serve(pipe: Connection) -> None:
    """The process: loads until the other end of the pipe closes."""

    def begin() -> float:
        pipe.send(None)
        begins_s: float = pipe.recv()
        return begins_s

    while True:
        try:
            work = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(wire_caller.generated(work, begin))
        except LoadFailed as failed:
            pipe.send(failed)
