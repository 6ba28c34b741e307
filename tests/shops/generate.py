"""A little shop with habits, campaigns that work and placements that work, written as its owner would export it.

120 shoppers, 200 items in 8 categories, 2 stores, 20 weeks, 6 campaigns of 3 arms. Every effect is planted and known:
SPEND_FACTORS multiplies a shopper's lines for four weeks of being sent an arm; PLACEMENT_FACTORS multiplies the weight
of an item in the mailer or on display (its sales rise a little less). The same seed always gives the same files.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

FIRST_S = 1_704_067_200  # Monday 2024-01-01 00:00 UTC
DAY_S, WEEK_S = 86_400, 604_800
N_SHOPPERS, N_ITEMS, N_WEEKS = 120, 200, 20
CATEGORIES = ("Bread", "Cheese", "Coffee", "Fruit", "Household", "Pasta", "Snacks", "Yogurt")
STORES = ("north", "south")
SPEND_FACTORS = {"A": 1.8, "B": 1.3, "C": 1.0}
SENT_PROPENSITY = 0.5
CAMPAIGN_WEEKS = {"1": 3, "2": 5, "3": 7, "4": 10, "5": 13, "6": 15}
CAMPAIGN_ARMS = {"1": "A", "2": "B", "3": "C", "4": "A", "5": "B", "6": "C"}
CAMPAIGN_LASTS = 4
PLACEMENT_FACTORS = {"ads": 2.0, "content": 1.5}
PLACED_SHARE = 0.15
COUPON_CENTS = 100

Rows = dict[str, list[object]]


@dataclass
class _Rows:
    """Rows of the tables, a list a column, as they come about."""

    tables: dict[str, Rows] = field(default_factory=dict)

    def add(self, table: str, **values: object) -> None:
        for name, value in values.items():
            self.tables.setdefault(table, {}).setdefault(name, []).append(value)


@dataclass(frozen=True)
class _World:
    """What is settled before the first shopper comes.

    cents      (N_ITEMS,)                 unit price
    placed     channel -> (N_ITEMS, 2, N_WEEKS) bool
    habits     (N_SHOPPERS, N_ITEMS)      share of the shopper's choices, placements aside
    visits     (N_SHOPPERS,)              probability of an order in a week
    sent       campaign -> (N_SHOPPERS,) bool
    """

    cents: NDArray[np.int64]
    placed: dict[str, NDArray[np.bool_]]
    habits: NDArray[np.float64]
    visits: NDArray[np.float64]
    sent: dict[str, NDArray[np.bool_]]


def write_little_shop(folder: Path, format: str = "csv", seed: int = 0) -> None:
    """Write the shop's seven tables into a folder.

    folder  made if it does not exist
    format  "csv" and "jsonl" say times in ISO 8601 and money in currency units; "parquet" in canonical columns
    seed    of every draw
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in _tables(np.random.default_rng(seed)).items():
        if format == "parquet":
            frame.write_parquet(folder / f"{name}.parquet")
        elif format == "jsonl":
            _for_people(frame).write_ndjson(folder / f"{name}.jsonl")
        else:
            flat = _for_people(frame).with_columns(pl.selectors.list().list.join("|"))
            flat.write_csv(folder / f"{name}.csv")


def _tables(draw: Generator) -> dict[str, pl.DataFrame]:
    world, rows = _world(draw), _Rows()
    for item in range(N_ITEMS):
        category = CATEGORIES[item % len(CATEGORIES)]
        rows.add(
            "items", item_id=f"p{item}", title=f"{category} no. {item}", category=category, department="Food",
            brand="Own" if item % 3 else "Maker", price_micros=int(world.cents[item]) * 10_000,
        )  # fmt: skip
    for shopper in range(N_SHOPPERS):
        rows.add(
            "shoppers", shopper_id=f"s{shopper}", age_band=("19-24", "25-44", "45-64", "65+")[shopper % 4],
            income_band=None, household_size=str(1 + shopper % 4), n_children=str(max(0, shopper % 4 - 1)),
        )  # fmt: skip
    _plan_campaigns(rows, world)
    _place_items(rows, world)
    for shopper in range(N_SHOPPERS):
        for week in range(N_WEEKS):
            if draw.random() < world.visits[shopper]:
                _shop_once(rows, world, draw, shopper, week)
    frames = {name: _frame(columns) for name, columns in rows.tables.items()}
    return frames | {"events": frames["events"].sort("time_s", "shopper_id", "kind", "item_id")}


def _frame(columns: Rows) -> pl.DataFrame:
    unset = {name: pl.String() for name, values in columns.items() if all(value is None for value in values)}
    return pl.DataFrame(columns, schema_overrides=unset)


def _world(draw: Generator) -> _World:
    tastes = draw.dirichlet(np.full(len(CATEGORIES), 0.4), N_SHOPPERS)
    favourites = draw.gamma(0.3, 1.0, (N_SHOPPERS, N_ITEMS)) + 0.02
    habits = tastes[:, np.arange(N_ITEMS) % len(CATEGORIES)] * favourites
    return _World(
        cents=draw.integers(99, 900, N_ITEMS),
        placed={channel: draw.random((N_ITEMS, len(STORES), N_WEEKS)) < PLACED_SHARE for channel in PLACEMENT_FACTORS},
        habits=habits,
        visits=draw.uniform(0.5, 0.95, N_SHOPPERS),
        sent={campaign: draw.random(N_SHOPPERS) < SENT_PROPENSITY for campaign in CAMPAIGN_WEEKS},
    )


