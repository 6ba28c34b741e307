"""A shop's own files: three formats, one shop; each bad input ends in one sentence."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.shops.generate import write_little_shop
from training.sources.shop import ingest, read_shop
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
    """The shop that a folder of files becomes."""
    into = folder.parent / f"{folder.name}-shop"
    ingest(folder, into, quiet)
    return read_shop(into)


def notes_of(folder: Path) -> tuple[str, ...]:
    """What ingest says that it assumed or left out."""
    return ingest(folder, folder.parent / f"{folder.name}-shop", quiet).notes


def taken_out(folder: Path) -> list[str]:
    """The reasons in the quarantine."""
    read(folder)
    return pl.read_parquet(folder.parent / f"{folder.name}-shop" / "quarantine.parquet")["reason"].to_list()


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
    write(tmp_path, EVENTS + "s1,2024-05-31 18:04,order,p1,1,2.50\n")
    assert read(tmp_path).events["time_s"].to_list() == [1_717_178_640]
    (tmp_path.parent / f"{tmp_path.name}-shop" / "shop.json").unlink()
    assert notes_of(tmp_path) == ("events.csv: 1 values of time say no offset and were read as UTC.",)


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
    write(tmp_path, EVENTS.strip() + ",colour\n" + "s1,2024-05-31T00:00:00Z,order,p9,1,2.50,red\n")
    assert notes_of(tmp_path) == (
        "events.csv: no table has the columns colour; they were left out.",
        "1 items of events are not in items: they have no category, title or price.",
    )


def test_an_item_that_only_events_name_gets_a_row_of_its_own(tmp_path: Path) -> None:
    items = read(write(tmp_path, EVENTS + GOOD.replace("p1", "p9"))).items
    assert items.select("item_id", "title", "category").rows() == [("p1", "p1", "Tea"), ("p9", "p9", None)]


ISO = "time must be a date or time in ISO 8601 such as 2024-05-31T18:04:00+02:00"
BAD_LINES = {
    "s1,2024-02-30,order,p1,1,2.50": f"events.csv line 3: {ISO}, got '2024-02-30'",
    "s1,31/05/2024,order,p1,1,2.50": f"events.csv line 3: {ISO}, got '31/05/2024'",
    "s1,2024-05-31,bought,p1,1,2.50": "kind must be view or cart or order or refund, got bought",
    "s1,2024-05-31,order,p1,1,-2.50": "paid_micros must be ≥ 0, got -2500000",
    "s1,2024-05-31,order,p1,1,$2.50": "events.csv line 3: paid must be an amount such as 12.99, got '$2.50'",
    "s1,2024-05-31,order,p1,inf,2.50": "quantity must be a finite number, got inf",
    "s1,2024-05-31,order,p1,-1,2.50": "quantity must be ≥ 0, got -1.0",
    "s1,2024-05-31,order,p1,two,2.50": "events.csv line 3: quantity must be a number, got 'two'",
    "s1,2024-05-31,order,p1,1,": "paid_micros must be given for an order or a refund, got nothing (kind order)",
    "s1,2024-05-31,order,p1,1": "events.csv line 3 must have 6 fields as the header has, got 5",
    's1,2024-05-31,order,"p1"x,1,2.50': "events.csv line 3 must close every quote at the end of its field, "
    "got one that does not",
    "s1,2024-05-31,order,p\0,1,2.50": "events.csv line 3 must be text, got a byte 0 in it",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_row_goes_to_quarantine_and_the_good_ones_stay(tmp_path: Path, line: str) -> None:
    write(tmp_path, EVENTS + GOOD + line + "\n" + GOOD.replace("s1", "s2"))
    assert taken_out(tmp_path) == [BAD_LINES[line]]
    assert read(tmp_path).events["shopper_id"].to_list() == ["s1", "s2"]


def test_rows_that_cannot_be_read_are_counted_in_the_notes(tmp_path: Path) -> None:
    write(tmp_path, EVENTS + GOOD + GOOD.replace("s1", "s2") + "s1,2024-05-31Z,order,p1,x,2.50\n")
    assert notes_of(tmp_path) == (
        "1 row of events.csv cannot be read and went to quarantine; the first: events.csv line 4: time must be a date "
        "or time in ISO 8601 such as 2024-05-31T18:04:00+02:00, got '2024-05-31Z'",
    )


def test_a_table_that_is_mostly_unreadable_is_refused_with_the_commonest_reason(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, EVENTS + GOOD + GOOD.replace("2.50", "$2") * 2)) == (
        "events.csv must be readable for the most part, got 2 of 3 rows that are not; the commonest reason: paid must "
        "be an amount such as 12.99; the first: events.csv line 3: paid must be an amount such as 12.99, got '$2'"
    )


def test_a_line_number_counts_the_line_ends_within_quotes(tmp_path: Path) -> None:
    items = 'item_id,price,title\np1,1,"two\nlines"\np2,2,Two\np3,x,Again\n'
    assert taken_out(write(tmp_path, items=items)) == [
        "items.csv line 5: price must be an amount such as 12.99, got 'x'"
    ]


def test_a_missing_required_column_is_named(tmp_path: Path) -> None:
    events = "shopper_id,kind,item_id,quantity,paid\ns1,order,p1,1,2.50\n"
    expected = "events.csv must have a column time_s (or time), got shopper_id, kind, item_id, quantity, paid"
    assert refusal(write(tmp_path, events)) == expected


def test_a_column_given_in_both_forms_is_refused(tmp_path: Path) -> None:
    events = EVENTS.strip() + ",paid_micros\n" + GOOD.strip() + ",2500000\n"
    assert refusal(write(tmp_path, events)) == "events.csv must give paid_micros or paid, got both"


def test_a_nan_amount_in_parquet_is_refused_with_its_row(tmp_path: Path) -> None:
    write(tmp_path)
    raw = pl.read_csv(tmp_path / "events.csv", infer_schema=False).with_columns(paid=pl.lit(float("nan")))
    (tmp_path / "events.csv").unlink()
    raw.write_parquet(tmp_path / "events.parquet")
    assert refusal(tmp_path).endswith("events.parquet row 1: paid must be an amount such as 12.99, got nan")


def test_a_broken_line_of_json_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.jsonl").write_text('{"item_id": "p1", "category": "Tea"}\n{"item_id": \n')
    assert [reason[:47] for reason in taken_out(tmp_path)] == ["items.jsonl line 2 must be one JSON object, got"]


def test_bytes_in_another_encoding_are_named_with_the_likely_one(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").write_bytes("item_id,category\np1,Tea\np2,Café très\n".encode("cp1252"))
    assert taken_out(tmp_path) == [
        "items.csv line 3 must be text in the encoding of the file, got bytes that are not; it looks like cp1252: say "
        'encoding = "cp1252" in shop.toml'
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_obeyed(tmp_path: Path, encoding: str) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").write_text("item_id,category\np1,Té\n", encoding=encoding)
    assert read(tmp_path).items["category"].to_list() == ["Té"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, events="")) == "events.csv must not be empty, got 0 bytes"


def test_a_mandatory_table_without_rows_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, events=EVENTS)) == "events.csv must hold at least one row, got none"


def test_a_folder_without_files_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.csv").mkdir()
    assert refusal(tmp_path) == "items.source must name files, got none for 'items.csv'"


def test_a_missing_mandatory_table_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "events.csv").unlink()
    assert (
        refusal(tmp_path)
        == f"{tmp_path} must hold one of events.csv, events.tsv, events.jsonl, events.json, events.parquet, or a "
        "shop.toml, got none"
    )


def test_a_table_given_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items.jsonl").write_text("{}")
    assert refusal(tmp_path) == "items must be one file, got items.csv and items.jsonl"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert (
        refusal(missing) == f"source must be complete_journey, a folder of table files or a shop.toml, got '{missing}'"
    )


@pytest.mark.parametrize(
    ("factors", "micros"),
    [("3,1.10", 3_300_000), ("-2,4.35", 8_700_000), ("0.5,0.000003", 2), ("1.5,999999.99", 1_499_999_985_000)],
)
def test_a_product_is_exact_to_a_micro(tmp_path: Path, factors: str, micros: int) -> None:
    (tmp_path / "shop.toml").write_text(
        '[events]\nsource = "a.csv"\n[events.columns]\nshopper_id = "s"\ntime = "t"\nkind = { constant = "order" }\n'
        'item_id = "i"\npaid = { product = ["n", "price"], absolute = true }\n'
    )
    (tmp_path / "a.csv").write_text(f"s,t,i,n,price\ns1,2024-05-31,p1,{factors}\n")
    assert read(tmp_path).events["paid_micros"].to_list() == [micros]


def test_a_factor_that_is_no_number_is_shown_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(
        '[events]\nsource = "a.csv"\n[events.columns]\nshopper_id = "s"\ntime = "t"\nkind = { constant = "order" }\n'
        'item_id = "i"\npaid = { product = ["n", "price"] }\n'
    )
    (tmp_path / "a.csv").write_text("s,t,i,n,price\ns1,2024-05-31,p1,1,2\ns1,2024-05-31,p1,1,free\n")
    assert taken_out(tmp_path) == [
        "a.csv line 3: n × price must be amounts whose product is below 1,000,000,000, got '1 × free'"
    ]


@pytest.mark.parametrize(("repeated", "title"), [("first", "Tee"), ("last", "Cup"), ("most_frequent", "Tea")])
def test_an_item_that_comes_again_is_one_item(tmp_path: Path, repeated: str, title: str) -> None:
    write(tmp_path, items="item_id,title\np1,Tee\np1,Tea\np1,Tea\np1,Cup\n")
    (tmp_path / "shop.toml").write_text(
        f'[events]\nsource = "events.csv"\n[items]\nsource = "items.csv"\nrepeated = "{repeated}"\n'
    )
    assert read(tmp_path).items.select("item_id", "title").rows() == [("p1", title)]
