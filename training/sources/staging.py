"""What readers leave on disk for cleaning: canonical rows in parts that fit in memory, and where each row came from.

Written by the readers of training/sources, read by training/cleaning, removed once the shop's tables are in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.sources.tables import TABLES, Table

INPUT, LINE = "_input", "_line"
ORIGIN: Mapping[str, pl.DataType] = {INPUT: pl.UInt32(), LINE: pl.Int64()}


@dataclass(frozen=True)
class Staged:
    """Every table's readable rows, not yet cleaned.

    parts   table -> Arrow IPC files for `scanned`; a table with a shopper_id holds all rows of a shopper in one part,
            any other is one part; a part fits in memory several times over
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
        return scanned(TABLES[table], self.parts[table])


def staged_schema(table: Table) -> dict[str, pl.DataType]:
    """Return a staged part's columns: the table's own, then the input and its line (or row, from 1) of each row."""
    return {**table.schema, **ORIGIN}


def scanned(table: Table, files: Sequence[Path]) -> pl.LazyFrame:
    """Return staged files with all columns of `staged_schema`; one that no file has is unset.

    files  with the same columns each
    """
    rows = pl.scan_ipc(list(files))
    held = set(rows.collect_schema())
    # Columns that nobody fills are half of most tables; on disk they would cost as much as the others.
    schema = staged_schema(table).items()
    return rows.select(pl.col(name) if name in held else pl.lit(None, dtype).alias(name) for name, dtype in schema)


def part_of(n_parts: int) -> pl.Expr:
    """Return the part, from 0, that each row's shopper belongs to, as `_part`; the same in every run and input."""
    return (pl.col("shopper_id").hash(0) % n_parts).cast(pl.UInt16).alias("_part")


@dataclass(frozen=True)
class Pieces:
    """One input's rows of a table.

    files  one for each of its own parts, a power of 2 in number
    input  its number among this run's inputs; was is the one that stands in the files
    """

    files: Sequence[Path]
    input: int
    was: int


def joined(table: Table, inputs: Sequence[Pieces], n_parts: int, into: Path) -> tuple[Path, ...]:
    """Return the parts of one table out of its inputs' pieces.

    inputs   in the order in which equal rows are to follow each other
    n_parts  a power of 2
    into     an existing folder for parts that are not a piece as it is
    """
    only = inputs[0] if len(inputs) == 1 else None
    if only and only.input == only.was:
        return tuple(only.files)
    parts = []
    for part in range(n_parts):
        frames = [_share(table, pieces, part, n_parts) for pieces in inputs]
        path = into / f"{table.name}-{part:03}.arrow"
        pl.concat(frames).sink_ipc(path, compression="uncompressed")
        parts.append(path)
    return tuple(parts)


def _share(table: Table, pieces: Pieces, part: int, n_parts: int) -> pl.LazyFrame:
    n_own = len(pieces.files)
    mine = [file for place, file in enumerate(pieces.files) if place % n_parts == part % n_own % n_parts]
    frame = scanned(table, mine).with_columns(pl.lit(pieces.input, ORIGIN[INPUT]).alias(INPUT))
    return frame if n_own >= n_parts else frame.filter(part_of(n_parts) == part)
