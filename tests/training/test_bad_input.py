"""Training on tables that nobody should learn from ends in a sentence that names what is wrong, or says it first."""

from pathlib import Path

import polars as pl
import pytest

from kernels.checks import InvalidInput
from tests.shops.generate import DAY_S, FIRST_S, WEEK_S
from tests.training.shops import BREAD, CHEESE, SHOPPERS, changed, of_lines, of_shoppers, weekly_orders
from training.fit import train
from training.sources.tables import InvalidTable


def told_by_training(shop_folder: Path, into: Path, models: tuple[str, ...] = ()) -> list[str]:
    """What training says on the way; what it doubts, it says before it comes to the first model."""
    told: list[str] = []
    train(shop_folder, into, told.append, quick=True, models=models)
    return told


def test_one_class_is_named(shop_folder: Path, tmp_path: Path) -> None:
    """Everybody buys for three weeks, before the first label, and then only looks."""
    orders = [line for line in weekly_orders(SHOPPERS, BREAD) if line[1] < FIRST_S + 3 * WEEK_S]
    later = [line for line in weekly_orders(SHOPPERS, BREAD) if line[1] >= FIRST_S + 3 * WEEK_S]
    views = [(shopper, time_s, "view", item) for shopper, time_s, _, item in later]
    idle = of_lines(shop_folder, tmp_path / "shop", orders + views)
    with pytest.raises(InvalidTable, match="labels of two classes, got one: no shopper ever buys anything"):
        told_by_training(idle, tmp_path / "models", ("behaviour", "response"))


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
        told_by_training(leaking, tmp_path / "models", ("behaviour", "response"))


def test_one_shopper_is_named(shop_folder: Path, tmp_path: Path) -> None:
    alone = of_shoppers(shop_folder, tmp_path / "shop", ["s3"])
    with pytest.raises(InvalidTable, match=r"at least 2 shoppers in the training window, got 1 \('s3'\)"):
        told_by_training(alone, tmp_path / "models")


def test_a_shop_whose_items_hardly_sell_is_named(shop_folder: Path, tmp_path: Path) -> None:
    few = of_shoppers(shop_folder, tmp_path / "shop", ["s3", "s4"])
    with pytest.raises(InvalidTable, match=r"events.item_id must name an item that is ordered at least 10 times"):
        told_by_training(few, tmp_path / "models")


def test_a_column_that_nearly_equals_a_label_is_told(shop_folder: Path, tmp_path: Path) -> None:
    """Everybody buys every second week, so the days since the last order give the week away."""
    regular = of_lines(shop_folder, tmp_path / "shop", weekly_orders(SHOPPERS, BREAD, every=2))
    told = told_by_training(regular, tmp_path / "models")
    near = [sentence for sentence in told if "label 'buys in Bread' is nearly given away" in sentence]
    assert len(near) == 1
    assert "order_recency_days (AUC 1.0000)" in near[0]


def test_a_label_that_always_happens_is_told(shop_folder: Path, tmp_path: Path) -> None:
    orders = weekly_orders(SHOPPERS, BREAD) + weekly_orders(SHOPPERS[:20], CHEESE, every=2)
    told = told_by_training(of_lines(shop_folder, tmp_path / "shop", orders), tmp_path / "models")
    assert any("the label 'buys in Bread' always happens in training" in sentence for sentence in told)
    assert not any("'buys in Cheese' always" in sentence for sentence in told)


def test_features_without_data_are_told_by_name(shop_folder: Path, tmp_path: Path) -> None:
    (sentence,) = [told for told in told_by_training(shop_folder, tmp_path) if "never vary in training" in told]
    # The little shop has no carts, so whatever counts them is missing; it has views, and slots of no category.
    assert "cart_recency_days, has_carted" in sentence
    assert "view_recency_days" not in sentence
    assert "[63]" not in sentence


def test_a_shop_in_order_raises_no_other_doubt(shop_folder: Path, tmp_path: Path) -> None:
    doubtful = [told for told in told_by_training(shop_folder, tmp_path) if told.startswith("look at this")]
    assert len(doubtful) == 1
