"""Missing values and outliers: every way does what its plain definition says, and only the past is fitted on."""

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.training.cleaning.staged import TRAIN_UNTIL_S, Cleaned, cleaned, orders
from training.cleaning import TableRules
from training.sources.tables import InvalidTable

LATE_S = TRAIN_UNTIL_S + 1
# The folder holds nothing between examples: every run replaces all files it reads.
SHARED_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
QUANTITIES = st.lists(st.one_of(st.none(), st.integers(1, 40).map(float)), min_size=1, max_size=30)


def rules(**columns: object) -> dict[str, TableRules]:
    """Rules of events' columns, with repeated rows kept."""
    return {"events": TableRules.model_validate({"duplicates": "keep", "columns": columns})}


def fitted(done: Cleaned) -> dict[tuple[str, str], object]:
    """Fitted values by column and statistic."""
    return {(each.column, each.statistic): each.value for each in done.report.fitted}


def test_only_a_rule_that_asks_for_a_model_pays_for_importing_scikit_learn() -> None:
    asked = "import sys, training.sources.shop; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@SHARED_FOLDER
@given(quantities=QUANTITIES, way=st.sampled_from(["mean", "median", "min", "max", "most_frequent"]))
def test_a_missing_quantity_becomes_what_its_way_says(tmp_path: Path, quantities: list[float | None], way: str) -> None:
    rows = orders(*({"quantity": quantity, "order_id": f"{row:03}"} for row, quantity in enumerate(quantities)))
    done = cleaned(tmp_path, {"events": rows}, rules(quantity={"missing": way, "outliers": "keep"}), n_parts=2)
    known = [quantity for quantity in quantities if quantity is not None]
    centres = {
        "mean": statistics.fmean, "median": statistics.median, "min": min, "max": max,
        "most_frequent": lambda values: min(statistics.multimode(values)),
    }  # fmt: skip
    # Nothing to fit leaves a line that says no quantity, and such a line is one unit.
    put = centres[way](known) if known else 1.0
    kept = [put if quantity is None else quantity for quantity in quantities]
    assert done.events.sort("order_id")["quantity"].to_list() == pytest.approx(kept, rel=1e-12)  # order of a sum


@pytest.mark.parametrize(
    ("way", "left"), [("drop", ["north"]), ("keep", ["north", None]), ({"constant": "web"}, ["north", "web"])]
)
def test_a_missing_text_is_dropped_kept_or_replaced(tmp_path: Path, way: object, left: list[str | None]) -> None:
    rows = orders({"store_id": "north"}, {"store_id": None})
    done = cleaned(tmp_path, {"events": rows}, rules(store_id={"missing": way}))
    assert done.events["store_id"].to_list() == left


def test_a_missing_value_kept_with_an_indicator_is_marked(tmp_path: Path) -> None:
    rows = orders({"store_id": "north"}, {"store_id": ""}, {"quantity": None})
    asked = rules(store_id={"missing": "indicator"}, quantity={"missing": "indicator"})
    done = cleaned(tmp_path, {"events": rows}, asked)
    assert done.events["store_id_is_missing"].to_list() == [False, True, True]
    assert done.events["store_id"].to_list() == ["north", None, None]
    assert done.events["quantity_is_missing"].to_list() == [False, False, True]
    assert done.events["quantity"].to_list() == [1.0, 1.0, 1.0]
    assert done.counts == {("marked", "quantity"): 1, ("marked", "store_id"): 2}


def test_a_shopper_nobody_named_is_a_guest_where_the_shop_says_so(tmp_path: Path) -> None:
    done = cleaned(
        tmp_path, {"events": orders({"shopper_id": None}, {})}, rules(shopper_id={"missing": {"constant": "guest"}})
    )
    assert done.events["shopper_id"].to_list() == ["guest", "s1"]


def test_a_constant_of_money_is_in_the_unit_of_its_name(tmp_path: Path) -> None:
    done = cleaned(tmp_path, {"events": orders({"coupon_micros": None})}, rules(coupon={"missing": {"constant": 0.5}}))
    assert done.events["coupon_micros"].to_list() == [500_000]


