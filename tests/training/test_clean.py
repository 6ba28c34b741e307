"""Cleaning: one named rule for what is removed, limits fitted on the training window alone."""

import polars as pl
import pytest

from training.clean import OUTLIER_FACTOR, CleaningReport, clean
from training.sources.tables import TABLES, Shop, shop_of

START_S, TRAIN_UNTIL_S = 1_704_067_200, 1_704_067_200 + 10_000
LINE: dict[str, object] = {
    "shopper_id": "s1", "time_s": START_S, "kind": "order", "item_id": "p1", "quantity": 1.0, "paid_micros": 2_000_000,
    "discount_micros": 0, "coupon_micros": 0, "order_id": "o1", "store_id": None,
}  # fmt: skip


def shop(*lines: dict[str, object]) -> Shop:
    events = pl.DataFrame([LINE | line for line in lines], schema=TABLES["events"].schema)
    return shop_of({"events": events}, "test", train_until_s=TRAIN_UNTIL_S)


def counts(report: CleaningReport) -> dict[str, int]:
    return {rule.rule: rule.n_rows for rule in report.rules}


def test_clean_tables_pass_untouched() -> None:
    dirty = shop({}, {"item_id": "p2"})
    cleaned, report = clean(dirty)
    assert cleaned.events.equals(dirty.events)
    assert counts(report) == {}


def test_an_exact_duplicate_is_removed_and_the_first_kept() -> None:
    cleaned, report = clean(shop({}, {}, {"order_id": "o2"}))
    assert cleaned.events["order_id"].to_list() == ["o1", "o2"]
    assert counts(report) == {"duplicate": 1}


@pytest.mark.parametrize("column", ["shopper_id", "time_s", "kind", "item_id"])
def test_a_row_without_what_it_needs_is_removed(column: str) -> None:
    cleaned, report = clean(shop({}, {column: None}))
    assert cleaned.events.height == 1
    assert counts(report) == {"missing_value": 1}


@pytest.mark.parametrize("time_s", [0, START_S * 1000])
def test_a_time_of_another_age_is_removed(time_s: int) -> None:
    assert counts(clean(shop({}, {"time_s": time_s}))[1]) == {"implausible_time": 1}


def test_an_order_of_nothing_for_nothing_is_removed_and_a_gift_is_kept() -> None:
    nothing, gift = {"quantity": 0.0, "paid_micros": 0}, {"quantity": 1.0, "paid_micros": 0}
    cleaned, report = clean(shop(nothing, gift))
    assert cleaned.events["quantity"].to_list() == [1.0]
    assert counts(report) == {"nothing_sold": 1}


def test_an_outlier_is_clipped_at_a_limit_that_the_training_window_sets() -> None:
    usual = [{"order_id": f"o{n}"} for n in range(50)]
    late = {"order_id": "late", "time_s": TRAIN_UNTIL_S, "paid_micros": 900_000_000}
    cleaned, report = clean(shop(*usual, late))
    assert report.limits["paid_micros"] == OUTLIER_FACTOR * 2_000_000
    assert cleaned.events.filter(pl.col("order_id") == "late")["paid_micros"].to_list() == [20_000_000]
    assert counts(report) == {"outlier_paid_micros": 1}


def test_later_events_change_nothing_that_was_fitted() -> None:
    usual = [{"order_id": f"o{n}", "paid_micros": 1_000_000 * n} for n in range(50)]
    later = [{"order_id": f"late{n}", "time_s": TRAIN_UNTIL_S + n, "quantity": 500.0} for n in range(50)]
    assert clean(shop(*usual))[1].limits == clean(shop(*usual, *later))[1].limits


def test_the_report_says_what_came_in_what_went_out_and_shows_examples() -> None:
    _, report = clean(shop({}, {}, {"shopper_id": None}))
    assert (report.rows_in["events"], report.rows_out["events"]) == (3, 1)
    assert report.rules[0].examples == (LINE | {"shopper_id": None},)
