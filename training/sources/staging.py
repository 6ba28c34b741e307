"""What readers leave on disk for cleaning: canonical rows in parts that fit in memory, and where each row came from.

Written by the readers of training/sources, read by training/cleaning, removed once the shop's tables are in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.sources.tables import Table

INPUT, LINE = "_input", "_line"
ORIGIN: Mapping[str, pl.DataType] = {INPUT: pl.UInt32(), LINE: pl.Int64()}


@dataclass(frozen=True)
class Staged:
    """Every table's readable rows, not yet cleaned.

    parts   table -> Arrow IPC files with the columns of `staged_schema`; a table with a shopper_id holds all rows of a
            shopper in one part, any other table is one part; a part fits in memory several times over
    inputs  what was read, by the number in `_input`: a file's path, an s3:// address, or a database with its query
    n_rows  table -> rows in all parts
    """

    parts: Mapping[str, tuple[Path, ...]]
    inputs: tuple[str, ...]
    n_rows: Mapping[str, int]

    def scan(self, table: str) -> pl.LazyFrame:
        """All parts of one table as one frame to be queried.

        raises  KeyError  if the table was not staged
        """
        return pl.scan_ipc(list(self.parts[table]))


def staged_schema(table: Table) -> dict[str, pl.DataType]:
    """Return a staged part's columns: the table's own, then the input and its line (or row, from 1) of each row."""
    return {**table.schema, **ORIGIN}
