"""The feature set in pandas: columns computed first, then grouped sums and means, which pandas does in compiled code.

In: a DataFrame of events. Out: what `features_at` gives. tests/benchmarks/features.py times it; a test compares it with
the kernels.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kernels.features import HISTORY, N_CATEGORIES
from kernels.ledger import CART, EXPOSURE, ORDER, REDEMPTION, REFUND, VIEW

DAY_S, MICROS, SESSION_GAP_S = 86_400, 1e6, 1_800
CAP_DAYS, TENURE_CAP_DAYS, RATIO_CAP = 365.0, 3_650.0, 10.0


def features(events: pd.DataFrame, at_s: int, n_shoppers: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return every feature of every shopper as of one moment, no event being later.

    events      shopper and the ledger's columns, in any order; shoppers 0 to n_shoppers - 1 all have events
    at_s        seconds since the epoch
    returns     (n_shoppers, N_FEATURES) float32 and (n_shoppers, HISTORY) int32
    """
    events = events.sort_values(["shopper", "time_s", "kind", "order"], kind="stable", ignore_index=True)
    year = np.exp((events.time_s - at_s) * (math.log(2) / (364 * DAY_S)))
    events["w91"] = year**4
    events["w28"] = year**13
    events["w14"] = events.w28**2
    events["w7"] = events.w14**2
    lines = events[events.kind == ORDER]
    last_s = events.groupby(["shopper", "kind"]).time_s.max().unstack().reindex(range(n_shoppers))
    parts = [
        _recency(events, last_s, at_s),
        _frequency(events, lines, at_s, n_shoppers),
        _spend(events, lines),
        _baskets(lines),
        _sessions(events, at_s),
        _prices(lines),
        _week(lines),
        _contacts(events, last_s, at_s),
        _categories(lines, at_s),
    ]
    whole = [part.reindex(range(n_shoppers)).to_numpy(np.float64) for part in parts]
    neutral = [_neutral(part.shape[1], place) for place, part in enumerate(whole)]
    filled = [np.where(np.isnan(part), value, part) for part, value in zip(whole, neutral, strict=True)]
    return np.hstack(filled).astype(np.float32), _history(lines, n_shoppers)


def _neutral(width: int, place: int) -> NDArray[np.float64]:
    """What an unknown value stands for: days since are capped, an order is due at 1, anything else is 0."""
    neutral = np.zeros(width)
    if place == 0:
        neutral[:4] = CAP_DAYS
    if place == 1:
        neutral[9] = 1.0
    if place == 7:
        neutral[[1, 4]] = CAP_DAYS
    if place == 8:
        neutral[2 * N_CATEGORIES : 3 * N_CATEGORIES] = CAP_DAYS
    return neutral


def _days(last_s: pd.DataFrame, kind: int, at_s: int) -> pd.Series:
    return ((at_s - last_s[kind]) / DAY_S).clip(upper=CAP_DAYS)


def _recency(events: pd.DataFrame, last_s: pd.DataFrame, at_s: int) -> pd.DataFrame:
    kinds = (VIEW, CART, ORDER, REFUND)
    tenure = ((at_s - events.groupby("shopper").time_s.min()) / DAY_S).clip(upper=TENURE_CAP_DAYS)
    days = [_days(last_s, kind, at_s) for kind in kinds]
    return pd.concat([*days, *(last_s[kind].notna().astype(float) for kind in kinds), tenure], axis=1)


def _orders(lines: pd.DataFrame) -> pd.DataFrame:
    known = lines[lines.category >= 0].drop_duplicates(["shopper", "order", "category"])
    orders = lines.groupby(["shopper", "order"], sort=False).agg(
        time_s=("time_s", "first"), w7=("w7", "first"), w28=("w28", "first"), w91=("w91", "first"),
        n_lines=("time_s", "size"), units=("quantity", "sum"), paid=("paid_micros", "sum"),
    )  # fmt: skip
    orders["n_categories"] = known.groupby(["shopper", "order"]).size()
    return orders.fillna({"n_categories": 0}).reset_index()


def _frequency(events: pd.DataFrame, lines: pd.DataFrame, at_s: int, n_shoppers: int) -> pd.DataFrame:
    orders = _orders(lines)
    by_shopper = orders.groupby("shopper")
    gaps = (by_shopper.time_s.diff() / DAY_S).groupby(orders.shopper)
    found = by_shopper.agg(n=("w7", "size"), w7=("w7", "sum"), w28=("w28", "sum"), w91=("w91", "sum"))
    found = found.reindex(range(n_shoppers), fill_value=0.0)
    for name, kind, worth in (("views", VIEW, "w7"), ("carts", CART, "w7"), ("lines", ORDER, "w28")):
        found[name] = events[events.kind == kind].groupby("shopper")[worth].sum()
    found["gap_mean"], found["gap_std"] = gaps.mean(), gaps.std(ddof=0)
    due = (at_s - by_shopper.time_s.last()) / DAY_S / found.gap_mean
    found["due"] = due.where(found.gap_mean > 0).clip(upper=RATIO_CAP)
    return found


