"""Velocity for judging risk: for every event, how fast its device, address, card and shopper were being used before it.

In: canonical events and shoppers. Out: a frame of numbers, one row per event in the events' own order, or the matrix
that the transaction model reads. The feature assembly and training/transactions.py call it. Events count in the order
of their time and, within a second, of their rows; an event never counts itself. A key is judged by its own events
alone, so that the work can be cut by key and done anywhere.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.risk_features import DAY_S, RISK_FEATURES, key_features
from kernels.velocity import KeyedEvents, velocity

# Canonical column of a key, and what its features are called after.
KEYS = {"device_id": "device", "address_id": "address", "card_id": "card", "shopper_id": "shopper"}


def risk_columns(events: pl.DataFrame, shoppers: pl.DataFrame) -> pl.DataFrame:
    """Return the velocity of each event on each of its keys, and the time since its shopper signed up.

    events    canonical, in any order
    shoppers  canonical; one without a row, or whose sign-up was after the event, was not known to have signed up
    returns   (n_events,) rows of Float64, NaN where an event has no such key or a time is unknown
    """
    return pl.concat([*(key_velocity(events, key) for key in KEYS), since_sign_up(events, shoppers)], how="horizontal")


def risk_features(events: pl.DataFrame, shoppers: pl.DataFrame) -> NDArray[np.float32]:
    """Return what the transaction model reads of each event.

    events    canonical, in any order
    shoppers  canonical
    returns   (n_events, N_RISK_FEATURES) float32  columns as kernels.risk_features.RISK_FEATURES; NaN where unknown
    """
    # The day is UTC's, there and at serving: a shop's own hours are a fixed step away, and the model learns which.
    own = events.select(
        pl.col("paid_micros").cast(pl.Float64), time_of_day_s=(pl.col("time_s") % DAY_S).cast(pl.Float64)
    )
    told = pl.concat([risk_columns(events, shoppers), own.fill_null(float("nan"))], how="horizontal")
    return told.select(RISK_FEATURES).to_numpy().astype(np.float32)


def key_velocity(events: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return how fast one kind of key was being used before each event.

    events   canonical, in any order; at least all events of each key that occurs
    key      column of KEYS
    returns  (n_events,) rows of Float64, NaN at events without the key. For each window n_<key>_events_<window> and
             <key>_spend_<window>_micros; n_<key>_shoppers, unless the key is the shopper; <key>_idle_s, the time since
             the key's event before
    """
    keyed = events.select(
        pl.int_range(pl.len()).alias("row"),
        pl.col(key).alias("key"),
        "time_s",
        # Only whether two are the same matters: any numbering does.
        pl.col("shopper_id").rank("dense").cast(pl.Int64).alias("shopper"),
        pl.when(pl.col("kind") == "order").then("paid_micros").otherwise(0).fill_null(0).alias("spend"),
    )
    keyed = keyed.filter(pl.col("key").is_not_null()).sort("key", "time_s", maintain_order=True)
    begins = keyed["key"].rle_id().diff().fill_null(1).to_numpy() != 0
    offsets = np.append(np.flatnonzero(begins), keyed.height).astype(np.int64)
    columns = (np.array(keyed[name].to_numpy(), np.int64) for name in ("time_s", "shopper", "spend"))
    told = velocity(KeyedEvents(offsets, *columns))
    rows = keyed["row"].to_numpy()
    return pl.DataFrame(
        {name: _spread(column, rows, events.height) for name, column in key_features(told, KEYS[key]).items()}
    )


def since_sign_up(events: pl.DataFrame, shoppers: pl.DataFrame) -> pl.DataFrame:
    """Return the seconds from each shopper's sign-up to each event.

    events    canonical, in any order
    shoppers  canonical
    returns   (n_events,) rows of Float64 since_sign_up_s, ≥ 0; NaN where nobody had signed up, as far as known
    """
    age_s = pl.col("time_s") - pl.col("signed_up_s")
    signed_up = shoppers.select("shopper_id", "signed_up_s").unique("shopper_id", keep="first", maintain_order=True)
    return (
        events.select("shopper_id", "time_s")
        .join(signed_up, on="shopper_id", how="left", maintain_order="left")
        .select(pl.when(age_s >= 0).then(age_s).cast(pl.Float64).fill_null(float("nan")).alias("since_sign_up_s"))
    )


def _spread(column: NDArray[np.generic], rows: NDArray[np.generic], n_events: int) -> NDArray[np.float64]:
    """Every value at its event's row; NaN elsewhere, because 0 would say that the key was idle."""
    spread = np.full(n_events, np.nan)
    spread[rows] = column
    return spread
