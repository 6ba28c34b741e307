"""What stood at every event, three times over: by the kernels, in polars and in pandas, column for column.

In: events sorted by shopper, time, kind and order. Out: one array for each name of NAMES, a value for each event.
tests/benchmarks/features.py times them; a test compares them.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from kernels.calendar_days import Calendar, calendar_days, day_table
from kernels.decays import decayed_sums
from kernels.ledger import CART, ORDER, REDEMPTION, REFUND, VIEW, Ledger
from kernels.moments import running_moments
from kernels.streams import gaps_s, kind_counts, running_spend
from kernels.velocity import WINDOWS_S, KeyedEvents, velocity
from kernels.visits import COLUMNS as SESSION
from kernels.visits import GAP_S, session_columns

DAY_S, HALF_LIFE_DAYS = 86_400, 28
KINDS = range(VIEW, REDEMPTION + 1)
WHO = "shopper"
Columns = Mapping[str, NDArray[np.generic]]


def in_kernels(ledger: Ledger) -> Columns:
    """Return every column as the kernels compute it; spend in micros."""
    paid = ledger.paid_micros
    counts, sessions = kind_counts(ledger), session_columns(ledger)
    mean, std = running_moments(ledger, paid)
    events_decayed, spend_decayed = decayed_sums(ledger, paid, HALF_LIFE_DAYS * DAY_S)
    nowhere = np.zeros(0, np.int64)
    calendar = Calendar(nowhere, np.zeros(1, np.int64), nowhere, nowhere)
    days = calendar_days(day_table(calendar, int(ledger.time_s.min()), int(ledger.time_s.max())), ledger.time_s)
    shopper = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    before = velocity(KeyedEvents(ledger.offsets, ledger.time_s, shopper, paid))
    return {
        "gap_s": gaps_s(ledger),
        **{f"n_{kind}": counts[:, place] for place, kind in enumerate(KINDS)},
        "spend": running_spend(ledger, paid),
        "line_mean": mean,
        "line_std": std,
        "events_decayed": events_decayed,
        "spend_decayed": spend_decayed,
        **{name: sessions[:, place] for place, name in enumerate(SESSION)},
        "hour": days.hour,
        "weekday": days.weekday,
        "is_weekend": days.is_weekend,
        **{f"n_{window_s}": before.n_events[:, place] for place, window_s in enumerate(WINDOWS_S)},
        **{f"spend_{window_s}": before.spend_micros[:, place] for place, window_s in enumerate(WINDOWS_S)},
    }


def in_polars(in_order: pl.LazyFrame) -> pl.DataFrame:
    """Return every column, lazily: whole numbers as running sums less what they were at the shopper's first event."""
    first_s = pl.col("time_s").min()
    key = pl.col(WHO) * 2**32 + (pl.col("time_s") - first_s)
    visits = pl.col("kind") <= ORDER
    frame = in_order.select(
        WHO, "time_s", "kind",
        paid=pl.col("paid_micros"),
        is_first=(pl.col(WHO) != pl.col(WHO).shift()).fill_null(True),
        key=key,
        place=pl.int_range(pl.len()),
        visit_s=pl.when(visits).then(pl.col("time_s")),
        sum_before=pl.col("paid_micros").cum_sum() - pl.col("paid_micros"),
        signed=pl.when(pl.col("kind") == ORDER).then(pl.col("paid_micros"))
        .when(pl.col("kind") == REFUND).then(-pl.col("paid_micros")).otherwise(0),
    )  # fmt: skip
    before_s = pl.col("visit_s").shift().over(WHO).forward_fill().over(WHO)
    begins = visits & (before_s.is_null() | (pl.col("time_s") - before_s > GAP_S))
    frame = frame.with_columns(begins=begins, seen_s=pl.col("visit_s").forward_fill().over(WHO))
    is_line = pl.col("kind") == ORDER
    frame = frame.with_columns(
        session_number=_running(pl.col("begins")),
        # Squares of deviations from any centre near the mean do not cancel as squares of amounts do.
        away=pl.when(is_line).then(pl.col("paid") - pl.col("paid").filter(is_line).mean()).otherwise(0.0),
        worth=((pl.col("time_s") - pl.col("time_s").min()) * (math.log(2) / (HALF_LIFE_DAYS * DAY_S))).exp(),
    )
    starts = pl.col("is_first") | pl.col("begins")
    return frame.select(*_running_columns(), *_session_columns(starts), *_day_columns(), *_window_columns()).collect()


def _running(value: pl.Expr, starts: pl.Expr | None = None) -> pl.Expr:
    """A sum that begins anew where `starts` holds: all sums so far less what they were there."""
    total = value.cast(pl.Int64).cum_sum()
    first = pl.col("is_first") if starts is None else starts
    return total - pl.when(first).then(total - value.cast(pl.Int64)).forward_fill()


