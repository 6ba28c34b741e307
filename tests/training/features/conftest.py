"""The little shop with reviews, devices and costs, and its features, written once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.shops.generate import DAY_S, FIRST_S, N_ITEMS, N_SHOPPERS, WEEK_S, write_little_shop
from training.features.assembly import Options, write_features
from training.features.columns import COLUMNS
from training.sources.shop import ingest

# The little shop's own end of training is three quarters of its twenty weeks.
AT_S = FIRST_S + 18 * WEEK_S
WORDS = ("good", "bread", "fresh", "cheese", "poor", "coffee", "never", "again", "lovely", "fruit", "very", "cheap")

Change = Callable[[dict[str, pl.DataFrame]], None]


def write_own_files(folder: Path, change: Change | None = None) -> None:
    """Write the little shop as Parquet with what its generator leaves out; `change` may then append to its tables."""
    write_little_shop(folder, "parquet")
    draw = np.random.default_rng(3)
    tables = {file.stem: pl.read_parquet(file) for file in folder.glob("*.parquet")}
    n_events = tables["events"].height
    tables["events"] = tables["events"].with_columns(
        pl.Series("device_id", [f"d{number}" for number in draw.integers(0, 60, n_events)])
    )
    tables["items"] = tables["items"].with_columns((pl.col("price_micros") * 0.7).cast(pl.Int64).alias("cost_micros"))
    tables["shoppers"] = tables["shoppers"].with_columns(signed_up_s=pl.lit(FIRST_S - 30 * DAY_S))
    tables["reviews"] = pl.DataFrame(
        {
            "review_id": [f"r{number}" for number in range(200)],
            "shopper_id": [f"s{number}" for number in draw.integers(0, N_SHOPPERS, 200)],
            "item_id": [f"p{number}" for number in draw.integers(0, N_ITEMS, 200)],
            "time_s": FIRST_S + draw.integers(0, 17 * WEEK_S, 200),
            "text": [" ".join(draw.choice(WORDS, 12)) for _ in range(200)],
        }
    )
    if change is not None:
        change(tables)
    for name, frame in tables.items():
        frame.write_parquet(folder / f"{name}.parquet")


def read_table(folder: Path, table: str) -> pl.DataFrame:
    """All partitions of one feature table."""
    return pl.read_parquet([str(file) for file in sorted(folder.glob(f"{table}*.parquet"))]).select(
        column.name for column in COLUMNS[table]
    )


@pytest.fixture(scope="session")
def rich_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little shop with more, ingested; not to be changed."""
    folder = tmp_path_factory.mktemp("rich")
    write_own_files(folder / "own")
    ingest(folder / "own", folder / "canonical", lambda _: None)
    return folder / "canonical"


@pytest.fixture(scope="session")
def features_folder(rich_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its features as of AT_S, in three partitions; not to be changed."""
    into = tmp_path_factory.mktemp("features") / "features"
    write_features(rich_shop, into, lambda _: None, Options(at_s=AT_S, n_partitions=3))
    return into
