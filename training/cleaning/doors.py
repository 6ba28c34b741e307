"""The first rules: what a row must hold, each value by itself. Every part of every table passes here before all else.

A rule has a screen that reads a whole column at memory speed; only where that trips is the column looked at row by row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from training.cleaning.policy import ColumnPolicy, Policy
from training.cleaning.record import Record, without
from training.cleaning.report import Action, Rule
from training.sources.tables import REAL, TEXT

# 1990-01-01 and 2038-01-01 UTC: outside them stand epoch zeros, milliseconds read as seconds and 32-bit overflows.
EARLIEST_S, LATEST_S = 631_152_000, 2_145_916_800
# What a shopper paid has a meaning where it is missing from a view, but none where something was sold or given back.
SOLD = ("order", "refund")


@dataclass(frozen=True)
class Check:
    """One rule about single values of one column.

    screen    one Boolean for a column: False means that no row breaks the rule
    broken    a Boolean for each row
    reason    a sentence for each broken row
    is_unset  the value goes and the row stays
    """

    rule: Rule
    screen: pl.Expr
    broken: pl.Expr
    reason: pl.Expr
    is_unset: bool = False


def checks_of(policy: Policy) -> tuple[Check, ...]:
    """Return the checks of a table in the order in which they catch a row: missing, time, impossible, limit."""
    columns = policy.columns
    return (
        *(check for column in columns for check in _missing(policy, column)),
        *(_time(policy, column) for column in columns if column.is_time),
        *(check for column in columns for check in _impossible(policy, column)),
        *(check for column in columns for check in _limits(policy, column)),
    )


def checks_after_filling(policy: Policy) -> tuple[Check, ...]:
    """Return the checks of columns that a row needs and that a rule was to fill, should it have had nothing to put."""
    needed = [each for each in policy.columns if each.column.unset is None and each.missing != "drop"]
    return tuple(check for each in needed for check in _missing(policy, replace(each, missing="drop")))


def passed(frame: pl.DataFrame, checks: tuple[Check, ...], record: Record) -> pl.DataFrame:
    """Return the rows that break none of the checks, without values that could be unset.

    frame  columns of the table, with their origin
    """
    if frame.is_empty() or not checks:
        return frame
    suspect = frame.select(check.screen.alias(str(place)) for place, check in enumerate(checks)).row(0)
    gone = pl.repeat(False, frame.height, dtype=pl.Boolean(), eager=True)
    for check, is_suspect in zip(checks, suspect, strict=True):
        if is_suspect is False:
            continue
        caught = frame.select(check.broken.fill_null(False)).to_series() & ~gone
        if not caught.any():
            continue
        rows = frame.filter(caught)
        if check.is_unset:
            name = check.rule.column
            record.changed(rows, rows.with_columns(pl.lit(None, rows.schema[name]).alias(name)), check.rule)
            frame = frame.with_columns(pl.when(~caught).then(pl.col(name)))
        else:
            record.removed(rows, check.rule, check.reason)
            gone |= caught
    return without(frame, gone)


def is_missing(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return whether each value is missing: null, empty text, or not a number."""
    if dtype == TEXT:
        return column.is_null() | (column == "")
    return column.is_null() | column.is_nan() if dtype == REAL else column.is_null()


def any_missing(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return whether any value is missing, without a mask of rows where nulls are counted already."""
    some = column.null_count() > 0
    if dtype == TEXT:
        return some | (column == "").any()
    return some | column.is_nan().any() if dtype == REAL else some


def _missing(policy: Policy, each: ColumnPolicy) -> Iterator[Check]:
    table, name = policy.table.name, each.column.name
    value, dtype = pl.col(name), each.column.dtype
    if each.missing == "drop":
        rule = Rule(table, "missing_value", name, f"A row without {name} cannot be used; removed.", "removed")
        reason = pl.lit(f"{name} must not be missing, got nothing")
        yield Check(rule, any_missing(value, dtype), is_missing(value, dtype), reason)
    elif each.missing == "fill" and (table, name) == ("events", "paid_micros"):
        meaning = "An order or refund that does not say what was paid cannot be used; removed."
        rule = Rule(table, "missing_value", name, meaning, "removed")
        reason = pl.format("paid_micros must be given for an order or a refund, got nothing (kind {})", pl.col("kind"))
        yield Check(rule, any_missing(value, dtype), is_missing(value, dtype) & pl.col("kind").is_in(SOLD), reason)


def _time(policy: Policy, each: ColumnPolicy) -> Check:
    name, value = each.column.name, pl.col(each.column.name)
    is_unset = each.may_be_unset
    done = "it counts as unknown" if is_unset else "the row is removed"
    rule = Rule(
        policy.table.name,
        "implausible_time",
        name,
        f"{name} before 1990 or after 2037 is a fault of the export; {done}.",
        "changed" if is_unset else "removed",
    )
    return Check(
        rule,
        (value.min() < EARLIEST_S) | (value.max() >= LATEST_S),
        (value < EARLIEST_S) | (value >= LATEST_S),
        pl.format(f"{name} must be in [1990, 2038) as seconds since 1970, got {{}}", value),
        is_unset,
    )


def _impossible(policy: Policy, each: ColumnPolicy) -> Iterator[Check]:
    column, value = each.column, pl.col(each.column.name)
    if column.one_of:
        broken = ~value.is_in(column.one_of)
        yield _cannot_be(policy, each, broken.any(), broken, "be " + " or ".join(column.one_of))
    if column.dtype == REAL:
        # What is not a number is missing, and the rule for missing values comes later where there is one.
        broken = ~value.is_finite() if each.missing == "keep" else value.is_infinite()
        yield _cannot_be(policy, each, broken.any(), broken, "be a finite number")
    if column.least is not None:
        yield _cannot_be(policy, each, value.min() < column.least, value < column.least, f"be ≥ {column.least:g}")
    if column.above is not None:
        yield _cannot_be(policy, each, value.min() <= column.above, value <= column.above, f"be > {column.above:g}")
    if column.most is not None:
        yield _cannot_be(policy, each, value.max() > column.most, value > column.most, f"be ≤ {column.most:g}")


def _limits(policy: Policy, each: ColumnPolicy) -> Iterator[Check]:
    value = pl.col(each.column.name)
    if each.least is not None:
        yield _cannot_be(
            policy, each, value.min() < each.least, value < each.least, f"be ≥ {each.said(each.least)}", "limit"
        )
    if each.most is not None:
        yield _cannot_be(
            policy, each, value.max() > each.most, value > each.most, f"be ≤ {each.said(each.most)}", "limit"
        )


def _cannot_be(
    policy: Policy,
    each: ColumnPolicy,
    screen: pl.Expr,
    broken: pl.Expr,
    must: str,
    name_of_rule: str = "impossible_value",
) -> Check:
    name = each.column.name
    done = "counts as unknown" if each.may_be_unset else "makes its row unusable; removed"
    action: Action = "changed" if each.may_be_unset else "removed"
    rule = Rule(policy.table.name, name_of_rule, name, f"{name} must {must}; a value that is not {done}.", action)
    return Check(rule, screen, broken, pl.format(f"{name} must {must}, got {{}}", pl.col(name)), each.may_be_unset)
