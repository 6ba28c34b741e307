"""Who is no customer goes, from every table; refunds find the orders they give back."""

import itertools
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.reference import returns as reference
from tests.requirements import missing
from tests.training.cleaning.staged import START_S, cleaned, cleaned_of, orders
from training.cleaning import TableRules
from training.cleaning.accounts import HOUR_S, busy_shoppers, fits
from training.cleaning.order import by_shopper_and_time
from training.cleaning.repeats import repeated
from training.sources.staging import Staged, staged_schema
from training.sources.tables import TABLES, InvalidTable

RETAIL = Path(__file__).resolve().parents[4] / "shared" / "data" / "online_retail" / "online_retail_2009_2010.parquet"
EXAMPLES = settings(max_examples=60, deadline=None)
SHARED_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3 * HOUR_S)), max_size=40)


def events_of(rows: list[tuple[str, int]]) -> pl.DataFrame:
    """Events of (shopper, time), numbered as they came."""
    return pl.DataFrame(rows, schema={"shopper_id": pl.String(), "time_s": pl.Int64()}, orient="row").with_row_index()


@EXAMPLES
@given(rows=EVENTS)
def test_events_are_sorted_by_shopper_and_time_and_ties_stay_as_they_came(rows: list[tuple[str, int]]) -> None:
    plain = sorted(range(len(rows)), key=lambda row: rows[row])
    assert by_shopper_and_time(events_of(rows))["index"].to_list() == plain


@EXAMPLES
@given(rows=EVENTS, most=st.integers(1, 6))
def test_a_bot_has_more_events_within_some_hour(rows: list[tuple[str, int]], most: int) -> None:
    defined = [
        shopper
        for shopper in "abc"
        if any(
            sum(who == shopper and start <= time < start + HOUR_S for who, time in rows) > most
            for by, start in rows
            if by == shopper
        )
    ]
    assert busy_shoppers(by_shopper_and_time(events_of(rows)), most).to_list() == defined


@EXAMPLES
@given(
    patterns=st.lists(st.text("ab*?.(", min_size=1, max_size=5), min_size=1, max_size=3),
    names=st.lists(st.text("ab.(\n", max_size=5), max_size=8),
)
def test_patterns_fit_as_a_shell_would_have_it(patterns: list[str], names: list[str]) -> None:
    found = pl.DataFrame({"shopper_id": names}, schema={"shopper_id": pl.String()}).select(fits(patterns)).to_series()
    assert found.to_list() == [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]


@EXAMPLES
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.sampled_from("xy"))), max_size=20))
def test_a_repeated_row_equals_one_before_it(rows: list[tuple[int, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"number": pl.Int64(), "text": pl.String()}, orient="row")
    found = repeated(frame, ("number", "text"))
    defined = [row in rows[:place] for place, row in enumerate(rows)]
    assert (found.to_list() if found is not None else [False] * len(rows)) == defined


def test_test_accounts_of_events_go_from_every_table(tmp_path: Path) -> None:
    tables = {
        "events": orders({}, {"shopper_id": "test7"}, {"shopper_id": "contest"}),
        "shoppers": [{"shopper_id": "test7"}, {"shopper_id": "s1"}],
    }
    done = cleaned(tmp_path, tables, {"events": TableRules(test_accounts=("test*", "qa-{}"))})
    assert done.events["shopper_id"].to_list() == ["contest", "s1"]
    assert done.tables["shoppers"]["shopper_id"].to_list() == ["s1"]
    assert done.removed.select("table", "rule", "reason").rows() == [
        (table, "test_account", "shopper_id must not fit test*, qa-{}, got test7") for table in ("events", "shoppers")
    ]


def test_a_bot_found_among_events_goes_from_every_table(tmp_path: Path) -> None:
    clicks = [{"shopper_id": "bot", "kind": "view", "time_s": START_S + n, "item_id": f"p{n}"} for n in range(4)]
    tables = {"events": orders({}, *clicks), "shoppers": [{"shopper_id": "bot"}, {"shopper_id": "s1"}]}
    rules = {"events": TableRules.model_validate({"bots": {"most_events_per_hour": 3}})}
    done = cleaned(tmp_path, tables, rules)
    assert done.events["shopper_id"].to_list() == ["s1"]
    assert done.tables["shoppers"]["shopper_id"].to_list() == ["s1"]
    assert done.removed.group_by("table").len().sort("table").rows() == [("events", 4), ("shoppers", 1)]


def test_known_bots_go_by_name(tmp_path: Path) -> None:
    rules = {"events": TableRules.model_validate({"bots": {"shopper_ids": ["crawler-??"]}})}
    done = cleaned(tmp_path, {"events": orders({}, {"shopper_id": "crawler-17"})}, rules)
    assert done.counts == {("bot_by_name", "shopper_id"): 1}


MATCH = {"events": TableRules(returns="match")}


def test_a_refund_gets_the_order_it_gives_back(tmp_path: Path) -> None:
    refund = {"kind": "refund", "time_s": START_S + 9, "order_id": "C9"}
    rows = orders(refund, {"order_id": "o1", "quantity": 2.0}, {**refund, "item_id": "p2"})
    done = cleaned(tmp_path, {"events": rows}, MATCH)
    assert done.events.select("kind", "item_id", "order_id").rows() == [
        ("order", "p1", "o1"), ("refund", "p1", "o1"), ("refund", "p2", "C9"),
    ]  # fmt: skip
    told = done.report.returns
    assert told is not None
    assert (told.n_refunds, told.n_full, told.n_part, told.n_unmatched) == (2, 1, 0, 1)
    assert (told.n_units, told.n_units_matched) == (2.0, 1.0)


def test_an_unmatched_refund_goes_where_the_shop_says_so(tmp_path: Path) -> None:
    rows = orders({"kind": "refund"}, {"item_id": "p2"})
    done = cleaned(tmp_path, {"events": rows}, {"events": TableRules(returns="match", unmatched_returns="drop")})
    assert done.events["kind"].to_list() == ["order"]
    assert done.counts == {("return_unmatched", "item_id"): 1}


def test_what_only_events_have_is_refused_of_other_tables(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match=r"items\.clean must not say returns"):
        cleaned(tmp_path, {"events": orders({})}, {"items": TableRules(returns="match")})
    with pytest.raises(InvalidTable, match=r"items\.clean must not name shoppers"):
        cleaned(tmp_path, {"events": orders({})}, {"items": TableRules(test_accounts=("t*",))})


LINES = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 5), st.sampled_from("pq"), st.booleans(), st.integers(1, 4),
        st.sampled_from(["o1", "o2", None]),
    ),
    max_size=20,
)  # fmt: skip


