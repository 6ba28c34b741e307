"""A shop's canonical tables in, the usable rows and a report of what was removed or changed out; shop.ingest calls it.

Readers have refused what cannot be understood. Here goes what is understood but cannot be used, one named rule each.
Whatever is fitted (the limits of outliers) is fitted before `train_until_s`, so nothing later leaks into training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from training.sources.tables import TABLES, Shop, Table, shop_of

# 2000-01-01 and 2038-01-01 UTC: outside them stand epoch zeros, milliseconds read as seconds and 32-bit overflows.
EARLIEST_S, LATEST_S = 946_684_800, 2_145_916_800
# Ten times what 999 of 1000 order lines stay below: complete_journey loses no fill-up of petrol and no week's shopping.
OUTLIER_QUANTILE, OUTLIER_FACTOR = 0.999, 10.0
OUTLIER_COLUMNS = ("quantity", "paid_micros")
N_EXAMPLES = 3


@dataclass(frozen=True)
class Rule:
    """What one rule did to one table.

    table     canonical table
    rule      name of the rule
    meaning   what it catches and what was done, in one sentence
    n_rows    rows it removed or changed
    examples  the first few such rows as they came in
    """

    table: str
    rule: str
    meaning: str
    n_rows: int
    examples: tuple[Mapping[str, object], ...]


@dataclass
class CleaningReport:
    """What cleaning did, rule by rule; written to cleaning.json.

    rows_in, rows_out  by table
    limits             fitted on events before train_until_s
    """

    train_until_s: int
    rows_in: dict[str, int]
    rows_out: dict[str, int] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)


def clean(shop: Shop) -> tuple[Shop, CleaningReport]:
    """Return the shop's usable rows and a report.

    shop     canonical tables; its train_until_s ends the window on which limits are fitted
    returns  the same tables without duplicates, unusable rows and impossible events, outliers clipped
    """
    report = CleaningReport(shop.train_until_s, {name: frame.height for name, frame in shop.tables().items()})
    tables = {name: _usable(TABLES[name], frame, report) for name, frame in shop.tables().items()}
    events = _sold_something(tables["events"], report)
    tables["events"] = _clipped(events, shop.train_until_s, report)
    report.rows_out = {name: frame.height for name, frame in tables.items()}
    return shop_of(tables, shop.name, shop.currency_code, shop.train_until_s), report


def _usable(table: Table, frame: pl.DataFrame, report: CleaningReport) -> pl.DataFrame:
    needed = [column.name for column in table.columns if column.unset is None]
    frame = _without(
        frame,
        pl.any_horizontal(pl.col(needed).is_null() | (pl.col(needed).cast(pl.String) == "")),
        Rule(table.name, "missing_value", f"A row without {', '.join(needed)} cannot be used; removed.", 0, ()),
        report,
    )
    times = [column.name for column in table.columns if column.name.endswith("_s")]
    if times:
        outside = pl.any_horizontal((pl.col(times) < EARLIEST_S) | (pl.col(times) >= LATEST_S))
        meaning = "A time before 2000 or after 2037 is a fault of the export; the row is removed."
        frame = _without(frame, outside, Rule(table.name, "implausible_time", meaning, 0, ()), report)
    # One order may redeem an offer with several coupons, and an outcome holds nothing more to tell them apart by.
    if table.name == "outcomes":
        return frame
    meaning = "The same row was there already, equal in every column; removed."
    return _without(frame, _repeated(table), Rule(table.name, "duplicate", meaning, 0, ()), report)


def _repeated(table: Table) -> pl.Expr:
    return pl.struct(list(table.schema)).is_first_distinct().not_()


def _sold_something(events: pl.DataFrame, report: CleaningReport) -> pl.DataFrame:
    meaning = "An order or refund of no units for no money sold nothing (often a coupon booked as a line); removed."
    nothing = pl.col("kind").is_in(["order", "refund"]) & (pl.col("quantity") == 0) & (pl.col("paid_micros") == 0)
    return _without(events, nothing, Rule("events", "nothing_sold", meaning, 0, ()), report)


def _clipped(events: pl.DataFrame, train_until_s: int, report: CleaningReport) -> pl.DataFrame:
    fitted_on = events.filter(pl.col("kind") == "order", pl.col("time_s") < train_until_s)
    for column in OUTLIER_COLUMNS:
        quantile = fitted_on[column].quantile(OUTLIER_QUANTILE, "higher")
        if not quantile:
            continue
        limit = OUTLIER_FACTOR * quantile
        report.limits[column] = limit
        above = pl.col(column) > limit
        meaning = f"{column} is above {OUTLIER_FACTOR:g} × the {OUTLIER_QUANTILE:.1%} quantile of the training window "
        meaning += f"({limit:g}); clipped there."
        _note(events.filter(above), Rule("events", f"outlier_{column}", meaning, 0, ()), report)
        events = events.with_columns(pl.col(column).clip(upper_bound=pl.lit(limit).cast(events.schema[column])))
    return events


def _without(frame: pl.DataFrame, broken: pl.Expr, rule: Rule, report: CleaningReport) -> pl.DataFrame:
    marked = frame.select(broken.fill_null(False)).to_series()
    if not marked.any():
        return frame
    _note(frame.filter(marked), rule, report)
    return frame.filter(~marked)


def _note(caught: pl.DataFrame, rule: Rule, report: CleaningReport) -> None:
    if caught.height:
        report.rules.append(replace(rule, n_rows=caught.height, examples=tuple(caught.head(N_EXAMPLES).to_dicts())))
