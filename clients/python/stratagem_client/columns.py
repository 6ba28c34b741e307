"""The columns of many decisions as numpy arrays.

In: DecideBatchResponse messages. Out: one Columns per message, and one of several put behind each other.
Used by batches.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import strategy_pb2

from stratagem_client.refusals import Refused

Array = NDArray[Any]
# One entry per row. The names are the message's own; bids keep exact micros, so every amount is an int64.
ROW_DTYPES: dict[str, type[np.generic]] = {
    "statuses": np.uint8,
    "action_index": np.uint32,
    "value_micros": np.int64,
    "cost_micros": np.int64,
    "score_micros": np.int64,
    "propensity": np.float64,
    "runner_up_index": np.uint32,
    "runner_up_score_micros": np.int64,
    "rungs": np.uint8,
    "state_age_s": np.int64,
    "vector_age_s": np.float32,
    "predictions_age_s": np.float32,
}
# Gateways from before these columns leave them empty.
MAY_BE_UNSET = frozenset({"vector_age_s", "predictions_age_s"})


class Terms(NamedTuple):
    """What holds for all rows of one message.

    shadow_price    value that one unit of cost must bring (λ), ≥ 0
    release         hash of the model release that answered
    plan_id         empty: no plan
    decided_at_s    the moment decided for, seconds since 1970 UTC
    currency_code   ISO 4217
    """

    shadow_price: float
    release: str
    plan_id: str
    decided_at_s: int
    currency_code: str


@dataclass(frozen=True)
class Columns:
    """Decisions in columns; what they mean is said at DecideBatchResponse.

    rows          (n_rows,) each   by the names of ROW_DTYPES; a row without an answer holds zeros
    terms_index   (n_rows,) int32  index into terms; -1: no answer
    item_offsets  (n_rows + 1,) int64  row r shows items item_index[item_offsets[r]:item_offsets[r + 1]]
    item_index    (n_shown,) uint32  index into item_ids
    actions, item_ids, terms  what the indices point at, each once
    """

    rows: dict[str, Array]
    terms_index: Array
    item_offsets: Array
    item_index: Array
    actions: tuple[strategy_pb2.Action, ...]
    item_ids: tuple[str, ...]
    terms: tuple[Terms, ...]

    def __len__(self) -> int:
        """How many rows."""
        return int(self.terms_index.size)

    def __getitem__(self, rows: slice) -> "Columns":
        """Some neighbouring rows, as views; the indices point at the same things."""
        first, end, _ = rows.indices(len(self))
        shown = self.item_index[self.item_offsets[first] : self.item_offsets[end]]
        return Columns(
            {name: column[first:end] for name, column in self.rows.items()},
            self.terms_index[first:end],
            self.item_offsets[first : end + 1] - self.item_offsets[first],
            shown,
            self.actions,
            self.item_ids,
            self.terms,
        )


def columns_of(answer: strategy_pb2.DecideBatchResponse, n_rows: int) -> Columns:
    """The arrays of one message.

    raises  Refused  INTERNAL where a column has not as many entries as rows or points at nothing
    """
    rows = {name: _array(getattr(answer, name), dtype) for name, dtype in ROW_DTYPES.items()}
    for name in MAY_BE_UNSET:
        if rows[name].size == 0:
            rows[name] = np.zeros(n_rows, ROW_DTYPES[name])
    offsets, shown = _array(answer.item_offsets, np.int64), _array(answer.item_index, np.uint32)
    for name, column in rows.items():
        _check(column.size == n_rows, f"{name} must have {n_rows} entries, got {column.size}")
    _check(offsets.size == n_rows + 1, f"item_offsets must have {n_rows + 1} entries, got {offsets.size}")
    is_ascending = offsets[0] == 0 and offsets[-1] == shown.size and bool(np.all(np.diff(offsets) >= 0))
    _check(is_ascending, "item_offsets must ascend from 0 to the number of items shown")
    is_undecided = rows["statuses"] != strategy_pb2.ROW_STATUS_DECIDED
    for name in ("action_index", "runner_up_index"):
        rows[name][is_undecided] = 0
        _check(_points_into(rows[name][~is_undecided], len(answer.actions)), f"{name} must point into actions")
    _check(_points_into(shown, len(answer.item_ids)), "item_index must point into item_ids")
    terms = Terms(answer.shadow_price, answer.release, answer.plan_id, answer.decided_at_s, answer.currency_code)
    in_terms = np.zeros(n_rows, np.int32)
    return Columns(rows, in_terms, offsets, shown, tuple(answer.actions), tuple(answer.item_ids), (terms,))


def unanswered(n_rows: int) -> Columns:
    """Rows that nobody answered: zeros, and no terms."""
    rows: dict[str, Array] = {name: np.zeros(n_rows, dtype) for name, dtype in ROW_DTYPES.items()}
    offsets, nothing = np.zeros(n_rows + 1, np.int64), np.empty(0, np.uint32)
    return Columns(rows, np.full(n_rows, -1, np.int32), offsets, nothing, (), (), ())


def joined(parts: Sequence[Columns]) -> Columns:
    """Parts put behind each other; equal actions, items and terms of different parts become one."""
    actions: dict[bytes, tuple[int, strategy_pb2.Action]] = {}
    items: dict[str, int] = {}
    terms: dict[Terms, int] = {}
    columns: dict[str, list[Array]] = {name: [] for name in ROW_DTYPES}
    terms_index, ends, shown, n_shown = [], [np.zeros(1, np.int64)], [], 0
    for part in parts:
        for name, column in part.rows.items():
            columns[name].append(column)
        places = [_place_of(actions, action) for action in part.actions]
        for name in ("action_index", "runner_up_index"):
            columns[name][-1] = _moved(part.rows[name], places, np.uint32)
        # One entry more for -1, which takes the last.
        own_terms = [*(terms.setdefault(each, len(terms)) for each in part.terms), -1]
        terms_index.append(np.array(own_terms, np.int32)[part.terms_index])
        ends.append(part.item_offsets[1:] + n_shown)
        n_shown += part.item_index.size
        shown.append(_moved(part.item_index, [items.setdefault(each, len(items)) for each in part.item_ids], np.uint32))
    return Columns(
        {name: np.concatenate(column) for name, column in columns.items()},
        np.concatenate(terms_index),
        np.concatenate(ends),
        np.concatenate(shown),
        tuple(action for _, action in actions.values()),
        tuple(items),
        tuple(terms),
    )


def _place_of(actions: dict[bytes, tuple[int, strategy_pb2.Action]], action: strategy_pb2.Action) -> int:
    return actions.setdefault(action.SerializeToString(deterministic=True), (len(actions), action))[0]


def _moved(index: Array, places: list[int], dtype: type[np.generic]) -> Array:
    """An index into one list as an index into another; of rows without an answer, which point nowhere, a zero."""
    return np.array(places, dtype)[index] if places else index


def _array(numbers: Sequence[float], dtype: type[np.generic]) -> Array:
    return np.fromiter(numbers, dtype, len(numbers))


def _points_into(index: Array, n_things: int) -> bool:
    return index.size == 0 or int(index.max()) < n_things


def _check(is_kept: bool, words: str) -> None:
    if not is_kept:
        raise Refused(grpc.StatusCode.INTERNAL, f"the gateway's answer breaks its contract: {words}")
