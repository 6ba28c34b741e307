"""What was predicted for whom lately, for when the models do not answer: the middle rung of the ladder.

In: predictions of full decisions. Out: the same again for shoppers who are still remembered, with their age.
Called by server/decide.py, from its threads; bounded, the oldest goes first.
"""

import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import cast

import numpy as np
from numpy.typing import NDArray

from server.strategy.catalogue import Floats, Ints
from server.triton.client import Predictions

NAMES = tuple(field.name for field in fields(Predictions))


class RememberedPredictions:
    """The predictions of the last `most_rows` full decisions; about 0.6 kB each."""

    def __init__(self, most_rows: int) -> None:
        """Remember nothing yet."""
        self._most_rows = most_rows
        self._row_of: dict[str, int] = {}
        self._owner: list[str | None] = [None] * most_rows
        self._at_s = np.zeros(most_rows)
        self._columns: dict[str, NDArray[np.generic]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def keep(self, shopper_ids: Sequence[str], predicted: Predictions, now_s: float) -> None:
        """Remember a batch.

        now_s  moment of time.monotonic
        """
        if not self._most_rows:
            return
        with self._lock:
            rows = self._rows_for(shopper_ids[: self._most_rows])
            for name in NAMES:
                values = getattr(predicted, name)[: rows.size]
                if name not in self._columns:
                    self._columns[name] = np.zeros((self._most_rows, values.shape[1]), values.dtype)
                self._columns[name][rows] = values
            self._at_s[rows] = now_s

    def _rows_for(self, shopper_ids: Sequence[str]) -> Ints:
        rows = np.empty(len(shopper_ids), np.int64)
        for place, shopper_id in enumerate(shopper_ids):
            row = self._row_of.get(shopper_id)
            if row is None:
                row, self._next = self._next, (self._next + 1) % self._most_rows
                previous = self._owner[row]
                if previous is not None:
                    del self._row_of[previous]
                self._row_of[shopper_id], self._owner[row] = row, shopper_id
            rows[place] = row
        return rows

    def of(self, shopper_ids: Sequence[str], now_s: float) -> tuple[Ints, Predictions | None, Floats]:
        """Find a batch.

        now_s    moment of time.monotonic
        returns  positions of those remembered, ascending; their predictions, None if there are none; ages in seconds
        """
        with self._lock:
            found = [(place, self._row_of[name]) for place, name in enumerate(shopper_ids) if name in self._row_of]
            if not found:
                return np.zeros(0, np.int64), None, np.zeros(0)
            places, rows = (np.array(part, np.int64) for part in zip(*found, strict=True))
            arrays = {name: column[rows] for name, column in self._columns.items()}
            return places, Predictions(**cast(dict[str, NDArray[np.float32]], arrays)), now_s - self._at_s[rows]  # type: ignore[arg-type]
