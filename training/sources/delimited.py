"""Delimited text (CSV, TSV, runs of blanks) in, batches of raw text columns out; files.py builds it.

kernels/records.py says where records end and what is wrong with them, polars parses the good ones, and whatever is cut
out is told with its line and the reason. Nothing is guessed: a record has the header's number of fields or is no row.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.records import EMPTY, LONG, LONGEST_FIELD, NOT_UTF8, NUL, ODD, PATIENCE, QUOTES, Records, records
from training.sources.content import blocks, likely_encoding
from training.sources.reading import Batch, Broken, Content, Interrupted, Tell, Unread
from training.sources.tables import InvalidTable

SHOWN_BYTES = 4_000
BLANKS = re.compile(rb"[ \t]+")
OUTER_BLANKS = re.compile(rb"(?m)^[ \t]+|[ \t]+$")
Bytes = NDArray[np.uint8]


class Choice(Protocol):
    """Which of a source's columns are worth parsing."""

    def __call__(self, names: list[str]) -> list[str]:
        """Return the names to keep, in the order in which they came."""
        ...


def every_column(names: list[str]) -> list[str]:
    """Keep all."""
    return names


@dataclass(frozen=True)
class Layout:
    """How a delimited text is written.

    separator  one ASCII character; None: runs of blanks
    header     names of the columns where the text has none; None: its first record names them
    encoding   as Python names it; None: UTF-8, or what a byte-order mark says
    """

    separator: str | None = ","
    header: tuple[str, ...] | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Delimited:
    """A delimited text as a Source; a blank line is no row."""

    content: Content
    layout: Layout = Layout()
    choice: Choice = every_column
    place: str = "line"

    @property
    def name(self) -> str:
        """The content's."""
        return self.content.name

    @property
    def n_bytes(self) -> int:
        """Its stored size."""
        return self.content.n_bytes

    def digest(self) -> str:
        """Its bytes'."""
        return self.content.digest()

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read it block by block; see Source."""
        columns = None if self.layout.header is None else _Columns(list(self.layout.header), self.choice)
        n_rows = 0
        stopped: Interrupted | None = None
        for part in _parts(self.content, self.layout):
            found = part.found
            if columns is None:
                columns, found = self._header(part)
                if columns is None:
                    stopped = part.stopped
                    continue
            part.tell_faults(found, columns.n, tell)
            frame, lines = part.rows(found, columns)
            n_rows += frame.height
            yield Batch(frame, lines, part.n_bytes)
            if part.stopped:
                raise part.stopped.after(self.name, n_rows)
        if columns is None:
            reason = f"none before it stopped: {stopped}" if stopped else "no line that names columns"
            raise InvalidTable(f"{self.name} must be text with a header, got {reason}")

    def _header(self, part: "_Part") -> "tuple[_Columns | None, Records]":
        found = part.found
        first = int(np.argmax(found.faults & EMPTY == 0)) if found.starts.size else 0
        if not found.starts.size or found.faults[first] & EMPTY:
            return None, found
        text = part.record(found, first)
        if int(found.faults[first]) & ~ODD:
            reason = part.reason(found, first, 0)[1]
            raise InvalidTable(f"{self.name} line {part.line(found, first)}: the header {reason}")
        names = _unique(fields_of(text.decode(), part.separator))
        return _Columns(names, self.choice), _behind(found, first + 1)


class _Columns:
    """The text's columns, and which of them are parsed."""

    def __init__(self, names: list[str], choice: Choice) -> None:
        self.n = len(names)
        self.all = {name: pl.String() for name in names}
        kept = set(choice(names))
        # Without any column there would be no row to count.
        self.places = [place for place, name in enumerate(names) if name in kept] or [0]
        self.names = [names[place] for place in self.places]

    @property
    def schema(self) -> dict[str, pl.DataType]:
        return {name: pl.String() for name in self.names}


