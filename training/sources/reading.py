"""What every reader gives: blocks of raw rows, each with its line, and a word about each record that is no row.

files.py (any Content), databases.py and s3.py implement it; intake.py maps and stages what comes out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import polars as pl

from training.sources.tables import InvalidTable


@dataclass(frozen=True)
class Batch:
    """Rows that follow each other in a source.

    frame   raw columns under the source's own names, text or native types; all batches of a source have the same names
    lines   (n_rows,) Int64  line, row or item of each, from 1
    n_bytes  stored bytes of the source read so far; 0 where nobody counts them
    """

    frame: pl.DataFrame
    lines: pl.Series
    n_bytes: int = 0


@dataclass(frozen=True)
class Unread:
    """One record that could not be read as a row.

    line    where it begins, counted as in Batch.lines
    rule    short name of what it breaks, such as ragged_row
    reason  the rule and what was found, without file and line: "must have 6 fields as the header has, got 5"
    text    the record as it came, as far as it is text; may be cut
    """

    line: int
    rule: str
    reason: str
    text: str


class Interrupted(InvalidTable):
    """A source ended before its end; what was read before it stands, and the message says how much that was."""

    def after(self, name: str, n_rows: int) -> "Interrupted":
        """Return the same with the source's name and the rows that came before it."""
        return type(self)(f"{name} stopped after {n_rows:,} rows: {self}")


class Broken(Interrupted):
    """What is stored is itself at fault, so reading it again would end at the same place; its good rows are kept."""


Tell = Callable[[Unread], None]


class Source(Protocol):
    """One file, object, query or relation, read from its beginning each time.

    name     how sentences and Staged.inputs call it; never with a password
    place    what Batch.lines counts: "line", "row" or "item"
    n_bytes  stored size, for the share that is done; 0 if nobody knows
    """

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def n_bytes(self) -> int: ...

    def digest(self) -> str:
        """Return what identifies the content: another content, another digest."""
        ...

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read everything, in order; at least one batch comes, without rows if need be, so that the columns are known.

        tell    called with every record that is no row; reading goes on behind it
        raises  InvalidTable  if nothing of it can be read: one sentence that begins with its name
        raises  Interrupted   if it breaks off: "NAME stopped after row 1200: the server closed the connection"
        """
        ...


class Content(Protocol):
    """Stored bytes with a name that ends like a file's; files.source_of makes a Source of any Content.

    name     how sentences call it: orders/2024.csv.gz, s3://bucket/orders/2024.csv.gz
    n_bytes  stored size
    """

    @property
    def name(self) -> str: ...

    @property
    def n_bytes(self) -> int: ...

    def digest(self) -> str:
        """Return what identifies the bytes: other bytes, another digest."""
        ...

    def open(self) -> BinaryIO:
        """Open it at its first byte, as stored (still packed); Parquet asks for one that can seek.

        raises  OSError  on opening and on reading; its text goes into a sentence
        """
        ...