def _spend(events: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    moved = events[events.kind.isin([ORDER, REFUND])]
    amount = moved.paid_micros.where(moved.kind == ORDER, -moved.paid_micros) / MICROS
    sums = {name: amount * moved[name] for name in ("w7", "w28", "w91")}
    found = pd.DataFrame({"net": amount, **sums}).groupby(moved.shopper).sum()
    found["refunded"] = (events[events.kind == REFUND].groupby("shopper").paid_micros.sum()) / MICROS
    paid = (lines.paid_micros / MICROS).groupby(lines.shopper)
    found["mean"], found["std"] = paid.mean(), paid.std(ddof=0)
    return found


def _baskets(lines: pd.DataFrame) -> pd.DataFrame:
    orders = _orders(lines)
    orders["paid"] /= MICROS
    by_shopper = orders.groupby("shopper")
    means = by_shopper[["n_lines", "units", "n_categories", "paid"]].mean()
    return pd.concat([means, by_shopper.paid.std(ddof=0), by_shopper[["n_lines", "paid"]].last()], axis=1)


def _sessions(events: pd.DataFrame, at_s: int) -> pd.DataFrame:
    visits = events[events.kind <= ORDER]
    begins = (visits.time_s.diff() > SESSION_GAP_S) | (visits.shopper != visits.shopper.shift())
    is_order, is_cart = visits.kind == ORDER, visits.kind == CART
    sessions = (
        visits.assign(session=begins.cumsum(), has_order=is_order, n_carts=is_cart)
        .groupby("session")
        .agg(
            shopper=("shopper", "first"), start_s=("time_s", "first"), end_s=("time_s", "last"), w28=("w28", "first"),
            n_events=("kind", "size"), has_order=("has_order", "max"), n_carts=("n_carts", "sum"),
        )
    )  # fmt: skip
    sessions["minutes"] = (sessions.end_s - sessions.start_s) / 60
    by_shopper = sessions.groupby("shopper")
    last = by_shopper.last()
    is_live = (at_s - last.end_s <= SESSION_GAP_S).astype(float)
    means = by_shopper[["n_events", "minutes", "has_order"]].mean()
    return pd.concat(
        [
            by_shopper.size(),
            by_shopper.w28.sum(),
            means,
            last[["n_events", "minutes"]],
            is_live,
            last.n_carts * is_live,
        ],
        axis=1,
    )


def _prices(lines: pd.DataFrame) -> pd.DataFrame:
    listed = lines.paid_micros + lines.discount_micros + lines.coupon_micros
    sums = pd.DataFrame({
        "listed": listed * lines.w91,
        "discount": lines.discount_micros * lines.w91,
        "lines": lines.w91,
        "discounted": lines.w91 * (lines.discount_micros > 0),
        "coupons": lines.w91 * (lines.coupon_micros > 0),
    }).groupby(lines.shopper).sum()  # fmt: skip
    return pd.DataFrame({
        "discount_share": sums.discount / sums.listed,
        "discounted_share": sums.discounted / sums.lines,
        "coupon_share": sums.coupons / sums.lines,
        "coupons": sums.coupons,
        "listed_mean": sums.listed / sums.lines / MICROS,
    })  # fmt: skip


def _week(lines: pd.DataFrame) -> pd.DataFrame:
    orders = _orders(lines)
    second = orders.time_s % DAY_S
    angle = second * (math.tau / DAY_S)
    sums = pd.DataFrame({
        "weekend": orders.w91 * ((orders.time_s // DAY_S + 3) % 7 >= 5),
        "evening": orders.w91 * (second >= 18 * 3_600),
        "sine": orders.w91 * np.sin(angle),
        "cosine": orders.w91 * np.cos(angle),
    }).groupby(orders.shopper).sum()  # fmt: skip
    return sums.div(orders.groupby("shopper").w91.sum(), axis=0)


def _contacts(events: pd.DataFrame, last_s: pd.DataFrame, at_s: int) -> pd.DataFrame:
    sent, redeemed = (events[events.kind == kind].groupby("shopper") for kind in (EXPOSURE, REDEMPTION))
    found = pd.DataFrame(index=last_s.index)
    found["exposures_28"], found["exposed_days"] = sent.w28.sum(), _days(last_s, EXPOSURE, at_s)
    found["exposed"] = last_s[EXPOSURE].notna().astype(float)
    found["redemptions_91"], found["redeemed_days"] = redeemed.w91.sum(), _days(last_s, REDEMPTION, at_s)
    found["redeemed"] = last_s[REDEMPTION].notna().astype(float)
    n_sent = sent.size().reindex(last_s.index, fill_value=0)
    found["share"] = redeemed.size().reindex(last_s.index, fill_value=0) / n_sent.clip(lower=1)
    return found


def _categories(lines: pd.DataFrame, at_s: int) -> pd.DataFrame:
    known = lines[lines.category >= 0].groupby(["shopper", "category"])
    sums, last_s = known[["w14", "w91"]].sum(), known.time_s.max()
    days = ((at_s - last_s) / DAY_S).clip(upper=CAP_DAYS)
    slots = range(N_CATEGORIES)
    wide = [column.unstack().reindex(columns=slots) for column in (sums.w14, sums.w91, days)]
    return pd.concat([*wide, last_s.groupby("shopper").size()], axis=1)


def _history(lines: pd.DataFrame, n_shoppers: int) -> NDArray[np.int32]:
    last = lines[lines.item != 0].groupby("shopper").tail(HISTORY)
    from_end = last.groupby("shopper").cumcount(ascending=False).to_numpy()
    history = np.zeros((n_shoppers, HISTORY), np.int32)
    history[last.shopper.to_numpy(), HISTORY - 1 - from_end] = last["item"].to_numpy()
    return history
