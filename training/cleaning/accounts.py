"""Who is no customer: accounts that the shop tests with, and programs that shop.

Called by training/cleaning/tables.py. A bot found among events goes from every other table too.
"""

from collections.abc import Collection, Sequence

import polars as pl

from training.cleaning.policy import SHOPPER, Policy
from training.cleaning.record import Record, without
from training.cleaning.report import Rule

HOUR_S = 3_600


def fits(patterns: Sequence[str]) -> pl.Expr:
    """Return whether each shopper_id fits one of some glob patterns: `*` is any text, `?` one character.

    patterns  at least one; they fit whole ids, with capitals told apart
    """
    bodies = ("".join({"*": ".*", "?": "."}.get(each, pl.escape_regex(each)) for each in text) for text in patterns)
    return pl.col(SHOPPER).str.contains(f"(?s)^(?:{'|'.join(bodies)})$")


def without_accounts(frame: pl.DataFrame, policy: Policy, known_bots: Collection[str], record: Record) -> pl.DataFrame:
    """Return the rows of customers: no test accounts, no bots by name, none already found among events.

    frame       columns of the table, with their origin; returned as it is where it names no shoppers
    known_bots  shoppers that busy_shoppers found
    """
    names_shoppers = SHOPPER in policy.table.schema
    if not names_shoppers or not (policy.test_accounts or policy.bots or known_bots):
        return frame
    shoppers = frame.select(pl.col(SHOPPER).drop_nulls().unique())
    table = policy.table.name
    if policy.test_accounts:
        named = ", ".join(policy.test_accounts)
        rule = Rule(table, "test_account", SHOPPER, f"An id that fits {named} is a test account; removed.", "removed")
        reason = pl.concat_str(pl.lit(f"shopper_id must not fit {named}, got "), SHOPPER)
        frame = _without(frame, shoppers.filter(fits(policy.test_accounts)).to_series(), rule, reason, record)
    if policy.bots:
        named = ", ".join(policy.bots)
        rule = Rule(table, "bot_by_name", SHOPPER, f"An id that fits {named} is a bot; removed.", "removed")
        reason = pl.concat_str(pl.lit(f"shopper_id must not fit {named}, got "), SHOPPER)
        frame = _without(frame, shoppers.filter(fits(policy.bots)).to_series(), rule, reason, record)
    if known_bots:
        meaning = "The shopper was found to be a bot among events; its other rows are removed with them."
        rule = Rule(table, "bot", SHOPPER, meaning, "removed")
        reason = pl.format("shopper_id must not be a bot of events, got {}", SHOPPER)
        frame = _without(frame, pl.Series(sorted(known_bots), dtype=pl.String()), rule, reason, record)
    return frame


def busy_shoppers(events: pl.DataFrame, most_per_hour: int) -> pl.Series:
    """Return the shoppers with more events than that within less than 3,600 seconds.

    events  sorted by shopper_id, then time_s
    """
    shopper, time_s = pl.col(SHOPPER), pl.col("time_s")
    is_busy = (shopper.shift(-most_per_hour) == shopper) & (time_s.shift(-most_per_hour) - time_s < HOUR_S)
    return events.lazy().select(SHOPPER, "time_s").filter(is_busy).select(shopper.unique().sort()).collect().to_series()


def without_bots(events: pl.DataFrame, policy: Policy, record: Record, found: set[str]) -> pl.DataFrame:
    """Return the events of shoppers that are not too busy; the others are added to `found`.

    events  sorted by shopper_id, then time_s
    """
    most = policy.most_events_per_hour
    if most is None:
        return events
    busy = busy_shoppers(events, most)
    found.update(busy)
    meaning = f"A shopper with more than {most:,} events within an hour is a bot; all its events are removed."
    rule = Rule(policy.table.name, "bot", SHOPPER, meaning, "removed")
    reason = pl.format(f"shopper_id must have ≤ {most} events within an hour, got more (shopper {{}})", SHOPPER)
    return _without(events, busy, rule, reason, record)


def _without(frame: pl.DataFrame, shoppers: pl.Series, rule: Rule, reason: pl.Expr, record: Record) -> pl.DataFrame:
    if shoppers.is_empty():
        return frame
    theirs = frame.select(pl.col(SHOPPER).is_in(shoppers.implode()).fill_null(False)).to_series()
    if not theirs.any():
        return frame
    record.removed(frame.filter(theirs), rule, reason)
    return without(frame, theirs)