def _plan_campaigns(rows: _Rows, world: _World) -> None:
    for number, (campaign, week) in enumerate(CAMPAIGN_WEEKS.items()):
        starts_s = FIRST_S + week * WEEK_S
        for category in (CATEGORIES[number % 8], CATEGORIES[(number + 3) % 8]):
            covered = [f"p{item}" for item in range(N_ITEMS) if CATEGORIES[item % 8] == category]
            rows.add(
                "offers", offer_id=f"{campaign}:{category}", campaign_id=campaign, arm=CAMPAIGN_ARMS[campaign],
                channel="promotions", kind="amount", title=f"1.00 off {category}", category=category,
                discount_micros=COUPON_CENTS * 10_000, starts_s=starts_s, ends_s=starts_s + CAMPAIGN_LASTS * WEEK_S,
                item_ids=covered,
            )  # fmt: skip
        for shopper in np.flatnonzero(world.sent[campaign]):
            rows.add(
                "exposures", shopper_id=f"s{shopper}", campaign_id=campaign, offer_id=None, channel="promotions",
                time_s=starts_s, propensity=SENT_PROPENSITY,
            )  # fmt: skip


def _place_items(rows: _Rows, world: _World) -> None:
    for channel, placed in world.placed.items():
        for item, store, week in np.argwhere(placed):
            rows.add(
                "placements", item_id=f"p{item}", store_id=STORES[store], week=int(week) + 1,
                week_starts_s=FIRST_S + int(week) * WEEK_S, channel=channel,
            )  # fmt: skip


def _shop_once(rows: _Rows, world: _World, draw: Generator, shopper: int, week: int) -> None:
    """One visit: some views, then an order whose size and items follow habits, campaigns and placements."""
    store = int(draw.random() < 0.4)
    running = [
        campaign
        for campaign, start in CAMPAIGN_WEEKS.items()
        if world.sent[campaign][shopper] and start <= week < start + CAMPAIGN_LASTS
    ]
    factor = float(np.prod([SPEND_FACTORS[CAMPAIGN_ARMS[campaign]] for campaign in running]))
    weights = world.habits[shopper] * np.prod(
        [np.where(placed[:, store, week], PLACEMENT_FACTORS[name], 1.0) for name, placed in world.placed.items()],
        axis=0,
    )
    n_lines = min(12, 1 + int(draw.poisson(3.0 * factor)))
    items = draw.choice(N_ITEMS, n_lines, replace=False, p=weights / weights.sum())
    time_s = FIRST_S + week * WEEK_S + int(draw.integers(0, 7)) * DAY_S + int(draw.integers(8 * 3600, 20 * 3600))
    order_id = f"o{shopper}-{week}"
    for item in items:
        who = {"shopper_id": f"s{shopper}", "item_id": f"p{item}"}
        if draw.random() < 0.3:
            rows.add("events", **who, **_line("view", time_s - int(draw.integers(60, 600)), STORES[store]))
        _buy(rows, world, draw, who | {"order_id": order_id}, (int(item), time_s, STORES[store]), running)


def _buy(
    rows: _Rows, world: _World, draw: Generator, who: dict[str, str], what: tuple[int, int, str], running: list[str]
) -> None:
    item, time_s, store = what
    quantity = 1 + int(draw.random() < 0.2)
    cents = int(world.cents[item]) * quantity
    cut = cents // 5 if draw.random() < 0.15 else 0
    offers = [f"{c}:{CATEGORIES[item % 8]}" for c in running]
    known = rows.tables["offers"]["offer_id"]
    offer_id = next((offer for offer in offers if offer in known and draw.random() < 0.5), None)
    coupon = min(COUPON_CENTS, cents - cut) if offer_id else 0
    money = {"quantity": float(quantity), "paid_micros": (cents - cut - coupon) * 10_000}
    discounts = {"discount_micros": cut * 10_000, "coupon_micros": coupon * 10_000}
    rows.add("events", **(who | _line("order", time_s, store) | money | discounts | {"order_id": who["order_id"]}))
    if offer_id:
        rows.add(
            "outcomes", shopper_id=who["shopper_id"], offer_id=offer_id, campaign_id=offer_id.split(":")[0],
            kind="redemption", time_s=time_s, value_micros=coupon * 10_000,
        )  # fmt: skip
    if draw.random() < 0.01:
        back = _line("refund", time_s + 2 * DAY_S, store) | {"paid_micros": money["paid_micros"]}
        rows.add("events", **(who | back | {"order_id": who["order_id"]}))


def _line(kind: str, time_s: int, store: str) -> dict[str, object]:
    return {
        "time_s": time_s, "kind": kind, "quantity": 1.0, "paid_micros": 0, "discount_micros": 0, "coupon_micros": 0,
        "order_id": None, "store_id": store,
    }  # fmt: skip


def _for_people(frame: pl.DataFrame) -> pl.DataFrame:
    """Times in ISO 8601 and money in currency units, under their short names."""
    times = [name for name in frame.columns if name.endswith("_s")]
    money = [name for name in frame.columns if name.endswith("_micros")]
    return frame.select(
        pl.from_epoch(name, "s").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias(name.removesuffix("_s")) if name in times
        else (pl.col(name) / 1_000_000).alias(name.removesuffix("_micros")) if name in money
        else pl.col(name)
        for name in frame.columns
    )  # fmt: skip
