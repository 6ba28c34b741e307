"""Clean parts into one Parquet file, encoded on a thread of its own while the next part is cleaned."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

# A reader that wants a few columns of a few shoppers skips row groups; a million rows still compress well.
ROW_GROUP = 1_000_000


@contextmanager
def parquet(file: Path, schema: dict[str, pl.DataType]) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Open a Parquet file for as long as the block runs, and hand out what appends a part as row groups of its own.

    file    replaced if it exists
    schema  columns of every part
    """
    arrow_schema = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.newest()).schema
    with (
        pq.ParquetWriter(file, arrow_schema, compression="zstd") as writer,
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet") as thread,
    ):
        pending: list[Future[None]] = []

        def append(part: pl.DataFrame) -> None:
            # One part is encoded, one is cleaned: no third waits in memory.
            while pending:
                pending.pop().result()
            if part.height:
                table = part.select(list(schema)).to_arrow(compat_level=pl.CompatLevel.newest())
                pending.append(thread.submit(writer.write_table, table, row_group_size=ROW_GROUP))

        yield append
        while pending:
            pending.pop().result()
