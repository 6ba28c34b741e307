"""Keeps what the encoder makes of shoppers as fresh as their last event: it runs only where a shopper has changed.

In: shoppers as the store read them. Out: their encodings, made anew where stale and kept for the next time. Called by
server/decide.py, the doors and the planner; a decision of shoppers who did nothing new needs no call of the encoder.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kernels.event_history import read_rings
from server.state.encodings import Encodings, is_stale
from server.state.store import Snapshot, States
from server.strategy.catalogue import Ints
from server.triton.client import Models


@dataclass
class Encoder:
    """The encoder over one store.

    name   of its weights: what another encoder made is stale
    rows   how many encodings were asked for: "fresh" as they stood, "stale" made anew
    """

    models: Models
    states: States
    name: str
    rows: Counter[str] = field(default_factory=Counter)

    async def freshened(self, shopper_ids: Sequence[str], snapshot: Snapshot, within_s: float) -> Snapshot:
        """The snapshot with encodings of the very events in it; kept before they are used, in the background.

        raises  ModelUnavailable, TooLate  if any is stale and the encoder does not answer
        """
        stale = self._stale(snapshot)
        if stale.size == 0:
            return snapshot
        made = await self.models.encode(read_rings(snapshot.rings[stale]), within_s)
        return self._with(shopper_ids, snapshot, stale, made)

    def freshened_now(self, shopper_ids: Sequence[str], snapshot: Snapshot) -> Snapshot:
        """Do what `freshened` does from a thread without an event loop: for bulk work."""
        stale = self._stale(snapshot)
        if stale.size == 0:
            return snapshot
        return self._with(shopper_ids, snapshot, stale, self.models.encode_now(read_rings(snapshot.rings[stale])))

    def _stale(self, snapshot: Snapshot) -> Ints:
        n_events = snapshot.rings["clock"][:, 0]
        stale = np.flatnonzero(is_stale(snapshot.encodings, n_events, self.name))
        self.rows["stale"] += stale.size
        self.rows["fresh"] += n_events.size - stale.size
        return stale

    def _with(self, shopper_ids: Sequence[str], snapshot: Snapshot, stale: Ints, made: Encodings) -> Snapshot:
        made["n_events"] = snapshot.rings["clock"][stale, 0]
        made["encoder"] = self.name.encode()
        self.states.keep([shopper_ids[row] for row in stale.tolist()], made)
        encodings = snapshot.encodings.copy()
        encodings[stale] = made
        return replace(snapshot, encodings=encodings)
