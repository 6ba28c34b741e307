"""Several gateways on one port: starts them, starts again what dies, replaces them one by one without a failed call.

In: settings with `workers`, and the signals SIGTERM, SIGINT (drain all) and SIGHUP (replace all, one after another).
Out: nothing; returns once every worker has drained. Called by server/serving.py, in the main thread.

A worker is a process of its own and not a fork, which gRPC does not survive. It holds a pipe from the supervisor and
drains when that ends, however the supervisor ended. Triton is started, or found, by the supervisor for all.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from server.problems import PortInUse, WorkerEnded
from server.settings import Settings
from server.signals import Signals

# Says to a worker that another has taken its place.
LEAVE = signal.SIGUSR1
# Begins the line by which a worker tells what ended it.
PROBLEM = b"problem: "
SOON_S, N_SOON = 30.0, 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
# Compiling every kernel where no cache is takes minutes on a slow machine.
START_WITHIN_S = 600.0
# Beyond the drain, until a worker is killed.
GRACE_S = 15.0
NEVER_S = float("inf")
_logger = logging.getLogger(__name__)


def supervise(settings: Settings, triton: AbstractContextManager[str], announce: Callable[[str], None]) -> None:
    """Serve with several workers until SIGTERM or SIGINT.

    triton    started or found once entered; its address
    announce  called with the address once every worker listens
    raises    PortInUse, ModelUnavailable; WorkerEnded  with a worker's last words, if it ends again and again
    """
    with (
        Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        _reserved(settings) as port,
        tempfile.TemporaryDirectory(prefix="stratagem-") as folder,
        ExitStack() as stack,
        Supervisor(settings, port, Path(folder) / "tally", signals) as workers,
    ):
        # While Triton starts they import, and wait for its address.
        workers.start()
        workers.tell(stack.enter_context(triton))
        workers.run(announce)


@contextmanager
def _reserved(settings: Settings) -> Iterator[int]:
    """The port, kept for the workers while the block runs: bound and never listening, so no client comes here."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((settings.host, settings.port))
        except OSError as error:
            taken = f"{settings.host}:{settings.port}"
            raise PortInUse(f"STRATAGEM_PORT must be free, got {taken}: {error.strerror}") from error
        yield int(bound.getsockname()[1])