def test_a_model_guesses_what_the_other_columns_tell_and_always_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    items = random.integers(0, 4, 400)
    rows = orders(*(
        {"item_id": f"p{item}", "quantity": float(item + 1), "store_id": f"store {item % 2}", "order_id": f"{row:03}"}
        for row, item in enumerate(items)
    ))  # fmt: skip
    for row in rows[::10]:
        row["quantity"] = None
    for row in rows[5::10]:
        row["store_id"] = None
    asked = rules(quantity={"missing": "model", "outliers": "keep"}, store_id={"missing": "model"})
    once, again = (cleaned(tmp_path, {"events": rows}, asked, n_parts=n_parts) for n_parts in (1, 2))
    # Four items decide both columns without noise, so trees that read them miss nothing.
    assert once.events.sort("order_id")["quantity"].round().to_list() == [float(item + 1) for item in items]
    assert once.events.sort("order_id")["store_id"].to_list() == [f"store {item % 2}" for item in items]
    assert again.events.sort("order_id").equals(once.events.sort("order_id"))
    assert once.counts == {("filled_with_model", "quantity"): 40, ("filled_with_model", "store_id"): 40}


@SHARED_FOLDER
@example(quantities=[1.0, *[2.0] * 10], method="quantile", factor=1.0)
@given(
    quantities=st.lists(st.integers(1, 60).map(float), min_size=1, max_size=40),
    method=st.sampled_from(["quantile", "iqr", "mad"]),
    factor=st.sampled_from([1.0, 1.5, 3.0]),
)
def test_clipping_equals_its_definition(tmp_path: Path, quantities: list[float], method: str, factor: float) -> None:
    rows = orders(*({"quantity": quantity, "order_id": f"{row:03}"} for row, quantity in enumerate(quantities)))
    outliers = {"method": method, "limit": 0.9, "factor": factor, "sides": "both"}
    done = cleaned(tmp_path, {"events": rows}, rules(quantity={"outliers": outliers}), n_parts=2)
    below, above = defined_limits(quantities, method, factor)
    expected = [min(max(quantity, below), above) for quantity in quantities]
    # numpy and polars interpolate a quartile by formulas that may differ in the last bit.
    assert done.events.sort("order_id")["quantity"].to_list() == pytest.approx(expected, rel=1e-12)


def defined_limits(values: list[float], method: str, factor: float) -> tuple[float, float]:
    """The limits as docs/cleaning.md says them."""
    if method == "quantile":
        ordered = sorted(values)
        place = 0.9 * (len(ordered) - 1)
        high = ordered[int(np.ceil(place - 1e-9))]
        low = ordered[int(np.floor(len(ordered) - 1 - place + 1e-9))]
        return low / factor, high * factor
    if method == "iqr":
        low, high = np.quantile(values, [0.25, 0.75])
        spread = high - low
    else:
        low = high = statistics.median(values)
        spread = 1.4826 * statistics.median(abs(value - low) for value in values)
    return (low - factor * spread, high + factor * spread) if spread else (-np.inf, np.inf)


def test_an_outlier_is_clipped_at_a_limit_that_the_training_window_sets(tmp_path: Path) -> None:
    usual = [{"order_id": f"o{n}"} for n in range(50)]
    late = {"order_id": "late", "time_s": LATE_S, "paid_micros": 900_000_000}
    done = cleaned(tmp_path, {"events": orders(*usual, late)})
    assert fitted(done)["paid_micros", "outlier above"] == 20_000_000
    assert done.events.filter(order_id="late")["paid_micros"].to_list() == [20_000_000]
    [rule] = done.report.rules
    assert (rule.rule, rule.column, rule.action, rule.n_rows) == ("outlier", "paid_micros", "changed", 1)
    assert (rule.examples[0].before, rule.examples[0].after) == (
        {"paid_micros": 900_000_000}, {"paid_micros": 20_000_000},
    )  # fmt: skip


