"""Shoppers' states in LMDB: lock-free reads in any thread and process, one writer thread, one transaction per call.

In: ids and happenings. Out: snapshots. Opened by `python -m server`, cli.py and the tests.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import lmdb
import numpy as np
import orjson

from kernels.event_history import RING
from kernels.features import N_STATE, apply_event, columns
from kernels.ledger import EXPOSURE
from server.problems import WrongState
from server.state.encodings import ENCODING, Encodings, no_encodings
from server.state.shopper import HEAD, HEAD_AT, SENT_AT, STATE_BYTES, Shopper
from server.state.store import Happening, Snapshot

Answer = TypeVar("Answer")
STAMP = b"stamp"


class EmbeddedStates:
    """The embedded store of server/state/store.py."""

    def __init__(self, folder: Path, vocabulary: str, size_mib: int) -> None:
        """Open the store, or start an empty one.

        vocabulary  hash of the item vocabulary that the states' item histories refer to
        size_mib    largest size on disk
        raises      WrongState  if it was written with other features or another vocabulary
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(str(folder), map_size=size_mib * 2**20, max_dbs=5, max_readers=1024)
        self._shoppers = self._env.open_db(b"shoppers")
        self._encodings = self._env.open_db(b"encodings")
        self._seen = self._env.open_db(b"seen")
        self._spend = self._env.open_db(b"spend")
        self._meta = self._env.open_db(b"meta")
        self._stamp = {
            "n_state": N_STATE,
            "ring and encoding": _digest(f"{RING} {ENCODING}"),
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
        """States of a batch, in its order."""
        n_rows = len(shopper_ids)
        states = np.zeros((n_rows, N_STATE))
        rings, encodings = np.zeros(n_rows, RING), no_encodings(n_rows)
        last_event_s = np.zeros(n_rows, np.int64)
        is_known = np.zeros(n_rows, np.bool_)
        sent_row, sent_key = [], []
        with self._env.begin(self._shoppers, buffers=True) as transaction:
            for row, shopper_id in enumerate(shopper_ids):
                value = transaction.get(shopper_id.encode())
                if value is None:
                    continue
                is_known[row] = True
                states[row] = np.frombuffer(value, np.float64, N_STATE)
                rings[row] = np.frombuffer(value, RING, 1, STATE_BYTES)[0]
                encoded = transaction.get(shopper_id.encode(), db=self._encodings)
                if encoded is not None:
                    encodings[row] = np.frombuffer(encoded, ENCODING, 1)[0]
                head = np.frombuffer(value, HEAD, 1, HEAD_AT)[0]
                last_event_s[row], n_sent = head["last_event_s"], int(head["n_sent"])
                if n_sent:
                    sent_key.append(np.frombuffer(value, np.uint64, n_sent, SENT_AT).copy())
                    sent_row.append(np.full(n_sent, row, np.int64))
        return Snapshot(
            states,
            rings,
            encodings,
            last_event_s,
            is_known,
            np.concatenate([*sent_row, np.zeros(0, np.int64)]),
            np.concatenate([*sent_key, np.zeros(0, np.uint64)]),
        )

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
        transaction.put(key, shopper.to_bytes(), db=self._shoppers)
        return True

    def keep(self, shopper_ids: Sequence[str], encodings: Encodings) -> "Future[None]":
        """Remember what the encoder made of shoppers' last events; a shopper who is gone by then stays gone."""

        def write(transaction: lmdb.Transaction) -> None:
            for shopper_id, encoding in zip(shopper_ids, encodings, strict=True):
                key = shopper_id.encode()
                if transaction.get(key, db=self._shoppers) is not None:
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
            with self._env.begin(write=True) as transaction:
                return write(transaction)

        return self._writer.submit(transact)

    def close(self) -> None:
        """Finish running writes and let go of the files."""
        self._writer.shutdown(wait=True)
        self._env.close()


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
