"""Canonical tables of shops that nobody should learn from, each broken in one planted way.

In: the little shop's tables. Out: a folder beside them. Called by tests of training on bad input.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from tests.shops.generate import DAY_S, FIRST_S, N_WEEKS, WEEK_S

Line = tuple[str, int, str, str]  # shopper, time, kind, item
SHOPPERS = tuple(f"s{number}" for number in range(40))
BREAD, CHEESE = ("p0", "p8", "p16"), ("p1", "p9", "p17")


def changed(shop_folder: Path, into: Path, change: Callable[[str, pl.DataFrame], pl.DataFrame]) -> Path:
    """Copy a shop, every table changed.

    change   given the name of a table and its rows
    returns  `into`
    """
    shutil.copytree(shop_folder, into)
    for file in into.glob("*.parquet"):
        change(file.stem, pl.read_parquet(file)).write_parquet(file)
    return into


def of_shoppers(shop_folder: Path, into: Path, shoppers: Iterable[str]) -> Path:
    """The same shop, had it had these shoppers only."""
    kept = list(shoppers)
    return changed(
        shop_folder,
        into,
        lambda _, rows: rows.filter(pl.col("shopper_id").is_in(kept)) if "shopper_id" in rows.columns else rows,
    )


def of_lines(shop_folder: Path, into: Path, lines: Iterable[Line]) -> Path:
    """A shop of the same items in which this happened and nothing else; every order is one line of 2.00."""
    listed = list(lines)

    def change(name: str, rows: pl.DataFrame) -> pl.DataFrame:
        if name in ("offers", "exposures", "outcomes"):
            return rows.clear()
        if name != "events":
            return rows
        happened = pl.DataFrame(listed, ["shopper_id", "time_s", "kind", "item_id"], orient="row").with_columns(
            quantity=1.0,
            paid_micros=pl.when(pl.col("kind") == "order").then(2_000_000).otherwise(0),
            order_id=pl.when(pl.col("kind") == "order").then(pl.format("{}-{}", "shopper_id", "time_s")),
            discount_micros=0,
            coupon_micros=0,
        )
        return pl.concat([rows.clear(), happened], how="diagonal_relaxed").cast(rows.schema).sort("time_s")

    return changed(shop_folder, into, change)


def weekly_orders(shoppers: Iterable[str], items: tuple[str, ...], every: int = 1) -> list[Line]:
    """Orders at noon on the fourth day of every, every second, ... week, the items in turn."""
    return [
        (shopper, FIRST_S + week * WEEK_S + 3 * DAY_S + DAY_S // 2, "order", items[(week // every) % len(items)])
        for shopper in shoppers
        for week in range(0, N_WEEKS, every)
    ]
