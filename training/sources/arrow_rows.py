"""Arrow rows in, a batch of polars columns out, without rows whose text is no text; Parquet and databases come so.

A writer may call any bytes a string, and old databases hold text of an older encoding; polars trusts both.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from training.sources.reading import Batch, Tell, Unread

SHOWN_BYTES = 200


def batch_of(rows: Any, n_before: int, n_bytes: int, tell: Tell) -> Batch:
    """Return rows as a batch; one with bytes that are not UTF-8 in a text column is told and left out.

    rows      a pyarrow Table
    n_before  rows of the source before these
    n_bytes   as in Batch
    """
    is_text = np.ones(rows.num_rows, np.bool_)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if _may_be_no_text(column):
            is_text &= _told_apart(name, column, is_text, n_before, tell)
    lines = np.arange(n_before + 1, n_before + 1 + rows.num_rows)[is_text]
    frame = pl.from_arrow(rows if is_text.all() else rows.filter(pa.array(is_text)))
    assert isinstance(frame, pl.DataFrame)
    return Batch(frame, pl.Series("line", lines, pl.Int64()), n_bytes)


def _may_be_no_text(column: Any) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def _told_apart(name: str, column: Any, is_text: NDArray[np.bool_], n_before: int, tell: Tell) -> NDArray[np.bool_]:
    """Which rows of a column are text; of a row that a column before had told nothing more is said."""
    kept = np.ones(len(column), np.bool_)
    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            kept[row] = False
            if is_text[row]:
                shown = value[:SHOWN_BYTES].decode("latin-1")
                tell(Unread(n_before + row + 1, "encoding", f"{name} must be text in UTF-8, got other bytes", shown))
    return kept
