"""Little shops as readers leave them, and what cleaning makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.cleaning import CleaningReport, TableRules, clean
from training.quarantine import FILE, quarantine
from training.sources.staging import INPUT, LINE, Staged, staged_schema
from training.sources.tables import TABLES

START_S = 1_704_067_200
TRAIN_UNTIL_S = START_S + 10_000
ORDER: dict[str, object] = {
    "shopper_id": "s1", "time_s": START_S, "kind": "order", "item_id": "p1", "quantity": 1.0, "paid_micros": 2_000_000,
    "discount_micros": 0, "coupon_micros": 0, "order_id": "o1",
}  # fmt: skip

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Cleaned:
    """What cleaning wrote: tables by name, removed rows, and the report."""

    tables: dict[str, pl.DataFrame]
    removed: pl.DataFrame
    report: CleaningReport

    @property
    def events(self) -> pl.DataFrame:
        """The events that stayed."""
        return self.tables["events"]

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Rows by rule and column."""
        return {(rule.rule, rule.column): rule.n_rows for rule in self.report.rules}


def stage(folder: Path, tables: Mapping[str, Rows], n_parts: int = 1) -> Staged:
    """Write rows as readers do: line n of its table's input, shoppers spread over parts."""
    parts, n_rows, names = {}, {}, list(tables)
    for name, rows in tables.items():
        schema = staged_schema(TABLES[name])
        numbered = [{**row, INPUT: names.index(name), LINE: line} for line, row in enumerate(rows, start=1)]
        frame = pl.DataFrame(numbered, schema=schema)
        has_shoppers = "shopper_id" in schema and n_parts > 1
        frames = frame.partition_by("shopper_id") if has_shoppers and frame.height else [frame]
        spread = [pl.concat(frames[part::n_parts]) for part in range(min(n_parts, len(frames)))]
        parts[name] = tuple(folder / f"{name}-{part}.arrow" for part in range(len(spread)))
        for path, each in zip(parts[name], spread, strict=True):
            each.write_ipc(path)
        n_rows[name] = frame.height
    return Staged(parts, tuple(f"{name}.csv" for name in names), n_rows)


def cleaned(
    folder: Path,
    tables: Mapping[str, Rows],
    rules: Mapping[str, TableRules] | None = None,
    train_until_s: int = TRAIN_UNTIL_S,
    n_parts: int = 1,
) -> Cleaned:
    """Stage rows, clean them and read back what was written."""
    return cleaned_of(folder, stage(folder, tables, n_parts), rules or {}, train_until_s)


def cleaned_of(folder: Path, staged: Staged, rules: Mapping[str, TableRules], train_until_s: int) -> Cleaned:
    """Clean what is staged and read back what was written."""
    with quarantine(folder / FILE) as kept:
        report = clean(staged, rules, train_until_s, kept, folder, lambda _: None)
    written = {name: pl.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    return Cleaned(written, pl.read_parquet(folder / FILE), report)


def orders(*changes: Mapping[str, object]) -> list[dict[str, object]]:
    """Order lines that differ from ORDER."""
    return [{**ORDER, **change} for change in changes]
