"""Events of a made-up shop of any size, in no order, as Parquet: what the feature benchmarks read.

Visits of views, carts and orders of several lines, contacts and refunds between them. A seed gives the same rows again.
"""

from pathlib import Path

import numpy as np
import polars as pl

from kernels.ledger import CART, COLUMNS, EXPOSURE, N_CATEGORIES, ORDER, REDEMPTION, REFUND, VIEW

FIRST_S, SPAN_S = 1_600_000_000, 365 * 86_400
N_ITEMS = 20_000
# Of all visits: contacts, redemptions and refunds come alone; every ninth of the others ends with an order.
ALONE = {EXPOSURE: 0.18, REDEMPTION: 0.02, REFUND: 0.03}
ORDER_SHARE, CART_SHARE, MEAN_VIEWS, MEAN_LINES = 0.11, 0.12, 4.0, 6.0


def events_of(n_events: int, n_shoppers: int, seed: int = 0) -> pl.DataFrame:
    """Return events in no order.

    n_events    about how many; every shopper has at least one
    n_shoppers  shoppers 0 to n_shoppers - 1; a few come very often
    seed        of every draw
    returns     shopper int64 and the ledger's columns
    """
    draw = np.random.default_rng(seed)
    mean_events = sum(ALONE.values()) + (1 - sum(ALONE.values())) * (1 + MEAN_VIEWS + ORDER_SHARE * (1 + MEAN_LINES))
    n_visits = max(n_shoppers, round(n_events / mean_events))
    activity = draw.lognormal(0.0, 1.0, n_shoppers)
    others = draw.choice(n_shoppers, n_visits - n_shoppers, p=activity / activity.sum())
    visitor = np.concatenate([np.arange(n_shoppers), others])
    start_s = FIRST_S + draw.integers(0, SPAN_S, n_visits)
    alone = draw.choice([0, *ALONE], n_visits, p=[1 - sum(ALONE.values()), *ALONE.values()])
    n_views = np.where(alone > 0, 1, 1 + draw.poisson(MEAN_VIEWS, n_visits))
    n_lines = np.where((alone == 0) & (draw.random(n_visits) < ORDER_SHARE), 1 + draw.poisson(MEAN_LINES, n_visits), 0)
    visit = np.concatenate([np.repeat(np.arange(n_visits), n_views), np.repeat(np.arange(n_visits), n_lines)])
    n, n_browsed = visit.size, int(n_views.sum())
    is_line = np.arange(n) >= n_browsed
    # An order comes an hour after its visit began at the latest, all its lines in one second.
    time_s = start_s[visit] + np.where(is_line, 1_500, np.minimum(draw.exponential(400, n), 1_490).astype(np.int64))
    browsed = np.where(draw.random(n) < CART_SHARE, CART, VIEW)
    kind = np.where(is_line, ORDER, np.where(alone[visit] > 0, alone[visit], browsed)).astype(np.int8)
    item = (N_ITEMS * draw.random(n) ** 3).astype(np.int32) + 1
    moves_money = (kind == ORDER) | (kind == REFUND)
    paid = np.where(moves_money, np.round(draw.lognormal(2.0, 1.0, n), 2) * 1e6, 0).astype(np.int64)
    columns = {
        "time_s": time_s,
        "kind": kind,
        "item": item,
        "category": ((item % (N_CATEGORIES + 1)) - 1).astype(np.int16),
        "order": np.where(is_line, visit + 1, 0),
        "quantity": np.where(moves_money, 1.0 + draw.poisson(0.5, n), 1.0),
        "paid_micros": paid,
        "discount_micros": np.where((kind == ORDER) & (draw.random(n) < 0.3), paid // 5, 0),
        "coupon_micros": np.where((kind == ORDER) & (draw.random(n) < 0.05), 500_000, 0),
    }
    frame = pl.DataFrame({"shopper": visitor[visit], **{name: columns[name] for name in COLUMNS}})
    return frame[draw.permutation(n)]


def events_file(folder: Path, n_events: int, n_shoppers: int, seed: int = 0) -> Path:
    """Return a Parquet file of `events_of`, written unless it is there.

    folder   made if it does not exist
    """
    file = folder / f"events-{n_events}-{n_shoppers}-{seed}.parquet"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        events_of(n_events, n_shoppers, seed).write_parquet(file)
    return file
