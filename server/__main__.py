"""`python -m server`: one gateway until SIGTERM. A problem ends it with one sentence and exit status 1."""

import logging
import sys

from server.gateway.assembly import run
from server.problems import Problem
from server.settings import load_settings


def main() -> None:
    """Serve with the environment's settings."""
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
