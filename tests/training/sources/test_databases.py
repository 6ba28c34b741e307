"""Rows come out of real databases as they are in them, and every way it can fail ends in one sentence."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import adbc_driver_postgresql.dbapi
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.postgresql import PASSWORD, Postgresql, postgresql
from training.sources.databases import database, without_password
from training.sources.reading import Batch, Interrupted, Source, Unread
from training.sources.tables import InvalidTable


def never(unread: Unread) -> None:
    """No row of a database is unreadable."""
    raise AssertionError(unread)


def rows(source: Source) -> pl.DataFrame:
    return pl.concat([batch.frame for batch in source.batches(never)])


def refusal(source: Source) -> str:
    with pytest.raises(InvalidTable) as refused:
        rows(source)
    return str(refused.value)


def run(server: Postgresql, *statements: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(server.address(), autocommit=True) as connection:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)


@pytest.fixture(scope="module")
def orders(postgresql_server: Postgresql) -> Iterator[Postgresql]:
    """A server with 200,000 orders."""
    run(
        postgresql_server,
        "create table orders as select i as id, 'shopper ' || i % 100 as shopper, i * 0.01 as paid "
        "from generate_series(1, 200000) as i",
    )
    yield postgresql_server
    run(postgresql_server, "drop table orders")


def sqlite_file(folder: Path, *statements: str) -> str:
    with sqlite3.connect(folder / "shop.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return "sqlite:///shop.db"


def test_a_relation_comes_in_blocks_numbered_from_one(orders: Postgresql) -> None:
    batches: list[Batch] = list(
        database(orders.address(), query="select *, repeat(shopper, 40) from orders").batches(never)
    )
    assert len(batches) > 1
    lines = pl.concat([batch.lines for batch in batches])
    assert lines.to_list() == list(range(1, 200_001))
    assert sum(batch.frame.height for batch in batches) == 200_000


def test_every_type_of_postgresql_comes_as_one_that_a_table_can_hold(postgresql_server: Postgresql) -> None:
    query = """select 7::smallint as small, 9007199254740993 as whole, 2.10::numeric(10, 2) as paid,
        0.1::float8 as real, timestamp '2024-05-31 18:04:00' as local, timestamptz '2024-05-31 18:04:00+02' as absolute,
        date '2024-05-31' as day,
        'tea' as word, true as flag, '{"a": 1}'::jsonb as document, 12.5::money as cash, inet '10.0.0.1' as place,
        '5f0c0a4e-8f0e-4f5e-9f43-1f0e6f0c0a4e'::uuid as id, array['a', 'b'] as texts, array[1, 2] as numbers,
        interval '1 day' as duration, null as nothing;"""
    frame = rows(database(postgresql_server.address(), query=query))
    assert frame.row(0, named=True) == {
        "small": 7,
        "whole": 9007199254740993,
        "paid": "2.10",
        "real": 0.1,
        "local": datetime(2024, 5, 31, 18, 4),
        "absolute": datetime(2024, 5, 31, 16, 4, tzinfo=UTC),
        "day": date(2024, 5, 31),
        "word": "tea",
        "flag": True,
        "document": '{"a": 1}',
        "cash": "12.50",
        "place": "10.0.0.1/32",
        "id": "5f0c0a4e-8f0e-4f5e-9f43-1f0e6f0c0a4e",
        "texts": ["a", "b"],
        "numbers": "{1,2}",
        "duration": "1 day",
        "nothing": None,
    }


def test_a_relation_without_rows_still_names_its_columns(orders: Postgresql) -> None:
    batches = list(database(orders.address(), query="select * from orders where false -- none").batches(never))
    assert [(batch.frame.columns, batch.frame.height) for batch in batches] == [(["id", "shopper", "paid"], 0)]


def test_the_digest_is_that_of_the_rows_in_any_order(orders: Postgresql) -> None:
    def digest(order: str, more: str = "") -> str:
        run(orders, "drop table if exists tiny", f"create table tiny as select * from orders where id < 9 {order}")
        if more:
            run(orders, more)
        return database(orders.address(), relation="public.tiny").digest()

    unchanged = digest("order by id")
    assert digest("order by id desc") == unchanged
    assert digest("", "update tiny set paid = 3 where id = 3") != unchanged
    assert digest("", "delete from tiny where id = 3") != unchanged
    assert digest("", "insert into tiny select * from tiny where id = 3") != unchanged
    assert digest("", "alter table tiny rename paid to price") != unchanged


def test_the_password_appears_in_no_name_and_no_sentence(orders: Postgresql) -> None:
    source = database(orders.address(), relation="orders")
    assert source.name == f"postgresql://owner@127.0.0.1:{orders.port}/postgres (orders)"
    for address in (orders.address("not " + PASSWORD), orders.address().replace("/postgres", "/nowhere")):
        sentence = refusal(database(address, relation="orders"))
        assert "sesame" not in sentence
        assert "owner" in sentence


@given(st.text(min_size=1, alphabet=st.characters(codec="ascii", exclude_characters="&#")))
def test_no_password_survives_however_it_is_written(password: str) -> None:
    secret = f"<{password}>"
    assert secret not in without_password(f"postgresql://owner:{secret}@host/shop")
    assert secret not in without_password(f"postgresql://host/shop?user=owner&password={secret}")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("select * from nowhere", 'relation "nowhere" does not exist'),
        ("selec", "syntax error"),
        ("delete from orders returning id", "syntax error"),
        ("select id, id from orders", "must name each column once, got id more than once"),
    ],
)
def test_a_query_that_cannot_be_run_is_refused_in_one_sentence(orders: Postgresql, query: str, reason: str) -> None:
    sentence = refusal(database(orders.address(), query=query))
    assert sentence.startswith(f"postgresql://owner@127.0.0.1:{orders.port}/postgres ({query}) must")
    assert reason in sentence
    assert "\n" not in sentence
    assert rows(database(orders.address(), query="select count(*) from orders")).item() == 200_000


@pytest.mark.parametrize(
    ("place", "reason"),
    [("127.0.0.1:1", "Connection refused"), ("nobody.invalid", "could not translate host name")],
)
def test_a_server_that_is_not_there_is_refused_in_one_sentence(place: str, reason: str) -> None:
    sentence = refusal(database(f"postgresql://owner:secret@{place}/shop", relation="orders"))
    assert sentence.startswith(f"postgresql://owner@{place}/shop (orders) must be readable, got: ")
    assert reason in sentence
    assert "secret" not in sentence


def test_a_query_that_fails_half_way_says_after_how_many_rows(orders: Postgresql) -> None:
    query = "select repeat('tea', 100) as word, 1 / (id - 199999) as share from orders"
    with pytest.raises(Interrupted, match=r"stopped after row [1-9]\d*: division by zero$"):
        rows(database(orders.address(), query=query))


def test_a_connection_ended_in_mid_read_says_after_how_many_rows(orders: Postgresql) -> None:
    query = "select orders.*, repeat(shopper, 9) from orders, generate_series(1, 20)"
    batches = database(orders.address(), query=query).batches(never)
    first = next(batches)
    run(
        orders, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY%generate_series(1, 20)%'"
    )
    with pytest.raises(Interrupted, match=r"stopped after row \d+: ") as interrupted:
        list(batches)
    assert int(str(interrupted.value).split("after row ")[1].split(":")[0]) >= first.frame.height


def test_a_server_killed_in_mid_read_says_after_how_many_rows(postgresql_server: Postgresql) -> None:
    with postgresql() as server:
        source = database(server.address(), query="select i, repeat('tea', 99) from generate_series(1, 5000000) as i")
        batches = source.batches(never)
        next(batches)
        server.kill()
        with pytest.raises(Interrupted, match=r"stopped after row \d+: server closed the connection unexpectedly$"):
            list(batches)


def test_sqlite_columns_keep_their_type_and_mixtures_become_text(tmp_path: Path) -> None:
    address = sqlite_file(
        tmp_path,
        "create table sold (id integer, paid real, invoice, price, note, at timestamp)",
        "insert into sold values (1, 2.1, 489434, 5, null, '2010-12-01 08:26:00')",
        "insert into sold values (2, 3, 'C489449', 2.5, null, '2010-12-01 08:28:00')",
    )
    frame = rows(database(address, relation="sold", folder=tmp_path))
    assert frame["id"].dtype == pl.Int64
    assert frame["paid"].to_list() == [2.1, 3.0]
    assert frame["invoice"].to_list() == ["489434", "C489449"]
    assert frame["price"].to_list() == [5.0, 2.5]
    assert frame["note"].to_list() == [None, None]
    assert frame["at"].to_list() == ["2010-12-01 08:26:00", "2010-12-01 08:28:00"]


def test_a_sqlite_column_that_turns_to_text_after_many_rows_loses_none(tmp_path: Path) -> None:
    address = sqlite_file(
        tmp_path,
        "create table sold (code)",
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) "
        "insert into sold select case when i < 90000 then i else 'x' || i end from n",
    )
    frame = rows(database(address, relation="sold", folder=tmp_path))
    assert frame.height == 100_000
    assert frame["code"][[0, 89_998, 89_999]].to_list() == ["1", "89999", "x90000"]


def test_the_digest_of_a_sqlite_file_changes_with_it(tmp_path: Path) -> None:
    address = sqlite_file(tmp_path, "create table sold (id)", "insert into sold values (1)")
    source = database(address, relation="sold", folder=tmp_path)
    before = source.digest()
    assert source.digest() == before
    sqlite_file(tmp_path, "insert into sold values (2)")
    assert source.digest() != before
    assert database(address, query="select id from sold", folder=tmp_path).digest() != source.digest()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "sqlite:///shop.db (sold) must be a file, got nothing"),
        (b"not a database, but long enough to be looked at" * 99, "file is not a database"),
        (b"", "no such table: sold"),
    ],
)
def test_a_sqlite_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "shop.db").write_bytes(content)
    assert sentence in refusal(database("sqlite:///shop.db", relation="sold", folder=tmp_path))


@pytest.mark.parametrize(
    ("address", "query", "relation", "sentence"),
    [
        ("mysql://owner:secret@host/shop", "", "orders", "no packaged ADBC driver for MySQL or MariaDB"),
        ("oracle://owner:secret@host/shop", "", "orders", "must begin with postgresql:// or sqlite:///"),
        ("postgresql://owner:se/cret@host/shop", "", "orders", "write / as %2F"),
        ("postgresql://owner:se@cret@host/shop", "", "orders", "@ as %40"),
        ("postgresql://host/shop", "", "", "either a query or a relation, got neither"),
        ("postgresql://host/shop", "select 1", "orders", "either a query or a relation, got both"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_at_once(
    address: str, query: str, relation: str, sentence: str
) -> None:
    with pytest.raises(InvalidTable) as refused:
        database(address, query, relation)
    assert sentence in str(refused.value)
    assert "cret" not in str(refused.value)
