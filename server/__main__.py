"""`python -m server`: serves until SIGTERM. A problem ends it with one sentence and exit status 1.

`python -m server --worker 2 --of 3 --tally FILE --ready 5` is how server/workers.py starts one of several.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # whoever imports this for its words may need SciPy
    # numba loads SciPy to see whether it could call its BLAS; no kernel that serves does; it costs 0.13 s and 16 MB.
    sys.modules["scipy.linalg.cython_blas"] = None  # type: ignore[assignment]

from server.access.tally import Seat
from server.problems import Problem
from server.serving import run, work
from server.settings import load_settings
from server.telemetry.logs import configure_logging

# The log's thread must not wait 5 ms, Python's default, for the event loop to let go: `tests.benchmarks triton`.
SWITCH_S = 0.0002


def main() -> None:
    """Serve with the environment's settings."""
    worker = _worker()
    sys.setswitchinterval(SWITCH_S)
    try:
        settings = load_settings()
        configure_logging(settings)
        if worker.worker is None:
            run(settings, announce)
        else:
            work(settings, Seat(worker.tally, worker.worker, worker.of), worker.ready)
    except Problem as problem:
        sys.exit(str(problem))


def _worker() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m server", description="Every setting is a variable STRATAGEM_*.")
    for name in ("worker", "of", "ready"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tally", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def announce(address: str) -> None:
    """Say where the gateway listens, for whoever started it."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
