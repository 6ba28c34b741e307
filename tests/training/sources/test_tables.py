"""The canonical tables: one definition, one page."""

from pathlib import Path

import polars as pl
import pytest

from training.sources.mapping import read_mapping
from training.sources.page import EXAMPLE, schema_page, shop_toml_page
from training.sources.tables import TABLES, InvalidTable, check_table

ROOT = Path(__file__).resolve().parents[3]
ITEM = {"item_id": "p1", "title": "Tea", "category": "Tea", "department": None, "brand": None, "price_micros": 1}


def items(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([ITEM | row for row in rows], schema=TABLES["items"].schema)


def test_the_committed_schema_page_is_written_from_the_tables() -> None:
    assert (ROOT / "docs" / "schema.md").read_text() == schema_page()


def test_the_committed_page_of_shop_toml_is_written_from_the_models() -> None:
    assert (ROOT / "docs" / "shop_toml.md").read_text() == shop_toml_page()


def test_the_example_of_the_page_is_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(EXAMPLE)
    assert set(read_mapping(tmp_path / "shop.toml").tables) == {"events", "items"}


def test_a_table_that_keeps_its_rules_comes_back_in_column_order() -> None:
    shuffled = items({}).select(*reversed(TABLES["items"].schema))
    assert check_table(TABLES["items"], shuffled).columns == list(TABLES["items"].schema)


def test_a_key_that_appears_twice_is_named() -> None:
    with pytest.raises(InvalidTable, match="items row 2: item_id must appear once, got 'p1'"):
        check_table(TABLES["items"], items({}, {}))


def test_a_column_of_the_wrong_type_is_named() -> None:
    wrong = items({}).with_columns(pl.col("price_micros").cast(pl.Float64))
    with pytest.raises(InvalidTable, match="items: price_micros must be Int64, got Float64"):
        check_table(TABLES["items"], wrong)


def test_a_propensity_of_zero_is_refused() -> None:
    row = {"shopper_id": "a", "campaign_id": "1", "offer_id": None, "channel": "ads", "time_s": 0, "propensity": 0.0}
    exposures = pl.DataFrame([row], schema=TABLES["exposures"].schema)
    with pytest.raises(InvalidTable, match=r"propensity must be > 0, got 0\.0"):
        check_table(TABLES["exposures"], exposures)
