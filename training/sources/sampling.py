"""A file, s3:// address or database in, a few thousand of its rows from several places out, and how it is written.

inspection.py calls it. Nothing is declared yet, so separator, header and encoding are found from the bytes themselves.
"""

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
import polars as pl
import pyarrow.parquet as pq
import zstandard

from training.sources.content import likely_encoding
from training.sources.databases import database
from training.sources.s3 import SCHEME, stored_objects
from training.sources.tables import InvalidTable

# The beginning is looked at most closely; what changes later on shows in the windows.
BEGINNING_BYTES, WINDOW_BYTES, N_WINDOWS = 2 << 20, 256 << 10, 7
# A packed file can only be read from its beginning, and a text this long has shown what it holds.
LOOKED_AT_BYTES = 64 << 20
N_ROWS = 20_000
SEPARATORS = (",", "\t", ";", "|")
SPACES = "spaces"
PACKED = (".gz", ".zst")
NUMBER = re.compile(r"^[+-]?[\d.,:/\s-]*\d[\d.,:/\s-]*$")


@dataclass(frozen=True)
class Sample:
    """Rows of one source.

    frame   columns under the source's own names, or column_1 … where it has none; text, or the types it has
    lines   lines of the [table] section in shop.toml that say where the source is and how it is written, as key = value
    doubts  what was not certain about how it is written, a sentence each
    """

    name: str
    frame: pl.DataFrame
    settings: Mapping[str, str | list[str]]
    doubts: tuple[str, ...] = ()


def sample(source: str) -> Sample:
    """Return rows from the beginning and from several places further on.

    source  a file, a glob, an s3:// address, or a database's address with ?relation= or #relation behind it
    raises  InvalidTable  in one sentence, if it is no table
    """
    if "://" in source and not source.startswith(SCHEME):
        return _of_database(source)
    name, n_bytes, content, doubts = _first_of(source)
    # The proposal may be kept anywhere, and a relative name is looked for beside it.
    source = source if source.startswith(SCHEME) else str(Path(source).absolute())
    plain = re.sub(r"\.(gz|zst)$", "", name)
    with content:
        if plain.endswith(".parquet"):
            return Sample(name, _parquet_rows(name, content), {"source": source}, doubts)
        text, more = _windows(name, n_bytes, content)
    doubts += more
    if not text or not text[0].strip():
        raise InvalidTable(f"{name} must hold rows, got an empty file")
    if plain.endswith((".jsonl", ".ndjson", ".json")):
        return Sample(name, _json_rows(name, plain, text), {"source": source}, doubts)
    return _delimited(name, source, text, doubts)


