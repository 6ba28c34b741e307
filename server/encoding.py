"""Keeps what the encoder makes of shoppers as fresh as their last event: it runs only where a shopper has changed.

In: shoppers as the store read them. Out: their encodings, made anew where they must be, and kept for the next time.
Called by server/decide.py, the doors and the planner; what can wait is left to a thread of its own.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from kernels.event_history import read_rings
from server.problems import ModelUnavailable, Problem, TooLate
from server.state.encodings import is_stale
from server.state.store import Snapshot, States
from server.strategy.catalogue import Bools, Floats
from server.survival import survived
from server.triton.client import Models

# The encoder's best batch on a CPU, `python -m tests.benchmarks serving`; a larger one would only hold up the heads.
REFRESHED_AT_ONCE = 64
# How long the background waits for company: one row costs the encoder 2.7 ms, thirty cost 6. Far below any sane bound.
GATHERS_S = 0.2
MOST_WAITING = 100_000
WITHIN_S, AFTER_TROUBLE_S = 5.0, 0.5
_logger = logging.getLogger(__name__)


class Encoder:
    """The encoder over one store.

    rows  encodings asked for: "fresh" as they stood, "waiting" behind by less than the bound, "stale" made at once,
          and "refreshed" behind everybody's back
    """

    def __init__(self, models: Models, states: States, name: str) -> None:
        """Start nothing yet.

        name  of the encoder's weights: what another encoder made is stale
        """
        self.models, self.states, self.name = models, states, name
        self.rows: Counter[str] = Counter()
        self._waiting: dict[str, None] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def freshened(
        self, shopper_ids: Sequence[str], snapshot: Snapshot, within_s: float, bound_s: float = 0.0
    ) -> Snapshot:
        """The snapshot with encodings that know every event older than `bound_s`.

        within_s  for what must be encoded now
        bound_s   how long an event may wait to be known; what waits is refreshed in the background
        raises    ModelUnavailable, TooLate  if any must be encoded now and the encoder does not answer
        """
        stale = is_stale(snapshot.encodings, snapshot.n_events, self.name)
        waits = stale & self._may_wait(snapshot, bound_s) if bound_s > 0.0 else np.zeros_like(stale)
        must = np.flatnonzero(stale & ~waits)
        n_waiting = int(waits.sum())
        self.rows["fresh"] += stale.size - n_waiting - must.size
        self.rows["waiting"] += n_waiting
        if n_waiting:
            self.refresh_later([shopper_ids[row] for row in np.flatnonzero(waits).tolist()])
        if not must.size:
            return snapshot
        self.rows["stale"] += must.size
        encodings = snapshot.encodings.copy()
        late = [shopper_ids[row] for row in must.tolist()]
        try:
            made = self._made(late, within_s)
        except (
            ModelUnavailable,
            TooLate,
        ):  # what is too much for one question is made piece by piece, or the next one would fail as well
            self.refresh_later(late)
            raise
        encodings[must] = made
        n_events, unseen_since_us = snapshot.n_events.copy(), snapshot.unseen_since_us
        n_events[must] = made["n_events"]
        return replace(snapshot, encodings=encodings, n_events=n_events, unseen_since_us=unseen_since_us)

    def _may_wait(self, snapshot: Snapshot, bound_s: float) -> Bools:
        """Which encodings are of this encoder and miss nothing older than the bound."""
        encoded = (snapshot.encodings["n_events"] >= 0) & (snapshot.encodings["encoder"] == self.name.encode())
        return np.asarray(encoded & (unseen_s(snapshot) <= bound_s))

    def vector_age_s(self, snapshot: Snapshot) -> Floats:
        """How long the oldest event that each vector does not know has waited, (batch,); 0 where it knows all."""
        stale = is_stale(snapshot.encodings, snapshot.n_events, self.name)
        return np.where(stale, unseen_s(snapshot), 0.0)

    def _made(self, shopper_ids: Sequence[str], within_s: float) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Encode shoppers as they are now, and have the store keep it."""
        rings = self.states.rings(shopper_ids)
        made = self.models.encode(read_rings(rings), within_s)
        made["n_events"] = rings["clock"][:, 0]
        made["encoder"] = self.name.encode()
        self.states.keep(shopper_ids, made)
        return made

    def start(self) -> None:
        """Refresh in the background from now on."""
        self._thread = threading.Thread(target=self._refresh, name="encoder", daemon=True)
        self._thread.start()

    def refresh_later(self, shopper_ids: Iterable[str]) -> None:
        """Encode shoppers soon; who waits already keeps the place, and beyond MOST_WAITING nobody is added."""
        with self._changed:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.update(dict.fromkeys(shopper_ids))
                self._changed.notify()

    @property
    def n_waiting(self) -> int:
        """Shoppers that wait for the background."""
        return len(self._waiting)

    def _refresh(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                self._changed.wait_for(lambda: self._is_closed or len(self._waiting) >= REFRESHED_AT_ONCE, GATHERS_S)
                if self._is_closed:
                    return
                chosen = list(self._waiting)[:REFRESHED_AT_ONCE]
                for shopper_id in chosen:
                    del self._waiting[shopper_id]
            survived(partial(self._refresh_some, chosen), lambda _: None, "a refresh of vectors")

    def _refresh_some(self, shopper_ids: Sequence[str]) -> None:
        snapshot = self.states.read(shopper_ids)
        stale = is_stale(snapshot.encodings, snapshot.n_events, self.name) & snapshot.is_known
        changed = [shopper_ids[row] for row in np.flatnonzero(stale).tolist()]
        if not changed:
            return
        try:
            self._made(changed, WITHIN_S)
        except Problem as problem:
            _logger.warning("%d vectors stay as they are for now: %s", len(changed), problem)
            with self._changed:
                self._waiting.update(dict.fromkeys(changed))
                self._changed.wait_for(lambda: self._is_closed, AFTER_TROUBLE_S)
            return
        self.rows["refreshed"] += len(changed)

    def close(self) -> None:
        """Stop the background; what waits there waits for the next decision."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()


def unseen_s(snapshot: Snapshot) -> Floats:
    """Seconds since the first event came that each encoding does not know, ≥ 0; means nothing where it knows all."""
    waited: Floats = np.maximum(0.0, time.time() - snapshot.unseen_since_us / 1e6)
    return waited
