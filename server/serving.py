"""Serves until it is told to stop: Triton started or found, one gateway in this process or workers beside each other.

In: settings. Out: nothing; returns once everything is drained. Called by `python -m server`, by cli.py and, for a
worker's part, by every worker.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from server.access.tally import Seat
from server.gateway.assembly import check_port, listening
from server.problems import Problem
from server.repository import open_repository
from server.settings import Settings
from server.signals import Signals
from server.telemetry.traces import traces_url
from server.triton.process import DECIDE, serving
from server.wire.leaving import leave
from server.workers import LEAVE, PROBLEM, supervise

# Connections' ages differ by a tenth, so that not all clients come back at once; and whoever was last still has to go.
AGES_S, LAST_S = 1.1, 2.0
# Beyond the drain, what a worker without a supervisor may take to end.
ORPHAN_S = 10.0
_logger = logging.getLogger(__name__)


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: start or find Triton, listen, drain, stop.

    announce  called with the address once the gateway listens
    raises    Problem  if anything needed is missing or wrong
    """
    check_port(settings)
    repository = open_repository(settings.repository)  # before Triton's seconds: a wrong file is said at once
    models = (*repository.served, DECIDE) if settings.triton_door else repository.served
    if settings.workers != 1:
        supervise(settings, triton_for(settings, models), announce)
        return
    with (
        Signals(signal.SIGTERM, signal.SIGINT) as signals,
        triton_for(settings, models) as triton,
        listening(settings, triton) as gateway,
    ):
        announce(gateway.address)
        signals.wait()


def triton_for(settings: Settings, models: Sequence[str]) -> AbstractContextManager[str]:
    """The Triton that settings ask for, with their traces going on in it."""
    return serving(
        settings.repository,
        models,
        port=settings.triton_port,
        folder=settings.triton,
        traces_url=traces_url(settings.traces_endpoint),
    )


def work(settings: Settings, seat: Seat, ready: int) -> None:
    """Be one of several workers: listen on the shared port until the supervisor says otherwise, or is gone.

    On standard input the supervisor says where Triton is, and its end is the supervisor's.
    seat    among the workers
    ready   pipe for the address, or for the sentence of the problem that ends us
    """
    with Signals(signal.SIGTERM, LEAVE) as signals:
        triton = sys.stdin.readline().strip()
        if not triton:
            return
        watch = threading.Thread(target=_outlive_nobody, args=(settings.drain_s,), name="supervisor-watch", daemon=True)
        watch.start()
        try:
            with listening(settings, triton, seat.worker, shares_port=True, seat=seat) as gateway:
                os.write(ready, gateway.address.encode() + b"\n")
                if signals.wait() == {LEAVE}:
                    _leave(int(gateway.address.rpartition(":")[2]), settings, signals)
        except Problem as problem:
            os.write(ready, PROBLEM + str(problem).encode() + b"\n")
            raise


def _leave(port: int, settings: Settings, signals: Signals) -> None:
    n_left = leave(port, AGES_S * settings.connection_age_s + LAST_S, signals.wait)
    if n_left:
        _logger.info("%d connections stand although they are old: their streams end now", n_left)


def _outlive_nobody(drain_s: float) -> None:
    """Drain when the supervisor is gone, and end for certain a little later."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(drain_s + ORPHAN_S)
    os._exit(1)
