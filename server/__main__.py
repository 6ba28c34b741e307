"""`python -m server`: one gateway until SIGTERM. A problem ends it with one sentence and exit status 1."""

import logging
import sys

from server.problems import Problem
from server.serving import run
from server.settings import load_settings

# The log's thread must not wait 5 ms, Python's default, for the event loop to let go: `tests.benchmarks triton`.
SWITCH_S = 0.0002


def main() -> None:
    """Serve with the environment's settings."""
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run(load_settings(), announce)
    except Problem as problem:
        sys.exit(str(problem))


def announce(address: str) -> None:
    """Say where the gateway listens, for whoever started it."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