@dataclass(eq=False)
class Worker:
    """A process that serves.

    slot     its place among the workers that should be
    number   of its log folder, its seat and its metrics port; nobody else's while it lives
    ready    our end of the pipe on which it tells its address, or its problem
    ended    readable once the process has ended
    by_s     moment, monotonic, at which it is killed if it has not done what is expected: listened, or left
    """

    slot: int
    number: int
    process: "subprocess.Popen[bytes]"
    ready: int
    ended: int
    by_s: float
    born_s: float = field(default_factory=time.monotonic)
    said: bytes = b""
    is_leaving: bool = False

    @property
    def address(self) -> str:
        """Where it listens; empty until it does."""
        line, is_whole, _ = self.said.partition(b"\n")
        return line.decode() if is_whole and not line.startswith(PROBLEM) else ""

    @property
    def problem(self) -> str:
        """What it said of its end."""
        lines = [line.removeprefix(PROBLEM) for line in self.said.splitlines() if line.startswith(PROBLEM)]
        return lines[-1].decode() if lines else f"it ended with status {self.process.poll()} and said nothing"

    def hear(self) -> None:
        """Take in what it says."""
        with suppress(BlockingIOError):
            while part := os.read(self.ready, 65_536):
                self.said += part

    def close(self) -> None:
        """Let go of its pipes; it must have ended."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        os.close(self.ready)
        os.close(self.ended)


class Supervisor:
    """Keeps the workers; a context that ends them all."""

    def __init__(self, settings: Settings, port: int, tally: Path, signals: Signals) -> None:
        """Start nobody yet.

        tally    file for what the workers tell each other of their clients' rates
        signals  to stop, and to replace everybody
        """
        self._settings, self._port, self._tally, self._signals = settings, port, tally, signals
        self._cores = sorted(os.sched_getaffinity(0))
        self._n_workers = settings.workers or len(self._cores)
        self._alive: list[Worker] = []
        self._triton = ""
        self._is_announced = False
        self._n_soon = [0] * self._n_workers  # ends soon after a start, in a row, by slot
        self._due_s: dict[int, float] = {}  # when a slot is filled again
        self._to_replace: deque[Worker] = deque()

    def __enter__(self) -> "Supervisor":
        """Nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain every worker; kill who does not end."""
        for worker in self._alive:
            if not self._triton and worker.process.stdin is not None:
                worker.process.stdin.close()  # it waits for a line there, whatever the signal
            worker.process.terminate()
        by_s = time.monotonic() + self._settings.drain_s + GRACE_S
        for worker in self._alive:
            try:
                worker.process.wait(max(0.0, by_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                _logger.warning("worker %d did not drain and is killed", worker.number)
                worker.process.kill()
                worker.process.wait()
            worker.close()
        self._alive.clear()

    def start(self) -> None:
        """Start one worker for each slot."""
        for slot in range(self._n_workers):
            self._spawn(slot)

    def tell(self, triton: str) -> None:
        """Say where Triton is, to those who wait for it and those to come."""
        self._triton = triton
        for worker in self._alive:
            self._tell(worker)

    def _tell(self, worker: Worker) -> None:
        with suppress(BrokenPipeError):  # it has ended, and we hear of that soon
            if worker.process.stdin is not None:
                worker.process.stdin.write(self._triton.encode() + b"\n")
                worker.process.stdin.flush()

    def _spawn(self, slot: int) -> None:
        number = min(set(range(self._n_workers + 1)) - {worker.number for worker in self._alive})
        ready, theirs = os.pipe()
        os.set_blocking(ready, False)
        told = {"worker": number, "of": self._n_workers + 1, "tally": self._tally, "ready": theirs}
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *(f"--{name}={value}" for name, value in told.items())],
            stdin=subprocess.PIPE,  # held open by us alone: its end is our end
            stdout=sys.stderr.fileno(),  # ours is for the address that all share
            env=os.environ | {"STRATAGEM_PORT": str(self._port)},
            pass_fds=(theirs,),
            start_new_session=True,  # Ctrl-C is for us; we then drain them in order
        )
        os.close(theirs)
        if self._settings.pin_cores:
            os.sched_setaffinity(process.pid, {self._cores[slot % len(self._cores)]})
        by_s = time.monotonic() + START_WITHIN_S
        worker = Worker(slot, number, process, ready, os.pidfd_open(process.pid), by_s)
        self._alive.append(worker)
        if self._triton:
            self._tell(worker)

    def run(self, announce: Callable[[str], None]) -> None:
        """Keep the workers until told to stop.

        announce  called once, when all listen
        raises    WorkerEnded
        """
        while True:
            woken = self._wait()
            if self._signals.fileno() in woken:
                told = self._signals.wait()
                if told & {signal.SIGTERM, signal.SIGINT}:
                    return
                if signal.SIGHUP in told:
                    self._to_replace.extend(worker for worker in self._serving() if worker not in self._to_replace)
            for worker in list(self._alive):
                if worker.ready in woken:
                    worker.hear()
                if worker.ended in woken:
                    self._ended(worker)
            self._kill_late()
            self._fill()
            self._replace()
            if not self._is_announced and len(self._serving()) == self._n_workers:
                self._is_announced = True
                announce(self._serving()[0].address)

    def _wait(self) -> set[int]:
        """What became readable; nothing, where a moment came first."""
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        for worker in self._alive:
            poll.register(worker.ended, select.POLLIN)
            if not worker.said.endswith(b"\n"):
                poll.register(worker.ready, select.POLLIN)
        moments = [*self._due_s.values(), *(worker.by_s for worker in self._alive)]
        wait_s = min(moments, default=NEVER_S) - time.monotonic()
        return {number for number, _ in poll.poll(None if wait_s == NEVER_S else 1000 * max(0.0, wait_s) + 1)}

    def _serving(self) -> list[Worker]:
        return [worker for worker in self._alive if worker.address and not worker.is_leaving]

    def _kill_late(self) -> None:
        for worker in self._alive:
            if worker.by_s <= time.monotonic():
                _logger.warning(
                    "worker %d did not %s in time", worker.number, "leave" if worker.is_leaving else "start"
                )
                worker.process.kill()
                worker.by_s = NEVER_S

    def _ended(self, worker: Worker) -> None:
        """Decide what a worker's end means.

        raises  WorkerEnded
        """
        worker.hear()
        status = worker.process.wait()
        lived_s = time.monotonic() - worker.born_s
        self._alive.remove(worker)
        worker.close()
        if worker.is_leaving:
            _logger.info("worker %d has left after %.0f s", worker.number, lived_s)
            return
        self._check(worker, lived_s)
        _logger.warning("worker %d (pid %d) ended with status %d", worker.number, worker.process.pid, status)
        if any(other.slot == worker.slot for other in self._alive):  # one of an old worker and its successor
            if not worker.address:
                _logger.error("the rolling restart ends, for a new worker did not start: %s", worker.problem)
                self._to_replace.clear()
            return
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** self._n_soon[worker.slot])
        self._due_s[worker.slot] = time.monotonic() + pause_s

    def _check(self, worker: Worker, lived_s: float) -> None:
        if not self._is_announced and not worker.address and PROBLEM in worker.said:
            raise WorkerEnded(worker.problem)  # a wrong setting or file is not mended by another try
        self._n_soon[worker.slot] = self._n_soon[worker.slot] + 1 if lived_s < SOON_S else 0
        if self._n_soon[worker.slot] >= N_SOON:
            rule = f"a worker must live for {SOON_S:.0f} s, got {N_SOON} in a row that did not"
            raise WorkerEnded(f"{rule}; the last words: {worker.problem}")

    def _fill(self) -> None:
        """Start again whose pause is over."""
        for slot in [slot for slot, due_s in self._due_s.items() if due_s <= time.monotonic()]:
            del self._due_s[slot]
            self._spawn(slot)

    def _replace(self) -> None:
        """Take the next step of a rolling restart: successor, its readiness, its predecessor's leave, the next."""
        for worker in self._alive:
            if worker.address and not worker.is_leaving:
                worker.by_s = NEVER_S
        if any(worker.is_leaving for worker in self._alive):
            return
        by_slot: dict[int, list[Worker]] = {}
        for worker in self._alive:
            by_slot.setdefault(worker.slot, []).append(worker)
        for both in by_slot.values():
            if len(both) == 2:
                if both[1].address:
                    self._let_go(both[0])
                return
        while self._to_replace:
            old = self._to_replace.popleft()
            if old in self._alive:
                _logger.info("worker %d is replaced", old.number)
                self._spawn(old.slot)
                return

    def _let_go(self, worker: Worker) -> None:
        worker.is_leaving = True
        patience_s = 1.2 * self._settings.connection_age_s + self._settings.drain_s + GRACE_S
        worker.by_s = time.monotonic() + patience_s
        worker.process.send_signal(LEAVE)
