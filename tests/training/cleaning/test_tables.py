"""Cleaning as a whole: what comes in goes out or to the quarantine, by one named rule, part by part."""

from collections import Counter
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.cleaning.staged import ORDER, START_S, TRAIN_UNTIL_S, cleaned, orders
from training.cleaning import TableRules
from training.sources.tables import TABLES, check_table

LATE_S = TRAIN_UNTIL_S + 1
DIRTY = orders(
    {"shopper_id": "s2"}, {}, {}, {"time_s": None}, {"time_s": 0}, {"quantity": -1.0}, {"kind": "gift"},
    {"quantity": 0.0, "paid_micros": 0}, {"order_id": "o2"}, {"item_id": ""},
)  # fmt: skip


def test_clean_rows_pass_untouched_in_the_order_of_shoppers_and_times(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({"shopper_id": "s2"}, {"time_s": START_S + 5}, {})})
    assert done.events.select("shopper_id", "time_s").rows() == [
        ("s1", START_S), ("s1", START_S + 5), ("s2", START_S),
    ]  # fmt: skip
    assert done.counts == {}
    assert done.removed.is_empty()


def test_every_table_is_written_with_its_schema(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({}), "items": [{"item_id": "p1", "price_micros": 5}]})
    for name, frame in done.tables.items():
        assert check_table(TABLES[name], frame).height == {"events": 1, "items": 1}.get(name, 0)


def test_times_from_1990_to_2037_are_plausible_and_no_others(tmp_path: Path) -> None:
    first_s, end_s = 631_152_000, 2_145_916_800  # 1990-01-01 and 2038-01-01 UTC
    times_s = (0, first_s - 1, first_s, 852_076_800, end_s - 1, end_s)
    done = cleaned(tmp_path, {"events": orders(*({"time_s": time_s} for time_s in times_s))})
    assert done.events["time_s"].to_list() == [first_s, 852_076_800, end_s - 1]
    assert done.counts == {("implausible_time", "time_s"): 3}


@pytest.mark.parametrize("n_parts", [1, 3])
def test_rows_in_are_rows_out_and_rows_removed(tmp_path: Path, n_parts: int) -> None:
    done = cleaned(tmp_path, {"events": DIRTY}, n_parts=n_parts)
    removed = sum(rule.n_rows for rule in done.report.rules if rule.action == "removed")
    assert done.report.rows_in["events"] == len(DIRTY)
    assert done.report.rows_out["events"] == done.events.height == len(DIRTY) - removed
    assert done.removed.height == removed
    assert done.counts == {
        ("missing_value", "item_id"): 1,
        ("missing_value", "time_s"): 1,
        ("implausible_time", "time_s"): 1,
        ("impossible_value", "kind"): 1,
        ("impossible_value", "quantity"): 1,
        ("duplicate", ""): 1,
        ("nothing_sold", ""): 1,
    }


ANY_ROW = st.fixed_dictionaries({
    "shopper_id": st.sampled_from(["s1", "s2", "", None]),
    "time_s": st.sampled_from([START_S, LATE_S, 0, 5_000_000_000, None]),
    "kind": st.sampled_from(["order", "refund", "view", "gift", None]),
    "item_id": st.sampled_from(["p1", "p2", None]),
    "quantity": st.sampled_from([1.0, 0.0, -1.0, float("inf"), float("nan"), None]),
    "paid_micros": st.sampled_from([0, 7, -7, None]),
    "coupon_micros": st.sampled_from([0, -1, None]),
})  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ANY_ROW, max_size=30), n_parts=st.integers(1, 3))
def test_each_row_is_told_by_the_first_rule_that_it_breaks(
    tmp_path: Path, rows: list[dict[str, object]], n_parts: int
) -> None:
    told, seen, kept = Counter[tuple[str, str]](), set[tuple[object, ...]](), []
    for row in rows:
        # NaN is not equal to itself, but two rows that hold it at one place are the same row.
        equal = tuple("NaN" if value != value else value for value in row.values())
        broken = first_broken(row) or (("duplicate", "") if equal in seen else None) or nothing_sold(row)
        if broken is None or broken[0] in ("duplicate", "nothing_sold"):
            seen.add(equal)
        if broken:
            told[broken] += 1
        else:
            kept.append(row)
    done = cleaned(tmp_path, {"events": rows}, n_parts=n_parts)
    assert done.counts == told
    assert done.events.height == len(kept)
    assert Counter(done.events["item_id"]) == Counter(row["item_id"] for row in kept)
    assert done.removed.height == len(rows) - len(kept)


def first_broken(row: dict[str, object]) -> tuple[str, str] | None:
    """The first rule about single values that a row of events breaks, said without any vectors."""
    for column in ("shopper_id", "time_s", "kind", "item_id"):
        if row[column] in (None, ""):
            return "missing_value", column
    if row["paid_micros"] is None and row["kind"] in ("order", "refund"):
        return "missing_value", "paid_micros"
    if not 631_152_000 <= int(str(row["time_s"])) < 2_145_916_800:
        return "implausible_time", "time_s"
    if row["kind"] not in ("view", "cart", "order", "refund"):
        return "impossible_value", "kind"
    for column in ("quantity", "paid_micros", "coupon_micros"):
        value = row[column]
        if isinstance(value, int | float) and (value < 0 or value == float("inf")):
            return "impossible_value", column
    return None


