"""A shop's own CSV, JSON Lines or Parquet files in, canonical tables out; shop.ingest calls it.

A folder holds one file per table, named for it: events.csv, items.jsonl, offers.parquet ...; docs/schema.md says more.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl

from training.sources.columns import MONEY_SUFFIX, Found, found_columns, parsed, without_offset
from training.sources.tables import TABLES, Breach, InvalidTable, Shop, Table, first_breach, shop_of, whole

# What is shown for a row that nobody named.
NAMED_BY = {"items": "item_id", "offers": "offer_id"}


@dataclass(frozen=True)
class _Format:
    name: str
    read: Callable[[Path], pl.DataFrame]
    place: Callable[[Path, int], str]


def data_files(folder: Path) -> list[Path]:
    """Return the folder's table files, in the order of the tables.

    folder  may hold other files; they are left alone
    raises  InvalidTable  if it is no folder, lacks a mandatory table, has one twice, or a file is empty or unreadable
    """
    if not folder.is_dir():
        raise InvalidTable(f"source must be complete_journey or a folder of table files, got {str(folder)!r}")
    paths = []
    for table in TABLES.values():
        here = [path for suffix in FORMATS if (path := folder / f"{table.name}{suffix}").exists()]
        if len(here) > 1:
            raise InvalidTable(f"{table.name} must be one file, got {' and '.join(path.name for path in here)}")
        if not here and table.mandatory:
            choices = ", ".join(f"{table.name}{suffix}" for suffix in FORMATS)
            raise InvalidTable(f"{folder} must hold one of {choices}, got none")
        paths += here
    for path in paths:
        _check_content(path)
    return paths


def read(folder: Path, progress: Callable[[str], None], notes: list[str]) -> Shop:
    """Return the folder's tables, before cleaning; a table without a file is empty.

    progress  called with a sentence before each file
    notes     sentences are added to it about what was assumed or left out
    raises    InvalidTable  in one sentence with file, column, rule, value and line
    """
    paths = {path.stem: path for path in data_files(folder)}
    tables = {}
    for name, table in TABLES.items():
        if name in paths:
            progress(f"reading {paths[name].name}")
            tables[name] = _table(table, paths[name], notes)
        else:
            tables[name] = table.empty()
    unknown = tables["events"].join(tables["items"], on="item_id", how="anti")["item_id"].drop_nulls().n_unique()
    if unknown:
        notes.append(f"{unknown} items of events are not in items: they have no category, title or price.")
    for note in notes:
        progress(note)
    return shop_of(tables, folder.resolve().name)


def _table(table: Table, path: Path, notes: list[str]) -> pl.DataFrame:
    kind = FORMATS[path.suffix]
    raw = _raw(path, kind)
    if table.mandatory and raw.is_empty():
        raise InvalidTable(f"{path.name} must hold at least one row, got none")
    found = found_columns(table, raw.columns, path.name)
    _note_surprises(found, raw, path, notes)
    columns = []
    for place in found:
        column = parsed(place, raw[place.name])
        if isinstance(column, Breach):
            raise _refusal(path, kind, column)
        columns.append(column)
    frame = whole(table, pl.DataFrame(columns))
    breach = first_breach(table, frame) or _unpaid_order(table, frame)
    if breach:
        in_file = {place.column.name: place.name for place in found}.get(breach.column, breach.column)
        value = raw[in_file][breach.row] if in_file in raw.columns else None
        raise _refusal(path, kind, Breach(in_file, breach.rule, value, breach.row))
    return _filled(table, frame)


def _check_content(path: Path) -> None:
    try:
        with path.open("rb") as content:
            if not content.read(1):
                raise InvalidTable(f"{path.name} must not be empty, got 0 bytes")
    except OSError as error:
        raise InvalidTable(f"{path.name} must be readable, got {error.strerror}") from error


def _raw(path: Path, kind: _Format) -> pl.DataFrame:
    try:
        return kind.read(path)
    except pl.exceptions.PolarsError as error:
        where, reason = _unreadable(path, kind, str(error).splitlines()[0])
        raise InvalidTable(f"{path.name}{where} must be {kind.name}, got: {reason}") from error


def _unreadable(path: Path, kind: _Format, reason: str) -> tuple[str, str]:
    """The line that no JSON reader takes; polars does not say it."""
    if kind is FORMATS[".jsonl"]:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    orjson.loads(line.strip() or b"null")
                except orjson.JSONDecodeError as error:
                    return f" line {number}", str(error)
    return "", reason


def _refusal(path: Path, kind: _Format, breach: Breach) -> InvalidTable:
    value = "nothing" if breach.value is None else repr(breach.value)
    return InvalidTable(f"{path.name} {kind.place(path, breach.row)}: {breach.column} must {breach.rule}, got {value}")


def _note_surprises(found: list[Found], raw: pl.DataFrame, path: Path, notes: list[str]) -> None:
    left = [name for name in raw.columns if name not in {place.name for place in found}]
    if left:
        notes.append(f"{path.name}: no table has the columns {', '.join(left)}; they were left out.")
    for place in found:
        if place.is_short and not place.column.name.endswith(MONEY_SUFFIX):
            count = without_offset(raw[place.name])
            if count:
                notes.append(f"{path.name}: {count} values of {place.name} say no offset and were read as UTC.")


def _unpaid_order(table: Table, frame: pl.DataFrame) -> Breach | None:
    if table.name != "events":
        return None
    unpaid = frame.select((pl.col("kind").is_in(["order", "refund"]) & pl.col("paid_micros").is_null()).arg_true())
    return Breach("paid_micros", "be given for an order or a refund", None, unpaid.item(0, 0)) if len(unpaid) else None


def _filled(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(
        pl.col(column.name).fill_null(column.fill) for column in table.columns if column.fill is not None
    )
    name = NAMED_BY.get(table.name)
    return frame.with_columns(pl.coalesce("title", name).alias("title")) if name else frame


def _csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def _csv_place(path: Path, row: int) -> str:
    """A quoted text may hold line ends, so the line of a row is only known by reading up to it."""
    with path.open(newline="", encoding="utf-8") as content:
        records = csv.reader(content)
        next(records)
        for _ in range(row):
            next(records)
        return f"line {records.line_num + 1}"


def _json_lines(path: Path) -> pl.DataFrame:
    names = pl.scan_ndjson(path, infer_schema_length=None).collect_schema()
    # Numbers come as the text they were written in, so that amounts stay exact and ids keep their zeros.
    as_text: Mapping[str, pl.DataType] = {
        name: pl.List(pl.String()) if isinstance(dtype, pl.List) else pl.String() for name, dtype in names.items()
    }
    return pl.read_ndjson(path, schema=as_text)


def _json_place(path: Path, row: int) -> str:
    with path.open("rb") as lines:
        filled = (number for number, line in enumerate(lines, start=1) if line.strip())
        return f"line {next(number for index, number in enumerate(filled) if index == row)}"


def _parquet_place(_: Path, row: int) -> str:
    return f"row {row + 1}"


FORMATS = {
    ".csv": _Format("CSV in UTF-8 with a header", _csv, _csv_place),
    ".jsonl": _Format("JSON Lines, one object a line", _json_lines, _json_place),
    ".parquet": _Format("Parquet", pl.read_parquet, _parquet_place),
}
