"""What must be looked at now and then: a thread that does it once a second.

In: chores. Out: nothing; a chore that fails is logged and done again. Used by server/gateway/assembly.py.
"""

import threading
from collections.abc import Callable

from server.survival import survived

PERIOD_S = 1.0


class Housekeeping:
    """Runs chores until it is closed."""

    def __init__(self, *chores: Callable[[], object]) -> None:
        """Start the thread."""
        self._chores = chores
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            survived(self._do, lambda _: None, "housekeeping")

    def _do(self) -> None:
        for chore in self._chores:
            chore()

    def close(self) -> None:
        """Stop."""
        self._closed.set()
        self._thread.join()
