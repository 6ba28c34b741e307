"""The feature tables are what features.json and docs/features.md say, by any number of partitions, and only once."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernels.features import FEATURES
from kernels.tag_limits import LIFECYCLES, TagLimits
from tests.training.features.conftest import AT_S, read_table
from training.dataset import dataset_of
from training.features.assembly import Options, partition_of, write_features
from training.features.columns import COLUMNS
from training.features.normalisation import Normalisation
from training.features.page import features_page
from training.sources.shop import read_shop
from training.sources.tables import InvalidTable

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_listed_as_it_is(features_folder: Path, table: str) -> None:
    for file in features_folder.glob(f"{table}*.parquet"):
        found = {name: str(dtype) for name, dtype in pl.read_parquet_schema(file).items()}
        assert list(found.items()) == [(column.name, column.dtype) for column in COLUMNS[table]]


def test_the_committed_page_is_written_from_the_lists() -> None:
    assert (ROOT / "docs" / "features.md").read_text() == features_page()


def test_every_file_named_for_a_column_exists() -> None:
    named = {column.file for columns in COLUMNS.values() for column in columns}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_says_what_was_written(features_folder: Path) -> None:
    index = orjson.loads((features_folder / "features.json").read_bytes())
    assert index["at_s"] == AT_S
    assert index["n_partitions"] == 3
    assert index["rows"] == {table: read_table(features_folder, table).height for table in COLUMNS}
    assert [name for name in index["files"] if not (features_folder / name).exists()] == []
    assert set(index["tables"]) == set(COLUMNS)


def test_churn_figures_without_cases_are_null_and_say_so(features_folder: Path) -> None:
    # The little shop's validation window is shorter than its shoppers' look-ahead.
    told = orjson.loads((features_folder / "features.json").read_bytes())["churn_on_validation_window"]
    assert {name: told.pop(name) for name in ("n", "n_shoppers")} == {"n": 0, "n_shoppers": 0}
    assert set(told.values()) == {None}


def test_features_are_those_that_training_computes(features_folder: Path, rich_shop: Path) -> None:
    dataset = dataset_of(read_shop(rich_shop))
    ids = pl.Series("shopper_id", dataset.vocabulary.shopper_ids)
    rows = dataset.rows(np.arange(ids.len()), np.full(ids.len(), AT_S))
    shoppers = ids.to_frame().join(read_table(features_folder, "shoppers"), on="shopper_id", maintain_order="left")
    place = 0
    for feature in FEATURES:
        if feature.dtype == "float32":
            told = shoppers[feature.name].to_numpy().reshape(ids.len(), feature.width)
            assert told.tobytes() == rows.features[:, place : place + feature.width].tobytes()
            place += feature.width
    assert shoppers["item_history"].to_numpy().tobytes() == rows.item_history.tobytes()


def test_events_stand_once_and_know_their_session(features_folder: Path, rich_shop: Path) -> None:
    events = read_table(features_folder, "events")
    assert events.height == read_shop(rich_shop).events.filter(pl.col("time_s") < AT_S).height
    first = events.filter(pl.col("session_position") == 1)
    assert (first["session_length_s"] == 0).all()
    assert events["gap_s"].is_nan().sum() == events["shopper_id"].n_unique()
    assert events["n_device_events_30d"].max() > 0
    assert events["since_sign_up_s"].is_not_nan().all()


def test_tags_are_words_that_people_read(features_folder: Path) -> None:
    shoppers = read_table(features_folder, "shoppers")
    assert set(shoppers["lifecycle"]) <= set(LIFECYCLES)
    assert shoppers["churn_prob"].is_between(0, 1).sum() > 100
    assert shoppers.filter(pl.col("affinity_category").list.len() > 0)["affinity_category"].list.first().is_in(
        ["Bread", "Cheese", "Coffee", "Fruit", "Household", "Pasta", "Snacks", "Yogurt"]
    ).all()  # fmt: skip
    items = read_table(features_folder, "items")
    np.testing.assert_allclose(items["margin_share"], 0.3, atol=1e-6)  # whole micros
    assert items["price_band"].n_unique() == 5


def test_what_was_fitted_can_be_read_back(features_folder: Path, rich_shop: Path) -> None:
    until_s = read_shop(rich_shop).train_until_s
    assert TagLimits.from_json((features_folder / "tags.json").read_bytes()).train_until_s == until_s
    told = orjson.loads((features_folder / "normalisation.json").read_bytes())
    fitted = {table: Normalisation.from_json(orjson.dumps(content)) for table, content in told.items()}
    assert set(fitted) == {"shoppers", "items", "events"}
    events = read_table(features_folder, "events").filter(pl.col("time_s") < until_s)
    place = fitted["events"].columns.index("spend_so_far")
    known = np.log1p(events["spend_so_far"].to_numpy())
    assert fitted["events"].mean[place] == pytest.approx(known.mean())
    assert fitted["events"].fitted_until_s == until_s


def test_partitions_change_nothing_and_nothing_is_done_twice(
    features_folder: Path, rich_shop: Path, tmp_path: Path
) -> None:
    into = tmp_path / "features"
    first = write_features(rich_shop, into, lambda _: None, Options(at_s=AT_S, n_partitions=1))
    for table in ("shoppers", "events", "sequences"):
        keys = [column.name for column in COLUMNS[table]][:3]
        one, three = (read_table(folder, table).sort(keys, maintain_order=True) for folder in (into, features_folder))
        assert_frame_equal(one, three, check_exact=True)
    said: list[str] = []
    again = write_features(rich_shop, into, said.append, Options(at_s=AT_S, n_partitions=1))
    assert (first.is_fresh, again.is_fresh) == (True, False)
    assert again.rows == first.rows
    assert said == [f"{into} is up to date"]


def test_a_run_that_was_killed_continues_with_the_next_partition(
    features_folder: Path, rich_shop: Path, tmp_path: Path
) -> None:
    into, options = tmp_path / "features", Options(at_s=AT_S, n_partitions=3)

    def killed(step: str) -> None:
        if step.startswith("partition 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(rich_shop, into, killed, options)
    assert not into.exists()
    said: list[str] = []
    write_features(rich_shop, into, said.append, options)
    assert [step.split(":")[0] for step in said if step.startswith("partition")] == ["partition 3 of 3"]
    assert_frame_equal(read_table(into, "events"), read_table(features_folder, "events"), check_exact=True)
    assert (into / "normalisation.json").read_bytes() == (features_folder / "normalisation.json").read_bytes()


def test_a_moment_within_the_training_window_is_refused(rich_shop: Path, tmp_path: Path) -> None:
    until_s = read_shop(rich_shop).train_until_s
    with pytest.raises(InvalidTable, match=rf"at_s must be ≥ the end of training {until_s}, got {until_s - 1}"):
        write_features(rich_shop, tmp_path / "features", lambda _: None, Options(at_s=until_s - 1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_no_shop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match=r"shop.json must exist; run `stratagem ingest` first"):
        write_features(tmp_path, tmp_path / "features", lambda _: None)


def test_a_shopper_has_one_partition_whatever_the_machine() -> None:
    ids = pl.Series([f"s{number}" for number in range(1_000)])
    numbers = partition_of(ids, 4)
    assert numbers[:8].to_list() == [3, 1, 0, 0, 0, 0, 3, 1]
    # Five standard deviations of a binomial count of 1000 with a quarter each.
    assert all(abs(count - 250) < 70 for count in numbers.value_counts()["count"])
