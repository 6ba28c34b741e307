"""Limits are fitted before the end of training, and tags say what planted habits are."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from kernels.channels import channel_counts
from kernels.tag_limits import CHANNELS, LIFECYCLES, tag_columns
from training.dataset import Dataset, dataset_of
from training.features.tags import OrderTimes, check_churn, contacts_of, fit_tag_limits, order_times, tags_of
from training.sources import tables
from training.sources.tables import InvalidTable, Shop, shop_of

DAY_S, WEEK_S = 86_400, 604_800
FIRST_S = 1_704_067_200
N_WEEKS = 52


def shop_with(days: dict[str, list[float]]) -> Shop:
    """A shop of shoppers who each ordered one item on some days; nine months of its year are training."""
    rows = [(who, FIRST_S + round(day * DAY_S)) for who, ordered in days.items() for day in ordered]
    events = pl.DataFrame(rows, schema=["shopper_id", "time_s"], orient="row").with_columns(
        kind=pl.lit("order"), item_id=pl.lit("tea"), quantity=pl.lit(1.0), paid_micros=pl.lit(5_000_000, pl.Int64)
    )
    items = pl.DataFrame({"item_id": ["tea"], "category": ["Tea"]})
    held = {"events": tables.whole(tables.EVENTS, events), "items": tables.whole(tables.ITEMS, items)}
    return shop_of(held, "weekly", train_until_s=FIRST_S + 39 * WEEK_S)


def loyal_and_leaving(n_each: int = 60) -> Shop:
    """Half order every week; the others stop for good after a random number of weeks."""
    draw = np.random.default_rng(0)
    days = {f"loyal{n}": [7.0 * week + draw.random() for week in range(N_WEEKS)] for n in range(n_each)}
    for n in range(n_each):
        stays = int(draw.integers(2, N_WEEKS))
        days[f"leaving{n}"] = [7.0 * week + draw.random() for week in range(stays)]
    return shop_with(days)


@pytest.fixture(scope="module")
def rhythm() -> Dataset:
    """A shop whose shoppers stay or leave."""
    return dataset_of(loyal_and_leaving())


def tags_at(dataset: Dataset, at_s: int) -> pl.DataFrame:
    contacts = contacts_of(dataset.shop, dataset.vocabulary)
    everybody = np.arange(len(dataset.vocabulary.shopper_ids))
    rows = dataset.rows(everybody, np.full(everybody.size, at_s))
    found = tags_of(contacts, rows, fit_tag_limits(dataset, contacts))
    return pl.DataFrame(found, schema=list(tag_columns())).with_columns(
        pl.Series("shopper_id", dataset.vocabulary.shopper_ids)
    )


def test_limits_ignore_what_comes_after_the_end_of_training(shop: Shop) -> None:
    until_s = shop.train_until_s
    cut = {
        name: frame.filter(pl.col("time_s") < until_s + 8 * DAY_S) if "time_s" in frame.columns else frame
        for name, frame in shop.tables().items()
    }
    whole, short = (dataset_of(of) for of in (shop, dataclasses.replace(shop, **cut)))
    limits = [fit_tag_limits(of, contacts_of(of.shop, of.vocabulary)) for of in (whole, short)]
    assert whole.ledger.n_events > short.ledger.n_events
    assert limits[0] == limits[1]


def test_typical_gap_and_churn_weeks_are_the_shoppers_own(rhythm: Dataset) -> None:
    limits = fit_tag_limits(rhythm, contacts_of(rhythm.shop, rhythm.vocabulary))
    assert limits.typical_gap_days == pytest.approx(7.0, abs=0.2)
    assert limits.churn_weeks == 2
    assert 1.0 <= limits.at_risk_due <= limits.lapsed_due < 2.0


def test_churn_beats_the_base_rate_on_later_weeks(rhythm: Dataset) -> None:
    contacts = contacts_of(rhythm.shop, rhythm.vocabulary)
    found = check_churn(rhythm, contacts, fit_tag_limits(rhythm, contacts))
    assert found.n > 300
    assert 0.1 < found.churn_share < 0.9
    # Nothing tells that a shopper leaves before the first missed week, so some error stays.
    assert found.brier < 0.5 * found.brier_of_base_rate
    assert found.calibration_error < 0.1 < found.calibration_error_of_base_rate


def test_a_window_too_short_for_looking_ahead_is_said_to_have_no_cases(dataset: Dataset) -> None:
    contacts = contacts_of(dataset.shop, dataset.vocabulary)
    limits = dataclasses.replace(fit_tag_limits(dataset, contacts), churn_weeks=13)
    found = check_churn(dataset, contacts, limits)
    assert found.n == 0
    assert np.isnan(found.brier)


def test_lifecycles_follow_the_planted_lives(rhythm: Dataset) -> None:
    tags = tags_at(rhythm, FIRST_S + N_WEEKS * WEEK_S)
    named = tags.with_columns(
        pl.col("lifecycle").map_elements(lambda code: LIFECYCLES[int(code)], return_dtype=pl.String)
    )
    loyal = named.filter(pl.col("shopper_id").str.starts_with("loyal"))
    gone = named.filter(pl.col("shopper_id").str.starts_with("leaving"))
    assert loyal["lifecycle"].unique().to_list() == ["active"]
    assert (gone["lifecycle"] == "lapsed").mean() > 0.8
    assert gone["churn_prob"].min() > loyal["churn_prob"].max() or gone["churn_prob"].median() > 0.8


def test_orders_are_counted_within_their_weeks_only() -> None:
    orders = OrderTimes(np.array([0, 0, 2]), np.array([100, 200, 100]))
    asked, at_s = np.array([0, 0, 0, 1, 2]), np.array([100, 101, 201, 100, 0])
    assert orders.has_order_within(asked, at_s, 100).tolist() == [True, True, False, False, False]
    assert orders.has_order_within(asked, at_s, 101)[-1]
    assert not OrderTimes(np.zeros(0, np.int64), np.zeros(0, np.int64)).has_order_within(asked, at_s, 9).any()


def test_orders_begin_once_however_many_lines_they_have(dataset: Dataset) -> None:
    known = dataset.shop.events.filter(pl.col("kind") == "order")["order_id"].n_unique()
    assert order_times(dataset).time_s.size == known


def test_contacts_know_their_channel(dataset: Dataset) -> None:
    contacts = contacts_of(dataset.shop, dataset.vocabulary)
    everybody = np.arange(len(dataset.vocabulary.shopper_ids))
    counts = channel_counts(contacts, everybody, np.full(everybody.size, dataset.splits.end_s)).sum(axis=0)
    place = CHANNELS.index("promotions")
    assert counts[place] == dataset.shop.exposures.height
    assert counts[len(CHANNELS) + place] == dataset.shop.outcomes.height
    assert counts.sum() == counts[place] + counts[len(CHANNELS) + place]


def test_channels_are_those_of_the_tables() -> None:
    assert CHANNELS == tables.CHANNELS


def test_a_shop_without_an_order_before_the_end_of_training_is_refused() -> None:
    dataset = dataset_of(shop_with({"late": [280.0, 290.0], "seen": [0.0]}))
    views = dataset.shop.events.with_columns(
        kind=pl.when(pl.col("shopper_id") == "seen").then(pl.lit("view")).otherwise("kind")
    )
    shop = dataclasses.replace(dataset.shop, events=views)
    dataset = dataset_of(shop)
    with pytest.raises(InvalidTable, match="events must hold an order before the end of training"):
        fit_tag_limits(dataset, contacts_of(shop, dataset.vocabulary))