@pytest.mark.parametrize("then", ["drop", "flag"])
def test_an_outlier_is_dropped_or_flagged(tmp_path: Path, then: str) -> None:
    rows = orders(*({"order_id": f"o{n}"} for n in range(9)), {"order_id": "big", "quantity": 99.0})
    done = cleaned(tmp_path, {"events": rows}, rules(quantity={"outliers": {"limit": 0.6, "then": then}}))
    if then == "drop":
        assert "big" not in done.events["order_id"]
        assert done.removed["rule"].to_list() == ["outlier"]
        assert done.removed["reason"].to_list() == ["quantity must not be above 10, got 99.0"]
    else:
        assert done.events.filter("quantity_is_outlier")["order_id"].to_list() == ["big"]
        assert done.events.height == 10


def test_a_column_that_does_not_vary_has_no_outliers(tmp_path: Path) -> None:
    rows = orders(*({"order_id": f"o{n}"} for n in range(9)), {"quantity": 2.0})
    done = cleaned(tmp_path, {"events": rows}, rules(quantity={"outliers": {"method": "mad"}}))
    assert done.counts == {}
    assert done.report.notes == ["events.quantity hardly varies; no limit of outliers was fitted."]


@SHARED_FOLDER
@given(
    later=st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["north", "south"])), max_size=10),
    way=st.sampled_from(["mean", "median", "max", "most_frequent", "model"]),
    method=st.sampled_from(["quantile", "iqr", "mad"]),
)
def test_later_rows_change_nothing_that_was_fitted(
    tmp_path: Path, later: list[tuple[int, str]], way: str, method: str
) -> None:
    usual = [
        {"order_id": f"o{n}", "quantity": float(n % 7 + 1), "paid_micros": 1_000_000 * n, "item_id": f"p{n % 7}"}
        for n in range(50)
    ]
    unsaid = [{"order_id": f"x{n}", "quantity": None, "item_id": f"p{n}"} for n in range(7)]
    after = [
        {"time_s": LATE_S + n, "quantity": float(quantity), "store_id": store, "order_id": f"late{n}"}
        for n, (quantity, store) in enumerate(later)
    ]
    asked = rules(quantity={"missing": way, "outliers": {"method": method}}, store_id={"missing": "most_frequent"})
    before = cleaned(tmp_path, {"events": orders(*usual, *unsaid)}, asked)
    then = cleaned(tmp_path, {"events": orders(*usual, *unsaid, *after)}, asked)
    assert fitted(before) == fitted(then)
    early = pl.col("time_s") < TRAIN_UNTIL_S
    assert before.events.filter(early).equals(then.events.filter(early))


def test_a_table_without_times_is_fitted_on_all_rows_and_says_so(tmp_path: Path) -> None:
    items = [{"item_id": f"p{n}", "price_micros": price} for n, price in enumerate([1, 2, None])]
    asked = {"items": TableRules.model_validate({"columns": {"price_micros": {"missing": "max"}}})}
    done = cleaned(tmp_path, {"items": items}, asked)
    assert done.tables["items"]["price_micros"].to_list() == [1, 2, 2]
    assert [each.window for each in done.report.fitted] == ["all rows"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"colour": {}}, "events.clean.columns must be of shopper_id, .* got 'colour'"),
        ({"item_id": {"missing": "keep"}}, "item_id.missing must not be 'keep'"),
        ({"item_id": {"missing": "mean"}}, "item_id.missing must be one of drop, .* got 'mean'"),
        ({"time_s": {"missing": "median"}}, "time_s.missing must be one of drop, .* got 'median'"),
        ({"shopper_id": {"missing": "model"}}, "shopper_id.missing must be 'drop' or a constant, got 'model'"),
        ({"quantity": {"missing": {"constant": -1}}}, "quantity.missing.constant must be in the range of quantity"),
        ({"kind": {"missing": {"constant": "gift"}}}, "kind.missing.constant must be view or cart or order or refund"),
        ({"item_id": {"least": 1}}, "item_id must have neither limits nor outliers"),
        ({"paid": {}, "paid_micros": {}}, "must give paid_micros once"),
    ],
)
def test_a_rule_that_cannot_be_obeyed_is_refused(tmp_path: Path, columns: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidTable, match=sentence):
        cleaned(tmp_path, {"events": orders({})}, rules(**columns))
