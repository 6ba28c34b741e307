"""Real reviews, where this machine has them; a test that asks for them elsewhere is skipped."""

import gzip
import io
from pathlib import Path

import polars as pl

from tests.requirements import missing

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def english_reviews() -> pl.DataFrame:
    """Women's clothing reviews: text, is_recommended."""
    table = _table("reviews_en/Womens_Clothing_E-Commerce_Reviews.csv.gz")
    return table.select(
        text=pl.col("Review Text"),
        is_positive=pl.col("Recommended IND") == 1,
        item_id=pl.col("Clothing ID").cast(pl.String),
    ).drop_nulls("text")


def chinese_reviews() -> pl.DataFrame:
    """Shop reviews in seven categories: text, is_positive."""
    table = _table("reviews_zh/online_shopping_7_cats.csv.gz")
    return table.select(text=pl.col("review"), is_positive=pl.col("label") == 1, item_id=pl.col("cat")).drop_nulls(
        "text"
    )


def _table(name: str) -> pl.DataFrame:
    file = DATA / name
    if not file.exists():
        missing(f"{file} is not on this machine")
    return pl.read_csv(io.BytesIO(gzip.decompress(file.read_bytes()).removeprefix(b"\xef\xbb\xbf")))
