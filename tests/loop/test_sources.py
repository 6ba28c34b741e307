"""A real shop's invoices give the same features from Parquet, CSV, JSON Lines, SQLite and PostgreSQL, bit for bit.

A sample of the customers, for speed; `python -m tests.benchmarks sources` does the same with all of them.
"""

from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from adbc_driver_postgresql.dbapi import connect

from tests.requirements import shared_data
from tests.servers.postgresql import PASSWORD, Postgresql
from tests.servers.seaweed import Seaweed
from tests.shops.shows import FORMS, IN_ORDER, Shown, cdnow, online_retail, shop_toml, shown, write_form, write_original
from training.sources.inspection import propose
from training.sources.reading import Interrupted
from training.sources.shop import ingest, read_shop

# One customer in twenty, and as many of the rows that name none.
ONE_IN = 20


def quiet(_: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def invoices() -> pl.DataFrame:
    rows = online_retail(shared_data("online_retail"))
    return rows.filter(pl.col("Customer ID").fill_null(pl.int_range(pl.len())) % ONE_IN == 0)


@pytest.fixture(scope="module")
def places(
    invoices: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory, postgresql_server: Postgresql
) -> dict[str, Path]:
    """The invoices' shop.toml for each form."""
    folder = tmp_path_factory.mktemp("online_retail")
    address = postgresql_server.address()
    return {form: write_form(invoices, "online_retail", form, folder / form, address) for form in FORMS}


@pytest.fixture(scope="module")
def shops(places: dict[str, Path]) -> dict[str, Shown]:
    """What each form gave."""
    return {form: shown(toml, toml.with_name("shop")) for form, toml in places.items()}


@pytest.mark.parametrize("form", FORMS[1:])
def test_every_form_gives_the_same_features_bit_for_bit(shops: dict[str, Shown], form: str) -> None:
    assert len(shops[form].features) > 1_000
    assert shops[form] == shops["parquet"]


@pytest.mark.usefixtures("shops")
def test_no_password_is_written_anywhere_and_an_unchanged_database_is_not_read_again(places: dict[str, Path]) -> None:
    toml = places["postgresql"]
    again = ingest(toml, toml.with_name("shop"), quiet)
    assert not again.is_fresh
    written = [path for path in toml.parent.rglob("*") if path.is_file() and path != toml]
    assert written
    for path in written:
        assert not any(word in path.read_bytes() for word in (PASSWORD.encode(), quote(PASSWORD).encode())), path


def test_every_invoice_line_is_an_event_or_in_quarantine(invoices: pl.DataFrame, shops: dict[str, Shown]) -> None:
    seen = shops["parquet"]
    n_quarantined = sum(seen.quarantined["events"].values())
    assert seen.rows["events"] + n_quarantined == invoices.height
    assert seen.quarantined["events"]["missing_value"] == invoices["Customer ID"].null_count()


def test_cancellations_are_refunds_and_nearly_all_find_their_order(
    invoices: pl.DataFrame, shops: dict[str, Shown]
) -> None:
    cancelled = invoices.filter(pl.col("Invoice").str.starts_with("C"), pl.col("Customer ID").is_not_null())
    returns = shops["parquet"].returns
    assert returns is not None
    assert returns["n_refunds"] == cancelled.height
    # The rest give back what was bought before the first invoice there is, or postage and discounts booked by hand.
    assert returns["n_full"] + returns["n_part"] > 0.8 * cancelled.height


def test_what_was_paid_is_exact_to_the_penny(
    invoices: pl.DataFrame, places: dict[str, Path], shops: dict[str, Shown]
) -> None:
    named = invoices.filter(pl.col("Customer ID").is_not_null())
    pence = (pl.col("Quantity").abs() * (pl.col("Price") * 100).round().cast(pl.Int64)).sum()
    events = read_shop(places["parquet"].with_name("shop")).events
    clipped = events.select(pl.col("paid_micros").sum()).item()
    assert clipped == named.select(pence).item() * 10_000


def test_cdnow_is_the_same_in_every_form(tmp_path: Path, postgresql_server: Postgresql) -> None:
    data = shared_data("cdnow")
    rows = cdnow(data)
    original = shown(write_original(data, tmp_path / "original"), tmp_path / "shop")
    assert original.rows["events"] == 6_919
    assert original.quarantined == {}
    for form in FORMS:
        toml = write_form(rows, "cdnow", form, tmp_path / form, postgresql_server.address())
        assert shown(toml, tmp_path / f"shop_{form}") == original


def test_the_proposal_for_online_retail_works_unedited(
    places: dict[str, Path], shops: dict[str, Shown], tmp_path: Path
) -> None:
    proposal = propose(places["csv"].with_name("online_retail.csv"))
    (tmp_path / "shop.toml").write_text(proposal.text)
    report = ingest(tmp_path / "shop.toml", tmp_path / "shop", quiet)
    # Equal lines of one invoice count as repeated unless the owner says otherwise.
    assert 0.95 * shops["csv"].rows["events"] < report.rows["events"] <= shops["csv"].rows["events"]


def test_files_under_an_s3_prefix_are_ingested(
    places: dict[str, Path],
    shops: dict[str, Shown],
    seaweed_server: Seaweed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    rows = pl.read_csv(places["csv"].with_name("online_retail.csv"), infer_schema=False)
    half = rows.height // 2
    client = seaweed_server.client()
    client.put_object(Bucket="shop", Key="retail/1.csv", Body=rows[:half].write_csv().encode())
    typed = pl.read_parquet(places["parquet"].with_name("online_retail.parquet"))[half:]
    typed.write_parquet(tmp_path / "2.parquet")
    client.put_object(Bucket="shop", Key="retail/2.parquet", Body=(tmp_path / "2.parquet").read_bytes())
    text = shop_toml("online_retail", "csv").replace('"online_retail.csv"', '"s3://shop/retail/"')
    (tmp_path / "shop.toml").write_text(text)
    assert shown(tmp_path / "shop.toml", tmp_path / "shop") == shops["csv"]


def test_a_database_that_goes_away_in_mid_read_leaves_the_old_shop(
    invoices: pl.DataFrame, postgresql_server: Postgresql, tmp_path: Path
) -> None:
    address = postgresql_server.address()
    toml = write_form(invoices.head(5_000), "interrupted", "postgresql", tmp_path / "form", address)
    ingest(toml, tmp_path / "shop", quiet)
    before = {path.name: path.read_bytes() for path in (tmp_path / "shop").iterdir()}
    # Both tables count 300,000 rows for their digests; among those then read, the connection ends itself.
    ends = "case when nextval('n_read') = 850000 then pg_terminate_backend(pg_backend_pid()) else true end"
    with connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("create sequence n_read")
    longer = f"select o.* from interrupted as o, generate_series(1, 60) where {ends}"
    toml.write_text(toml.read_text().replace(IN_ORDER.format(name="interrupted"), longer))
    with pytest.raises(Interrupted, match=r"stopped after row [1-9]\d*: terminating connection due to"):
        ingest(toml, tmp_path / "shop", quiet)
    assert {path.name: path.read_bytes() for path in (tmp_path / "shop").iterdir()} == before
