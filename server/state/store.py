"""What a store of shoppers' states must do; server/decide.py, the feedback door and the planner know only this.

In: shopper ids and what happened. Out: states as of now. The embedded store is LMDB (embedded.py); a networked one can
stand behind the same words.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kernels.event_history import Rings
from server.state.encodings import Encodings
from server.state.shopper import Keys, Shopper
from server.strategy.catalogue import Bools, Floats, Ints


@dataclass(frozen=True)
class Snapshot:
    """What a decision needs of a batch at one moment, as arrays; they may be read-only.

    states           (batch, N_STATE) float64  zeros where the shopper is unknown
    n_events         (batch,) int64            events that the encoder should know
    encodings        (batch,) ENCODING         what it made of those that it knows
    unseen_since_us  (batch,) int64            when the first event came that it does not know, if there is one
    last_event_s     (batch,) int64            newest event; 0 before the first
    is_known         (batch,) bool
    sent_row         (n_sent,) int64           row of each sent key
    sent_key         (n_sent,) uint64          offer_key or campaign_key of what was sent
    """

    states: Floats
    n_events: Ints
    encodings: Encodings
    unseen_since_us: Ints
    last_event_s: Ints
    is_known: Bools
    sent_row: Ints
    sent_key: Keys

    def of(self, rows: Ints) -> "Snapshot":
        """The same for some of the rows.

        rows  (n,) int64  ascending
        """
        place = np.full(self.is_known.size, -1, np.int64)
        place[rows] = np.arange(rows.size)
        sent_row = place[self.sent_row]
        return Snapshot(
            self.states[rows],
            self.n_events[rows],
            self.encodings[rows],
            self.unseen_since_us[rows],
            self.last_event_s[rows],
            self.is_known[rows],
            sent_row[sent_row >= 0],
            self.sent_key[sent_row >= 0],
        )


@dataclass(frozen=True)
class Happening:
    """One thing that moves one shopper's state.

    event_id   names it for ever; applied once however often it comes
    kind       a kind of kernels.ledger
    item_row   row of the repository's items; -1: none
    item       vocabulary index; 0: none or outside of it
    category   slot; -1: none
    order      key of the order; 0: none
    sent_key   what was sent, for an exposure; 0: nothing
    """

    event_id: str
    shopper_id: str
    time_s: int
    kind: int
    item_row: int = -1
    item: int = 0
    category: int = -1
    order: int = 0
    quantity: float = 0.0
    paid_micros: int = 0
    discount_micros: int = 0
    coupon_micros: int = 0
    sent_key: int = 0


class States(Protocol):
    """A store of shoppers. Reads never wait for writes; a write is on disk when its future is done."""

    def read(self, shopper_ids: Sequence[str]) -> Snapshot:
        """What a decision needs of a batch, in its order."""
        ...

    def rings(self, shopper_ids: Sequence[str]) -> Rings:
        """The last events of a batch, in its order; empty where the shopper is unknown."""
        ...

    def shopper(self, shopper_id: str) -> Shopper | None:
        """One shopper; None if nobody has this id."""
        ...

    def shopper_ids(self, rows: int) -> Iterator[list[str]]:
        """Every shopper id, ascending, in lists of at most `rows`."""
        ...

    def seen(self, event_ids: Sequence[str]) -> list[bool]:
        """Which events were applied before."""
        ...

    def apply(self, happenings: Sequence[Happening]) -> "Future[list[bool]]":
        """Apply each happening once; the answer says which were new. A shopper never seen before starts empty."""
        ...

    def keep(self, shopper_ids: Sequence[str], encodings: Encodings) -> "Future[None]":
        """Remember what the encoder made of shoppers' last events; a shopper who is gone by then stays gone."""
        ...

    def load(self, shoppers: Iterable[tuple[str, Shopper]]) -> int:
        """Replace everybody by `shoppers`, all or nothing; returns how many there are."""
        ...

    def lease(self, plan_id: str, budget_micros: int, wanted_micros: int) -> "Future[int]":
        """Take up to wanted_micros out of what the plan's budget has left; 0 when it is spent: a hard stop."""
        ...

    def give_back(self, plan_id: str, unspent_micros: int) -> "Future[None]":
        """Return the unspent rest of a lease."""
        ...

    def spent_micros(self, plan_id: str) -> int:
        """What was taken out of the plan's budget so far, leases included."""
        ...

    def close(self) -> None:
        """Finish running writes and let go of the files."""
        ...