def nothing_sold(row: dict[str, object]) -> tuple[str, str] | None:
    """Whether an order or refund is of nothing for nothing; one that says no quantity is of one unit."""
    is_sale = row["kind"] in ("order", "refund")
    return ("nothing_sold", "") if is_sale and row["quantity"] == 0 and row["paid_micros"] == 0 else None


def test_a_removed_row_says_where_it_stood_and_which_rule_it_broke(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({}, {"quantity": -2.0})})
    row = done.removed.row(0, named=True)
    said = orjson.loads(row.pop("row"))
    assert row == {
        "table": "events", "input": "events.csv", "line": 2, "rule": "impossible_value",
        "reason": "quantity must be ≥ 0, got -2.0",
    }  # fmt: skip
    assert (said["quantity"], said["order_id"]) == (-2.0, "o1")


def test_the_report_shows_examples_with_file_and_line(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({}, *[{"item_id": None, "order_id": f"o{n}"} for n in range(5)])})
    [rule] = done.report.rules
    assert (rule.n_rows, len(rule.examples)) == (5, 3)
    assert (rule.examples[0].input, rule.examples[0].line) == ("events.csv", 2)
    assert rule.examples[0].before["order_id"] == "o0"


def test_an_exact_duplicate_is_removed_and_the_first_kept(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({}, {}, {"order_id": "o2"})})
    assert done.events["order_id"].to_list() == ["o1", "o2"]
    assert done.removed["line"].to_list() == [2]


def test_duplicates_stay_where_the_shop_says_so(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({}, {})}, {"events": TableRules(duplicates="keep")})
    assert done.events.height == 2


def test_outcomes_may_repeat(tmp_path: Path) -> None:
    outcome = {"shopper_id": "s1", "offer_id": "f", "campaign_id": "c", "kind": "redemption", "time_s": START_S}
    assert cleaned(tmp_path, {"outcomes": [outcome, outcome]}).tables["outcomes"].height == 2


def test_a_key_that_comes_again_is_removed(tmp_path: Path) -> None:
    rows = [{"item_id": "p1", "title": "tea"}, {"item_id": "p1", "title": "coffee"}, {"item_id": "p2"}]
    done = cleaned(tmp_path, {"items": rows})
    assert done.tables["items"]["title"].to_list() == ["tea", None]
    assert done.counts == {("repeated_key", "item_id"): 1}


def test_an_order_without_payment_is_removed_and_a_view_without_one_is_not(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({"paid_micros": None}, {"kind": "view", "paid_micros": None})})
    assert done.events.select("kind", "paid_micros").rows() == [("view", 0)]
    assert done.counts == {("missing_value", "paid_micros"): 1}


def test_a_time_that_may_be_unset_is_and_its_row_stays(tmp_path: Path) -> None:
    shoppers = [{"shopper_id": "s1", "signed_up_s": 0}, {"shopper_id": "s2", "signed_up_s": START_S}]
    done = cleaned(tmp_path, {"shoppers": shoppers})
    assert done.tables["shoppers"]["signed_up_s"].to_list() == [None, START_S]
    [rule] = done.report.rules
    assert (rule.rule, rule.action, rule.examples[0].after) == ("implausible_time", "changed", {"signed_up_s": None})


def test_limits_of_the_shops_own_remove_an_event_and_unset_a_price(tmp_path: Path) -> None:
    rules = {
        "events": TableRules.model_validate({"columns": {"paid": {"most": 5}}}),
        "items": TableRules.model_validate({"columns": {"price_micros": {"least": 10}}}),
    }
    tables = {
        "events": orders({}, {"paid_micros": 5_000_001}),
        "items": [{"item_id": "p1", "price_micros": 9}, {"item_id": "p2", "price_micros": 10}],
    }
    done = cleaned(tmp_path, tables, rules)
    assert done.events["paid_micros"].to_list() == [2_000_000]
    assert done.tables["items"]["price_micros"].to_list() == [None, 10]
    assert done.counts == {("limit", "paid_micros"): 1, ("limit", "price_micros"): 1}


def test_the_report_is_json_and_shows_both_sides_of_a_column(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders(*({"quantity": float(n)} for n in range(1, 40)), {"quantity": None})})
    told = orjson.loads(orjson.dumps(done.report))
    quantity = next(each for each in told["distributions"] if each["column"] == "quantity")
    assert (quantity["before"]["n_missing"], quantity["after"]["n_missing"]) == (1, 0)
    assert quantity["before"]["n_rows"] == quantity["n_sampled"] == 40
    assert sum(quantity["counts_before"]) == 39
    assert sum(quantity["counts_after"]) == 40
    assert len(quantity["edges"]) == len(quantity["counts_before"]) + 1
    kind = next(each for each in told["distributions"] if each["column"] == "kind")
    assert (kind["values"], kind["counts_before"]) == (["order"], [40])


def test_a_table_of_nothing_but_faults_is_written_empty(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({"shopper_id": None}, {"time_s": -1})})
    assert done.events.schema == pl.Schema(TABLES["events"].schema)
    assert (done.events.height, done.removed.height) == (0, 2)


def test_what_is_not_a_number_counts_as_missing(tmp_path: Path) -> None:
    reviews = [{"review_id": "r", "time_s": START_S, "rating": float("nan"), "text": "fine"}]
    done = cleaned(tmp_path, {"events": [{**ORDER, "quantity": float("nan")}], "reviews": reviews})
    assert done.events["quantity"].to_list() == [1.0]
    assert done.tables["reviews"]["rating"].to_list() == [None]
