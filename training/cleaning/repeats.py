"""Rows that say again what a row before them said: equal ones, and those with a key that stood already.

Called by training/cleaning/tables.py on every part; all rows of a shopper are in one part, so a part is enough.
"""

import polars as pl

from training.cleaning.policy import Policy
from training.cleaning.record import Record, without
from training.cleaning.report import Rule


def without_duplicates(frame: pl.DataFrame, policy: Policy, record: Record) -> pl.DataFrame:
    """Return the rows without those equal in every column to one before.

    frame  as it came, with its origin: a value that was filled in must not make two rows equal
    """
    if not policy.drops_duplicates:
        return frame
    table = policy.table
    meaning = "The same row was there already, equal in every column; removed."
    rule = Rule(table.name, "duplicate", "", meaning, "removed")
    reason = pl.lit(f"a row of {table.name} must be there once, got it again, equal in every column")
    return _without(frame, tuple(table.schema), rule, reason, record)


def without_repeated_keys(frame: pl.DataFrame, policy: Policy, record: Record) -> pl.DataFrame:
    """Return the rows without those whose key stood in one before.

    frame  columns of the table, with their origin, keys not missing
    """
    table = policy.table
    if not table.key:
        return frame
    key = table.key[0]
    meaning = f"{key} must appear once; the first row with it was kept, a later one that says otherwise removed."
    rule = Rule(table.name, "repeated_key", key, meaning, "removed")
    return _without(frame, table.key, rule, pl.format(f"{key} must appear once, got {{}} again", key), record)


def repeated(frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series | None:
    """Return which rows equal one before them in these columns; None if none does.

    returns  Boolean, one for each row
    """
    known = [name for name in columns if frame[name].null_count() < frame.height]
    if not known:
        return frame.select(pl.int_range(pl.len()) > 0).to_series() if frame.height > 1 else None
    hashes = frame.select(known).hash_rows()
    if hashes.n_unique() == frame.height:
        return None
    # Equal rows have equal hashes; of the few rows that share one, only truly equal ones are repeats.
    suspects = hashes.is_duplicated().arg_true()
    again = frame.select(known)[suspects].select(pl.struct(known).is_first_distinct().not_()).to_series()
    if not again.any():
        return None
    return pl.repeat(False, frame.height, dtype=pl.Boolean(), eager=True).scatter(suspects.filter(again), True)


def _without(
    frame: pl.DataFrame, columns: tuple[str, ...], rule: Rule, reason: pl.Expr, record: Record
) -> pl.DataFrame:
    again = repeated(frame, columns)
    if again is None:
        return frame
    record.removed(frame.filter(again), rule, reason)
    return without(frame, again)
