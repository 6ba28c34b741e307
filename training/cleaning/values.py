"""Missing values filled and values that lie too far out clipped, dropped or flagged, as the policy of a table says.

Called by training/cleaning/tables.py on every part, with what fitting took from the training window.
"""

import polars as pl

from training.cleaning.doors import any_missing, is_missing
from training.cleaning.fitting import Fits, Limits
from training.cleaning.policy import ColumnPolicy, Policy
from training.cleaning.record import Record, without
from training.cleaning.report import Rule
from training.sources.tables import REAL, WHOLE

MISSING, OUTLIER = "_is_missing", "_is_outlier"
WORDS = {
    "mean": "mean", "median": "median", "min": "least value", "max": "greatest value",
    "most_frequent": "most frequent value",
}  # fmt: skip


def flag_columns(policy: Policy) -> list[str]:
    """Return the Boolean columns that the policy adds to its table, in order."""
    asked = [each.column.name + MISSING for each in policy.columns if each.missing == "indicator"]
    marked = [each for each in policy.columns if each.outliers and each.outliers.then == "flag"]
    return asked + [each.column.name + OUTLIER for each in marked]


def filled(frame: pl.DataFrame, policy: Policy, fits: Fits, record: Record) -> pl.DataFrame:
    """Return the rows with missing values as the policy wants them.

    frame  columns of the table, with their origin
    """
    asked = [each for each in policy.columns if each.missing not in ("drop", "keep")]
    if not asked:
        return frame
    screens = (any_missing(pl.col(each.column.name), each.column.dtype).alias(each.column.name) for each in asked)
    some = frame.select(screens).row(0, named=True) if frame.height else {}
    # All guesses read the row as it came: a column filled first must not pass for an observed one.
    given = frame
    for each in asked:
        if each.missing == "indicator":
            flag = is_missing(pl.col(each.column.name), each.column.dtype).alias(each.column.name + MISSING)
            frame = frame.with_columns(given.select(flag).to_series())
        if some.get(each.column.name) is not False:
            frame = _filled(frame, given, policy, each, fits, record)
    return frame


def _filled(
    frame: pl.DataFrame, given: pl.DataFrame, policy: Policy, each: ColumnPolicy, fits: Fits, record: Record
) -> pl.DataFrame:
    name, value = each.column.name, pl.col(each.column.name)
    if each.missing == "fill":
        # What the table itself says of a missing value is its meaning and no repair, so it is not told as one.
        said = pl.lit(each.constant, each.column.dtype)
        filled = value.fill_null(said)
        return frame.with_columns(filled.fill_nan(said) if each.column.dtype == REAL else filled)
    missing = given.select(is_missing(value, each.column.dtype)).to_series()
    if not missing.any():
        return frame
    rows = given.filter(missing)
    put = _replacement(each, fits, rows)
    if put is None:
        # Nothing could be fitted: the value stays missing, in the one way in which the table says it.
        return frame.with_columns(pl.when(~missing).then(value).otherwise(pl.lit(each.constant, each.column.dtype)))
    frame = frame.with_columns(frame[name].scatter(missing.arg_true(), put))
    after = [name] + [name + MISSING] * (each.missing == "indicator")
    record.changed(rows, frame.select(after).filter(missing), _rule(policy, each, fits))
    return frame


def _replacement(each: ColumnPolicy, fits: Fits, rows: pl.DataFrame) -> pl.Series | None:
    """A value for every row; None where nothing could be fitted."""
    name = each.column.name
    if each.missing == "model":
        imputer = fits.imputers.get(name)
        return imputer.guessed(rows) if imputer else None
    if each.missing in ("constant", "indicator"):
        return pl.repeat(each.constant, rows.height, dtype=each.column.dtype, eager=True)
    value = fits.values.get(name)
    return None if value is None else pl.repeat(value, rows.height, dtype=each.column.dtype, eager=True)


