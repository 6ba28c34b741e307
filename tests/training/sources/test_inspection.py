"""A proposed shop.toml is right, or says what it is unsure of; a usable one passes the door of ingest."""

import gzip
import tomllib
from pathlib import Path

import adbc_driver_postgresql.dbapi
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.requirements import shared_data
from tests.servers.postgresql import Postgresql
from training.sources.inspection import Proposal, propose
from training.sources.mapping import ShopFile, read_mapping
from training.sources.tables import InvalidTable


def written(folder: Path, text: str | bytes, name: str = "orders.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mapping(proposal: Proposal, folder: Path) -> ShopFile:
    """The proposal as ingest reads it."""
    return read_mapping(written(folder, proposal.text, "shop.toml"))


def says(proposal: Proposal, *words: str) -> bool:
    """Whether one doubt has all the words."""
    return any(all(word in doubt for word in words) for doubt in proposal.doubts)


def columns(proposal: Proposal, table: str = "events") -> dict[str, object]:
    return dict(tomllib.loads(proposal.text)[table]["columns"])


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "jsonl"])
def test_online_retail_is_proposed_alike_in_every_form(tmp_path: Path, form: str) -> None:
    rows = pl.read_parquet(shared_data("online_retail") / "*.parquet").gather_every(10)
    rows = rows.with_columns(pl.col("Customer ID").cast(pl.Int64))
    path = tmp_path / f"orders.{form}"
    match form:
        case "parquet":
            rows.write_parquet(path, row_group_size=8_192)
        case "csv":
            rows.write_csv(path, datetime_format="%d/%m/%Y %H:%M")
        case "csv.gz":
            path.write_bytes(gzip.compress(rows.write_csv().encode()))
        case _:
            rows.with_columns(pl.col("InvoiceDate").dt.strftime("%Y-%m-%d %H:%M:%S")).write_ndjson(path)
    proposal = propose(path)
    assert mapping(proposal, tmp_path).shop.currency_code == "GBP"
    proposed = columns(proposal)
    time = proposed.pop("time")
    assert time == ({"column": "InvoiceDate", "format": "%d/%m/%Y %H:%M"} if form == "csv" else "InvoiceDate")
    assert proposed == {
        "shopper_id": "Customer ID",
        "item_id": "StockCode",
        "order_id": "Invoice",
        "quantity": {"column": "Quantity", "absolute": True},
        "paid": {"product": ["Quantity", "Price"], "absolute": True},
        "kind": {"column": "Invoice", "starts_with": {"C": "refund"}, "otherwise": "order"},
    }
    assert columns(proposal, "items") == {"item_id": "StockCode", "title": "Description", "price": "Price"}
    assert says(proposal, "no Customer ID")
    assert says(proposal, "bear no mark")
    assert proposal.is_usable


def test_cdnow_is_guessed_and_said_to_be(tmp_path: Path) -> None:
    proposal = propose(shared_data("cdnow") / "CDNOW_sample.txt.gz")
    section = mapping(proposal, tmp_path).events
    assert section.separator == "spaces"
    assert columns(proposal) == {
        "shopper_id": "column_1",
        "time": {"column": "column_3", "format": "%Y%m%d"},
        "item_id": {"constant": "unnamed"},
        "quantity": "column_4",
        "paid": "column_5",
        "kind": {"constant": "order"},
    }
    assert says(proposal, "guessed from the values alone")
    assert says(proposal, "shopper_id was taken from column_1", "column_2")


def test_fraud_has_devices_addresses_and_sign_ups(tmp_path: Path) -> None:
    proposal = propose(shared_data("fraud") / "fraud_first_20k.csv.gz")
    mapping(proposal, tmp_path)
    events, shoppers = columns(proposal), columns(proposal, "shoppers")
    assert (events["device_id"], events["address_id"], events["paid"]) == ("device_id", "ip_address", "purchase_value")
    assert shoppers["signed_up"] == {"column": "signup_time", "format": "%m/%d/%Y %H:%M"}
    assert (shoppers["gender"], shoppers["age_band"]) == ("sex", "age")
    assert says(proposal, "purchase_time", "read as month/day because")
    assert says(proposal, "every row is read as an order")
    assert says(proposal, "Left out", "class")


def test_reviews_in_english_are_reviews_of_items() -> None:
    proposal = propose(shared_data("reviews_en") / "Womens_Clothing_E-Commerce_Reviews.csv.gz")
    assert columns(proposal, "reviews") == {
        "text": "Review Text",
        "rating": "Rating",
        "title": "Title",
        "item_id": "Clothing ID",
        "review_id": "",
    }
    assert columns(proposal, "items")["category"] == "Class Name"
    assert not proposal.is_usable
    assert says(proposal, "no events")


