"""One shopper as the store keeps it: the feature state, the last events, what was sent, in one value.

In: the numbers. Out: bytes, and back. Pure; called by server/state/embedded.py.
Layout: N_STATE float64, then HEAD (moments and counts), then RING (what the encoder reads), then the sent keys, then
the latest events. A decision reads the FRONT, in one piece, and the sent keys.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.event_history import RING, Rings, apply_event
from kernels.features import N_STATE, empty_state
from kernels.ledger import REFUND

N_LATEST = 10
N_SENT = 256
HEAD = np.dtype([("last_event_s", "<i8"), ("unseen_since_us", "<i8"), ("n_sent", "<u4"), ("n_latest", "<u4")])
LATEST = np.dtype([("time_s", "<i8"), ("paid_micros", "<i8"), ("item", "<i4"), ("kind", "<i4")])
HEAD_AT = 8 * N_STATE
RING_AT = HEAD_AT + HEAD.itemsize
SENT_AT = RING_AT + RING.itemsize
# `clock` is the ring's first field.
FRONT = np.dtype([("state", "<f8", (N_STATE,)), ("head", HEAD), ("clock", RING["clock"])])

Row = NDArray[np.float64]
Keys = NDArray[np.uint64]


@dataclass
class Shopper:
    """What is known of one shopper.

    state            (N_STATE,) float64    kernels.features' running state
    ring             (1,) RING             the last events
    last_event_s     newest event, seconds since 1970 UTC; 0 before the first
    sent             (n_sent,) uint64      offer_key or campaign_key of what was sent, oldest first, at most N_SENT
    latest           (n_latest,) LATEST    newest first, at most N_LATEST; item is a row of the repository's items or -1
    unseen_since_us  when the first event came that the kept encoding does not know, microseconds of this machine's
                     clock; means nothing while the encoding knows all
    """

    state: Row
    ring: Rings
    last_event_s: int
    sent: Keys
    latest: NDArray[np.void]
    unseen_since_us: int = 0

    @classmethod
    def new(cls) -> "Shopper":
        """A shopper of whom nothing is known."""
        return cls(empty_state(), np.zeros(1, RING), 0, np.zeros(0, np.uint64), np.zeros(0, LATEST))

    @property
    def n_events(self) -> int:
        """Events that the encoder should know."""
        return int(self.ring["clock"][0, 0])

    def was_sent(self, key: int) -> None:
        """Remember that an offer or a campaign was sent."""
        if key not in self.sent:
            self.sent = np.append(self.sent, np.uint64(key))[-N_SENT:]

    def did(self, time_s: int, kind: int, item: int, paid_micros: int) -> None:
        """Remember an event among the latest."""
        newest = np.array([(time_s, paid_micros, item, kind)], LATEST)
        merged = np.concatenate([newest, self.latest])
        self.latest = merged[np.argsort(-merged["time_s"], kind="stable")][:N_LATEST]
        self.last_event_s = max(self.last_event_s, time_s)

    def happened(self, time_s: int, kind: int, item: int, quantity: float, listed_micros: int) -> None:
        """Take what the shopper did into the ring.

        What was done to the shopper, an exposure, and what a coupon's end says of it, a redemption, are features; the
        encoder reads views, carts, orders and refunds alone.
        listed_micros  paid and all discounts
        """
        if kind <= REFUND:
            apply_event(self.ring, time_s, kind, item, quantity, listed_micros)

    def to_bytes(self) -> bytes:
        """The value to store."""
        head = np.array([(self.last_event_s, self.unseen_since_us, self.sent.size, self.latest.size)], HEAD)
        parts = (self.state, head, self.ring, self.sent, self.latest)
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, value: bytes | memoryview) -> "Shopper":
        """The shopper in a stored value; its state is a copy that may be changed."""
        head = np.frombuffer(value, HEAD, 1, HEAD_AT)[0]
        latest_at = SENT_AT + 8 * int(head["n_sent"])
        return cls(
            state=np.frombuffer(value, np.float64, N_STATE).copy(),
            ring=np.frombuffer(value, RING, 1, RING_AT).copy(),
            last_event_s=int(head["last_event_s"]),
            sent=np.frombuffer(value, np.uint64, int(head["n_sent"]), SENT_AT).copy(),
            latest=np.frombuffer(value, LATEST, int(head["n_latest"]), latest_at).copy(),
            unseen_since_us=int(head["unseen_since_us"]),
        )
