"""Shoppers' states in LMDB: lock-free reads in any thread and process, one writer thread, one transaction per call.

In: ids and happenings. Out: snapshots. Opened by `python -m server`, cli.py and the tests.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import lmdb
import numpy as np
import orjson

from kernels.event_history import RING, Rings
from kernels.features import N_STATE, apply_event, columns
from kernels.ledger import EXPOSURE
from server.problems import StateUnavailable, WrongState
from server.state.encodings import ENCODING, Encodings, no_encodings
from server.state.resident import Resident
from server.state.shopper import FRONT, RING_AT, SENT_AT, Shopper
from server.state.store import Happening, Snapshot

Answer = TypeVar("Answer")
STAMP = b"stamp"
# What stands for a shopper who is unknown, or not encoded.
NO_FRONT, NO_RING, NO_ENCODING = bytes(FRONT.itemsize), bytes(RING.itemsize), no_encodings(1).tobytes()


class EmbeddedStates:
    """The embedded store of server/state/store.py."""

    def __init__(self, folder: Path, vocabulary: str, size_mib: int, resident_mib: int = 0) -> None:
        """Open the store, or start an empty one.

        vocabulary    hash of the item vocabulary that the states' item histories refer to
        size_mib      largest size on disk
        resident_mib  about how much of it may count as this process's memory; 0: whatever was read
        raises        WrongState  if it was written with other features or another vocabulary
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(str(folder), map_size=size_mib * 2**20, max_dbs=5, max_readers=1024)
        self._env.reader_check()  # a killed process's reader would keep the pages of its moment for ever
        self._resident = Resident(folder / "data.mdb", resident_mib) if resident_mib else None
        self._shoppers = self._env.open_db(b"shoppers")
        self._encodings = self._env.open_db(b"encodings")
        self._seen = self._env.open_db(b"seen")
        self._spend = self._env.open_db(b"spend")
        self._meta = self._env.open_db(b"meta")
        self._stamp = {
            "n_state": N_STATE,
            "layout": _digest(f"{FRONT} {RING} {ENCODING}"),
            "columns": _digest("\n".join(columns())),
            "vocabulary": vocabulary,
        }
        self._writer = ThreadPoolExecutor(1, "state-writer")
        try:
            self._check_stamp(folder)
        except WrongState:
            self.close()
            raise

    def _check_stamp(self, folder: Path) -> None:
        with self._env.begin(self._meta) as transaction:
            stored = transaction.get(STAMP)
        if stored is None:
            self._write(lambda transaction: transaction.put(STAMP, orjson.dumps(self._stamp), db=self._meta)).result()
            return
        found = orjson.loads(stored)
        for name, expected in self._stamp.items():
            if found.get(name) != expected:
                raise WrongState(
                    f"{name} of the states in {folder} must be {expected}, as in this release, got {found.get(name)}; "
                    "delete the folder and load the shoppers again"
                )

    def read(self, shopper_ids: Sequence[str]) -> Snapshot:
        """What a decision needs of a batch, in its order."""
        keys = [shopper_id.encode() for shopper_id in shopper_ids]
        with self._env.begin(self._shoppers, buffers=True) as transaction:
            # One list, one join: a numpy assignment per row took 8 us of a decision's 3, `tests.benchmarks gateway`.
            values = [transaction.get(key) for key in keys]
            fronts = b"".join([NO_FRONT if value is None else value[: FRONT.itemsize] for value in values])
            encodings = b"".join([transaction.get(key, NO_ENCODING, self._encodings) for key in keys])
            front = np.frombuffer(fronts, FRONT)
            n_sent = front["head"]["n_sent"].astype(np.int64)
            senders = np.flatnonzero(n_sent)
            told = zip([values[row] for row in senders.tolist()], n_sent[senders].tolist(), strict=True)
            sent = b"".join([value[SENT_AT : SENT_AT + 8 * n_keys] for value, n_keys in told if value is not None])
            is_known = np.fromiter([value is not None for value in values], np.bool_, len(values))
        self._count(len(keys))
        return Snapshot(
            states=front["state"],
            n_events=front["clock"][:, 0],
            encodings=np.frombuffer(encodings, ENCODING),
            unseen_since_us=front["head"]["unseen_since_us"],
            last_event_s=front["head"]["last_event_s"],
            is_known=is_known,
            sent_row=np.repeat(senders, n_sent[senders]),
            sent_key=np.frombuffer(sent, np.uint64),
        )

    def rings(self, shopper_ids: Sequence[str]) -> Rings:
        """The last events of a batch, in its order; empty where the shopper is unknown."""
        with self._env.begin(self._shoppers, buffers=True) as transaction:
            values = [transaction.get(shopper_id.encode()) for shopper_id in shopper_ids]
            told = b"".join([NO_RING if value is None else value[RING_AT:SENT_AT] for value in values])
        self._count(len(shopper_ids))
        return np.frombuffer(told, RING)

    def _count(self, n_rows: int) -> None:
        if self._resident is not None:
            self._resident.read(n_rows)

    def shopper(self, shopper_id: str) -> Shopper | None:
        """One shopper; None if nobody has this id."""
        with self._env.begin(self._shoppers, buffers=True) as transaction:
            value = transaction.get(shopper_id.encode())
            return None if value is None else Shopper.from_bytes(value)

    def shopper_ids(self, rows: int) -> Iterator[list[str]]:
        """Every shopper id, ascending, in lists of at most `rows`."""
        with self._env.begin(self._shoppers) as transaction, transaction.cursor() as cursor:
            chunk: list[str] = []
            for key in cursor.iternext(values=False):
                chunk.append(key.decode())
                if len(chunk) == rows:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk

    def seen(self, event_ids: Sequence[str]) -> list[bool]:
        """Which events were applied before."""
        with self._env.begin(self._seen) as transaction:
            return [transaction.get(event_id.encode()) is not None for event_id in event_ids]

    def apply(self, happenings: Sequence[Happening]) -> "Future[list[bool]]":
        """Apply each happening once, and remember its id in the same transaction."""

        def write(transaction: lmdb.Transaction) -> list[bool]:
            return [self._apply(transaction, happening) for happening in happenings]

        return self._write(write)

    def _apply(self, transaction: lmdb.Transaction, happening: Happening) -> bool:
        seen_at = happening.time_s.to_bytes(8, "little", signed=True)
        if not transaction.put(happening.event_id.encode(), seen_at, overwrite=False, db=self._seen):
            return False
        key = happening.shopper_id.encode()
        value = transaction.get(key, db=self._shoppers)
        shopper = Shopper.new() if value is None else Shopper.from_bytes(value)
        n_events = shopper.n_events
        apply_event(
            shopper.state,
            happening.time_s,
            happening.kind,
            happening.item,
            happening.category,
            happening.order,
            happening.quantity,
            happening.paid_micros,
            happening.discount_micros,
            happening.coupon_micros,
        )
        listed_micros = happening.paid_micros + happening.discount_micros + happening.coupon_micros
        shopper.happened(happening.time_s, happening.kind, happening.item, happening.quantity, listed_micros)
        if happening.sent_key:
            shopper.was_sent(happening.sent_key)
        if happening.kind < EXPOSURE:
            shopper.did(happening.time_s, happening.kind, happening.item_row, happening.paid_micros)
        shopper.last_event_s = max(shopper.last_event_s, happening.time_s)
        if shopper.n_events > n_events and self._n_encoded(transaction, key) == n_events:
            shopper.unseen_since_us = time.time_ns() // 1000
        transaction.put(key, shopper.to_bytes(), db=self._shoppers)
        return True

    def _n_encoded(self, transaction: lmdb.Transaction, key: bytes) -> int:
        """How many events the kept encoding knows; -1: there is none."""
        encoding = transaction.get(key, NO_ENCODING, self._encodings)
        return int(np.frombuffer(encoding, ENCODING, 1)["n_events"][0])

    def keep(self, shopper_ids: Sequence[str], encodings: Encodings) -> "Future[None]":
        """Remember what the encoder made of shoppers' last events; a shopper who is gone by then stays gone.

        What the same encoder made of more events stays: of two batches with one shopper, the older may come last.
        """

        def write(transaction: lmdb.Transaction) -> None:
            for shopper_id, encoding in zip(shopper_ids, encodings, strict=True):
                key = shopper_id.encode()
                if transaction.get(key, db=self._shoppers) is None:
                    continue
                kept = np.frombuffer(transaction.get(key, NO_ENCODING, self._encodings), ENCODING, 1)[0]
                if kept["encoder"] != encoding["encoder"] or kept["n_events"] <= encoding["n_events"]:
                    transaction.put(key, encoding.tobytes(), db=self._encodings)

        return self._write(write)

    def load(self, shoppers: Iterable[tuple[str, Shopper]]) -> int:
        """Replace everybody by `shoppers`, in one transaction; what was applied before is forgotten, spend is not."""

        def write(transaction: lmdb.Transaction) -> int:
            transaction.drop(self._shoppers, delete=False)
            transaction.drop(self._encodings, delete=False)
            transaction.drop(self._seen, delete=False)
            n_shoppers = 0
            for shopper_id, shopper in shoppers:
                n_shoppers += transaction.put(shopper_id.encode(), shopper.to_bytes(), db=self._shoppers)
            return n_shoppers

        return self._write(write).result()

    def lease(self, plan_id: str, budget_micros: int, wanted_micros: int) -> "Future[int]":
        """Take up to wanted_micros out of what the plan's budget has left; 0 when it is spent: a hard stop."""

        def write(transaction: lmdb.Transaction) -> int:
            taken = self._taken(transaction, plan_id)
            granted = max(0, min(wanted_micros, budget_micros - taken))
            self._set_taken(transaction, plan_id, taken + granted)
            return granted

        return self._write(write)

    def give_back(self, plan_id: str, unspent_micros: int) -> "Future[None]":
        """Return the unspent rest of a lease."""

        def write(transaction: lmdb.Transaction) -> None:
            self._set_taken(transaction, plan_id, self._taken(transaction, plan_id) - unspent_micros)

        return self._write(write)

    def spent_micros(self, plan_id: str) -> int:
        """What was taken out of the plan's budget so far, leases included."""
        with self._env.begin(self._spend) as transaction:
            return self._taken(transaction, plan_id)

    def _taken(self, transaction: lmdb.Transaction, plan_id: str) -> int:
        return int.from_bytes(transaction.get(plan_id.encode(), db=self._spend) or b"\0", "little", signed=True)

    def _set_taken(self, transaction: lmdb.Transaction, plan_id: str, micros: int) -> None:
        transaction.put(plan_id.encode(), micros.to_bytes(8, "little", signed=True), db=self._spend)

    def _write(self, write: Callable[[lmdb.Transaction], Answer]) -> "Future[Answer]":
        """Run `write` in one transaction in the one thread that writes; an exception leaves nothing of it."""

        def transact() -> Answer:
            try:
                with self._env.begin(write=True) as transaction:
                    return write(transaction)
            except (lmdb.MapFullError, lmdb.DiskError, OSError) as error:
                raise StateUnavailable(f"the state in {self._env.path()} must take a change, got: {error}") from error

        return self._writer.submit(transact)

    def close(self) -> None:
        """Finish running writes and let go of the files."""
        self._writer.shutdown(wait=True)
        if self._resident is not None:
            self._resident.close()
        self._env.close()


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
