"""Two real shops from every kind of source: whether each gives the same features bit for bit, and what was set aside.

`python -m tests.benchmarks sources`; quick takes one customer in twenty of online_retail, `--full` all of them. Nothing
is timed. A figure `same_features` is 1 where the bytes of all feature arrays are those of the first form.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import orjson
import polars as pl

from tests.benchmarks.record import Measured
from tests.servers.postgresql import postgresql
from tests.shops.shows import FORMS, Shown, cdnow, online_retail, shown, write_form, write_original
from training.sources.tables import InvalidTable

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ONE_IN = 20


def measure(*, quick: bool, raw: Path | None) -> Measured:
    """Ingest both data sets in every form and compare.

    quick    whether to take a sample of online_retail
    raw      folder for what each ingest gave, but for the features
    raises   FileNotFoundError  without the data sets or PostgreSQL
    """
    if not (DATA / "online_retail").is_dir():
        raise FileNotFoundError(f"the data sets must be in {DATA}")
    rows = online_retail(DATA / "online_retail")
    if quick:
        rows = rows.filter(pl.col("Customer ID").fill_null(pl.int_range(pl.len())) % ONE_IN == 0)
    with postgresql() as server, tempfile.TemporaryDirectory() as folder:
        retail = _of_every_form(rows, "online_retail", Path(folder), server.address())
        records = _of_every_form(cdnow(DATA / "cdnow"), "cdnow", Path(folder), server.address())
        original = _of(write_original(DATA / "cdnow", Path(folder) / "cdnow_original"))
    records |= {"original": original} if original else {}
    if raw is not None:
        both = {"online_retail": retail, "cdnow": records}
        told = {name: {form: each.told() for form, each in given.items()} for name, given in both.items()}
        (raw / "sources.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    figures = _figures("online_retail", rows.height, retail) | _figures("cdnow", 6_919, records)
    return Measured({**figures, "online_retail_rows_without_customer": rows["Customer ID"].null_count()}, {}, n=1)


def _of_every_form(rows: pl.DataFrame, name: str, folder: Path, address: str) -> dict[str, Shown]:
    given = {form: _of(write_form(rows, name, form, folder / name / form, address)) for form in FORMS}
    return {form: each for form, each in given.items() if each is not None}


def _of(toml: Path) -> Shown | None:
    try:
        return shown(toml, toml.parent / "shop")
    except InvalidTable as refused:
        print(refused)
        return None


def _figures(name: str, n_rows: int, given: Mapping[str, Shown]) -> dict[str, float]:
    """What each form gave, where all gave the same, once."""
    figures: dict[str, float] = {f"{name}_rows": n_rows, f"{name}_forms_ingested": len(given)}
    if not given:
        return figures
    first = next(iter(given.values()))
    for form, each in given.items():
        figures[f"{name}_{form}_same_features"] = float(each.features == first.features)
        figures[f"{name}_{form}_same_counts"] = float(each.told() == first.told())
    figures |= {f"{name}_{table}": n_kept for table, n_kept in first.rows.items() if n_kept}
    for table, rules in first.quarantined.items():
        figures |= {f"{name}_{table}_quarantined_{rule}": n_gone for rule, n_gone in rules.items()}
    if first.returns:
        figures |= {f"{name}_returns_{key}": value for key, value in first.returns.items()}
    return figures
