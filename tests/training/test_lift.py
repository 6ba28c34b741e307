"""The lift of a placement: a known ratio is recovered, none is not invented, and a price cut is not credited to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.shops.generate import write_little_shop
from training.lift import placement_lift
from training.sources.shop import ingest, read_shop
from training.sources.tables import TABLES, WEEK_S, Shop, shop_of, whole

FIRST_S = 1_704_067_200
N_ITEMS, N_STORES, N_WEEKS = 60, 4, 40
ALL_S = FIRST_S + N_WEEKS * WEEK_S


def poisson_shop(
    ads: float = 1.0, content: float = 1.0, cut: float = 1.0, follows_cut: float = 0.0, seed: int = 7
) -> Shop:
    """A shop whose items sell at a Poisson rate multiplied by each of its factors when the factor's cause is there.

    follows_cut  probability that a mailer goes with a price cut rather than with chance
    """
    draw = np.random.default_rng(7)
    shape = (N_ITEMS, N_STORES, N_WEEKS)
    is_cut = np.broadcast_to((draw.random((N_ITEMS, 1, N_WEEKS)) < 0.3), shape)
    in_ads = np.where(draw.random(shape) < follows_cut, is_cut, draw.random(shape) < 0.3)
    on_display = draw.random(shape) < 0.3
    rate = draw.uniform(1.0, 6.0, (N_ITEMS, N_STORES, 1)) * ads**in_ads * content**on_display * cut**is_cut
    n_sold = draw.poisson(rate)
    # Something nobody places keeps the store's traffic steady, so that the ratio of shares is the ratio of rates.
    sold = [
        sales_of(n_sold, is_cut),
        sales_of(np.full((1, N_STORES, N_WEEKS), 20_000), np.zeros((1, N_STORES, N_WEEKS)), "rest"),
    ]
    placements = pl.concat([places_of(in_ads, "ads"), places_of(on_display, "content")])
    return shop_of({"events": pl.concat(sold), "placements": placements}, "poisson")


def sales_of(n_sold: np.ndarray, is_cut: np.ndarray, prefix: str = "p") -> pl.DataFrame:
    item, store, week = np.nonzero(n_sold)
    lines = pl.DataFrame({
        "shopper_id": "s", "time_s": FIRST_S + week * WEEK_S + 3600, "kind": "order",
        "item_id": [f"{prefix}{n}" for n in item], "quantity": 1.0, "paid_micros": 1_000_000,
        "discount_micros": is_cut[item, store, week].astype(np.int64), "coupon_micros": 0, "order_id": "o",
        "store_id": [f"m{n}" for n in store], "n": n_sold[item, store, week],
    })  # fmt: skip
    return whole(TABLES["events"], lines.select(pl.exclude("n").repeat_by("n").explode()))


def places_of(placed: np.ndarray, channel: str) -> pl.DataFrame:
    item, store, week = np.nonzero(placed)
    rows = pl.DataFrame({
        "item_id": [f"p{n}" for n in item], "store_id": [f"m{n}" for n in store], "week": week,
        "week_starts_s": FIRST_S + week * WEEK_S, "channel": channel,
    })  # fmt: skip
    return rows.cast(TABLES["placements"].schema)


def test_known_lifts_lie_within_their_intervals() -> None:
    lifts = placement_lift(poisson_shop(ads=1.6, content=1.25), ALL_S)
    assert lifts["ads"].lower < 1.6 < lifts["ads"].upper
    assert lifts["content"].lower < 1.25 < lifts["content"].upper


def test_the_interval_excludes_one_when_the_effect_is_real_and_covers_it_when_there_is_none() -> None:
    lifts = placement_lift(poisson_shop(ads=1.6), ALL_S)
    assert lifts["ads"].lower > 1
    assert lifts["content"].lower < 1 < lifts["content"].upper


def test_a_price_cut_is_not_credited_to_the_mailer_that_announces_it() -> None:
    lift = placement_lift(poisson_shop(cut=2.0, follows_cut=0.8), ALL_S)["ads"]
    assert lift.raw_lift > 1.5
    assert lift.lower < 1 < lift.upper


def test_one_placement_is_not_credited_to_the_other() -> None:
    shop = poisson_shop(content=2.0)
    displayed = shop.placements.filter(pl.col("channel") == "content")
    # Every display is also in the mailer, beside the mailer's own weeks.
    both = pl.concat([shop.placements, displayed.with_columns(pl.lit("ads").alias("channel"))]).unique()
    lift = placement_lift(replace(shop, placements=both), ALL_S)["ads"]
    assert lift.raw_lift > 1.3
    assert lift.lower < 1 < lift.upper


def test_weeks_after_the_training_window_change_nothing() -> None:
    shop = poisson_shop(ads=1.6)
    until_s = FIRST_S + 20 * WEEK_S
    early = replace(
        shop,
        events=shop.events.filter(pl.col("time_s") < until_s),
        placements=shop.placements.filter(pl.col("week_starts_s") < until_s),
    )
    assert placement_lift(shop, until_s) == placement_lift(early, until_s)


@pytest.mark.parametrize("channel", ["ads", "content"])
def test_a_channel_without_placements_is_absent(channel: str) -> None:
    shop = poisson_shop()
    without = replace(shop, placements=shop.placements.filter(pl.col("channel") != channel))
    assert channel not in placement_lift(without, ALL_S)


def test_a_shop_without_placements_has_no_lifts() -> None:
    assert placement_lift(replace(poisson_shop(), placements=TABLES["placements"].empty()), ALL_S) == {}


def test_an_item_always_placed_is_no_evidence() -> None:
    shop = poisson_shop(ads=1.6)
    always = pl.concat([places_of(np.ones((N_ITEMS, N_STORES, N_WEEKS)), "ads")])
    assert placement_lift(replace(shop, placements=always), ALL_S) == {}


def test_the_little_shop_shows_the_lift_that_was_planted_in_it(tmp_path: Path) -> None:
    write_little_shop(tmp_path / "own", "parquet")
    ingest(tmp_path / "own", tmp_path / "shop", lambda _: None)
    shop = read_shop(tmp_path / "shop")
    lifts = placement_lift(shop, ALL_S)
    # Twice the weight is less than twice the sales: nobody buys an item twice in one order.
    assert 1.4 < lifts["ads"].lift < 2.0
    assert 1.2 < lifts["content"].lift < 1.5
