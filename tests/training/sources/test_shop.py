"""ingest puts a whole shop in place or nothing, and does nothing twice."""

import json
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.shops.generate import write_little_shop
from training.sources import shop as shops
from training.sources.tables import Days, InvalidTable

DAY_S = 86_400


def quiet(_: str) -> None:
    """Progress that nobody watches."""


def visible(folder: Path) -> list[str]:
    """What stands in a folder, apart from the parsed inputs that are kept from run to run."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".shop.parsed")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_little_shop(tmp_path / "exports", "parquet")
    return tmp_path / "exports"


def test_read_shop_returns_what_ingest_wrote(source: Path, tmp_path: Path) -> None:
    report = shops.ingest(source, tmp_path / "shop", quiet)
    shop = shops.read_shop(tmp_path / "shop")
    assert {name: frame.height for name, frame in shop.tables().items()} == report.rows
    assert (shop.name, shop.currency_code) == ("exports", "USD")


def test_the_training_window_is_three_quarters_of_the_span_cut_at_midnight(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    shop = shops.read_shop(tmp_path / "shop")
    first_s, last_s = shop.events["time_s"].sort()[[0, -1]]
    assert shop.train_until_s % DAY_S == 0
    # Half a day: the cut goes to the nearest midnight.
    assert abs(shop.train_until_s - (first_s + 0.75 * (last_s - first_s))) <= DAY_S / 2


def test_unchanged_inputs_are_not_ingested_again(source: Path, tmp_path: Path) -> None:
    assert shops.ingest(source, tmp_path / "shop", quiet).is_fresh
    before = (tmp_path / "shop" / "events.parquet").stat().st_mtime_ns
    again = shops.ingest(source, tmp_path / "shop", quiet)
    assert not again.is_fresh
    assert (tmp_path / "shop" / "events.parquet").stat().st_mtime_ns == before


def test_changed_inputs_are_ingested_again(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    write_little_shop(source, "parquet", seed=1)
    assert shops.ingest(source, tmp_path / "shop", quiet).is_fresh


def test_a_refused_source_leaves_the_shop_as_it_was(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    kept = shops.read_shop(tmp_path / "shop").events
    (source / "items.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidTable, match=r"items\.parquet must be Parquet, got: "):
        shops.ingest(source, tmp_path / "shop", quiet)
    assert_frame_equal(shops.read_shop(tmp_path / "shop").events, kept)
    assert visible(tmp_path) == ["exports", "shop"]


def test_a_disk_that_fails_in_mid_write_leaves_nothing_half_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polars.DataFrame.write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        shops.ingest(source, tmp_path / "shop", quiet)
    assert visible(tmp_path) == ["exports"]


def test_a_run_killed_between_the_renames_is_recovered(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    (tmp_path / "shop").rename(tmp_path / ".shop.before")
    (tmp_path / ".shop.partial").mkdir()
    assert not shops.ingest(source, tmp_path / "shop", quiet).is_fresh
    assert visible(tmp_path) == ["exports", "shop"]


def test_what_cleaning_did_is_written_beside_the_tables(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    written = json.loads((tmp_path / "shop" / "cleaning.json").read_text())
    assert written["rows_in"]["events"] >= written["rows_out"]["events"] > 0


def test_a_folder_without_a_shop_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match=r"must hold an ingested shop, got no shop\.json"):
        shops.read_shop(tmp_path)


def test_a_table_that_is_gone_or_damaged_is_named_and_ingested_again(source: Path, tmp_path: Path) -> None:
    shops.ingest(source, tmp_path / "shop", quiet)
    items = tmp_path / "shop" / "items.parquet"
    items.write_bytes(b"damaged")
    with pytest.raises(InvalidTable, match=r"items\.parquet must be Parquet, got: "):
        shops.read_shop(tmp_path / "shop")
    items.unlink()
    with pytest.raises(InvalidTable, match=r"items\.parquet must exist beside shop\.json"):
        shops.read_shop(tmp_path / "shop")
    assert shops.ingest(source, tmp_path / "shop", quiet).is_fresh


def test_a_currency_that_is_no_code_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match="currency_code must be three capital letters of ISO 4217, got 'dollars'"):
        shops.ingest(source, tmp_path / "shop", quiet, currency_code="dollars")


def test_a_shop_keeps_its_calendar_and_its_inputs(source: Path, tmp_path: Path) -> None:
    (source / "shop.toml").write_text(
        '[shop]\nname = "tea"\ncurrency_code = "GBP"\ntime_zone = "Europe/London"\ncountry = "GB"\npaydays = [25]\n'
        'holidays = ["2024-11-29"]\ntrain_until = 2024-04-01\n[events]\nsource = "events.parquet"\n'
    )
    shops.ingest(source, tmp_path / "shop", quiet)
    shop = shops.read_shop(tmp_path / "shop")
    assert shop.days == Days("Europe/London", "GB", ("2024-11-29",), (25,))
    # Midnight of London's clocks, an hour ahead of UTC from the day before.
    assert (shop.name, shop.currency_code, shop.train_until_s) == ("tea", "GBP", 1_711_926_000)
    stamp = json.loads((tmp_path / "shop" / "shop.json").read_text())
    assert [each["name"] for each in stamp["sources"]] == ["events.parquet"]
