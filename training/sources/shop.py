"""A source in, build/shop out: tables read, cleaned and put in place whole or not at all; `stratagem ingest` calls it.

Training and the command line read the result with read_shop().
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

import orjson
import polars as pl

from training import clean
from training.sources import complete_journey, files
from training.sources.tables import DAY_S, TABLES, InvalidTable, Shop, check_table, shop_of


class _Stamp(TypedDict):
    shop: str
    currency_code: str
    train_until_s: int
    inputs: str
    rows: dict[str, int]
    notes: list[str]


STAMP, CLEANING = "shop.json", "cleaning.json"
# A shop whose owner names no window trains on the first three quarters of its time span.
TRAIN_SHARE = 0.75


@dataclass(frozen=True)
class IngestReport:
    """What ingest did.

    rows        canonical rows by table, after cleaning
    is_fresh    False: the inputs had not changed and nothing was done
    rules       what cleaning removed or changed, as in cleaning.json
    notes       what the reader assumed or left out, a sentence each
    """

    shop: str
    folder: Path
    rows: dict[str, int]
    is_fresh: bool
    rules: tuple[clean.Rule, ...] = ()
    notes: tuple[str, ...] = ()


def ingest(source: str | Path, into: Path, progress: Callable[[str], None], currency_code: str = "USD") -> IngestReport:
    """Bring a source's tables, cleaned, into a folder; nothing is done where the inputs have not changed.

    source         "complete_journey", or a folder of a shop's own files
    into           the folder to write; on any failure it stays as it was
    progress       called with a sentence at each step
    currency_code  ISO 4217 code of the money in a shop's own files
    raises         InvalidTable  in one sentence with file, column, rule, value and line
    """
    if not re.fullmatch("[A-Z]{3}", currency_code):
        raise InvalidTable(f"currency_code must be three capital letters of ISO 4217, got {currency_code!r}")
    _recover(into)
    is_packaged = str(source) == complete_journey.NAME
    inputs = complete_journey.data_files() if is_packaged else files.data_files(Path(source))
    digest = _digest([*inputs, *_own_code()], f"{source}|{currency_code}")
    known = _stamp(into)
    is_whole = all((into / f"{name}.parquet").exists() for name in TABLES)
    if known and known["inputs"] == digest and is_whole:
        progress(f"{into} is up to date")
        return IngestReport(known["shop"], into, known["rows"], is_fresh=False)
    notes: list[str] = []
    if is_packaged:
        shop = complete_journey.read(progress)
    else:
        shop = _with_window(replace(files.read(Path(source), progress, notes), currency_code=currency_code))
    progress("cleaning")
    shop, cleaning = clean.clean(shop)
    if shop.events.is_empty():
        raise InvalidTable(
            f"events must hold a usable row, got none (source {str(source)!r}; cleaning removed them all)"
        )
    progress(f"writing {into}")
    rows = {name: frame.height for name, frame in shop.tables().items()}
    stamp = _Stamp(
        shop=shop.name,
        currency_code=shop.currency_code,
        train_until_s=shop.train_until_s,
        inputs=digest,
        rows=rows,
        notes=notes,
    )
    _write(shop, into, {STAMP: stamp, CLEANING: asdict(cleaning)})
    return IngestReport(shop.name, into, rows, is_fresh=True, rules=tuple(cleaning.rules), notes=tuple(notes))


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
    return shop_of(tables, stamp["shop"], stamp["currency_code"], stamp["train_until_s"])


def _with_window(shop: Shop) -> Shop:
    span = shop.events.filter(pl.col("time_s").is_between(clean.EARLIEST_S, clean.LATEST_S, closed="left"))
    first_s, last_s = span["time_s"].min(), span["time_s"].max()
    if not isinstance(first_s, int) or not isinstance(last_s, int):
        return shop
    midnight = round((first_s + TRAIN_SHARE * (last_s - first_s)) / DAY_S) * DAY_S
    return replace(shop, train_until_s=midnight)


def _stamp(folder: Path) -> _Stamp | None:
    path = folder / STAMP
    if not path.exists():
        return None
    stamp: _Stamp = orjson.loads(path.read_bytes())
    return stamp


def _beside(into: Path) -> tuple[Path, Path]:
    return into.with_name(f".{into.name}.partial"), into.with_name(f".{into.name}.before")


def _recover(into: Path) -> None:
    """Undo what a killed run left: half-written tables go, tables that were being replaced come back."""
    partial, before = _beside(into)
    if before.exists() and not into.exists():
        before.rename(into)
    for folder in (partial, before):
        if folder.exists():
            shutil.rmtree(folder)


def _write(shop: Shop, into: Path, documents: Mapping[str, object]) -> None:
    partial, before = _beside(into)
    partial.mkdir(parents=True)
    try:
        for name, frame in shop.tables().items():
            frame.write_parquet(partial / f"{name}.parquet", compression="zstd", statistics=True)
        for name, document in documents.items():
            (partial / name).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        # No rename replaces a full folder, so the old one steps aside first; _recover undoes a kill between the two.
        if into.exists():
            into.rename(before)
        partial.rename(into)
    finally:
        _recover(into)


def _own_code() -> list[Path]:
    """The modules whose change makes old tables stale."""
    return [*sorted(Path(__file__).parent.glob("*.py")), Path(clean.__file__)]


def _digest(paths: Iterable[Path], salt: str) -> str:
    digest = hashlib.blake2b(salt.encode(), digest_size=16)
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
