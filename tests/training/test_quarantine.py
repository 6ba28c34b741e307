"""What was taken out can be read back, with its reason."""

from pathlib import Path

import polars as pl

from training.quarantine import LONGEST_ROW, SCHEMA, quarantine

ROW = {"table": "events", "input": "a.csv", "line": 7, "rule": "unreadable", "reason": "paid must …", "row": "1,2,x"}


def test_rows_come_back_as_they_were_put_in(tmp_path: Path) -> None:
    with quarantine(tmp_path / "q.parquet") as kept:
        kept.add(pl.DataFrame([ROW]))
        kept.add(pl.DataFrame([ROW | {"rule": "duplicate"}, ROW]))
    assert pl.read_parquet(tmp_path / "q.parquet").to_dicts() == [ROW, ROW | {"rule": "duplicate"}, ROW]
    assert kept.counts == {("events", "unreadable"): 2, ("events", "duplicate"): 1}


def test_an_empty_quarantine_is_a_file_without_rows(tmp_path: Path) -> None:
    with quarantine(tmp_path / "q.parquet") as kept:
        kept.add(pl.DataFrame(schema=SCHEMA))
    assert pl.read_parquet(tmp_path / "q.parquet").shape == (0, len(SCHEMA))


def test_a_huge_row_is_cut(tmp_path: Path) -> None:
    with quarantine(tmp_path / "q.parquet") as kept:
        kept.add(pl.DataFrame([ROW | {"row": "x" * 1_000_000}]))
    assert pl.read_parquet(tmp_path / "q.parquet")["row"].str.len_chars().to_list() == [LONGEST_ROW]
