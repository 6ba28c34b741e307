"""A shop's tables as rows to learn from: what was known at a moment, in time order, and what happened from then on.

In: canonical tables of training/sources. Out: vocabulary, splits, ledger, and features as of any query. Called by
training/fit.py; training/labels.py says what happened after each query.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels import ledger as kinds
from kernels.checks import InvalidInput, check
from kernels.event_history import EventHistory, history_at
from kernels.features import columns, features_at
from kernels.ledger import Ledger, ledger_of, order_key
from training.sources.tables import InvalidTable, Shop
from training.vocabulary import Vocabulary, vocabulary_of

DAY_S = 86_400
WEEK_S = 7 * DAY_S
# Fewer weeks leave no week to check on after the one that was learned from.
FEWEST_WEEKS = 8
NEITHER, TRAIN, VALID, TEST = -1, 0, 1, 2
KIND = {"view": kinds.VIEW, "cart": kinds.CART, "order": kinds.ORDER, "refund": kinds.REFUND}
# Where validation ends in what is reported of this data set; any other shop is cut by shares of its span.
VALID_UNTIL_S = {"complete_journey": 1_509_926_400}  # 2017-11-06, 00:00 UTC
TRAIN_SHARE, VALID_SHARE = 0.75, 0.85

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The three windows in time order; seconds since the epoch.

    first_s        first event
    train_until_s  end of training, excluded: a training label ends here at the latest
    valid_until_s  end of validation, excluded
    last_s         last event
    """

    first_s: int
    train_until_s: int
    valid_until_s: int
    last_s: int

    @property
    def end_s(self) -> int:
        """Midnight after the last event: the moment up to which everything was seen."""
        return (self.last_s // DAY_S + 1) * DAY_S

    def part(self, at_s: Ints, horizon_s: int) -> NDArray[np.int8]:
        """Window that holds each query together with the whole time its label looks ahead, NEITHER where none does.

        at_s       (n,) int64
        horizon_s  how far the label looks ahead
        returns    (n,) int8   TRAIN, VALID, TEST or NEITHER
        """
        part = np.full(at_s.size, NEITHER, np.int8)
        begins = (self.first_s, self.train_until_s, self.valid_until_s)
        ends = (self.train_until_s, self.valid_until_s, self.end_s)
        for name, begin, end in zip((TRAIN, VALID, TEST), begins, ends, strict=True):
            part[(at_s >= begin) & (at_s + horizon_s <= end)] = name
        return part


@dataclass(frozen=True)
class Rows:
    """Queries and all that was known just before each: an event at the very second of the query is not.

    shopper       (n,) int64               row of the ledger, ascending
    at_s          (n,) int64               labels count from this second on
    features      (n, N_FEATURES) float32
    item_history  (n, HISTORY) int32
    """

    shopper: Ints
    at_s: Ints
    features: NDArray[np.float32]
    item_history: NDArray[np.int32]
    ledger: Ledger = field(repr=False, compare=False)

    def take(self, kept: Ints) -> "Rows":
        """Some of the queries, in the given order, which must ascend."""
        return Rows(self.shopper[kept], self.at_s[kept], self.features[kept], self.item_history[kept], self.ledger)

    def events(self, kept: Ints | slice = slice(None)) -> EventHistory:
        """What shoppers did last just before some of the queries, as the encoder reads it.

        kept     which queries; made anew at each call, because all of them at once would be several times the features
        returns  a row for each
        """
        return history_at(self.ledger.deeds, self.shopper[kept], self.at_s[kept] - 1)

    def __len__(self) -> int:
        return int(self.at_s.size)


@dataclass(frozen=True)
class Dataset:
    """One shop, ready to be asked."""

    shop: Shop
    vocabulary: Vocabulary
    splits: Splits
    ledger: Ledger

    def rows(self, shopper: Ints, at_s: Ints) -> Rows:
        """Features and item history just before each query.

        shopper  (n,) int64  ascending
        at_s     (n,) int64  ascending within a shopper
        raises   InvalidInput  if a feature is not finite
        """
        features, item_history = features_at(self.ledger, shopper, at_s - 1)
        check_finite(features)
        return Rows(shopper, at_s, features, item_history, self.ledger)

    def weekly(self) -> tuple[Rows, Ints]:
        """Every known shopper at the start of every week of the grid.

        returns  the rows, and (n_weeks,) int64 the grid
        """
        grid = weekly_grid(self.splits)
        first_s = first_event_s(self.ledger)
        shopper, week = np.nonzero(first_s[:, None] < grid[None, :])
        return self.rows(shopper, grid[week]), grid


def dataset_of(shop: Shop) -> Dataset:
    """Choose windows and vocabulary and sort everything that happened into a ledger.

    shop    canonical tables
    raises  InvalidTable  if too little time is covered, an outcome lies after the data, or arms are too many
    """
    splits = splits_of(shop)
    late = shop.outcomes.filter(pl.col("time_s") >= splits.end_s)
    if late.height:
        raise InvalidTable(
            f"outcomes.time_s must not be after the last event {splits.last_s}, got {late['time_s'][0]} "
            f"(shopper {late['shopper_id'][0]!r}): a label in the future of the data"
        )
    vocabulary = vocabulary_of(shop, splits.train_until_s)
    return Dataset(shop, vocabulary, splits, shop_ledger(shop, vocabulary))


def splits_of(shop: Shop) -> Splits:
    """Cut the shop's time span into training, validation and test, at midnights, never at random.

    raises  InvalidTable  if the events span less than FEWEST_WEEKS, or training would end outside of them
    """
    if shop.events.height == 0:
        raise InvalidTable("events must have rows, got 0")
    first_s, last_s = _extremes(shop.events["time_s"])
    span_s = last_s - first_s
    if span_s < FEWEST_WEEKS * WEEK_S:
        raise InvalidTable(f"events.time_s must span at least {FEWEST_WEEKS} weeks, got {span_s / WEEK_S:.1f}")
    train_s, valid_s = ((first_s + round(share * span_s)) // DAY_S * DAY_S for share in (TRAIN_SHARE, VALID_SHARE))
    # What cleaning fitted, it fitted before shop.train_until_s; a later cut here would leak it into validation.
    train_s = shop.train_until_s or train_s
    if not first_s < train_s < last_s:
        raise InvalidTable(
            f"train_until must be between the first event {first_s} and the last {last_s}, got {train_s}"
        )
    if valid_s <= train_s:  # an owner who trains on more than usual leaves the same share of the rest for validation
        share = (VALID_SHARE - TRAIN_SHARE) / (1 - TRAIN_SHARE)
        valid_s = (train_s + round(share * (last_s - train_s))) // DAY_S * DAY_S
    return Splits(first_s, train_s, VALID_UNTIL_S.get(shop.name, valid_s), last_s)


def weekly_grid(splits: Splits) -> Ints:
    """Week starts from a burn-in on, aligned so that one falls on the end of training.

    returns  (n_weeks,) int64  ascending; every week lies wholly within the data
    """
    # Six weeks of history, or a quarter of a short shop's: before it most features still say "never".
    burn_in_s = min(6 * WEEK_S, (splits.train_until_s - splits.first_s) // 4)
    n_before = (splits.train_until_s - splits.first_s - burn_in_s) // WEEK_S
    n_after = (splits.end_s - splits.train_until_s) // WEEK_S
    return splits.train_until_s + WEEK_S * np.arange(-n_before, n_after, dtype=np.int64)


def first_event_s(ledger: Ledger) -> Ints:
    """Time of each shopper's first event; far in the future for a shopper without one.

    returns  (n_shoppers,) int64
    """
    has_events = np.diff(ledger.offsets) > 0
    first_s = np.full(ledger.n_shoppers, np.iinfo(np.int64).max)
    first_s[has_events] = ledger.time_s[ledger.offsets[:-1][has_events]]
    return first_s


def check_finite(features: NDArray[np.float32]) -> None:
    """Pass when no feature is NaN or infinite.

    features  (n, N_FEATURES) float32
    raises    InvalidInput    naming the first column that is not finite, and its row
    """
    if np.isfinite(features).all():
        return
    row, column = (int(place) for place in np.argwhere(~np.isfinite(features))[0])
    raise InvalidInput(f"{columns()[column]} must be finite, got {features[row, column]} (row {row})")


def check_no_leak(features: NDArray[np.float32], labels: Mapping[str, NDArray[np.bool_]]) -> None:
    """Pass when no feature is a copy of a label.

    features  (n, N_FEATURES) float32
    labels    name -> (n,) bool
    raises    InvalidInput    naming the feature and the label
    """
    sums = features.sum(axis=0, dtype=np.float64)
    for name, label in labels.items():
        n_true = int(label.sum())
        if 0 < n_true < label.size:
            # Equal sums are necessary, so nearly every pair is ruled out without reading the columns.
            for column in np.flatnonzero(np.abs(sums - n_true) < 0.5):
                same = np.array_equal(features[:, column], label)
                check(not same, f"{columns()[column]} must not equal the label {name}, got {label.size} equal rows")


def _extremes(times: pl.Series) -> tuple[int, int]:
    values = times.to_numpy()
    return int(values.min()), int(values.max())


def shop_ledger(shop: Shop, vocabulary: Vocabulary) -> Ledger:
    """Sort events, exposures and redemptions of the vocabulary's shoppers into one ledger.

    shop        canonical tables; rows of other shoppers are left out
    vocabulary  names the ledger's rows, items and category slots
    """
    happened = pl.concat([_bought(shop), _sent(shop), _redeemed(shop)], how="diagonal")
    happened = happened.join(vocabulary.shopper_index, on="shopper_id", how="inner").join(
        vocabulary.item_index, on="item_id", how="left"
    )
    slots = vocabulary.category_slots(happened["category"])
    slots[happened["has_category"].fill_null(False).not_().to_numpy()] = -1
    zeros = {
        name: happened[name].fill_null(0).to_numpy()
        for name in ("quantity", "paid_micros", "discount_micros", "coupon_micros")
    }
    return ledger_of(
        happened["shopper"].to_numpy(),
        len(vocabulary.shopper_ids),
        {
            "time_s": happened["time_s"].to_numpy(),
            "kind": happened["kind"].cast(pl.Int8).to_numpy(),
            "item": happened["item"].fill_null(0).to_numpy(),
            "category": slots,
            "order": order_keys(happened["order_id"]),
            **zeros,
        },
    )


def _bought(shop: Shop) -> pl.DataFrame:
    categories = shop.items.select("item_id", "category")
    return (
        shop.events.select(
            "shopper_id", "time_s", pl.col("kind").replace_strict(KIND, return_dtype=pl.Int8), "item_id", "order_id",
            "quantity", "paid_micros", "discount_micros", "coupon_micros",
        )
        .join(categories, on="item_id", how="left")
        .with_columns(has_category=pl.col("item_id").is_not_null())
    )  # fmt: skip


def _sent(shop: Shop) -> pl.DataFrame:
    return shop.exposures.select("shopper_id", "time_s", pl.lit(kinds.EXPOSURE, pl.Int8).alias("kind"))


def _redeemed(shop: Shop) -> pl.DataFrame:
    return (
        shop.outcomes.filter(pl.col("kind") == "redemption")
        .join(shop.offers.select("offer_id", "category"), on="offer_id", how="left")
        .select(
            "shopper_id", "time_s", pl.lit(kinds.REDEMPTION, pl.Int8).alias("kind"), "category",
            pl.col("category").is_not_null().alias("has_category"),
        )
    )  # fmt: skip


def order_keys(order_ids: pl.Series) -> Ints:
    """Return kernels.ledger.order_key of each order's id; 0 for none.

    order_ids  (n,) strings or null
    """
    names = order_ids.unique().drop_nulls()
    keys = pl.DataFrame({"order_id": names, "key": pl.Series([order_key(name) for name in names], dtype=pl.Int64)})
    return (
        order_ids.to_frame("order_id")
        .join(keys, on="order_id", how="left", maintain_order="left")["key"]
        .fill_null(0)
        .to_numpy()
    )
