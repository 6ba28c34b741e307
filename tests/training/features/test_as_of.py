"""Nothing later changes anything earlier: the one test over every feature there is."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.shops.generate import FIRST_S, N_WEEKS, WEEK_S
from tests.training.features.conftest import AT_S, read_table, write_own_files
from training.features.assembly import Options, write_features
from training.features.columns import COLUMNS
from training.sources.shop import ingest, read_shop

END_S = FIRST_S + N_WEEKS * WEEK_S
KEYS = {
    "shoppers": ["shopper_id"],
    "items": ["item_id"],
    "events": ["shopper_id", "time_s", "kind", "item_id", "order_id"],
    "sequences": ["shopper_id"],
    "reviews": ["review_id"],
}
FITTED = ("tags.json", "item_limits.json", "codes.json", "normalisation.json")


def with_a_future(tables: dict[str, pl.DataFrame]) -> None:
    """Replace all from AT_S on with another future: more, dearer, and of shoppers, items and words unheard of."""
    draw = np.random.default_rng(9)
    events, n_new = tables["events"].filter(pl.col("time_s") < AT_S), 4_000
    later = events.sample(n_new, with_replacement=True, seed=1).with_columns(
        pl.Series("time_s", draw.integers(AT_S, END_S + 8 * WEEK_S, n_new)),
        pl.Series("shopper_id", [f"s{number}" for number in draw.integers(0, 200, n_new)]),
        pl.Series("item_id", [f"p{number}" for number in draw.integers(0, 230, n_new)]),
        pl.Series("device_id", [f"d{number}" for number in draw.integers(0, 90, n_new)]),
        (pl.col("paid_micros") * 50).alias("paid_micros"),
        pl.Series("order_id", [f"later{number}" for number in range(n_new)]),
    )
    tables["events"] = pl.concat([events, later])
    for name, n_rows in (("exposures", 300), ("outcomes", 200)):
        early = tables[name].filter(pl.col("time_s") < AT_S)
        appended = early.sample(n_rows, with_replacement=True, seed=2).with_columns(
            pl.Series("time_s", draw.integers(AT_S, END_S, n_rows))
        )
        tables[name] = pl.concat([early, appended])
    reviews = tables["reviews"].filter(pl.col("time_s") < AT_S)
    appended = reviews.head(80).with_columns(
        pl.Series("review_id", [f"later{number}" for number in range(80)]),
        pl.lit(AT_S + 1, pl.Int64).alias("time_s"),
        pl.lit("unheard words of a later fashion").alias("text"),
    )
    tables["reviews"] = pl.concat([reviews, appended])


def features_of(own: Path, until_s: int) -> Path:
    """Features of a shop's files with the end of training held fast."""
    ingest(own, own.parent / "canonical", lambda _: None)
    stamp = own.parent / "canonical" / "shop.json"
    stamp.write_bytes(orjson.dumps(orjson.loads(stamp.read_bytes()) | {"train_until_s": until_s}))
    into = own.parent / "features"
    write_features(own.parent / "canonical", into, lambda _: None, Options(at_s=AT_S, n_partitions=2))
    return into


@pytest.fixture(scope="module")
def both(rich_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Features of the little shop as it was, and with another future."""
    until_s = read_shop(rich_shop).train_until_s
    folders = []
    for name, change in (("was", None), ("will", with_a_future)):
        folder = tmp_path_factory.mktemp(name)
        write_own_files(folder / "own", change)
        folders.append(features_of(folder / "own", until_s))
    return folders[0], folders[1]


@pytest.mark.parametrize("table", COLUMNS)
def test_appending_a_future_changes_no_feature_of_what_was(both: tuple[Path, Path], table: str) -> None:
    was, will = (read_table(folder, table).sort(KEYS[table], maintain_order=True) for folder in both)
    assert was.height > 0
    if table in ("items", "reviews"):  # a later catalogue has more rows; a later shopper is not known yet
        key = KEYS[table][0]
        will = will.filter(pl.col(key).is_in(was[key].implode()))
    assert_frame_equal(was, will, check_exact=True)


@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted_ignores_all_that_comes_after_training(both: tuple[Path, Path], name: str) -> None:
    was, will = ((folder / name).read_bytes() for folder in both)
    assert was == will


def test_the_other_future_was_really_there(both: tuple[Path, Path]) -> None:
    was, will = (read_shop(folder.parent / "canonical").events for folder in both)
    assert will["time_s"].max() > was["time_s"].max()
    assert will["shopper_id"].n_unique() > was["shopper_id"].n_unique()
    assert will.filter(pl.col("time_s") < AT_S).height == was.filter(pl.col("time_s") < AT_S).height
