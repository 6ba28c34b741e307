"""A shop's mapping in, its staged tables out: new inputs parsed, known ones taken as they are; shop.ingest calls it."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from training.sources import intake
from training.sources.files import sources_of
from training.sources.intake import About, Input, Parsed
from training.sources.mapping import ShopFile, TableSection
from training.sources.staging import INPUT, LINE, Pieces, Staged, joined, scanned, staged_schema
from training.sources.tables import TABLES, InvalidTable

# Beyond it a table was exported or mapped wrongly: what is left would be a shop nobody has.
MOST_UNREAD_SHARE = 0.5
SAYS_EVERY_S = 2.0
Say = Callable[[str], None]


@dataclass
class Gathered:
    """What was read.

    staged  rows for cleaning
    parsed  every input with what became of it
    notes   sentences for the owner
    """

    staged: Staged
    parsed: list[Parsed]
    notes: list[str] = field(default_factory=list)


def inputs_of(mapping: ShopFile, folder: Path, says_zone: bool) -> list[Input]:
    """Return every source of every table, numbered.

    folder     where relative names start
    says_zone  whether the owner stated a time zone
    raises     InvalidTable  if a name fits nothing, or a file is empty or cannot be opened
    """
    pairs = [
        (name, section, source)
        for name, section in mapping.tables.items()
        for source in sources_of(name, section, folder)
    ]
    return [
        Input(number, TABLES[name], section, source, mapping.shop, says_zone)
        for number, (name, section, source) in enumerate(pairs)
    ]


def gather(inputs: Sequence[Input], store: Path, work: Path, code: str, progress: Say) -> Gathered:
    """Return all rows of all inputs, staged.

    store     folder in which parsed inputs are kept from run to run; those that are no longer inputs go
    work      an existing folder for what is only needed until cleaning is done
    code      digest of the code that parses
    progress  called with a sentence now and then
    raises    InvalidTable  if an input cannot be used, or most of a table cannot be read
    """
    store.mkdir(parents=True, exist_ok=True)
    parsed = [_parsed(taken, store, code, progress) for taken in inputs]
    _forget(store, {each.folder for each in parsed})
    notes = [note for each in parsed for note in each.about.notes]
    parts: dict[str, tuple[Path, ...]] = {}
    n_rows: dict[str, int] = {}
    for name in dict.fromkeys(each.input.table.name for each in parsed):
        here = [each for each in parsed if each.input.table.name == name]
        _check_readable(here)
        n_bytes = sum(each.input.source.n_bytes for each in here)
        n_parts = max(intake.parts_for(n_bytes), 1) if "shopper_id" in TABLES[name].schema else 1
        n_parts = max([n_parts, *(each.about.n_parts for each in here)])
        pieces = [Pieces(each.pieces, each.input.number, each.about.number) for each in here]
        parts[name] = joined(TABLES[name], pieces, n_parts, work)
        n_rows[name] = sum(each.about.n_rows for each in here)
        if here[0].input.section.repeated and TABLES[name].key:
            parts[name], n_rows[name] = _once(name, here[0].input.section, parts[name], work, notes)
    _add_implied_items(parts, n_rows, work, notes)
    staged = Staged(parts, tuple(taken.source.name for taken in inputs), n_rows)
    return Gathered(staged, parsed, notes)


def _parsed(taken: Input, store: Path, code: str, progress: Say) -> Parsed:
    kept = [about for folder in store.iterdir() if (about := intake.known(folder))]
    with ThreadPoolExecutor(1) as thread:
        digest = thread.submit(lambda: taken.digest)
        if kept:
            key = intake.key_of(taken, code, digest.result())
            about = intake.known(store / key)
            if about and about.may_keep:
                progress(f"{taken.source.name} is known: {about.n_rows:,} rows")
                return Parsed(store / key, about, taken)
        partial = store / f"partial-{taken.number}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        about = intake.parse(partial, taken, code, _pace(taken, progress))
        folder = store / intake.key_of(taken, code, digest.result())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Parsed(folder, about, taken)


def _pace(taken: Input, progress: Say) -> Callable[[int, int], None]:
    """Say rows a second and the share that is done, now and then."""
    source = taken.source
    progress(f"reading {source.name}")
    begun_s = said_s = time.monotonic()

    def pace(n_rows: int, n_bytes: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= SAYS_EVERY_S:
            said_s = now_s
            share = f", {min(n_bytes / source.n_bytes, 1):.0%}" if source.n_bytes and n_bytes else ""
            progress(f"reading {source.name}: {n_rows:,} rows{share}, {n_rows / (now_s - begun_s):,.0f} rows/s")

    return pace


def _forget(store: Path, wanted: set[Path]) -> None:
    for folder in store.iterdir():
        if folder not in wanted:
            shutil.rmtree(folder)


def _check_readable(parsed: Sequence[Parsed]) -> None:
    abouts: list[About] = [each.about for each in parsed]
    n_lost, n_read = sum(about.n_lost for about in abouts), sum(about.n_rows for about in abouts)
    worst = max(parsed, key=lambda each: each.about.n_lost)
    name = worst.input.source.name
    if n_lost > MOST_UNREAD_SHARE * (n_lost + n_read):
        raise InvalidTable(
            f"{name} must be readable for the most part, got {n_lost:,} of {n_lost + n_read:,} rows that are not; "
            f"the commonest reason: {worst.about.commonest}; the first: {worst.about.first}"
        )
    if n_read == 0 and worst.input.table.mandatory:
        raise InvalidTable(f"{name} must hold at least one row, got {worst.about.stopped or 'none'}")


def _once(
    name: str, section: TableSection, parts: tuple[Path, ...], work: Path, notes: list[str]
) -> tuple[tuple[Path, ...], int]:
    """One row for each key, as `repeated` says; rows without a key stay, for cleaning to say so."""
    table, schema = TABLES[name], staged_schema(TABLES[name])
    rows = scanned(table, parts)
    keyed = rows.filter(pl.all_horizontal(pl.col(table.key).is_not_null()))
    others = [column for column in schema if column not in table.key]
    if section.repeated == "most_frequent":
        merged = _most_frequent(keyed, table.key, [column for column in others if column not in (INPUT, LINE)])
    else:
        keep = pl.col(others).first() if section.repeated == "first" else pl.col(others).last()
        merged = keyed.sort(INPUT, LINE).group_by(table.key).agg(keep).collect(engine="streaming")
    unkeyed = rows.filter(~pl.all_horizontal(pl.col(table.key).is_not_null())).collect(engine="streaming")
    whole = pl.concat([merged.select(list(schema)).sort(table.key), unkeyed])
    n_before = rows.select(pl.len()).collect().item()
    if n_before > whole.height:
        how = {"first": "the first", "last": "the last", "most_frequent": "the most frequent value"}[
            str(section.repeated)
        ]
        notes.append(
            f"{name}: {n_before:,} rows say {merged.height:,} different {table.key[0]}; {how} of each was kept."
        )
    path = work / f"{name}-once.arrow"
    whole.write_ipc(path, compression="uncompressed")
    return (path,), whole.height


def _most_frequent(rows: pl.LazyFrame, key: tuple[str, ...], columns: list[str]) -> pl.DataFrame:
    """Of each column by itself the commonest value that is set, of equally common ones the least."""
    first = pl.col(INPUT, LINE).sort_by(INPUT, LINE).first()
    merged = rows.group_by(key).agg(first).collect(engine="streaming")
    schema = rows.collect_schema()
    for column in columns:
        if isinstance(schema[column], pl.List):
            best = rows.drop_nulls(column).group_by(key).agg(pl.col(column).first()).collect(engine="streaming")
        else:
            counted = rows.drop_nulls(column).group_by(*key, column).len().collect(engine="streaming")
            ordered = counted.sort("len", column, descending=[True, False])
            best = ordered.group_by(key, maintain_order=True).agg(pl.col(column).first())
        merged = merged.join(best, on=key, how="left")
    return merged


def _add_implied_items(
    parts: dict[str, tuple[Path, ...]], n_rows: dict[str, int], work: Path, notes: list[str]
) -> None:
    """Give a row to every item that only events name."""
    schema = staged_schema(TABLES["items"])
    named = (
        scanned(TABLES["events"], parts["events"])
        .select("item_id", INPUT, LINE)
        .filter(pl.col("item_id").is_not_null() & (pl.col("item_id") != ""))
    )
    sold = named.group_by("item_id").agg(pl.col(INPUT, LINE).min()).collect(engine="streaming")
    listed = scanned(TABLES["items"], parts["items"]).collect() if "items" in parts else pl.DataFrame(schema=schema)
    implied = sold.join(listed, on="item_id", how="anti").sort("item_id")
    if implied.is_empty():
        return
    if "items" in parts:
        notes.append(f"{implied.height:,} items of events are not in items: they have no category, title or price.")
    rows = implied.select(
        pl.col(column) if column in ("item_id", INPUT, LINE) else
        pl.col("item_id").alias("title") if column == "title" else pl.lit(None, dtype).alias(column)
        for column, dtype in schema.items()
    )  # fmt: skip
    path = work / "items-with-implied.arrow"
    pl.concat([listed.select(list(schema)), rows]).write_ipc(path, compression="uncompressed")
    parts["items"], n_rows["items"] = (path,), listed.height + rows.height
