"""Serves until it is told to stop: Triton started or found, one gateway in this process.

In: settings. Out: nothing; returns once everything is drained. Called by `python -m server` and by every worker.
"""

import signal
import threading
from collections.abc import Callable

from server.gateway.assembly import check_port, listening
from server.repository import open_repository
from server.settings import Settings
from server.triton.process import serving


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: start or find Triton, listen, drain, stop.

    announce  called with the address once the gateway listens
    raises    Problem  if anything needed is missing or wrong
    """
    check_port(settings)
    repository = open_repository(settings.repository)  # before Triton's seconds: a wrong file is said at once
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    with (
        serving(settings.repository, repository.served, folder=settings.triton) as triton,
        listening(settings, triton) as gateway,
    ):
        announce(gateway.address)
        stop.wait()
