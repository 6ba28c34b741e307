"""Events into the order in which everything after cleaning reads them: by shopper, then time, ties as they came."""

import polars as pl

from training.cleaning.policy import SHOPPER


def by_shopper_and_time(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events sorted by shopper_id, then time_s; the very frame if they are already.

    events  without missing shoppers; times in [0, 2**32)
    """
    if events.height < 2:
        return events
    shoppers = events[SHOPPER].unique().sort()
    # One number a row sorts four times as fast as text and time together; 31 bits of shopper, 32 of time.
    place = events[SHOPPER].cast(pl.Enum(shoppers)).to_physical().cast(pl.Int64) * 2**32 + events["time_s"]
    if place.is_sorted():
        return events
    rows = pl.DataFrame({"place": place}).with_row_index("row").sort("place", maintain_order=True)["row"]
    # A column of which nothing is known is the same in any order; a shop without devices and cards saves a third.
    known = [name for name in events.columns if events[name].null_count() < events.height]
    return events.with_columns(events.select(known).rechunk()[rows])
