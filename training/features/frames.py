"""Feature tables of one part of the shoppers, and of all items: pure functions of rows and fitted limits.

In: a Dataset of some shoppers, what was fitted, the moment of the query. Out: frames whose columns are those of
training/features/columns.py. Called by training/features/assembly.py, partition by partition; nothing is shared between
partitions but Fitted, so that the same functions can run in workers of Ray Data.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.behaviour import LENGTH, sequences_at
from kernels.calendar_days import calendar_days
from kernels.decays import decayed_sums
from kernels.family import Feature
from kernels.features import FEATURES
from kernels.item_tags import ITEM_TAGS
from kernels.ledger import COLUMNS, Ledger
from kernels.moments import running_moments
from kernels.streams import gaps_s, kind_counts, price_bands, running_spend
from kernels.tag_limits import CHANNELS, LIFECYCLES, SENSITIVITIES, TAGS, TIERS
from kernels.visits import COLUMNS as SESSION_COLUMNS
from kernels.visits import session_columns
from training.calendars import shop_days
from training.dataset import KIND, Dataset, order_keys
from training.features.attributes import item_attributes, shopper_attributes
from training.features.fitted import Fitted, category_codes, item_indexes
from training.features.item_tags import lines_of, tags_at
from training.features.tags import contacts_of, tags_of
from training.sources.tables import Shop

# Codes that people read as words; no word is null.
WORDS = {
    "tier": TIERS,
    "price_sensitivity_level": SENSITIVITIES,
    "channel": ("", *CHANNELS),
    "lifecycle": LIFECYCLES,
}
COUNTED = ("views", "carts", "order_lines", "refunds")
DECAY_DAYS = (7, 28)
EVENT_KEY = ("shopper_id", "time_s", "kind", "item_id", "order_id")

Values = NDArray[np.float32]


def known_shoppers(shop: Shop, at_s: int) -> tuple[str, ...]:
    """Return who was known just before a time: who did something, was sent something or had declared something."""
    seen = [
        table.filter(pl.col("time_s") < at_s)["shopper_id"] for table in (shop.events, shop.exposures, shop.outcomes)
    ]
    declared = shop.shoppers.filter((pl.col("signed_up_s") < at_s).fill_null(value=True))["shopper_id"]
    return tuple(pl.concat([*seen, declared]).drop_nulls().unique().sort().to_list())


def shoppers_frame(part: Dataset, fitted: Fitted, at_s: int) -> pl.DataFrame:
    """Return one row per shopper: FEATURES, tags and attributes as of just before a time.

    part  of the shoppers who are asked about
    """
    ids = part.vocabulary.shopper_ids
    rows = part.rows(np.arange(len(ids)), np.full(len(ids), at_s))
    tags = tags_of(contacts_of(part.shop, part.vocabulary), rows, fitted.tag_limits)
    frame = pl.DataFrame({"shopper_id": ids}, schema={"shopper_id": pl.String()}).with_columns(
        pl.lit(at_s, pl.Int64).alias("at_s"),
        *_columns(tuple(feature for feature in FEATURES if feature.dtype == "float32"), rows.features),
        pl.Series("item_history", rows.item_history, pl.Array(pl.Int32, rows.item_history.shape[1])),
        *_tag_columns(tags, part.vocabulary.categories),
    )
    declared = shopper_attributes(part.shop.shoppers, fitted.codes, at_s)
    declared_columns = [name for name in declared.columns if name.endswith(("_value", "_days"))]
    return frame.join(declared, on="shopper_id", how="left", maintain_order="left").with_columns(
        pl.col(declared_columns).fill_null(float("nan"))
    )


def items_frame(fitted: Fitted, at_s: int) -> pl.DataFrame:
    """Return one row per item of the shop: tags and attributes as of just before a time."""
    dataset = fitted.dataset
    shop = dataset.shop
    tags = tags_at(shop, lines_of(shop), category_codes(shop, fitted.codes), fitted.item_limits, at_s)
    return item_attributes(shop.items, fitted.codes).with_columns(
        pl.lit(at_s, pl.Int64).alias("at_s"),
        pl.Series("item_index", item_indexes(dataset), pl.Int32),
        *_columns(ITEM_TAGS, tags),
    )


def events_frame(part: Dataset, fitted: Fitted, velocity: pl.DataFrame, at_s: int) -> pl.DataFrame:
    """Return one row per event before a time: calendar, session, running and velocity columns.

    part      of the shoppers whose events are told
    velocity  the velocity columns of each event of part.shop.events, row by row
    """
    events = _sorted_events(part, velocity, at_s)
    ledger = _ledger_of(events, len(part.vocabulary.shopper_ids))
    days = calendar_days(shop_days(part.shop.days, ledger.time_s), ledger.time_s)
    mean, std = running_moments(ledger, ledger.paid_micros)
    counts = kind_counts(ledger)
    columns = {
        "hour": days.hour,
        "weekday": days.weekday,
        "is_weekend": days.is_weekend,
        "is_holiday": days.is_holiday,
        "days_since_payday": days.days_since_payday,
        **dict(zip(SESSION_COLUMNS, session_columns(ledger).T, strict=True)),
        "gap_s": gaps_s(ledger),
        **{f"n_{name}": counts[:, place] for place, name in enumerate(COUNTED)},
        "spend_so_far": running_spend(ledger, ledger.paid_micros) / 1e6,
        "line_spend_mean_so_far": mean / 1e6,
        "line_spend_std_so_far": std / 1e6,
        "price_band": price_bands(ledger.item, fitted.band_of_item),
    }
    for half_life in DECAY_DAYS:
        worth, spend = decayed_sums(ledger, ledger.paid_micros, half_life * 86_400.0)
        columns |= {f"events_so_far_hl{half_life}d": worth, f"spend_so_far_hl{half_life}d": spend / np.float32(1e6)}
    return events.select(*EVENT_KEY, *(pl.Series(name, values) for name, values in columns.items()), *velocity.columns)


def sequences_frame(part: Dataset, fitted: Fitted, at_s: int) -> pl.DataFrame:
    """Return one row per shopper: the last events before a time."""
    ids = part.vocabulary.shopper_ids
    told = sequences_at(part.ledger, fitted.band_of_item, np.arange(len(ids)), np.full(len(ids), at_s - 1))
    return pl.DataFrame({"shopper_id": ids}, schema={"shopper_id": pl.String()}).with_columns(
        pl.lit(at_s, pl.Int64).alias("at_s"),
        pl.Series("item", told.item, pl.Array(pl.Int32, LENGTH)),
        *(
            pl.Series(name, getattr(told, name), pl.Array(pl.Int8, LENGTH))
            for name in ("kind", "gap", "band")
        ),
    )  # fmt: skip


def _columns(features: tuple[Feature, ...], values: Values) -> list[pl.Series]:
    """One series per feature; a wide one holds an array in each row."""
    series, place = [], 0
    for feature in features:
        own = np.ascontiguousarray(values[:, place : place + feature.width])
        dtype = pl.Float32() if feature.width == 1 else pl.Array(pl.Float32, feature.width)
        series.append(pl.Series(feature.name, own[:, 0] if feature.width == 1 else own, dtype))
        place += feature.width
    return series


def _tag_columns(tags: Values, categories: tuple[str, ...]) -> list[pl.Series]:
    """Tags as people read them: words for codes, names for category slots."""
    named = []
    for series in _columns(TAGS, tags):
        if series.name in WORDS:
            words = np.array(WORDS[series.name], object)[series.to_numpy().astype(np.int64)].tolist()
            named.append(pl.Series(series.name, [word or None for word in words], pl.String()))
        elif series.name == "affinity_slot":
            slots = series.to_numpy().astype(np.int64).tolist()
            names = [[categories[slot] for slot in row if slot >= 0] for row in slots]
            named.append(pl.Series("affinity_category", names, pl.List(pl.String())))
        else:
            named.append(series)
    return named


def _sorted_events(part: Dataset, velocity: pl.DataFrame, at_s: int) -> pl.DataFrame:
    """Events before a time beside their velocity, in a ledger's order."""
    vocabulary, shop = part.vocabulary, part.shop
    events = pl.concat([shop.events, velocity], how="horizontal").filter(pl.col("time_s") < at_s)
    joined = events.join(vocabulary.shopper_index, on="shopper_id", how="inner", maintain_order="left").join(
        vocabulary.item_index, on="item_id", how="left", maintain_order="left"
    )
    return joined.with_columns(
        pl.col("kind").replace_strict(KIND, return_dtype=pl.Int8).alias("kind_code"),
        pl.Series("order_key", order_keys(joined["order_id"]), pl.Int64),
        pl.col("item").fill_null(0),
    ).sort("shopper", "time_s", "kind_code", "order_key", maintain_order=True)


def _ledger_of(events: pl.DataFrame, n_shoppers: int) -> Ledger:
    """A ledger whose rows are those of the frame, which is sorted."""
    offsets = np.zeros(n_shoppers + 1, np.int64)
    np.cumsum(np.bincount(events["shopper"].to_numpy(), minlength=n_shoppers), out=offsets[1:])
    held = {"kind": "kind_code", "order": "order_key"}
    columns = {
        name: np.full(events.height, -1, dtype) if name == "category"
        else events[held.get(name, name)].fill_null(0).to_numpy().astype(dtype)
        for name, dtype in COLUMNS.items()
    }  # fmt: skip
    return Ledger(offsets, **columns)
