"""Training on tables that nobody should learn from ends in a sentence that names what is wrong, or says it first."""

from pathlib import Path

import polars as pl
import pytest

from kernels.checks import InvalidInput
from tests.shops.generate import DAY_S, FIRST_S, WEEK_S
from tests.training.shops import BREAD, CHEESE, SHOPPERS, changed, of_lines, weekly_orders
from training.fit import train
from training.sources.tables import InvalidTable


def told_by_training(shop_folder: Path, into: Path) -> list[str]:
    """What training says on the way; one model is enough to see it."""
    told: list[str] = []
    train(shop_folder, into, told.append, quick=True, models=("response",))
    return told


def test_one_class_is_named(shop_folder: Path, tmp_path: Path) -> None:
    """Everybody buys for three weeks, before the first label, and then only looks."""
    orders = [line for line in weekly_orders(SHOPPERS, BREAD) if line[1] < FIRST_S + 3 * WEEK_S]
    later = [line for line in weekly_orders(SHOPPERS, BREAD) if line[1] >= FIRST_S + 3 * WEEK_S]
    views = [(shopper, time_s, "view", item) for shopper, time_s, _, item in later]
    idle = of_lines(shop_folder, tmp_path / "shop", orders + views)
    with pytest.raises(InvalidTable, match="labels of two classes, got one: no shopper ever buys anything"):
        told_by_training(idle, tmp_path / "models")


def test_a_label_in_the_future_is_named(shop_folder: Path, tmp_path: Path) -> None:
    def late(name: str, rows: pl.DataFrame) -> pl.DataFrame:
        first = pl.int_range(pl.len()) == 0
        later = pl.when(first).then(pl.col("time_s") + 365 * DAY_S).otherwise("time_s") if name == "outcomes" else None
        return rows if later is None else rows.with_columns(time_s=later)

    with pytest.raises(InvalidTable, match=r"outcomes.time_s .* \(shopper 's0'\): a label in the future of the data"):
        told_by_training(changed(shop_folder, tmp_path / "shop", late), tmp_path / "models")


def test_a_column_that_equals_a_label_is_named(shop_folder: Path, tmp_path: Path) -> None:
    """Who ever looked at a page buys bread every week; nobody else ever does."""
    looked = [(shopper, FIRST_S + DAY_S // 2, "view", BREAD[0]) for shopper in SHOPPERS[:20]]
    orders = weekly_orders(SHOPPERS[:20], BREAD) + weekly_orders(SHOPPERS[20:], CHEESE)
    leaking = of_lines(shop_folder, tmp_path / "shop", looked + orders)
    with pytest.raises(InvalidInput, match="has_viewed must not equal the label buys in Bread, got"):
        told_by_training(leaking, tmp_path / "models")
