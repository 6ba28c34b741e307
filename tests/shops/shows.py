"""Two real data sets in, each as Parquet, CSV, JSON Lines, SQLite and PostgreSQL with its shop.toml, out.

tests/loop/test_sources.py and the benchmark `sources` ingest them and compare.
"""

import gzip
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_postgresql.dbapi
import adbc_driver_sqlite.dbapi
import numpy as np
import orjson
import polars as pl

from kernels.features import features_at
from training.dataset import dataset_of
from training.sources.shop import CLEANING, STAMP, ingest, read_shop

SHOPS = Path(__file__).resolve().parent
FORMS = ("parquet", "csv", "jsonl", "sqlite", "postgresql")
# A table of a database has no order of its own: PostgreSQL puts a short row where an earlier page has room for it. What
# a shopper did within one second keeps its order only where a query asks for it.
IN_ORDER = "select * from {name} order by line"
# How the source of a table is named in the shop.toml of each form.
ORIGINS = {
    "parquet": 'source = "{name}.parquet"',
    "csv": 'source = "{name}.csv"',
    "jsonl": 'source = "{name}.jsonl"',
    "sqlite": f'database = "sqlite:///{{name}}.db"\nquery = "{IN_ORDER}"',
    "postgresql": f'database = "{{address}}"\nquery = "{IN_ORDER}"',
}
# PostgreSQL and SQLite have their own times; SQLite has none and keeps text.
WRITTEN_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Shown:
    """What one ingest gave.

    rows         canonical table -> rows
    quarantined  canonical table -> rule -> rows taken out
    returns      what became of the refunds, as cleaning.json says it
    features     every shopper's features and item history, at the end of training and at the end, as bytes
    """

    rows: Mapping[str, int]
    quarantined: Mapping[str, Mapping[str, int]]
    returns: Mapping[str, Any] | None
    features: bytes

    def told(self) -> dict[str, object]:
        """All of it but the features."""
        return {"rows": self.rows, "quarantined": self.quarantined, "returns": self.returns}


def shown(toml: Path, into: Path) -> Shown:
    """Ingest what a shop.toml describes and compute every shopper's features.

    into  the folder to write
    """
    ingest(toml, into, lambda _: None)
    stamp, cleaning = (orjson.loads((into / name).read_bytes()) for name in (STAMP, CLEANING))
    dataset = dataset_of(read_shop(into))
    moments = np.array([dataset.splits.train_until_s - 1, dataset.splits.end_s - 1])
    shopper = np.repeat(np.arange(dataset.ledger.n_shoppers), moments.size)
    features, item_history = features_at(dataset.ledger, shopper, np.tile(moments, dataset.ledger.n_shoppers))
    return Shown(stamp["rows"], stamp["quarantine"], cleaning["returns"], features.tobytes() + item_history.tobytes())


def online_retail(data: Path) -> pl.DataFrame:
    """Return the invoices' rows; a customer's number is the whole number that it is, not a float.

    data  folder of the data set
    """
    return pl.read_parquet(data / "*.parquet").with_columns(pl.col("Customer ID").cast(pl.Int64))


def cdnow(data: Path) -> pl.DataFrame:
    """Return the purchases under the names that cdnow.toml gives them, ids and days as text.

    data  folder of the data set
    """
    text = gzip.decompress((data / "CDNOW_sample.txt.gz").read_bytes()).decode()
    fields = [line.split() for line in text.splitlines() if line.strip()]
    names = ("cohort_id", "sample_id", "date", "n_cds", "spent")
    rows = pl.DataFrame(dict(zip(names, zip(*fields, strict=True), strict=True)))
    return rows.with_columns(pl.col("n_cds").cast(pl.Int64), pl.col("spent").cast(pl.Float64))


def write_form(rows: pl.DataFrame, name: str, form: str, folder: Path, address: str = "") -> Path:
    """Write a data set in one form, with the shop.toml that reads it.

    name     of files and tables; that of cdnow.toml beside this module, else online_retail.toml is meant
    form     one of FORMS
    folder   is made; holds all but what a server keeps
    address  of a PostgreSQL server; only for that form
    returns  the shop.toml
    """
    folder.mkdir(parents=True)
    match form:
        case "parquet":
            rows.write_parquet(folder / f"{name}.parquet")
        case "csv":
            rows.write_csv(folder / f"{name}.csv", datetime_format=WRITTEN_TIME)
        case "jsonl":
            _with_written_times(rows).write_ndjson(folder / f"{name}.jsonl")
        case "sqlite":
            place = f"file:{quote(str(folder / name))}.db"
            with adbc_driver_sqlite.dbapi.connect(place, autocommit=True) as connection:
                _fill(connection, name, _with_written_times(rows))
        case _:
            with adbc_driver_postgresql.dbapi.connect(address, autocommit=True) as connection:
                _fill(connection, name, rows)
    toml = folder / "shop.toml"
    toml.write_text(shop_toml(name, form, address))
    return toml


def write_original(data: Path, folder: Path) -> Path:
    """Put cdnow as its authors gave it beside its shop.toml, which is returned.

    data    folder of the data set
    folder  is made
    """
    folder.mkdir(parents=True)
    shutil.copyfile(data / "CDNOW_sample.txt.gz", folder / "cdnow.txt.gz")
    return Path(shutil.copyfile(SHOPS / "cdnow.toml", folder / "shop.toml"))


def shop_toml(name: str, form: str, address: str = "") -> str:
    """Return the shop.toml of a data set for one of its forms: only where its rows come from differs."""
    text = (SHOPS / ("cdnow.toml" if name == "cdnow" else "online_retail.toml")).read_text()
    bare = re.sub(r"^(format|separator|header) = .*\n", "", text, flags=re.MULTILINE)
    origin = ORIGINS[form].format(name=name, address=address)
    return re.sub(r"^source = .*$", origin.replace("\\", r"\\"), bare, flags=re.MULTILINE)


def _with_written_times(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.selectors.datetime().dt.strftime(WRITTEN_TIME))


def _fill(connection: adbc_driver_sqlite.dbapi.Connection, name: str, rows: pl.DataFrame) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'drop table if exists "{name}"')
        cursor.adbc_ingest(
            name, rows.with_row_index("line").to_arrow(compat_level=pl.CompatLevel.oldest()), mode="create"
        )
