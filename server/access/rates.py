"""How fast one client may ask: a bucket that fills with time and pays out rows.

In: a rate, a burst, and the time. Out: 0 where the rows fit, else the seconds until they would.
Held by server/access/gate.py, one bucket per client; taken from on the wire thread and on the deciders' threads.
"""

import threading

from server.access.tally import Tally

# How far ahead of its rate a batch larger than the burst may go: after it the client waits at most this long.
DEBT_S = 10.0
# Rows that rounding may lack after exactly the wait that was told.
SLACK = 1e-6


class Bucket:
    """A token bucket that may go into bounded debt, so that a batch larger than the burst is possible at all."""

    __slots__ = ("_at_s", "_level", "_lock", "_tally", "burst", "most", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float, tally: Tally | None = None) -> None:
        """Start full.

        rate_per_s  rows a second, > 0
        burst       rows that may come at once, > 0
        now_s       of the same clock as every later now_s
        tally       what other workers pay out of the same rate; None: there are none
        """
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.most = burst + rate_per_s * DEBT_S
        self._level = burst
        self._at_s = now_s
        self._tally = tally
        self._lock = threading.Lock()

    def take(self, n: int, now_s: float) -> float:
        """Pay out `n` rows, or say when they would fit and pay out nothing.

        n        rows, ≥ 0 and ≤ `most`: more would never fit
        now_s    monotonic; an earlier time than the last one counts as the last one
        returns  0 where the rows are paid out, else seconds
        """
        with self._lock:
            wait_s = self._wait_s(n, now_s)
            if wait_s == 0:
                self._level -= n
                if self._tally is not None:
                    self._tally.add(n)
            return wait_s

    def wait_s(self, n: int, now_s: float) -> float:
        """What `take` would answer, with nothing paid out."""
        with self._lock:
            return self._wait_s(n, now_s)

    def _wait_s(self, n: int, now_s: float) -> float:
        level = self._level
        # Threads read the clock before they get here, so a later one may bring an earlier time.
        if now_s > self._at_s:
            level += (now_s - self._at_s) * self.rate_per_s
            self._at_s = now_s
        # Before the burst bounds it: the others paid out of what came in meanwhile.
        if self._tally is not None:
            level -= self._tally.paid_by_others()
        self._level = min(self.burst, level)
        # A batch larger than the burst waits for a full bucket; larger than `most`, its debt would exceed DEBT_S.
        lacking = min(n, self.burst) - self._level
        return 0.0 if lacking <= SLACK else lacking / self.rate_per_s
