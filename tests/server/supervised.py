"""`python -m server` with several workers, as an operator starts it, for the length of a test."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.settings import Settings
from tests.server.triton.processes import descendants

STARTS_WITHIN_S = 120.0  # kernels may have to be compiled first, on a machine that others use too
STOPS_WITHIN_S = 60.0


@dataclass
class Supervised:
    """A running server and what it says."""

    process: "subprocess.Popen[str]"
    address: str
    log: Path

    def workers(self) -> list[int]:
        """Process ids of the workers that run; the guard of Triton, where there is one, is a child too."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def family(self) -> list[int]:
        """Process ids of all that it started, and of all that these started."""
        return descendants(self.process.pid)

    def said(self) -> str:
        """Everything on stderr so far."""
        return self.log.read_text()


def until(is_so: Callable[[], object], within_s: float = STARTS_WITHIN_S) -> None:
    """Return once something is so; it must be in time."""
    pause = threading.Event()
    for _ in range(int(within_s / 0.05)):
        if is_so():
            return
        pause.wait(0.05)
    raise AssertionError("it must become so in time")


def environment_of(settings: Settings, triton: str, **changes: object) -> dict[str, str]:
    """The environment in which a server has these settings, as far as tests choose them."""
    names = ("repository", "state", "log", "plan", "state_mib", "port", "decide_within_s", "models_within_s")
    chosen = {name: getattr(settings, name) for name in names} | changes
    return (
        os.environ
        | {f"STRATAGEM_{name.upper()}": str(value) for name, value in chosen.items()}
        | {"TRITON_URL": triton}
    )


@contextmanager
def started(settings: Settings, triton: str, log: Path, **changes: object) -> Iterator["subprocess.Popen[str]"]:
    """The process, whatever becomes of it; stopped at the end.

    log      file for what it says on stderr
    changes  further settings, by name
    """
    command = [sys.executable, "-m", "server"]
    environment = environment_of(settings, triton, **changes)
    with (
        log.open("w") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPS_WITHIN_S)


@contextmanager
def supervised(
    settings: Settings, triton: str, log: Path, n_workers: int = 2, **changes: object
) -> Iterator[Supervised]:
    """A server whose workers all listen."""
    with started(settings, triton, log, workers=n_workers, **changes) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, log.read_text()
        yield Supervised(process, address, log)