@SHARED_FOLDER
@given(lines=LINES)
def test_returns_in_a_table_are_those_of_their_definition(
    tmp_path: Path, lines: list[tuple[str, int, str, bool, int, str | None]]
) -> None:
    rows = orders(*(
        {"shopper_id": who, "time_s": START_S + time, "item_id": item, "kind": "refund" if is_refund else "order",
         "quantity": float(units), "order_id": order}
        for who, time, item, is_refund, units, order in lines
    ))  # fmt: skip
    rules = TableRules.model_validate(
        {"returns": "match", "duplicates": "keep", "columns": {"quantity": {"outliers": "keep"}}}
    )
    told = cleaned(tmp_path, {"events": rows}, {"events": rules}, n_parts=2).report.returns
    assert told is not None
    counts = defined_counts([(row["shopper_id"], row["item_id"], row["time_s"], row) for row in rows])
    assert (told.n_full, told.n_part, told.n_unmatched) == counts


def defined_counts(lines: list[tuple[object, object, object, dict[str, object]]]) -> tuple[int, int, int]:
    """Refunds matched fully, partly and not, by the twin over each shopper's lines of each item."""
    counts = [0, 0, 0]
    lines = sorted(lines, key=lambda line: (str(line[0]), str(line[1]), line[2], line[3]["kind"]))
    for _, group in itertools.groupby(lines, key=lambda line: line[:2]):
        of = [row for *_, row in group]
        names = list(dict.fromkeys(row["order_id"] for row in of if row["order_id"] is not None))
        orders_of = [-1 if row["order_id"] is None else names.index(row["order_id"]) for row in of]
        is_refund = [row["kind"] == "refund" for row in of]
        units_of = [float(str(row["quantity"])) for row in of]
        line, units = reference.matched_returns([0] * len(of), is_refund, orders_of, units_of)
        for row in range(len(of)):
            if is_refund[row]:
                counts[2 if line[row] < 0 else 1 if units[row] < units_of[row] - 1e-9 else 0] += 1
    return counts[0], counts[1], counts[2]


def test_returns_of_a_real_shop_are_those_of_their_definition(tmp_path: Path) -> None:
    if not RETAIL.exists():
        missing(f"{RETAIL.name} is not beside this checkout")
    raw = pl.read_parquet(RETAIL).with_row_index("_line", offset=1)
    # A twentieth of the shoppers: the twin looks at every earlier line of a refund's shopper and item.
    events = raw.filter(
        pl.col("Customer ID").is_not_null() & (pl.col("Customer ID") % 20 == 3), pl.col("Quantity") != 0
    )
    staged_events = events.select(
        pl.col("Customer ID").cast(pl.Int64).cast(pl.String).alias("shopper_id"),
        pl.col("InvoiceDate").dt.epoch("s").alias("time_s"),
        pl.when(pl.col("Invoice").str.starts_with("C")).then(pl.lit("refund")).otherwise(pl.lit("order")).alias("kind"),
        pl.col("StockCode").alias("item_id"),
        pl.col("Quantity").abs().cast(pl.Float64).alias("quantity"),
        (pl.col("Quantity") * pl.col("Price") * 1e6).abs().round().cast(pl.Int64).alias("paid_micros"),
        pl.col("Invoice").alias("order_id"),
        pl.lit(0, pl.UInt32).alias("_input"),
        pl.col("_line").cast(pl.Int64),
    )
    schema = staged_schema(TABLES["events"])
    unset = {
        name: pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in staged_events.columns
    }
    path = tmp_path / "events.arrow"
    staged_events.with_columns(unset.values()).select(list(schema)).write_ipc(path)
    staged = Staged({"events": (path,)}, (RETAIL.name,), {"events": staged_events.height})
    rules = TableRules.model_validate(
        {"returns": "match", "duplicates": "keep", "columns": {"quantity": {"outliers": "keep"}}}
    )
    told = cleaned_of(tmp_path, staged, {"events": rules}, 2_000_000_000).report.returns
    assert told is not None
    # Sales of nothing go before returns are matched, in the definition as in the table.
    sold = staged_events.filter((pl.col("quantity") > 0) | (pl.col("paid_micros") > 0))
    lines = [(row["shopper_id"], row["item_id"], row["time_s"], row) for row in sold.iter_rows(named=True)]
    assert (told.n_full, told.n_part, told.n_unmatched) == defined_counts(lines)
    assert told.n_full > told.n_unmatched > 0
