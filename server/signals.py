"""Signals as something to wait for: none is lost, whichever thread the kernel gives it to.

In: names of signals. Out: which came. Used by the main thread of every process that serves.

An event set by a Python handler is not enough: a signal that the kernel gives to a thread of gRPC leaves the main
thread asleep in its lock, and the handler waits until it wakes: one in ten replaced workers did not leave under load.
The descriptor here is written by the C handler, in whichever thread it runs.
"""

import select
import signal
import socket
from collections.abc import Callable
from types import FrameType, TracebackType

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Signals:
    """Signals that are heeded while the block runs; made in the main thread."""

    def __init__(self, *names: signal.Signals) -> None:
        """Heed nothing yet."""
        self._names = names
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "Signals":
        """Heed them from now on."""
        self._told, self._teller = socket.socketpair()
        self._told.setblocking(False)
        self._teller.setblocking(False)
        self._before = {name: signal.signal(name, lambda *_: None) for name in self._names}
        self._woken = signal.set_wakeup_fd(self._teller.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As it was before."""
        signal.set_wakeup_fd(self._woken)
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._told.close()
        self._teller.close()

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._told.fileno()

    def wait(self, within_s: float | None = None) -> set[int]:
        """The signals that came since they were last asked for; waits for one if there is none.

        within_s  the longest wait; None: no end
        returns   nothing where none came in time
        """
        if not select.select([self._told], [], [], within_s)[0]:
            return set()
        return set(self._told.recv(4096)) & set(self._names)