@dataclass
class _Part:
    """Some records of a text.

    first_line  line of block's first byte
    stopped     why nothing comes after them; None: it goes on, or ends well
    """

    block: Bytes
    found: Records
    separator: str
    first_line: int
    n_bytes: int
    stopped: Interrupted | None = None

    def line(self, found: Records, row: int) -> int:
        return int(self.first_line + found.lines[row])

    def record(self, found: Records, row: int) -> bytes:
        return self.block[found.starts[row] : found.ends[row]].tobytes()

    def reason(self, found: Records, row: int, n_columns: int) -> tuple[str, str]:
        """Rule and sentence of a record that is no row."""
        fault = int(found.faults[row])
        if fault & NOT_UTF8:
            likely = likely_encoding(self.block[found.starts[row] : found.ends[row]][:SHOWN_BYTES].tobytes())
            hint = f'; it looks like {likely}: say encoding = "{likely}" in shop.toml' if likely else ""
            return "encoding", f"must be text in the encoding of the file, got bytes that are not{hint}"
        if fault & QUOTES:
            return "broken_quotes", "must close every quote at the end of its field, got one that does not"
        if fault & NUL:
            return "nul_byte", "must be text, got a byte 0 in it"
        if fault & LONG:
            return "long_field", f"must have no field of more than {LONGEST_FIELD:,} characters, got one"
        return "ragged_row", f"must have {n_columns} fields as the header has, got {found.n_fields[row]}"

    def tell_faults(self, found: Records, n_columns: int, tell: Tell) -> None:
        wrong = (found.faults & ~np.uint8(ODD) != 0) | (found.n_fields != n_columns)
        for row in np.flatnonzero(wrong & (found.faults & EMPTY == 0)).tolist():
            rule, reason = self.reason(found, row, n_columns)
            shown = self.block[found.starts[row] : min(found.ends[row], found.starts[row] + SHOWN_BYTES)].tobytes()
            tell(Unread(self.line(found, row), rule, reason, shown.decode(errors="replace")))

    def rows(self, found: Records, columns: _Columns) -> tuple[pl.DataFrame, pl.Series]:
        """The good records parsed, in order, each with its line."""
        good = (found.faults == 0) & (found.n_fields == columns.n)
        odd = np.flatnonzero((found.faults == ODD) & (found.n_fields == columns.n))
        frame = self._parsed(found, good, columns)
        lines = self.first_line + found.lines[good].astype(np.int64)
        if not odd.size:
            return frame, pl.Series("line", lines)
        split = [fields_of(self.record(found, row).decode(), self.separator) for row in odd.tolist()]
        rows = {
            name: [fields[place] or None for fields in split]
            for name, place in zip(columns.names, columns.places, strict=True)
        }
        lines = np.concatenate([lines, self.first_line + found.lines[odd].astype(np.int64)])
        order = np.argsort(lines, kind="stable")
        return pl.concat([frame, pl.DataFrame(rows, schema=columns.schema)])[order], pl.Series("line", lines[order])

    def _parsed(self, found: Records, good: NDArray[np.bool_], columns: _Columns) -> pl.DataFrame:
        if not good.any():
            return pl.DataFrame(schema=columns.schema)
        text = io.BytesIO(self._text(found, good))
        records_read = pl.scan_csv(text, has_header=False, separator=self.separator, schema=columns.all)
        frame = records_read.select(columns.names).collect()
        if frame.height != np.count_nonzero(good):
            # Never seen; were polars to see other records than we do, rows would move to other lines.
            split = [
                fields_of(self.record(found, row).decode(), self.separator) for row in np.flatnonzero(good).tolist()
            ]
            columns_of = zip(columns.names, columns.places, strict=True)
            rows = {name: [fields[place] or None for fields in split] for name, place in columns_of}
            return pl.DataFrame(rows, schema=columns.schema)
        return frame

    def _text(self, found: Records, good: NDArray[np.bool_]) -> bytes:
        """The good records' bytes, in one piece where nothing lies between them."""
        edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
        view = memoryview(self.block)  # type: ignore[arg-type]
        ends = np.append(found.starts[1:], found.n_bytes)
        pieces = [view[found.starts[a] : ends[b - 1]] for a, b in edges.reshape(-1, 2)]
        return b"".join(pieces)


def _behind(found: Records, n: int) -> Records:
    return Records(
        found.starts[n:], found.ends[n:], found.lines[n:], found.n_fields[n:], found.faults[n:],
        found.n_bytes, found.n_lines,
    )  # fmt: skip


def _parts(content: Content, layout: Layout) -> Iterator[_Part]:
    separator = layout.separator or "\t"
    rest, first_line, n_bytes = b"", 1, 0
    stopped: Interrupted | None = None
    texts = blocks(content, layout.encoding)
    is_last = False
    while not is_last:
        try:
            text = next(texts, None)
        except Interrupted as interrupted:
            text, stopped = None, interrupted
        is_last = text is None
        if text is not None:
            n_bytes = text.n_bytes
            rest = rest + text.text if rest else text.text
        if not rest and not stopped:
            continue
        if stopped:
            # What stands before the break may be half a record.
            rest = rest[: rest.rfind(b"\n") + 1]
        # Blanks at the end of what has come may go on in what comes next, so only whole lines are tabbed.
        cut = len(rest) if layout.separator or is_last else rest.rfind(b"\n") + 1
        block = np.frombuffer(rest if layout.separator else _tabbed(rest[:cut]), np.uint8)
        found = records(block, ord(separator), is_last)
        rest = block[found.n_bytes :].tobytes() + rest[cut:]
        if len(rest) > PATIENCE:
            stopped, is_last = Broken(f"must not hold a record of more than {PATIENCE >> 20} MiB, got one"), True
        yield _Part(block, found, separator, first_line, n_bytes, stopped)
        first_line += found.n_lines


def _tabbed(text: bytes) -> bytes:
    return BLANKS.sub(b"\t", OUTER_BLANKS.sub(b"", text))


def _unique(names: list[str]) -> list[str]:
    """Names told apart: a second `price` becomes `price (2)`, one without a name `column 3`."""
    seen: dict[str, int] = {}
    told = []
    for place, raw in enumerate(names, start=1):
        name = raw.strip() or f"column {place}"
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told


def fields_of(record: str, separator: str) -> list[str]:
    """Return the fields of one record, byte by byte: a quote counts only where it opens a field.

    record  without its line end, its quotes closed
    """
    fields, at = [], 0
    while True:
        if record.startswith('"', at):
            end = at + 1
            while (end := record.index('"', end)) + 1 < len(record) and record[end + 1] == '"':
                end += 2
            fields.append(record[at + 1 : end].replace('""', '"'))
            at = end + 1
        else:
            end = record.find(separator, at)
            end = len(record) if end < 0 else end
            fields.append(record[at:end])
            at = end
        if at >= len(record):
            return fields
        at += 1