def test_reviews_in_chinese_lack_an_id_and_it_is_asked_for() -> None:
    proposal = propose(shared_data("reviews_zh") / "online_shopping_7_cats.csv.gz")
    assert columns(proposal, "reviews") == {"text": "review"}
    assert '# review_id = "?"' in proposal.text
    assert says(proposal, "reviews.review_id")
    assert not proposal.is_usable


def test_lines_that_are_sessions_are_no_table() -> None:
    with pytest.raises(InvalidTable, match="where a line is a whole session, write a row for each event"):
        propose(shared_data("diginetica") / "train_sessions.txt.gz")


DONE = ("浏览", "加购", "购买", "收藏")
CHINESE = "用户ID,商品编号,行为类型,下单时间,数量,实付金额,商品名称,类别\n" + "".join(
    f"u{n % 7},p{n % 5},{DONE[n % 4]},2024-03-{n % 28 + 1:02} 10:00:00,1,{n % 9}.50,绿茶{n % 5},茶\n" for n in range(60)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_chinese_headers_are_understood_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    proposal = propose(written(tmp_path, CHINESE.encode(encoding)))
    assert columns(proposal) == {
        "shopper_id": "用户ID",
        "item_id": "商品编号",
        "time": "下单时间",
        "quantity": "数量",
        "paid": "实付金额",
        "kind": {"column": "行为类型", "values": {"加购": "cart", "浏览": "view", "购买": "order"}},
    }
    assert columns(proposal, "items") == {"item_id": "商品编号", "title": "商品名称", "category": "类别"}
    assert says(proposal, "收藏", "quarantine")
    assert says(proposal, "CNY", "Asia/Shanghai")
    assert says(proposal, "not UTF-8", "gb18030") == (encoding == "gb18030")
    assert mapping(proposal, tmp_path).events.encoding == ("gb18030" if encoding == "gb18030" else None)


def test_several_places_are_looked_at(tmp_path: Path) -> None:
    line = "visitor{0},2024-05-0{1}T10:00:00Z,{2},p{1},2.50\n"
    head = "".join(line.format(n % 999, n % 9 + 1, "view") for n in range(120_000))
    tail = "".join(line.format(n % 999, n % 9 + 1, "purchase") for n in range(120_000))
    proposal = propose(written(tmp_path, "visitor_id,timestamp,event,item_id,paid\n" + head + tail))
    assert columns(proposal)["kind"] == {"column": "event", "values": {"purchase": "order", "view": "view"}}


def dated(folder: Path, *dates: str) -> Proposal:
    rows = "".join(f"u{n % 5},{date},p{n},1,2.50\n" for n, date in enumerate(dates))
    return propose(written(folder, "customer_id,order_date,product_id,quantity,total\n" + rows))


@pytest.mark.parametrize(
    ("dates", "time", "words"),
    [
        (["03/04/2024", "13/04/2024"], {"column": "order_date", "format": "%d/%m/%Y"}, ["because 13/04/2024 occurs"]),
        (["03/04/2024", "04/13/2024"], {"column": "order_date", "format": "%m/%d/%Y"}, ["because 04/13/2024 occurs"]),
        (["03/04/2024", "05/06/2024"], {"column": "order_date", "format": "%d/%m/%Y"}, ["no value decides it"]),
        (["13/04/2024", "04/13/2024"], None, ["look closely"]),
        (["2024年3月4日", "2024年12月31日"], {"column": "order_date", "format": "%Y年%m月%d日"}, ["no offset"]),
        (["1714500000", "1714600000"], {"column": "order_date", "unit": "s"}, ["read as s since 1970"]),
        (["1714500000123", "1714600000456"], {"column": "order_date", "unit": "ms"}, ["read as ms since 1970"]),
        (["2024-05-31T18:04:00+02:00", "2024-06-01T00:00:00Z"], "order_date", []),
    ],
)
def test_times_are_recognised_and_what_is_unclear_is_said(
    tmp_path: Path, dates: list[str], time: object, words: list[str]
) -> None:
    clear = ["03/04/2024"] if "look closely" in words else []
    proposal = dated(tmp_path, *(dates + clear) * 20)
    found = columns(proposal)["time"]
    assert found == time if time else len(dict(found)["format"]) == 2  # type: ignore[call-overload]
    assert not words or says(proposal, *words)
    mapping(proposal, tmp_path)


@pytest.mark.parametrize(("separator", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("|", "a.txt"), ("\t", "a.csv")])
def test_separators_are_found(tmp_path: Path, separator: str, name: str) -> None:
    rows = ["user_id,created_at,sku,qty,amount"] + [f"u{n % 4},2024-01-0{n % 9 + 1},k{n},1,3.20" for n in range(40)]
    proposal = propose(written(tmp_path, "\n".join(rows).replace(",", separator), name))
    assert set(columns(proposal)) == {"shopper_id", "time", "item_id", "quantity", "paid", "kind"}
    assert mapping(proposal, tmp_path).events.separator == (None if name == "a.tsv" else separator)


def test_two_columns_that_sound_alike_are_both_named(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 3},c{n % 3},2024-01-0{n % 9 + 1},k{n},3.20\n" for n in range(40))
    proposal = propose(written(tmp_path, "user_id,customer_id,date,item_id,amount\n" + rows))
    assert says(proposal, "shopper_id was taken from user_id", "could also be customer_id")


def test_negative_amounts_without_a_mark_are_not_made_positive(tmp_path: Path) -> None:
    rows = "".join(
        f"u{n % 3},2024-01-0{n % 9 + 1},k{n},{1 if n % 5 else -1},{3.2 if n % 5 else -3.2}\n" for n in range(40)
    )
    proposal = propose(written(tmp_path, "user_id,date,item_id,quantity,amount\n" + rows))
    assert columns(proposal)["quantity"] == "quantity"
    assert says(proposal, "quantity are negative", "nothing says why")


def test_several_currencies_ask_for_rates(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 3},2024-01-0{n % 9 + 1},k{n},3.20,{'EUR' if n % 2 else 'USD'}\n" for n in range(40))
    proposal = propose(written(tmp_path, "user_id,date,item_id,amount,currency\n" + rows))
    assert columns(proposal)["currency"] == "currency"
    assert says(proposal, "EUR, USD", "[shop.rates]")


def test_a_catalogue_alone_is_items_and_no_shop(tmp_path: Path) -> None:
    rows = "".join(f"k{n},Tea {n},Drinks,{n}.20\n" for n in range(40))
    proposal = propose(written(tmp_path, "product_id,name,category,price\n" + rows))
    assert columns(proposal, "items") == {
        "item_id": "product_id",
        "title": "name",
        "category": "category",
        "price": "price",
    }
    assert not proposal.is_usable
    assert says(proposal, "no events")


def test_a_table_of_a_database_is_proposed_too(postgresql_server: Postgresql, tmp_path: Path) -> None:
    table = """create table sold as select 'u' || i % 9 as customer_id, now() - i * interval '1 hour' as created_at,
        i % 50 as product_id, 1 as quantity, (i * 0.5)::numeric(10, 2) as total from generate_series(1, 5000) as i"""
    with adbc_driver_postgresql.dbapi.connect(postgresql_server.address(), autocommit=True) as connection:
        for statement in ("drop table if exists sold", table):
            with connection.cursor() as cursor:
                cursor.execute(statement)
    proposal = propose(f"{postgresql_server.address()}#sold")
    section = mapping(proposal, tmp_path).events
    assert section.relation == "sold"
    assert set(section.columns) == {"shopper_id", "time", "item_id", "quantity", "paid", "kind"}
    assert not says(proposal, "offset")


def test_a_large_document_of_one_array_is_looked_at(tmp_path: Path) -> None:
    row = '{"user_id": "u%d", "date": "2024-01-02", "item_id": "k%d", "amount": "3.20", "padding": "%s"}'
    rows = ", ".join(row % (n % 9, n, "x" * 900) for n in range(5_000))
    assert propose(written(tmp_path, f'{{"page": 1, "orders": [{rows}]}}', "a.json")).is_usable


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "must hold rows, got an empty file"),
        ("a.parquet", b"PAR1 no more", "must be Parquet"),
        ("a.jsonl", b'{"a": 1', "must be JSON"),
        ("a.jsonl", b"[1]\n", "must hold objects"),
        ("a.csv.gz", b"not packed", "must be readable"),
        ("a.txt", b"one word\nthree words here\nfour words are here\n", "must be a table"),
        ("a.csv", b"a,a\n1,2\n", "must name each column once"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(InvalidTable) as refused:
        propose(written(tmp_path, content, name))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=400) | st.text("ab12,;\t\n\" '{}[]", max_size=200).map(str.encode))
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.csv.zst"])
def test_any_bytes_are_proposed_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    try:
        proposal = propose(written(folder, content, name))
    except InvalidTable:
        return
    tomllib.loads(proposal.text)
    if proposal.is_usable:
        mapping(proposal, folder)
