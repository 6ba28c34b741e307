"""Rows are what was known just before, labels what came after, windows stand in time order."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from kernels.checks import InvalidInput
from kernels.features import N_FEATURES, columns
from kernels.ledger import EXPOSURE, ORDER, REDEMPTION, order_key
from training import labels
from training.answers import answers_of
from training.dataset import (
    DAY_S,
    NEITHER,
    TEST,
    TRAIN,
    VALID,
    WEEK_S,
    Dataset,
    Splits,
    check_finite,
    check_no_leak,
    dataset_of,
    splits_of,
    weekly_grid,
)
from training.sources.tables import InvalidTable, Shop
from training.vocabulary import EVERYTHING_ELSE, vocabulary_of


def test_windows_follow_each_other_and_begin_at_midnight(shop: Shop) -> None:
    splits = splits_of(shop)
    assert splits.first_s < splits.train_until_s < splits.valid_until_s < splits.last_s < splits.end_s
    assert splits.train_until_s % DAY_S == splits.valid_until_s % DAY_S == splits.end_s % DAY_S == 0


def test_a_late_end_of_training_leaves_room_for_validation(shop: Shop) -> None:
    usual = splits_of(shop)
    late_s = usual.valid_until_s + DAY_S
    splits = splits_of(replace(shop, train_until_s=late_s))
    assert late_s == splits.train_until_s < splits.valid_until_s < splits.last_s


def test_an_end_of_training_outside_of_the_events_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidTable, match="train_until must be between the first event"):
        splits_of(replace(shop, train_until_s=splits_of(shop).last_s + DAY_S))


def test_a_row_belongs_to_a_window_only_with_the_whole_time_its_label_looks_ahead() -> None:
    splits = Splits(first_s=0, train_until_s=10 * DAY_S, valid_until_s=20 * DAY_S, last_s=30 * DAY_S - 1)
    at_s = np.array([0, 3, 4, 10, 13, 14, 20, 23, 24]) * DAY_S
    expected = [TRAIN, TRAIN, NEITHER, VALID, VALID, NEITHER, TEST, TEST, NEITHER]
    assert splits.part(at_s, 7 * DAY_S).tolist() == expected


def test_every_training_row_lies_before_every_validation_row_before_every_test_row(dataset: Dataset) -> None:
    rows, _ = dataset.weekly()
    part = dataset.splits.part(rows.at_s, WEEK_S)
    assert rows.at_s[part == TRAIN].max() + WEEK_S <= rows.at_s[part == VALID].min()
    assert rows.at_s[part == VALID].max() + WEEK_S <= rows.at_s[part == TEST].min()


def test_the_grid_meets_the_end_of_training_and_ends_within_the_data(dataset: Dataset) -> None:
    grid = weekly_grid(dataset.splits)
    assert dataset.splits.train_until_s in grid
    assert set(np.diff(grid)) == {WEEK_S}
    assert grid[-1] + WEEK_S <= dataset.splits.end_s


def test_features_of_a_query_do_not_change_when_later_events_are_added(shop: Shop, dataset: Dataset) -> None:
    cut_s = dataset.splits.train_until_s
    shopper = np.arange(dataset.ledger.n_shoppers)
    before = dataset.rows(shopper, np.full(shopper.size, cut_s))
    last = shop.events.filter(pl.col("time_s") < cut_s).head(500)
    later = pl.concat([shop.events, last.with_columns(time_s=pl.lit(cut_s, pl.Int64))])
    after = dataset_of(replace(shop, events=later)).rows(shopper, np.full(shopper.size, cut_s))
    np.testing.assert_array_equal(before.features, after.features)
    np.testing.assert_array_equal(before.item_history, after.item_history)


def test_an_event_at_the_very_second_of_a_query_is_a_label_and_not_a_feature(dataset: Dataset) -> None:
    ledger = dataset.ledger
    order = int(np.flatnonzero((ledger.kind == ORDER) & (ledger.item > 0))[0])
    shopper = np.array([np.searchsorted(ledger.offsets, order, side="right") - 1])
    at_s = ledger.time_s[[order]]
    bought = labels.next_items(dataset, shopper, at_s)
    assert ledger.item[order] in bought.items
    assert dataset.rows(shopper, at_s).features[0, columns().index("n_orders")] == 0.0


def test_exposures_and_redemptions_are_events_of_the_ledger(shop: Shop, dataset: Dataset) -> None:
    assert int((dataset.ledger.kind == EXPOSURE).sum()) == shop.exposures.height
    assert int((dataset.ledger.kind == REDEMPTION).sum()) == shop.outcomes.height


def test_orders_keep_their_lines_together_by_key(shop: Shop, dataset: Dataset) -> None:
    order_id = shop.events.filter(pl.col("kind") == "order")["order_id"][0]
    lines = shop.events.filter(pl.col("order_id") == order_id).height
    assert int((dataset.ledger.order == order_key(order_id)).sum()) == lines


def test_the_vocabulary_knows_the_training_window_only(shop: Shop, dataset: Dataset) -> None:
    cut_s = dataset.splits.train_until_s
    earlier = replace(shop, events=shop.events.filter(pl.col("time_s") < cut_s))
    assert vocabulary_of(earlier, cut_s).item_ids == dataset.vocabulary.item_ids
    assert vocabulary_of(earlier, cut_s).categories == dataset.vocabulary.categories


def test_a_category_without_a_slot_falls_into_everything_else(dataset: Dataset) -> None:
    slots = dataset.vocabulary.category_slots(pl.Series(["Bread", "never seen", None]))
    assert dataset.vocabulary.categories[slots[0]] == "Bread"
    assert [dataset.vocabulary.categories[slot] for slot in slots[1:]] == [EVERYTHING_ELSE] * 2


def test_weekly_labels_equal_a_search_through_the_events(shop: Shop, dataset: Dataset) -> None:
    rows, grid = dataset.weekly()
    bought = labels.bought_categories(dataset, grid)
    events = (
        shop.events.filter(pl.col("kind") == "order")
        .join(shop.items, on="item_id")
        .join(dataset.vocabulary.shopper_index, on="shopper_id")
    )
    for row in range(0, len(rows), 97):
        shopper, at_s = int(rows.shopper[row]), int(rows.at_s[row])
        week = events.filter((pl.col("shopper") == shopper) & pl.col("time_s").is_between(at_s, at_s + WEEK_S - 1))
        expected = set(dataset.vocabulary.category_slots(week["category"]).tolist())
        assert set(np.flatnonzero(bought[shopper, np.searchsorted(grid, at_s)])) == expected


def test_spend_is_paid_less_refunded_within_the_horizon(shop: Shop, dataset: Dataset) -> None:
    start_s = dataset.splits.train_until_s
    shopper = np.arange(dataset.ledger.n_shoppers)
    spent = labels.spend_after(dataset, shopper, np.full(shopper.size, start_s), 28 * DAY_S)
    within = shop.events.filter(pl.col("time_s").is_between(start_s, start_s + 28 * DAY_S - 1))
    signs = {"order": 1, "refund": -1}
    total = within.filter(pl.col("kind").is_in(list(signs))).select(
        (pl.col("paid_micros") * pl.col("kind").replace_strict(signs, return_dtype=pl.Int64)).sum()
    )
    assert spent.sum() == pytest.approx(total.item() / 1e6, abs=1e-6)


def test_a_redemption_counts_only_where_an_offer_was_held(dataset: Dataset) -> None:
    rows, grid = dataset.weekly()
    cases = answers_of(dataset, rows, grid).cases
    held = labels.held_groups(dataset, grid)[cases.shopper, np.searchsorted(grid, cases.at_s)]
    assert np.array_equal(cases.sent, held)
    assert held.any(axis=1).all()


def test_every_feature_is_finite(dataset: Dataset) -> None:
    rows, _ = dataset.weekly()
    assert rows.features.shape[1] == N_FEATURES
    assert np.isfinite(rows.features).all()


def test_a_feature_that_is_not_finite_is_named() -> None:
    features = np.zeros((3, N_FEATURES), np.float32)
    features[2, columns().index("spend_total")] = np.nan
    with pytest.raises(InvalidInput, match=r"spend_total must be finite, got nan \(row 2\)"):
        check_finite(features)


def test_a_feature_that_equals_a_label_is_named() -> None:
    label = np.arange(40) % 3 == 0
    features = np.zeros((40, N_FEATURES), np.float32)
    features[:, columns().index("has_viewed")] = label
    with pytest.raises(InvalidInput, match="has_viewed must not equal the label buys in Bread"):
        check_no_leak(features, {"buys in Bread": label})


def test_a_label_in_the_future_of_the_data_is_named(shop: Shop, dataset: Dataset) -> None:
    late = shop.outcomes.head(1).with_columns(time_s=pl.lit(dataset.splits.end_s, pl.Int64))
    with pytest.raises(
        InvalidTable, match=r"outcomes.time_s must not be after the last event .* a label in the future"
    ):
        dataset_of(replace(shop, outcomes=pl.concat([shop.outcomes, late])))


def test_too_short_a_span_is_named(shop: Shop) -> None:
    first_s = int(shop.events["time_s"].min())  # type: ignore[arg-type]
    short = shop.events.filter(pl.col("time_s") < first_s + 3 * WEEK_S)
    with pytest.raises(InvalidTable, match=r"events.time_s must span at least 8 weeks, got 3\.0|got 2\.9"):
        splits_of(replace(shop, events=short))


def test_a_shop_without_events_is_named(shop: Shop) -> None:
    with pytest.raises(InvalidTable, match="events must have rows, got 0"):
        splits_of(replace(shop, events=shop.events.clear()))


def test_too_many_arms_are_named(shop: Shop) -> None:
    arms = pl.Series("arm", [f"type {row}" for row in range(shop.offers.height)])
    with pytest.raises(InvalidTable, match=r"offers\.arm must have at most 4 different values"):
        vocabulary_of(replace(shop, offers=shop.offers.with_columns(arms)), splits_of(shop).train_until_s)


def test_a_training_window_of_one_class_is_named(shop: Shop) -> None:
    refunds = shop.events.with_columns(kind=pl.lit("view"))
    idle = dataset_of(replace(shop, events=refunds))
    rows, grid = idle.weekly()
    with pytest.raises(InvalidTable, match="labels of two classes, got one: no shopper ever buys anything"):
        answers_of(idle, rows, grid)
