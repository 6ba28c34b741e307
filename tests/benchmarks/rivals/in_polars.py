"""The feature set in polars, lazily: one scan, one sort of what needs order, one aggregation for each thing counted.

In: a LazyFrame of events. Out: one row for each shopper that has events. tests/benchmarks/features.py times it; a test
compares it with the kernels.
"""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.features import HISTORY, N_CATEGORIES
from kernels.ledger import CART, EXPOSURE, ORDER, REDEMPTION, REFUND, VIEW

DAY_S, MICROS, SESSION_GAP_S = 86_400, 1e6, 1_800
CAP_DAYS, TENURE_CAP_DAYS, RATIO_CAP = 365.0, 3_650.0, 10.0
WHO = "shopper"
KIND, TIME, PAID = pl.col("kind"), pl.col("time_s"), pl.col("paid_micros").cast(pl.Float64)


def features(events: pl.LazyFrame, at_s: int, is_sorted: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return every feature of every shopper as of one moment, no event being later.

    events     shopper and the ledger's columns, in any order
    at_s       seconds since the epoch
    is_sorted  whether events ascend by shopper, time, kind and order already
    returns    shopper and N_FEATURES columns in the order of kernels.features.columns; shopper and its item history
    """
    events = events.with_columns(_worths(at_s))
    lines = events.filter(KIND == ORDER)
    # Only what needs an order is sorted, and only the columns that it needs.
    visits = events.filter(KIND <= ORDER).select(WHO, "time_s", "kind", "w28")
    bought = lines.filter(pl.col("item") != 0).select(WHO, "time_s", "order", "item")
    if not is_sorted:
        visits = visits.sort(WHO, "time_s")
        bought = bought.sort(WHO, "time_s", "order", maintain_order=True)
    parts = [
        _sums(events, at_s),
        _order_sums(_orders(lines), at_s),
        _session_sums(visits, at_s),
        _affinity(lines, at_s),
    ]
    history = bought.group_by(WHO).agg(pl.col("item").tail(HISTORY))
    *parts, last_items = pl.collect_all([*parts, history])
    sums, order_sums, session_sums, affinity = parts
    whole = sums.join(order_sums, on=WHO, how="left").join(session_sums, on=WHO, how="left")
    whole = whole.join(_wide(affinity), on=WHO, how="left").sort(WHO)
    return whole.select(WHO, *_finished(at_s)), last_items


def as_arrays(
    answer: tuple[pl.DataFrame, pl.DataFrame], n_shoppers: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the answer as `features_at` gives it, for shoppers that all have events.

    answer      from `features`
    n_shoppers  shoppers 0 to n_shoppers - 1
    returns     (n_shoppers, N_FEATURES) float32 and (n_shoppers, HISTORY) int32
    """
    whole, last_items = answer
    history = np.zeros((n_shoppers, HISTORY), np.int32)
    for who, items in last_items.iter_rows():
        history[who, HISTORY - len(items) :] = items
    return whole.drop(WHO).to_numpy().astype(np.float32), history


def _worths(at_s: int) -> list[pl.Expr]:
    """What an event is worth at the moment, one power for all half-lives, as the kernels do it."""
    year = ((TIME - at_s).cast(pl.Float64) * (math.log(2) / (364 * DAY_S))).exp()
    quarter = year * year * year * year
    month = quarter * quarter * quarter * year
    return [
        quarter.alias("w91"),
        month.alias("w28"),
        (month * month).alias("w14"),
        (month * month * month * month).alias("w7"),
    ]


def _sums(events: pl.LazyFrame, at_s: int) -> pl.LazyFrame:
    def of(kind: int, value: pl.Expr) -> pl.Expr:
        return pl.when(kind == KIND).then(value)

    amount = pl.when(KIND == ORDER).then(PAID).when(KIND == REFUND).then(-PAID).otherwise(0.0)
    listed = PAID + pl.col("discount_micros") + pl.col("coupon_micros")
    last = {
        VIEW: "view",
        CART: "cart",
        ORDER: "order",
        REFUND: "refund",
        EXPOSURE: "exposure",
        REDEMPTION: "redemption",
    }
    return events.group_by(WHO).agg(
        TIME.min().alias("first_s"),
        *(of(kind, TIME).max().alias(f"last_{name}_s") for kind, name in last.items()),
        of(VIEW, pl.col("w7")).sum().alias("views_7"),
        of(CART, pl.col("w7")).sum().alias("carts_7"),
        of(ORDER, pl.col("w28")).sum().alias("lines_28"),
        *((amount * pl.col(worth)).sum().alias(f"net_{worth}") for worth in ("w7", "w28", "w91")),
        amount.sum().alias("net"),
        of(REFUND, PAID).sum().alias("refunded"),
        of(ORDER, PAID).mean().alias("line_mean"),
        of(ORDER, PAID).std(ddof=0).alias("line_std"),
        of(ORDER, listed * pl.col("w91")).sum().alias("list_91"),
        of(ORDER, pl.col("discount_micros") * pl.col("w91")).sum().alias("discount_91"),
        of(ORDER, pl.col("w91")).sum().alias("lines_91"),
        of(ORDER, pl.col("w91") * (pl.col("discount_micros") > 0)).sum().alias("discounted_91"),
        of(ORDER, pl.col("w91") * (pl.col("coupon_micros") > 0)).sum().alias("coupons_91"),
        of(EXPOSURE, pl.col("w28")).sum().alias("exposures_28"),
        of(REDEMPTION, pl.col("w91")).sum().alias("redemptions_91"),
        (KIND == EXPOSURE).sum().alias("exposures"),
        (KIND == REDEMPTION).sum().alias("redemptions"),
    )


def _orders(lines: pl.LazyFrame) -> pl.LazyFrame:
    return lines.group_by(WHO, "order").agg(
        TIME.first(),
        pl.col("w7", "w28", "w91").first(),
        pl.len().alias("n_lines"),
        pl.col("quantity").sum(),
        PAID.sum().alias("paid"),
        pl.col("category").filter(pl.col("category") >= 0).n_unique().alias("n_categories"),
    )


def _order_sums(orders: pl.LazyFrame, at_s: int) -> pl.LazyFrame:
    second = TIME % DAY_S
    angle = second.cast(pl.Float64) * (math.tau / DAY_S)
    gap_days = TIME.diff().over(WHO) / DAY_S
    worth = pl.col("w91")
    return (
        orders.sort(WHO, "time_s", "order")
        .with_columns(gap_days.alias("gap_days"))
        .group_by(WHO)
        .agg(
            pl.len().alias("n_orders"),
            *(pl.col(name).sum().alias(f"orders_{name}") for name in ("w7", "w28", "w91")),
            pl.col("gap_days").mean().alias("gap_mean"),
            pl.col("gap_days").std(ddof=0).alias("gap_std"),
            pl.col("n_lines").mean().alias("basket_lines"),
            pl.col("quantity").mean().alias("basket_units"),
            pl.col("n_categories").mean().alias("basket_categories"),
            pl.col("paid").mean().alias("basket_mean"),
            pl.col("paid").std(ddof=0).alias("basket_std"),
            pl.col("n_lines").last().alias("open_lines"),
            pl.col("paid").last().alias("open_paid"),
            (worth * ((TIME // DAY_S + 3) % 7 >= 5)).sum().alias("weekend_91"),
            (worth * (second >= 18 * 3_600)).sum().alias("evening_91"),
            (worth * angle.sin()).sum().alias("sine_91"),
            (worth * angle.cos()).sum().alias("cosine_91"),
        )
    )


def _session_sums(visits: pl.LazyFrame, at_s: int) -> pl.LazyFrame:
    begins = (TIME.diff() > SESSION_GAP_S) | (pl.col(WHO) != pl.col(WHO).shift()) | (pl.int_range(pl.len()) == 0)
    sessions = (
        visits.with_columns(begins.cum_sum().alias("session"))
        .group_by("session")
        .agg(
            pl.col(WHO).first(),
            TIME.min().alias("start_s"),
            TIME.max().alias("end_s"),
            pl.col("w28").min(),
            pl.len().alias("n_events"),
            (KIND == ORDER).any().alias("has_order"),
            (KIND == CART).sum().alias("n_carts"),
        )
    )
    latest = pl.col("start_s").arg_max()
    return sessions.group_by(WHO).agg(
        pl.len().alias("n_sessions"),
        pl.col("w28").sum().alias("sessions_28"),
        pl.col("n_events").mean().alias("session_events"),
        (pl.col("end_s") - pl.col("start_s")).mean().alias("session_s"),
        pl.col("has_order").mean().alias("session_orders"),
        pl.col("n_events").get(latest).alias("open_events"),
        (pl.col("end_s") - pl.col("start_s")).get(latest).alias("open_s"),
        (at_s - pl.col("end_s").max() <= SESSION_GAP_S).alias("is_live"),
        pl.col("n_carts").get(latest).alias("open_carts"),
    )


def _affinity(lines: pl.LazyFrame, at_s: int) -> pl.LazyFrame:
    days = (at_s - TIME.max()) / DAY_S
    return (
        lines.filter(pl.col("category") >= 0)
        .group_by(WHO, "category")
        .agg(pl.col("w14").sum(), pl.col("w91").sum(), days.clip(upper_bound=CAP_DAYS).alias("days"))
    )


def _wide(affinity: pl.DataFrame) -> pl.DataFrame:
    wide = affinity.pivot(on="category", index=WHO, values=["w14", "w91", "days"])
    missing = [
        pl.lit(None, pl.Float64).alias(f"{name}_{slot}")
        for name in ("w14", "w91", "days")
        for slot in range(N_CATEGORIES)
        if f"{name}_{slot}" not in wide.columns
    ]
    breadth = affinity.group_by(WHO).agg(pl.len().alias("breadth"))
    return wide.with_columns(missing).join(breadth, on=WHO)


def _finished(at_s: int) -> list[pl.Expr]:
    """Every column in its unit, with its neutral value where nothing happened."""
    return [
        expression.cast(pl.Float32).alias(str(place))
        for place, expression in enumerate([*_counts(at_s), *_tastes(at_s)])
    ]


def _days_since(column: str, at_s: int) -> pl.Expr:
    return ((at_s - pl.col(column)) / DAY_S).clip(upper_bound=CAP_DAYS).fill_null(CAP_DAYS)


def _or_zero(expression: pl.Expr) -> pl.Expr:
    return expression.fill_null(0.0).fill_nan(0.0)


def _counts(at_s: int) -> list[pl.Expr]:
    happened = ("last_view_s", "last_cart_s", "last_order_s", "last_refund_s")
    due = ((at_s - pl.col("last_order_s")) / DAY_S / pl.col("gap_mean")).clip(upper_bound=RATIO_CAP)
    frequency = (
        "n_orders",
        "orders_w7",
        "orders_w28",
        "orders_w91",
        "views_7",
        "carts_7",
        "lines_28",
        "gap_mean",
        "gap_std",
    )
    spend = ("net", "net_w7", "net_w28", "net_w91", "refunded", "line_mean", "line_std")
    baskets = (
        "basket_lines",
        "basket_units",
        "basket_categories",
        "basket_mean",
        "basket_std",
        "open_lines",
        "open_paid",
    )
    in_units = {"basket_mean", "basket_std", "open_paid"}
    return [
        *(_days_since(column, at_s) for column in happened),
        *(pl.col(column).is_not_null() for column in happened),
        ((at_s - pl.col("first_s")) / DAY_S).clip(upper_bound=TENURE_CAP_DAYS),
        *(_or_zero(pl.col(name)) for name in frequency),
        pl.when(pl.col("gap_mean") > 0).then(due).otherwise(1.0),
        *(_or_zero(pl.col(name)) / MICROS for name in spend),
        *(_or_zero(pl.col(name)) / (MICROS if name in in_units else 1.0) for name in baskets),
    ]


def _tastes(at_s: int) -> list[pl.Expr]:
    lines = pl.col("lines_91")
    live_carts = pl.col("open_carts") * pl.col("is_live")
    return [
        *(_or_zero(pl.col(name)) for name in ("n_sessions", "sessions_28", "session_events")),
        _or_zero(pl.col("session_s") / 60),
        _or_zero(pl.col("session_orders")),
        _or_zero(pl.col("open_events")),
        _or_zero(pl.col("open_s") / 60),
        _or_zero(pl.col("is_live").cast(pl.Float64)),
        _or_zero(live_carts),
        _or_zero(pl.col("discount_91") / pl.col("list_91")),
        *(_or_zero(pl.col(name) / lines) for name in ("discounted_91", "coupons_91")),
        pl.col("coupons_91"),
        _or_zero(pl.col("list_91") / lines) / MICROS,
        *(_or_zero(pl.col(f"{name}_91") / pl.col("orders_w91")) for name in ("weekend", "evening", "sine", "cosine")),
        pl.col("exposures_28"),
        _days_since("last_exposure_s", at_s),
        pl.col("exposures") > 0,
        pl.col("redemptions_91"),
        _days_since("last_redemption_s", at_s),
        pl.col("redemptions") > 0,
        pl.col("redemptions") / pl.col("exposures").clip(lower_bound=1),
        *(_or_zero(pl.col(f"w14_{slot}")) for slot in range(N_CATEGORIES)),
        *(_or_zero(pl.col(f"w91_{slot}")) for slot in range(N_CATEGORIES)),
        *(pl.col(f"days_{slot}").fill_null(CAP_DAYS) for slot in range(N_CATEGORIES)),
        _or_zero(pl.col("breadth").cast(pl.Float64)),
    ]