def _running_columns() -> list[pl.Expr]:
    is_line = pl.col("kind") == ORDER
    n_lines, worth = _running(is_line), pl.col("worth")
    mean = pl.col("away").cum_sum().over(WHO) / n_lines
    square = (pl.col("away") * pl.col("away")).cum_sum().over(WHO) / n_lines
    return [
        pl.when(~pl.col("is_first")).then(pl.col("time_s").diff()).cast(pl.Float32).alias("gap_s"),
        *(_running(pl.col("kind") == kind).cast(pl.Int32).alias(f"n_{kind}") for kind in KINDS),
        _running(pl.col("signed")).cast(pl.Float64).alias("spend"),
        (mean + pl.col("paid").filter(is_line).mean()).alias("line_mean"),
        (square - mean * mean).clip(lower_bound=0.0).sqrt().alias("line_std"),
        (worth.cum_sum().over(WHO) / worth).cast(pl.Float32).alias("events_decayed"),
        ((pl.col("signed") * worth).cum_sum().over(WHO) / worth).cast(pl.Float32).alias("spend_decayed"),
    ]


def _session_columns(starts: pl.Expr) -> list[pl.Expr]:
    start_s = pl.when(pl.col("begins")).then(pl.col("time_s")).forward_fill()
    has_visit = pl.col("session_number") > 0
    in_session = {
        "session_position": pl.col("kind") <= ORDER,
        "session_views": pl.col("kind") == VIEW,
        "session_carts": pl.col("kind") == CART,
        "session_orders": pl.col("kind") == ORDER,
    }
    length_s = pl.when(has_visit).then(pl.col("seen_s") - start_s).otherwise(0).cast(pl.Int32)
    return [
        pl.col("session_number").cast(pl.Int32),
        length_s.alias("session_length_s"),
        *(_running(value, starts).cast(pl.Int32).alias(name) for name, value in in_session.items()),
    ]


def _day_columns() -> list[pl.Expr]:
    weekday = (pl.col("time_s") // DAY_S + 3) % 7
    return [
        (pl.col("time_s") % DAY_S // 3_600).cast(pl.Int8).alias("hour"),
        weekday.cast(pl.Int8).alias("weekday"),
        (weekday >= 5).alias("is_weekend"),
    ]


def _window_columns() -> list[pl.Expr]:
    told = []
    for window_s in WINDOWS_S:
        first = pl.col("key").search_sorted(pl.col("key") - window_s, side="right")
        told.append((pl.col("place") - first.cast(pl.Int64)).cast(pl.Int32).alias(f"n_{window_s}"))
        told.append((pl.col("sum_before") - pl.col("sum_before").gather(first)).alias(f"spend_{window_s}"))
    return told


def in_pandas(in_order: pd.DataFrame) -> pd.DataFrame:
    """Return every column with pandas' own grouped running sums, fills and time windows."""
    who, kind, time_s, paid = (in_order[name] for name in (WHO, "kind", "time_s", "paid_micros"))
    is_line, visits = kind == ORDER, kind <= ORDER
    signed = paid.where(is_line, -paid.where(kind == REFUND, 0))
    told = pd.DataFrame({"gap_s": time_s.groupby(who).diff()})
    for each in KINDS:
        told[f"n_{each}"] = (kind == each).groupby(who).cumsum()
    told["spend"] = signed.groupby(who).cumsum()
    lines = paid.where(is_line).astype(np.float64).groupby(who).expanding()
    told["line_mean"], told["line_std"] = lines.mean().to_numpy(), lines.std(ddof=0).to_numpy()
    worth = np.exp((time_s - time_s.min()) * (math.log(2) / (HALF_LIFE_DAYS * DAY_S)))
    told["events_decayed"] = worth.groupby(who).cumsum() / worth
    told["spend_decayed"] = (signed * worth).groupby(who).cumsum() / worth
    _add_sessions(told, who, kind, time_s, visits)
    told["hour"], told["weekday"] = time_s % DAY_S // 3_600, (time_s // DAY_S + 3) % 7
    told["is_weekend"] = told.weekday >= 5
    timed = pd.DataFrame({WHO: who.to_numpy(), "paid": paid.to_numpy()}, index=pd.to_datetime(time_s, unit="s"))
    for window_s in WINDOWS_S:
        # An event just a window ago is outside, one of the same second but above is inside: rows, then, not times.
        rolled = timed.groupby(WHO).paid.rolling(pd.Timedelta(seconds=window_s), closed="right")
        told[f"n_{window_s}"] = rolled.count().to_numpy() - 1
        told[f"spend_{window_s}"] = rolled.sum().to_numpy() - paid
    return told


def _add_sessions(told: pd.DataFrame, who: pd.Series, kind: pd.Series, time_s: pd.Series, visits: pd.Series) -> None:
    visit_s = time_s.where(visits)
    before_s = visit_s.groupby(who).shift().groupby(who).ffill()
    begins = visits & (before_s.isna() | (time_s - before_s > GAP_S))
    told["session_number"] = begins.groupby(who).cumsum()
    session = [who, told.session_number]
    start_s = time_s.where(begins).groupby(who).ffill()
    told["session_length_s"] = (visit_s.groupby(who).ffill() - start_s).fillna(0)
    told["session_position"] = visits.groupby(session).cumsum()
    for name, each in (("views", VIEW), ("carts", CART), ("orders", ORDER)):
        told[f"session_{name}"] = (kind == each).groupby(session).cumsum()
