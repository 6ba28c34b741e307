"""A gateway in a process of its own that says how it feels: what is open, what waits, how much memory it holds.

In: settings and the address of a Triton. Out: its address and, whenever asked, a Look. Started by stage.py; run with
`python -m tests.faults.observed`, it is `python -m server` with a window in its side.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from server.__main__ import SWITCH_S
from server.gateway.assembly import Gateway, listening
from server.settings import Settings

STOPS_WITHIN_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Look:
    """A gateway at one moment.

    n_open     calls that are not over
    n_waiting  asks in the queue
    is_up      whether it believes that Triton answers
    """

    n_open: int
    n_waiting: int
    n_threads: int
    n_files: int
    rss_mib: float
    is_up: bool


class Observed:
    """A running gateway."""

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self._process, self.address = process, address
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def look(self) -> Look:
        """How it is now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write("look\n")
            self._process.stdin.flush()
            return Look(**json.loads(self._process.stdout.readline()))

    def terminate(self) -> None:
        """Ask it to drain and to stop."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        return self._process.wait(STOPS_WITHIN_S)


@contextmanager
def observed(
    settings: Settings, triton: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[Observed]:
    """A gateway until the end of the block, which fails unless the gateway stops by itself and in order.

    log          what it says
    environment  variables beside this process's own
    """
    command = [sys.executable, "-m", "tests.faults.observed", settings.model_dump_json(), triton]
    with (
        log.open("w") as said,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, f"the gateway must listen, but it ended: {log.read_text()[-2000:]}"
            yield Observed(process, address)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(STOPS_WITHIN_S) == 0, log.read_text()[-2000:]
        finally:
            if process.poll() is None:
                process.kill()


def looked(gateway: Gateway) -> Look:
    """What the gateway of this process is doing."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Look(
        n_open=gateway.server.n_open,
        n_waiting=gateway.waiting.n_waiting,
        n_threads=threading.active_count(),
        n_files=len(list(Path("/proc/self/fd").iterdir())),
        rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        is_up=gateway.decider.watch.is_up,
    )


def main() -> None:
    """Serve until SIGTERM, and answer each line on standard input with a Look."""
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings, triton = Settings.model_validate_json(sys.argv[1]), sys.argv[2]
    with listening(settings, triton) as gateway:
        sys.stdout.write(f"{gateway.address}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write(json.dumps(asdict(looked(gateway))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
