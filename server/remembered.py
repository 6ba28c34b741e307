"""What was predicted for whom lately, for when the models do not answer: the middle rung of the ladder.

In: predictions of full decisions. Out: the same again for shoppers who are still remembered, with their age.
Called by server/decide.py, from its threads; bounded, the oldest goes first.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from typing import cast

import numpy as np
from numpy.typing import NDArray

from server.strategy.catalogue import Floats, Ints
from server.triton.client import Predictions

NAMES = tuple(field.name for field in fields(Predictions))


class RememberedPredictions:
    """The latest predictions of the `most_rows` shoppers last decided for in full; about 0.6 kB each."""

    def __init__(self, most_rows: int) -> None:
        """Remember nothing yet."""
        self._most_rows = most_rows
        # The one predicted for least lately stands first.
        self._row_of: OrderedDict[str, int] = OrderedDict()
        self._at_s = np.zeros(most_rows)
        self._columns: dict[str, NDArray[np.generic]] = {}
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
            if row is not None:
                self._row_of.move_to_end(shopper_id)
            else:
                n_rows = len(self._row_of)
                row = n_rows if n_rows < self._most_rows else self._row_of.popitem(last=False)[1]
                self._row_of[shopper_id] = row
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
