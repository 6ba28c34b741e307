"""Rows that were taken out go here with their reason: nothing a shop gave is dropped without a word.

In: rows that a reader could not understand or that cleaning removed. Out: quarantine.parquet beside the tables, one row
for each, with its input, line, rule and sentence. Readers and training/cleaning add; the owner reads it with any tool.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

FILE = "quarantine.parquet"
SCHEMA: dict[str, pl.DataType] = {
    "table": pl.String(),
    "input": pl.String(),
    "line": pl.Int64(),
    "rule": pl.String(),
    "reason": pl.String(),
    "row": pl.String(),
}
# A field of a million characters is a fault to be shown, not to be kept whole.
LONGEST_ROW = 2_000


class Quarantine:
    """An open quarantine file; `counts` says how many rows each (table, rule) has sent there."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, rows: pl.DataFrame) -> None:
        """Put rows in.

        rows  columns of SCHEMA: canonical table; input as in Staged.inputs; line in it, from 1; short name of the rule;
              one sentence with column, rule and value; the row as it came, as text or JSON
        """
        if rows.is_empty():
            return
        told = rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).with_columns(
            pl.col("row").str.head(LONGEST_ROW)
        )
        self._writer.write_table(told.to_arrow(compat_level=pl.CompatLevel.oldest()))
        for table, rule, n_rows in told.group_by("table", "rule").len().iter_rows():
            self.counts[table, rule] = self.counts.get((table, rule), 0) + n_rows


@contextmanager
def quarantine(file: Path) -> Iterator[Quarantine]:
    """Open a new quarantine file for as long as the block runs.

    file  Parquet; replaced if it exists, and written even if nothing goes in
    """
    schema = pl.DataFrame(schema=SCHEMA).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield Quarantine(writer)
