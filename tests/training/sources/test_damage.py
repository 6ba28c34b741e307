"""What a reviewer broke stays mended: damaged archives, lists in JSON, currencies, missing kinds, bots."""

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from training.sources.shop import ingest, read_shop
from training.sources.tables import InvalidTable

HEAD = "shopper_id,time,kind,item_id,quantity,paid"
LINES = [HEAD, *(f"s{row % 50},2024-05-{1 + row % 28:02},order,p{row % 7},1,{row}.25" for row in range(20_000))]
TEXT = ("\n".join(LINES) + "\n").encode()
SHOP = """[shop]
currency_code = "GBP"
[shop.rates]
EUR = 0.85
[events]
source = "{source}"
[events.columns]
shopper_id = "shopper_id"
time = "time"
kind = {kind}
item_id = "item_id"
quantity = "quantity"
paid = "paid"
"""


def ingested(
    folder: Path, name: str, content: bytes, more: str = "", kind: str = '"kind"'
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events of a shop of one file, and its quarantine."""
    (folder / name).write_bytes(content)
    (folder / "shop.toml").write_text(SHOP.format(source=name, kind=kind) + more)
    ingest(folder / "shop.toml", folder / "shop", lambda _: None)
    return read_shop(folder / "shop").events, pl.read_parquet(folder / "shop" / "quarantine.parquet")


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_cut_archive_keeps_the_rows_before_the_cut_and_says_so(tmp_path: Path, packing: str) -> None:
    packed = gzip.compress(TEXT) if packing == "gz" else zstandard.ZstdCompressor().compress(TEXT)
    events, taken_out = ingested(tmp_path, f"a.csv.{packing}", packed[: len(packed) * 9 // 10])
    assert 10_000 < events.height < 20_000
    assert "stopped" in taken_out["rule"].to_list()
    assert "must be whole" in "".join(taken_out["reason"])


def test_an_archive_of_which_only_the_check_is_damaged_keeps_every_row(tmp_path: Path) -> None:
    events, taken_out = ingested(tmp_path, "a.csv.gz", gzip.compress(TEXT)[:-6])
    assert events.height == 20_000
    assert taken_out["rule"].to_list() == ["stopped"]


def test_several_members_are_one_text(tmp_path: Path) -> None:
    half = TEXT.index(b"\n", len(TEXT) // 2) + 1
    events, taken_out = ingested(
        tmp_path, "a.csv.gz", gzip.compress(TEXT[:half]) + gzip.compress(TEXT[half:]) + b"\0" * 9
    )
    assert (events.height, taken_out.height) == (20_000, 0)


def test_lists_where_amounts_should_be_are_refused_in_a_sentence(tmp_path: Path) -> None:
    row = {"shopper_id": "a", "time": "2024-05-01", "kind": "order", "item_id": "p", "quantity": 1, "paid": [1, 2]}
    with pytest.raises(InvalidTable, match=r"line 1: paid must be an amount such as 12\.99, got \['1', '2'\]"):
        ingested(tmp_path, "a.jsonl", json.dumps(row).encode())


@pytest.mark.parametrize("currency", ['{ constant = "EUR" }', '{ column = "kind", values = { order = "EUR" } }'])
def test_a_currency_in_any_words_is_converted(tmp_path: Path, currency: str) -> None:
    events, _ = ingested(tmp_path, "a.csv", f"{HEAD}\na,2024-05-01,order,p,1,10\n".encode(), f"currency = {currency}\n")
    assert events["paid_micros"].to_list() == [8_500_000]


def test_a_missing_kind_is_not_otherwise(tmp_path: Path) -> None:
    kind = '{ column = "kind", starts_with = { C = "refund" }, otherwise = "order" }'
    content = f"{HEAD}\na,2024-05-01,x,p,1,10\na,2024-05-02,,p,1,10\n".encode()
    events, taken_out = ingested(tmp_path, "a.csv", content, kind=kind)
    assert events["kind"].to_list() == ["order"]
    assert taken_out["line"].to_list() == [3]


def test_bots_leave_the_events_and_items_stay(tmp_path: Path) -> None:
    busy = [f"bot,2024-05-01T10:00:{second:02},view,p{second},1,0" for second in range(40)]
    content = "\n".join([HEAD, *busy, "a,2024-05-01,order,p1,1,10", ""]).encode()
    events, taken_out = ingested(tmp_path, "a.csv", content, "[events.clean]\nbots = { most_events_per_hour = 30 }\n")
    assert events["shopper_id"].to_list() == ["a"]
    assert set(taken_out["rule"]) == {"bot"}


def test_bytes_that_are_no_text_in_parquet_are_taken_out(tmp_path: Path) -> None:
    items = pa.array([b"p", b"\xff\x00", b"q"], pa.binary()).view(pa.string())
    rows = {"shopper_id": ["a", "b", "c"], "time": ["2024-05-01"] * 3, "kind": ["order"] * 3, "item_id": items}
    pq.write_table(pa.table(rows | {"quantity": [1, 1, 1], "paid": [1.5, 2.5, 3.5]}), tmp_path / "of.parquet")
    events, taken_out = ingested(tmp_path, "a.parquet", (tmp_path / "of.parquet").read_bytes())
    assert events["shopper_id"].to_list() == ["a", "c"]
    assert taken_out["line"].to_list() == [2]
    assert "item_id must be text in UTF-8, got other bytes" in taken_out["reason"][0]


def test_text_of_an_older_encoding_in_sqlite_is_taken_out(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("create table orders (shopper_id text, time text, kind text, item_id text, paid text)")
        connection.execute("insert into orders values ('a', '2024-05-01', 'order', 'p', '1.50')")
        connection.execute(
            "insert into orders values ('b', '2024-05-01', 'order', cast(x'63616665e9' as text), '2.50')"
        )
    mapping = SHOP.format(source="", kind='"kind"').replace(
        'source = ""', 'database = "sqlite:///{}"\nrelation = "orders"'
    )
    mapping = mapping.replace('quantity = "quantity"', "quantity = { constant = 1 }")
    (tmp_path / "shop.toml").write_text(mapping.replace("{}", str(tmp_path / "shop.db")))
    ingest(tmp_path / "shop.toml", tmp_path / "shop", lambda _: None)
    assert read_shop(tmp_path / "shop").events["shopper_id"].to_list() == ["a"]
    assert pl.read_parquet(tmp_path / "shop" / "quarantine.parquet")["line"].to_list() == [2]
