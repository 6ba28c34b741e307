"""A source in, build/shop out: tables read, cleaned and put in place whole or not at all; `stratagem ingest` calls it.

Training and the command line read the result with read_shop().
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import orjson
import polars as pl

from training.cleaning import EARLIEST_S, LATEST_S, CleaningReport, TableRules, clean
from training.cleaning.policy import policies
from training.cleaning.report import Rule
from training.quarantine import FILE as QUARANTINE
from training.quarantine import quarantine
from training.sources import complete_journey, files, intake, mapping
from training.sources.gathering import Gathered, gather, inputs_of
from training.sources.intake import Input, Parsed
from training.sources.staging import INPUT, LINE, Staged, staged_schema
from training.sources.tables import DAY_S, TABLES, Days, InvalidTable, Shop, check_table, shop_of

STAMP, CLEANING = "shop.json", "cleaning.json"
# A shop whose owner names no window trains on the first three quarters of its time span.
TRAIN_SHARE = 0.75
KERNELS_READ = ("records.py", "fields.py", "returns.py")


class _Stamp(TypedDict):
    shop: str
    currency_code: str
    train_until_s: int
    days: dict[str, object]
    inputs: str
    sources: list[dict[str, object]]
    rows: dict[str, int]
    notes: list[str]
    quarantine: dict[str, dict[str, int]]


@dataclass(frozen=True)
class IngestReport:
    """What ingest did.

    rows         canonical rows by table, after cleaning
    is_fresh     False: the inputs had not changed and nothing was done
    rules        what cleaning removed or changed, as in cleaning.json
    notes        what the reader assumed or left out, a sentence each
    n_quarantined  rows that could not be used, all in quarantine.parquet
    """

    shop: str
    folder: Path
    rows: dict[str, int]
    is_fresh: bool
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()
    n_quarantined: int = 0


@dataclass
class _Taken:
    """A shop as it was staged, and what is to be done with it."""

    name: str
    currency_code: str
    days: Days
    train_until_s: int
    staged: Staged
    rules: Mapping[str, TableRules]
    notes: list[str]
    parsed: list[Parsed]


def ingest(source: str | Path, into: Path, progress: Callable[[str], None], currency_code: str = "USD") -> IngestReport:
    """Bring a source's tables, cleaned, into a folder; nothing is done where the inputs have not changed.

    source         "complete_journey", a shop.toml, a folder that holds one, or a folder of files in canonical columns
    into           the folder to write; on any failure it stays as it was
    progress       called with a sentence at each step
    currency_code  ISO 4217 code of the money in a folder without shop.toml
    raises         InvalidTable  in one sentence with file, column, rule, value and line
    """
    if not re.fullmatch("[A-Z]{3}", currency_code):
        raise InvalidTable(f"currency_code must be three capital letters of ISO 4217, got {currency_code!r}")
    _recover(into)
    packaged = complete_journey.data_files() if str(source) == complete_journey.NAME else []
    toml, inputs = (None, []) if packaged else _mapped(Path(source), currency_code)
    code = _code_digest()
    stamp = _stamp(into)
    is_whole = all((into / f"{name}.parquet").exists() for name in TABLES)
    if stamp and is_whole and stamp["inputs"] == _inputs_digest(toml, inputs, packaged, code, currency_code):
        progress(f"{into} is up to date")
        return IngestReport(stamp["shop"], into, stamp["rows"], is_fresh=False)
    partial = _beside(into)[0]
    partial.mkdir(parents=True)
    try:
        work = partial / "staged"
        work.mkdir()
        if toml is None:
            taken = _packaged(currency_code, work, progress)
        else:
            taken = _gathered(toml, gather(inputs, _store(into), work, code, progress))
        for note in taken.notes:
            progress(note)
        report, counts = _cleaned(taken, partial, progress)
        shutil.rmtree(work)
        digest = _inputs_digest(toml, inputs, packaged, code, currency_code)
        if any(not each.about.may_keep for each in taken.parsed):
            digest = "interrupted"
        _document(partial, taken, report, counts, digest)
        progress(f"writing {into}")
        _put_in_place(partial, into)
    finally:
        _recover(into)
    n_quarantined = sum(sum(rules.values()) for rules in counts.values())
    rules, notes = tuple(report.rules), tuple(taken.notes)
    return IngestReport(taken.name, into, report.rows_out, True, rules, notes, n_quarantined)


def read_shop(folder: Path) -> Shop:
    """Return the shop that ingest wrote.

    folder  the `into` of ingest
    raises  InvalidTable  if there is none, or a table does not have its schema
    """
    stamp = _stamp(folder)
    if not stamp:
        raise InvalidTable(f"{folder} must hold an ingested shop, got no {STAMP}; run `stratagem ingest` first")
    tables: dict[str, pl.DataFrame] = {}
    for name, table in TABLES.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            raise InvalidTable(f"{path} must exist beside {STAMP}; run `stratagem ingest` again")
        try:
            tables[name] = check_table(table, pl.read_parquet(path))
        except pl.exceptions.PolarsError as error:
            raise InvalidTable(f"{path} must be Parquet, got: {str(error).splitlines()[0]}") from error
    days = _days_of(stamp["days"])
    return shop_of(tables, stamp["shop"], stamp["currency_code"], stamp["train_until_s"], days)


def _days_of(told: Mapping[str, object]) -> Days:
    holidays, paydays = told["holidays"], told["paydays"]
    assert isinstance(holidays, list)
    assert isinstance(paydays, list)
    return Days(str(told["time_zone"]), str(told["country"]), tuple(holidays), tuple(paydays))


def _mapped(source: Path, currency_code: str) -> tuple[mapping.ShopFile, list[Input]]:
    toml = source / mapping.FILE if source.is_dir() else source
    if toml.suffix == ".toml" and toml.is_file():
        read = mapping.read_mapping(toml)
        # A rule that cannot be obeyed is refused before anything is read.
        policies({name: section.clean for name, section in read.tables.items()})
        if not read.shop.name:
            named = read.shop.model_copy(update={"name": toml.resolve().parent.name})
            read = read.model_copy(update={"shop": named})
        return read, inputs_of(read, toml.parent, says_zone="time_zone" in read.shop.model_fields_set)
    read = files.folder_mapping(source, currency_code)
    return read, inputs_of(read, source, says_zone=False)


def _packaged(currency_code: str, work: Path, progress: Callable[[str], None]) -> _Taken:
    shop = complete_journey.read(progress)
    return _Taken(shop.name, currency_code, shop.days, shop.train_until_s, _staged_frames(shop, work), {}, [], [])


def _gathered(toml: mapping.ShopFile, parsed: Gathered) -> _Taken:
    told_s = toml.shop.train_until_s
    midnight_s = _three_quarters(parsed.staged) if told_s is None else told_s
    rules = {name: section.clean for name, section in toml.tables.items()}
    shop = toml.shop
    return _Taken(
        shop.name, shop.currency_code, shop.days, midnight_s, parsed.staged, rules, parsed.notes, parsed.parsed
    )


def _staged_frames(shop: Shop, work: Path) -> Staged:
    """Tables that are in memory already, staged as one part each; the row stands for the line."""
    parts = {}
    for name, frame in shop.tables().items():
        if frame.is_empty():
            continue
        parts[name] = (work / f"{name}.arrow",)
        numbered = frame.with_columns(pl.lit(0, pl.UInt32).alias(INPUT), pl.int_range(1, pl.len() + 1).alias(LINE))
        numbered.select(list(staged_schema(TABLES[name]))).write_ipc(parts[name][0], compression="uncompressed")
    return Staged(parts, (shop.name,), {name: frame.height for name, frame in shop.tables().items()})


def _three_quarters(staged: Staged) -> int:
    times = staged.scan("events").select("time_s").filter(pl.col("time_s").is_between(EARLIEST_S, LATEST_S, "left"))
    first_s, last_s = times.select(pl.min("time_s").alias("first"), pl.max("time_s").alias("last")).collect().row(0)
    return 0 if first_s is None else round((first_s + TRAIN_SHARE * (last_s - first_s)) / DAY_S) * DAY_S


def _cleaned(
    taken: _Taken, partial: Path, progress: Callable[[str], None]
) -> tuple[CleaningReport, dict[str, dict[str, int]]]:
    with quarantine(partial / QUARANTINE) as kept:
        for each in taken.parsed:
            kept.add(pl.read_parquet(each.unread))
        report = clean(taken.staged, taken.rules, taken.train_until_s, kept, partial, progress)
        counts: dict[str, dict[str, int]] = {}
        for (table, rule), n_rows in kept.counts.items():
            counts.setdefault(table, {})[rule] = n_rows
    if not report.rows_out["events"]:
        names = ", ".join(taken.staged.inputs)
        raise InvalidTable(f"events must hold a usable row, got none (source {names!r}; cleaning removed them all)")
    return report, counts


def _document(
    partial: Path, taken: _Taken, report: CleaningReport, counts: dict[str, dict[str, int]], digest: str
) -> None:
    sources: list[dict[str, object]] = [
        {
            "table": each.input.table.name, "name": each.input.source.name, "digest": each.folder.name,
            "rows": each.about.n_rows, "unread": each.about.n_lost,
        }
        for each in taken.parsed
    ]  # fmt: skip
    stamp = _Stamp(
        shop=taken.name,
        currency_code=taken.currency_code,
        train_until_s=taken.train_until_s,
        days=asdict(taken.days),
        inputs=digest,
        sources=sources,
        rows=report.rows_out,
        notes=taken.notes,
        quarantine=counts,
    )
    for name, document in {STAMP: stamp, CLEANING: asdict(report)}.items():
        (partial / name).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _stamp(folder: Path) -> _Stamp | None:
    path = folder / STAMP
    if not path.exists():
        return None
    stamp: _Stamp = orjson.loads(path.read_bytes())
    # One that an earlier release wrote is as good as none.
    return stamp if "days" in stamp else None


def _beside(into: Path) -> tuple[Path, Path]:
    return into.with_name(f".{into.name}.partial"), into.with_name(f".{into.name}.before")


def _store(into: Path) -> Path:
    return into.with_name(f".{into.name}.parsed")


def _recover(into: Path) -> None:
    """Undo what a killed run left: half-written tables go, tables that were being replaced come back."""
    partial, before = _beside(into)
    if before.exists() and not into.exists():
        before.rename(into)
    for folder in (partial, before):
        if folder.exists():
            shutil.rmtree(folder)


def _put_in_place(partial: Path, into: Path) -> None:
    # No rename replaces a full folder, so the old one steps aside first; _recover undoes a kill between the two.
    if into.exists():
        into.rename(_beside(into)[1])
    partial.rename(into)


def _code_digest() -> str:
    """Changes with every module whose change makes old tables stale."""
    here = Path(__file__).parent
    paths = [*here.glob("*.py"), *(here.parent / "cleaning").glob("*.py"), here.parent / "quarantine.py"]
    paths += [here.parents[1] / "kernels" / name for name in KERNELS_READ]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _inputs_digest(
    toml: mapping.ShopFile | None, inputs: list[Input], packaged: list[Path], code: str, currency_code: str
) -> str:
    """Changes with the inputs' bytes, what is said of them, and our code."""
    digest = hashlib.sha256(f"{code}|{currency_code}|{toml.model_dump_json() if toml else ''}".encode())
    for path in packaged:
        digest.update(path.name.encode() + path.read_bytes())
    for taken in inputs:
        digest.update(intake.key_of(taken, code, taken.digest).encode())
    return digest.hexdigest()