def _of_database(source: str) -> Sample:
    address, _, relation = source.partition("#")
    if not relation:
        raise InvalidTable("a database must be followed by # and a table, as in postgresql://host/shop#orders")
    asked = database(address, relation=relation)
    frames: list[pl.DataFrame] = []
    for batch in asked.batches(lambda _: None):
        frames.append(batch.frame.gather_every(max(1, batch.frame.height // 2_000)))
        if sum(frame.height for frame in frames) >= N_ROWS:
            break
    frame = pl.concat(frames, how="vertical_relaxed")
    if frame.is_empty():
        raise InvalidTable(f"{asked.name} must hold rows, got none")
    return Sample(asked.name, frame, {"database": address, "relation": relation})


def _first_of(source: str) -> tuple[str, int, BinaryIO, tuple[str, ...]]:
    """The first of the files that are meant: its name, its size, itself, and a word about the others."""
    if source.startswith(SCHEME):
        objects = stored_objects(source)
        names, first = [each.name for each in objects], objects[0]
        size, content = first.n_bytes, first.open()
    else:
        anchor = Path(source).anchor
        names = sorted(str(path) for path in Path(anchor).glob(source.removeprefix(anchor))) or [source]
        path = Path(names[0])
        if not path.is_file():
            raise InvalidTable(f"{source} must be a file, got {'a folder' if path.is_dir() else 'nothing'}")
        size, content = path.stat().st_size, path.open("rb")
    said = (f"{len(names)} files are meant; only the first, {names[0]}, was looked at.",) if len(names) > 1 else ()
    return names[0], size, content, said


def _windows(name: str, n_bytes: int, content: BinaryIO) -> tuple[list[bytes], tuple[str, ...]]:
    """The beginning and some places further on, each of whole lines."""
    if not name.endswith((*PACKED, ".json")) and n_bytes > LOOKED_AT_BYTES:
        pieces = [content.read(BEGINNING_BYTES)]
        for part in range(1, N_WINDOWS + 1):
            content.seek(BEGINNING_BYTES + (n_bytes - BEGINNING_BYTES - WINDOW_BYTES) * part // N_WINDOWS)
            pieces.append(content.read(WINDOW_BYTES))
        return _whole_lines(pieces), ()
    text = _unpacked(name, content)
    if len(text) <= BEGINNING_BYTES or name.removesuffix(".gz").removesuffix(".zst").endswith(".json"):
        return [text], ()
    step = max(1, (len(text) - BEGINNING_BYTES - WINDOW_BYTES) // N_WINDOWS)
    starts = [BEGINNING_BYTES + step * part for part in range(N_WINDOWS)]
    pieces = [text[:BEGINNING_BYTES], *(text[start : start + WINDOW_BYTES] for start in starts)]
    is_cut = len(text) == LOOKED_AT_BYTES
    said = (f"Only the first {LOOKED_AT_BYTES >> 20} MiB of the unpacked text were looked at.",) if is_cut else ()
    return _whole_lines(pieces), said


def _unpacked(name: str, content: BinaryIO) -> bytes:
    try:
        if name.endswith(".gz"):
            return gzip.GzipFile(fileobj=content).read(LOOKED_AT_BYTES)
        if name.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
                return reader.read(LOOKED_AT_BYTES)
        return content.read(LOOKED_AT_BYTES)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise InvalidTable(f"{name} must be readable, got: {error}") from error


def _whole_lines(pieces: Sequence[bytes]) -> list[bytes]:
    """Pieces without the parts of lines at their ends."""
    first, *others = pieces
    whole = [first[: first.rfind(b"\n") + 1] or first]
    return whole + [piece[piece.find(b"\n") + 1 : piece.rfind(b"\n") + 1] for piece in others]


def _parquet_rows(name: str, content: BinaryIO) -> pl.DataFrame:
    try:
        file = pq.ParquetFile(content)
        n_groups = file.metadata.num_row_groups
        chosen = sorted({part * n_groups // (N_WINDOWS + 1) for part in range(N_WINDOWS + 1)})
        each = max(1, N_ROWS // len(chosen))
        # A group may be as large as the file: only its beginning is read.
        blocks = [next(file.iter_batches(5 * each, row_groups=[group]), None) for group in chosen]
        frames = [pl.DataFrame(pl.from_arrow(block)) for block in blocks if block is not None]
    except (OSError, ValueError) as error:
        raise InvalidTable(f"{name} must be Parquet, got: {str(error).splitlines()[0]}") from error
    if not sum(part.height for part in frames):
        raise InvalidTable(f"{name} must hold rows, got none")
    return pl.concat(part.gather_every(max(1, part.height // each)) for part in frames)


def _json_rows(name: str, plain: str, text: Sequence[bytes]) -> pl.DataFrame:
    try:
        if plain.endswith(".json"):
            records = _json_array(text[0])
        else:
            records = [orjson.loads(line) for piece in text for line in piece.splitlines() if line.strip()]
    except orjson.JSONDecodeError as error:
        raise InvalidTable(f"{name} must be JSON, got: {error}") from error
    rows = [record for record in records if isinstance(record, dict)]
    if not rows:
        raise InvalidTable(f"{name} must hold objects, one for each row, got none")
    names = list(dict.fromkeys(key for row in rows for key in row))
    step = max(1, len(rows) // N_ROWS)
    return pl.DataFrame(
        {key: [_json_text(row.get(key)) for row in rows[::step]] for key in names}, dict.fromkeys(names, pl.String)
    )


def _json_array(text: bytes) -> list[object]:
    """The array that a document is, or the first that an object holds; of a longer one what was looked at."""
    if len(text) >= LOOKED_AT_BYTES:
        text = text[: text.rfind(b"},") + 1] + b"]"
    document = orjson.loads(text)
    held = list(document.values()) if isinstance(document, dict) else [document]
    return next((each for each in held if isinstance(each, list)), [])


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return orjson.dumps(value).decode()


def _delimited(name: str, source: str, pieces: Sequence[bytes], doubts: tuple[str, ...]) -> Sample:
    text, encoding, said = _decoded(pieces)
    if not text[0].strip():
        raise InvalidTable(f"{name} must hold rows, got none")
    separator, n_fields = _separator(name, text[0])
    rows = [row for piece in text for row in _records(piece, separator) if len(row) == n_fields]
    settings: dict[str, str | list[str]] = {"source": source}
    if not name.removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv")):
        settings["format"] = "csv"
    is_usual = separator == ("\t" if ".tsv" in name else ",")
    settings |= {} if is_usual else {"separator": separator}
    settings |= {"encoding": encoding} if encoding else {}
    if _is_header(rows):
        header, rows = [field.strip() for field in rows[0]], rows[1:]
    else:
        header = [f"column_{number}" for number in range(1, n_fields + 1)]
        settings["header"] = header
        said += ("The first line looks like data, so the columns have no names; they are numbered from the left.",)
    if len(set(header)) < n_fields:
        raise InvalidTable(f"{name} must name each column once, got {', '.join(header)}")
    rows = rows[:: max(1, len(rows) // N_ROWS)]
    columns = {key: [row[at].strip() or None for row in rows] for at, key in enumerate(header)}
    return Sample(name, pl.DataFrame(columns, dict.fromkeys(header, pl.String)), settings, doubts + said)


def _decoded(pieces: Sequence[bytes]) -> tuple[list[str], str | None, tuple[str, ...]]:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if pieces[0].startswith(mark):
            return (
                [piece.decode(encoding, "replace") for piece in pieces[: 1 if encoding == "utf-16" else None]],
                None,
                (),
            )
    bad = next((line for piece in pieces for line in piece.splitlines() if not _is_utf8(line)), None)
    if bad is None:
        return [piece.decode() for piece in pieces], None, ()
    encoding = likely_encoding(bad) or "latin-1"
    shown = bad.decode(encoding, "replace")[:60]
    said = f"The text is not UTF-8; it was read as {encoding}, which gives {shown!r}: look whether that is right."
    return [piece.decode(encoding, "replace") for piece in pieces], encoding, (said,)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _records(text: str, separator: str) -> list[list[str]]:
    if separator == SPACES:
        return [line.split() for line in text.splitlines() if line.strip()]
    # Python's own limit would refuse what ingest can read, or set aside row by row.
    csv.field_size_limit(LOOKED_AT_BYTES)
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]


def _separator(name: str, text: str) -> tuple[str, int]:
    """The separator under which most lines have the same number of fields, and that number."""
    found: list[tuple[float, int, str]] = []
    for separator in (*SEPARATORS, SPACES):
        counts = Counter(len(row) for row in _records(text, separator)[:2_000])
        n_fields, n_rows = max(counts.items(), key=lambda pair: (pair[0] > 1, pair[1]))
        if n_fields > 1:
            # Prose has blanks too: only lines without any other separator are parted by them.
            found.append((n_rows / counts.total() - 0.5 * (separator == SPACES and bool(found)), n_fields, separator))
    share, n_fields, separator = max(found, default=(0.0, 0, ","))
    if share < 0.8:
        widths = sorted({len(line.split()) for line in text.splitlines()[:2_000] if line.strip()})
        raise InvalidTable(
            f"{name} must be a table, but its lines have different numbers of fields whatever parts them (parted by "
            f"blanks: {widths[0]} to {widths[-1]}); where a line is a whole session, write a row for each event"
        )
    return separator, n_fields


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: it has no numbers, or columns of numbers begin with a word."""
    first, sample_rows = rows[0], rows[1:200]
    if any(NUMBER.match(field.strip()) for field in first if field.strip()):
        return False
    if not sample_rows:
        return True
    of_numbers = [
        at for at in range(len(first)) if all(NUMBER.match(row[at].strip()) for row in sample_rows if row[at])
    ]
    return bool(of_numbers) or not any(first[at] in {row[at] for row in sample_rows} for at in range(len(first)))
