"""What only events can be cleaned of: sales of nothing, and refunds that do not say which order they give back.

Called by training/cleaning/tables.py on every part, sorted by shopper and time.
"""

import polars as pl

from kernels.returns import SMALLEST_UNITS, matched_returns
from training.cleaning.doors import SOLD
from training.cleaning.policy import Policy
from training.cleaning.record import Record, without
from training.cleaning.report import Returns, Rule

_ROW = "_row"


def without_nothing_sold(events: pl.DataFrame, policy: Policy, record: Record) -> pl.DataFrame:
    """Return the events without orders and refunds of no units for no money.

    events  with quantities and payments filled
    """
    if not policy.drops_nothing_sold or events.is_empty():
        return events
    if not events.select(((pl.col("quantity") == 0) & (pl.col("paid_micros") == 0)).any()).item():
        return events
    nothing = pl.col("kind").is_in(SOLD) & (pl.col("quantity") == 0) & (pl.col("paid_micros") == 0)
    caught = events.select(nothing).to_series()
    meaning = "An order or refund of no units for no money sold nothing (often a coupon booked as a line); removed."
    rule = Rule("events", "nothing_sold", "", meaning, "removed")
    reason = pl.format("quantity and paid_micros must not both be 0 on a line of kind {}, got 0 and 0", pl.col("kind"))
    record.removed(events.filter(caught), rule, reason)
    return without(events, caught)


def with_returns_matched(events: pl.DataFrame, policy: Policy, record: Record, told: Returns) -> pl.DataFrame:
    """Return the events with every matched refund under the order it gives back; unmatched ones stay or go.

    events  sorted by shopper_id, then time_s, with quantities filled
    told    counts are added to it
    """
    is_refund = events["kind"] == "refund"
    if not policy.matches_returns or not is_refund.any():
        return events
    lines = _lines(events, is_refund)
    refunds = _matches(lines).filter("is_refund").sort(_ROW)
    is_matched = pl.col("line").is_not_null()
    is_full = is_matched & (pl.col("units") >= pl.col("quantity") - SMALLEST_UNITS)
    told.n_refunds += refunds.height
    told.n_full += refunds.filter(is_full).height
    told.n_part += refunds.filter(is_matched & ~is_full).height
    told.n_unmatched += refunds.filter(~is_matched).height
    told.n_units += float(refunds["quantity"].sum())
    told.n_units_matched += float(refunds["units"].sum())
    events = _under_their_orders(events, refunds.filter(is_matched), record)
    return _without_unmatched(events, refunds.filter(~is_matched)[_ROW], policy, record)


def _lines(events: pl.DataFrame, is_refund: pl.Series) -> pl.DataFrame:
    """Order and refund lines of every shopper and item with a refund, in the order that the kernel takes."""
    places = (
        events.lazy().select("shopper_id", "item_id", "time_s", "kind", "order_id", "quantity").with_row_index(_ROW)
    )
    returned = events.lazy().filter(is_refund).select("shopper_id", "item_id").unique()
    lines = places.filter(pl.col("kind").is_in(SOLD)).join(returned, on=["shopper_id", "item_id"], how="semi").collect()
    return (
        lines.with_columns(pl.struct("shopper_id", "item_id").rank("dense").cast(pl.Int64).alias("group"))
        # At the same second what was ordered comes before what is given back: exports round to minutes.
        .sort("group", "time_s", pl.col("kind") == "refund", _ROW)
        .with_columns(pl.col("order_id").cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).alias("order"))
    )


def _matches(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines with `line`, the row of events that a refund is booked on, and `units` taken."""
    is_refund = pl.col("kind") == "refund"
    lines = lines.with_columns(is_refund.alias("is_refund"))
    line, units = matched_returns(
        lines["group"].to_numpy(),
        lines["is_refund"].to_numpy(),
        lines["order"].to_numpy(),
        lines["quantity"].to_numpy(),
    )
    found = pl.Series("line", line)
    of = lines[_ROW].gather(found.set(found < 0, None))
    return lines.with_columns(of.alias("line"), pl.Series("units", units))


def _under_their_orders(events: pl.DataFrame, matched: pl.DataFrame, record: Record) -> pl.DataFrame:
    if matched.is_empty():
        return events
    before = events[matched[_ROW]]
    orders = events["order_id"].gather(matched["line"])
    moved = before["order_id"].ne_missing(orders) & orders.is_not_null()
    rows, orders, before = matched[_ROW].filter(moved), orders.filter(moved), before.filter(moved)
    if rows.is_empty():
        return events
    events = events.with_columns(events["order_id"].scatter(rows, orders))
    meaning = "A refund is booked under the order whose line of the same shopper and item it gives back."
    rule = Rule("events", "return_matched", "order_id", meaning, "changed")
    record.changed(before, before.with_columns(orders.alias("order_id")), rule)
    return events


def _without_unmatched(events: pl.DataFrame, rows: pl.Series, policy: Policy, record: Record) -> pl.DataFrame:
    if rows.is_empty() or not policy.drops_unmatched:
        return events
    meaning = "A refund without any earlier order line of the same shopper and item with units left; removed."
    rule = Rule("events", "return_unmatched", "item_id", meaning, "removed")
    reason = pl.concat_str(
        pl.lit("a refund must give back an earlier order line of its shopper, got none with units left of item "),
        "item_id",
    )
    gone = pl.repeat(False, events.height, dtype=pl.Boolean(), eager=True).scatter(rows, True)
    record.removed(events.filter(gone), rule, reason)
    return without(events, gone)
