"""Rules as a shop states them in, one complete policy for each table out: nothing unset, numbers in canonical units.

training/cleaning asks for it once, before any row is read, so that a rule that cannot be obeyed is refused at the door.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.cleaning.rules import ColumnRules, Constant, Outliers, TableRules
from training.sources.names import MICROS, MONEY_SUFFIX, TIME_SUFFIX, short_name
from training.sources.tables import REAL, TABLES, TEXT, TEXTS, Column, InvalidTable, Table

SHOPPER = "shopper_id"
USUAL_FACTOR = {"quantile": 10.0, "iqr": 3.0, "mad": 5.0}
# Ten times what 999 of 1000 order lines stay below: complete_journey loses no fill-up of petrol and no week's shopping.
USUAL_OUTLIERS = {("events", "quantity"): Outliers(), ("events", "paid_micros"): Outliers()}
WAYS_OF_TEXT = ("drop", "keep", "indicator", "most_frequent", "model")
WAYS_OF_OTHERS = ("drop", "keep", "indicator")
# One order may redeem an offer with several coupons, and an outcome holds nothing more to tell them apart by.
MAY_REPEAT = ("outcomes",)


@dataclass(frozen=True)
class ColumnPolicy:
    """What is done with one column's values.

    missing      a way of rules.ColumnRules, "constant", or "fill": what the table itself says of a missing value
    constant     what "constant" and "fill" put in, in the column's type
    least, most  in the column's unit; None: no limit of the shop's own
    """

    column: Column
    missing: str
    constant: str | int | float | None = None
    outliers: Outliers | None = None
    least: float | None = None
    most: float | None = None

    @property
    def is_time(self) -> bool:
        """Whether values are seconds since 1970."""
        return self.column.name.endswith(TIME_SUFFIX)

    @property
    def may_be_unset(self) -> bool:
        """Whether the table has a word for a row without the value that is not a number."""
        return self.column.unset is not None and self.column.fill is None

    def said(self, value: float) -> str:
        """A value of the column in a sentence: money in units of its currency, which a reader can check."""
        if self.column.name.endswith(MONEY_SUFFIX):
            return f"{value / MICROS:,.2f} of the shop's currency"
        return f"{value:,.6g}" if abs(value) < MICROS else f"{value:,.0f}"


@dataclass(frozen=True)
class Policy:
    """What is done with one table.

    time           the column that places a row in the training window; None: the table has none
    test_accounts  glob patterns of shoppers; empty for a table without shoppers
    bots           likewise
    """

    table: Table
    columns: tuple[ColumnPolicy, ...]
    drops_duplicates: bool
    drops_nothing_sold: bool
    matches_returns: bool
    drops_unmatched: bool
    test_accounts: tuple[str, ...] = ()
    bots: tuple[str, ...] = ()
    most_events_per_hour: int | None = None

    @property
    def time(self) -> str | None:
        """The first column that holds seconds."""
        return next((each.column.name for each in self.columns if each.is_time), None)


def policies(rules: Mapping[str, TableRules]) -> dict[str, Policy]:
    """Return the policy of every table of TABLES.

    rules   by table; one that is left out is cleaned by TableRules()
    raises  InvalidTable  naming the table, the column and the rule that cannot be obeyed
    """
    unknown = [name for name in rules if name not in TABLES]
    if unknown:
        raise InvalidTable(f"rules must be of {', '.join(TABLES)}, got {unknown[0]!r}")
    events = rules.get("events", TableRules())
    return {name: _policy(table, rules.get(name, TableRules()), events) for name, table in TABLES.items()}


def _policy(table: Table, rules: TableRules, of_events: TableRules) -> Policy:
    is_events, has_shoppers = table.name == "events", SHOPPER in table.schema
    for said, rule in (
        (rules.returns == "match", "returns"),
        (rules.unmatched_returns == "drop", "unmatched_returns"),
        (rules.bots.most_events_per_hour is not None, "bots.most_events_per_hour"),
    ):
        if said and not is_events:
            raise InvalidTable(f"{table.name}.clean must not say {rule}, which is for events only")
    if (rules.test_accounts or rules.bots.shopper_ids) and not has_shoppers:
        raise InvalidTable(f"{table.name}.clean must not name shoppers, the table has no {SHOPPER}")
    theirs = dict.fromkeys((*of_events.test_accounts, *rules.test_accounts)) if has_shoppers else {}
    bots = dict.fromkeys((*of_events.bots.shopper_ids, *rules.bots.shopper_ids)) if has_shoppers else {}
    repeats = rules.duplicates or ("keep" if table.name in MAY_REPEAT else "drop")
    return Policy(
        table,
        _columns(table, rules),
        drops_duplicates=repeats == "drop",
        drops_nothing_sold=is_events and rules.nothing_sold == "drop",
        matches_returns=is_events and rules.returns == "match",
        drops_unmatched=rules.unmatched_returns == "drop",
        test_accounts=tuple(theirs),
        bots=tuple(bots),
        most_events_per_hour=rules.bots.most_events_per_hour,
    )


def _columns(table: Table, rules: TableRules) -> tuple[ColumnPolicy, ...]:
    stated: dict[str, tuple[ColumnRules, int]] = {}
    for name, said in rules.columns.items():
        column, unit = _named(table, name)
        if column.name in stated:
            raise InvalidTable(f"{table.name}.clean.columns must give {column.name} once, got it also as {name}")
        stated[column.name] = (said, unit)
    return tuple(_column(table, column, *stated.get(column.name, (ColumnRules(), 1))) for column in table.columns)


def _named(table: Table, name: str) -> tuple[Column, int]:
    """The column of a name, and how many of its units one unit of that name is."""
    for column in table.columns:
        if column.name == name:
            return column, 1
        if short_name(column) == name:
            return column, MICROS if column.name.endswith(MONEY_SUFFIX) else 1
    raise InvalidTable(f"{table.name}.clean.columns must be of {', '.join(table.schema)}, got {name!r}")


def _column(table: Table, column: Column, said: ColumnRules, unit: int) -> ColumnPolicy:
    subject = f"{table.name}.clean.columns.{column.name}"
    is_number = column.dtype not in (TEXT, TEXTS)
    if not is_number and (said.least is not None or said.most is not None or isinstance(said.outliers, Outliers)):
        raise InvalidTable(f"{subject} must have neither limits nor outliers, it holds text")
    if column.name.endswith(TIME_SUFFIX) and isinstance(said.outliers, Outliers):
        raise InvalidTable(f"{subject} must have no outliers, it holds times; say least and most")
    missing, constant = _missing(column, said, unit, subject)
    outliers = USUAL_OUTLIERS.get((table.name, column.name)) if said.outliers is None else said.outliers
    return ColumnPolicy(
        column,
        missing,
        constant,
        outliers=outliers if isinstance(outliers, Outliers) else None,
        least=None if said.least is None else said.least * unit,
        most=None if said.most is None else said.most * unit,
    )


def _missing(column: Column, said: ColumnRules, unit: int, subject: str) -> tuple[str, str | int | float | None]:
    way = said.missing
    if way is None:
        if column.unset is None:
            return "drop", None
        return ("keep", None) if column.fill is None else ("fill", column.fill)
    if isinstance(way, Constant):
        return "constant", _constant(column, way.constant, unit, subject)
    if column.name == SHOPPER and way != "drop":
        raise InvalidTable(f"{subject}.missing must be 'drop' or a constant, got {way!r}")
    if column.dtype in (TEXT, TEXTS) or column.name.endswith(TIME_SUFFIX):
        allowed = WAYS_OF_TEXT if column.dtype == TEXT else WAYS_OF_OTHERS
        if way not in allowed:
            raise InvalidTable(f"{subject}.missing must be one of {', '.join(allowed)} or a constant, got {way!r}")
    if way in ("keep", "indicator") and column.unset is None:
        raise InvalidTable(f"{subject}.missing must not be {way!r}, a row without {column.name} cannot be used")
    if way == "keep" and column.fill is not None:
        return "fill", column.fill
    return way, column.fill


def _constant(column: Column, value: str | int | float, unit: int, subject: str) -> str | int | float:
    if column.dtype == TEXTS or isinstance(value, str) != (column.dtype == TEXT):
        wanted = "a text" if column.dtype == TEXT else "a number"
        raise InvalidTable(f"{subject}.missing.constant must be {wanted}, got {value!r}")
    if isinstance(value, str):
        if value == "" or (column.one_of and value not in column.one_of):
            wanted = " or ".join(column.one_of) or "a text that is not empty"
            raise InvalidTable(f"{subject}.missing.constant must be {wanted}, got {value!r}")
        return value
    inside = (
        math.isfinite(value)
        and (column.least is None or value >= column.least)
        and (column.most is None or value * unit <= column.most)
        and (column.above is None or value > column.above)
    )
    if not inside:
        raise InvalidTable(f"{subject}.missing.constant must be in the range of {column.name}, got {value!r}")
    return float(value * unit) if column.dtype == REAL else round(value * unit)