def _rule(policy: Policy, each: ColumnPolicy, fits: Fits) -> Rule:
    name, table = each.column.name, policy.table.name
    if each.missing == "indicator":
        return Rule(table, "marked", name, f"{name} was missing; the row says so in {name}{MISSING}.", "flagged")
    if each.missing == "model":
        put = "a guess of trees over the row's other columns"
    elif each.missing == "constant":
        put = _told(each, each.constant)
    else:
        put = f"the {WORDS[each.missing]} of the rows that were fitted on, {_told(each, fits.values.get(name))}"
    return Rule(table, f"filled_with_{each.missing}", name, f"{name} was missing; it is now {put}.", "changed")


def _told(each: ColumnPolicy, value: str | float | None) -> str:
    return each.said(value) if isinstance(value, int | float) else str(value)


def within_limits(frame: pl.DataFrame, policy: Policy, fits: Fits, record: Record) -> pl.DataFrame:
    """Return the rows with values beyond the fitted limits clipped, dropped or flagged.

    frame  columns of the table, with their origin
    """
    asked = [each for each in policy.columns if each.outliers]
    if not asked:
        return frame
    beyond = {each.column.name: _beyond(each, fits.limits.get(each.column.name)) for each in asked}
    some = (
        frame.select(screen.alias(name) for name, (screen, _) in beyond.items()).row(0, named=True)
        if frame.height
        else {}
    )
    for each in asked:
        name = each.column.name
        is_far = beyond[name][1]
        if each.outliers and each.outliers.then == "flag":
            frame = frame.with_columns(is_far.fill_null(False).alias(name + OUTLIER))
        if some.get(name):
            frame = _treated(frame, policy, each, fits.limits[name], record)
    return frame


def _beyond(each: ColumnPolicy, limits: Limits | None) -> tuple[pl.Expr, pl.Expr]:
    """Whether any value is too far out, and whether each is."""
    value, any_far, is_far = pl.col(each.column.name), pl.lit(False), pl.lit(False)
    if limits and limits.below is not None:
        any_far, is_far = any_far | (value.min() < limits.below), is_far | (value < limits.below)
    if limits and limits.above is not None:
        any_far, is_far = any_far | (value.max() > limits.above), is_far | (value > limits.above)
    return any_far, is_far


def _treated(frame: pl.DataFrame, policy: Policy, each: ColumnPolicy, limits: Limits, record: Record) -> pl.DataFrame:
    name, column = each.column.name, each.column
    caught = frame.select(_beyond(each, limits)[1].fill_null(False)).to_series()
    if not caught.any() or each.outliers is None:
        return frame
    rows, told = frame.filter(caught), _said(each, limits)
    window = f"{name} is {told}, fitted by {each.outliers.method}"
    table = policy.table.name
    if each.outliers.then == "drop":
        rule = Rule(table, "outlier", name, f"{window}; removed.", "removed")
        record.removed(rows, rule, pl.format(f"{name} must not be {told}, got {{}}", name))
        return without(frame, caught)
    if each.outliers.then == "flag":
        rule = Rule(table, "outlier", name, f"{window}; the row says so in {name}{OUTLIER}.", "flagged")
        record.changed(rows.drop(name + OUTLIER), rows, rule)
        return frame
    clipped = frame.with_columns(
        pl.col(name).clip(_edge(limits.below, column.dtype), _edge(limits.above, column.dtype))
    )
    rule = Rule(table, "outlier", name, f"{window}; clipped there.", "changed")
    record.changed(rows, clipped.filter(caught), rule)
    return clipped


def _edge(limit: float | None, dtype: pl.DataType) -> pl.Expr | None:
    return None if limit is None else pl.lit(round(limit) if dtype == WHOLE else limit, dtype)


def _said(each: ColumnPolicy, limits: Limits) -> str:
    sides = []
    if limits.below is not None:
        sides.append(f"below {each.said(limits.below)}")
    if limits.above is not None:
        sides.append(f"above {each.said(limits.above)}")
    return " or ".join(sides)
