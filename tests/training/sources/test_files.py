"""A shop's own files: three formats, one shop; each bad input ends in one sentence."""

import os
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.shops.generate import write_little_shop
from training.sources import files
from training.sources.tables import TABLES, InvalidTable, Shop

EVENTS = "shopper_id,time,kind,item_id,quantity,paid\n"
GOOD = "s1,2024-05-31T18:04:00+02:00,order,p1,1,2.50\n"
ITEMS = "item_id,category\np1,Tea\n"


def quiet(_: str) -> None:
    """Progress that nobody watches."""


def write(folder: Path, events: str = EVENTS + GOOD, items: str = ITEMS) -> Path:
    (folder / "events.csv").write_text(events)
    (folder / "items.csv").write_text(items)
    return folder


def read(folder: Path) -> Shop:
    return files.read(folder, quiet, [])


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidTable) as refused:
        read(folder)
    return str(refused.value)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_every_format_gives_the_same_tables(tmp_path: Path, format: str) -> None:
    write_little_shop(tmp_path / "parquet", "parquet")
    write_little_shop(tmp_path / format, format)
    expected, got = read(tmp_path / "parquet").tables(), read(tmp_path / format).tables()
    for name in TABLES:
        assert_frame_equal(got[name], expected[name])


def test_a_time_with_an_offset_becomes_utc_seconds(tmp_path: Path) -> None:
    assert read(write(tmp_path)).events["time_s"].to_list() == [1_717_171_440]


def test_a_time_without_an_offset_is_utc_and_is_said_to_be(tmp_path: Path) -> None:
    notes: list[str] = []
    shop = files.read(write(tmp_path, EVENTS + "s1,2024-05-31 18:04,order,p1,1,2.50\n"), quiet, notes)
    assert shop.events["time_s"].to_list() == [1_717_178_640]
    assert notes == ["events.csv: 1 values of time say no offset and were read as UTC."]


@pytest.mark.parametrize(
    ("amount", "micros"),
    [
        ("0.1", 100_000),
        ("1.1", 1_100_000),
        ("4.35", 4_350_000),
        ("999999999.999999", 999_999_999_999_999),
        ("7", 7_000_000),
    ],
)
def test_an_amount_becomes_micros_without_float_error(tmp_path: Path, amount: str, micros: int) -> None:
    shop = read(write(tmp_path, EVENTS + f"s1,2024-05-31,order,p1,1,{amount}\n"))
    assert shop.events["paid_micros"].to_list() == [micros]


def test_unset_quantity_and_discounts_become_one_and_zero(tmp_path: Path) -> None:
    events = read(write(tmp_path, EVENTS + "s1,2024-05-31,view,p1,,\n")).events
    assert events.select("quantity", "paid_micros", "discount_micros", "coupon_micros").row(0) == (1.0, 0, 0, 0)


def test_a_table_without_a_file_is_empty(tmp_path: Path) -> None:
    assert_frame_equal(read(write(tmp_path)).offers, TABLES["offers"].empty())


def test_columns_in_no_table_and_items_in_no_list_are_said(tmp_path: Path) -> None:
    notes: list[str] = []
    write(tmp_path, EVENTS.strip() + ",colour\n" + "s1,2024-05-31T00:00:00Z,order,p9,1,2.50,red\n")
    files.read(tmp_path, quiet, notes)
    assert notes == [
        "events.csv: no table has the columns colour; they were left out.",
        "1 items of events are not in items: they have no category, title or price.",
    ]


BAD_LINES = {
    "s1,2024-02-30,order,p1,1,2.50": "events.csv line 3: time must be a date or time in ISO 8601 such as "
    "2024-05-31T18:04:00+02:00, got '2024-02-30'",
    "s1,31/05/2024,order,p1,1,2.50": "events.csv line 3: time must be a date or time in ISO 8601 such as "
    "2024-05-31T18:04:00+02:00, got '31/05/2024'",
    "s1,2024-05-31,bought,p1,1,2.50": "events.csv line 3: kind must be view or cart or order or refund, got 'bought'",
    "s1,2024-05-31,order,p1,1,-2.50": "events.csv line 3: paid must be ≥ 0, got '-2.50'",
    "s1,2024-05-31,order,p1,1,$2.50": "events.csv line 3: paid must be an amount such as 12.99, got '$2.50'",
    "s1,2024-05-31,order,p1,NaN,2.50": "events.csv line 3: quantity must be a finite number, got 'NaN'",
    "s1,2024-05-31,order,p1,-1,2.50": "events.csv line 3: quantity must be ≥ 0, got '-1'",
    "s1,2024-05-31,order,p1,two,2.50": "events.csv line 3: quantity must be a number, got 'two'",
    "s1,2024-05-31,order,p1,1,": "events.csv line 3: paid must be given for an order or a refund, got nothing",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_value_is_named_with_its_line_rule_and_column(tmp_path: Path, line: str) -> None:
    assert refusal(write(tmp_path, EVENTS + GOOD + line + "\n" + GOOD)) == BAD_LINES[line]


def test_a_line_number_counts_the_line_ends_within_quotes(tmp_path: Path) -> None:
    items = 'item_id,category,title\np1,Tea,"two\nlines"\np2,Tea,Two\np2,Tea,Again\n'
    assert refusal(write(tmp_path, items=items)) == "items.csv line 5: item_id must appear once, got 'p2'"


def test_a_missing_required_column_is_named(tmp_path: Path) -> None:
    events = "shopper_id,kind,item_id,quantity,paid\ns1,order,p1,1,2.50\n"
    expected = "events.csv must have a column time_s (or time), got shopper_id, kind, item_id, quantity, paid"
    assert refusal(write(tmp_path, events)) == expected


def test_a_column_given_in_both_forms_is_refused(tmp_path: Path) -> None:
    events = EVENTS.strip() + ",paid_micros\n" + GOOD.strip() + ",2500000\n"
    assert refusal(write(tmp_path, events)) == "events.csv must give paid_micros or paid, got both"


def test_a_nan_amount_in_parquet_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    raw = pl.read_csv(tmp_path / "events.csv", infer_schema=False).with_columns(paid=pl.lit(float("nan")))
    (tmp_path / "events.csv").unlink()
    raw.write_parquet(tmp_path / "events.parquet")
    assert refusal(tmp_path) == "events.parquet row 1: paid must be an amount such as 12.99, got nan"


def test_a_broken_line_of_json_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.jsonl").write_text('{"item_id": "p1", "category": "Tea"}\n{"item_id": \n')
    assert refusal(tmp_path).startswith("items.jsonl line 2 must be JSON Lines, one object a line, got: ")


@pytest.mark.parametrize("content", [b"a,b\n\xff\xfe,2\n", b"a,b\n1,2,3\n"])
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").write_bytes(content)
    assert refusal(tmp_path).startswith("items.csv must be CSV in UTF-8 with a header, got: ")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, events="")) == "events.csv must not be empty, got 0 bytes"


def test_a_mandatory_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, events=EVENTS)) == "events.csv must hold at least one row, got none"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.csv").mkdir()
    assert refusal(tmp_path) == f"items.csv must be readable, got {os.strerror(21)}"


def test_a_missing_mandatory_table_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "events.csv").unlink()
    assert refusal(tmp_path) == f"{tmp_path} must hold one of events.csv, events.jsonl, events.parquet, got none"


def test_a_table_given_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.jsonl").write_text("{}")
    assert refusal(tmp_path) == "items must be one file, got items.csv and items.jsonl"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert refusal(missing) == f"source must be complete_journey or a folder of table files, got '{missing}'"
