"""What the models can name: shoppers, items, category slots, offer groups, arms; the training window alone decides.

In: a shop's canonical tables. Out: a frozen Vocabulary. Called by training/dataset.py; the catalogue publishes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.features import N_ARMS, N_CATEGORIES, N_OFFER_GROUPS
from training.sources.tables import InvalidTable, Shop

EVERYTHING_ELSE = "Everything else"
# Below ten purchases an item's vector and successors are noise; 90 % of complete_journey's lines stay covered (LOG.md).
FEWEST_PURCHASES = 10


@dataclass(frozen=True)
class Vocabulary:
    """Names in the order of their indexes.

    shopper_ids   row of the ledger
    item_ids      item index less one; index 0 is unknown or none
    categories    N_CATEGORIES slots; the last is every other category, an unused slot is ""
    offer_groups  N_OFFER_GROUPS slots; the last is every other category if slots are too few, an unused slot is ""
    arms          at most N_ARMS campaign types, sorted
    """

    shopper_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    offer_groups: tuple[str, ...]
    arms: tuple[str, ...]

    @cached_property
    def shopper_index(self) -> pl.DataFrame:
        """shopper_id -> shopper, int64."""
        return _index("shopper_id", self.shopper_ids, "shopper", pl.Int64, 0)

    @cached_property
    def item_index(self) -> pl.DataFrame:
        """item_id -> item, int32, from 1."""
        return _index("item_id", self.item_ids, "item", pl.Int32, 1)

    def category_slots(self, categories: pl.Series) -> NDArray[np.int16]:
        """Slot of each category name; the last slot for a name without one of its own and for null.

        categories  (n,) strings
        returns     (n,) int16
        """
        return _slots(categories, self.categories, N_CATEGORIES - 1)

    def group_slots(self, categories: pl.Series) -> NDArray[np.int16]:
        """Offer group of each offer category; -1 where no group takes it.

        categories  (n,) strings
        returns     (n,) int16
        """
        other = self.offer_groups.index(EVERYTHING_ELSE) if EVERYTHING_ELSE in self.offer_groups else -1
        return _slots(categories, self.offer_groups, other)


def vocabulary_of(shop: Shop, train_until_s: int) -> Vocabulary:
    """Choose the names from what happened before `train_until_s`; nothing later may decide what a model can say.

    shop           canonical tables
    train_until_s  end of the training window, excluded
    raises         InvalidTable  if offers have more than N_ARMS arms
    """
    orders = shop.events.filter((pl.col("kind") == "order") & (pl.col("time_s") < train_until_s))
    bought = _counts(orders["item_id"])
    lines = _counts(orders.join(shop.items.select("item_id", "category"), on="item_id", how="left")["category"])
    redeemed = shop.outcomes.filter((pl.col("kind") == "redemption") & (pl.col("time_s") < train_until_s)).join(
        shop.offers.select("offer_id", "category"), on="offer_id", how="inner"
    )
    offered = shop.offers["category"].drop_nulls().unique().to_list()
    by_redemptions = {**dict.fromkeys(sorted(offered), 0), **_counts(redeemed["category"])}
    arms = tuple(sorted(shop.offers["arm"].drop_nulls().unique().to_list()))
    if len(arms) > N_ARMS:
        raise InvalidTable(
            f"offers.arm must have at most {N_ARMS} different values, got {len(arms)}: {', '.join(arms)}"
        )
    return Vocabulary(
        shopper_ids=_shopper_ids(shop),
        item_ids=tuple(sorted(item for item, n_bought in bought.items() if n_bought >= FEWEST_PURCHASES)),
        categories=_named_slots(_top(lines, N_CATEGORIES - 1), N_CATEGORIES),
        offer_groups=_group_names(by_redemptions),
        arms=arms,
    )


def _shopper_ids(shop: Shop) -> tuple[str, ...]:
    # A shopper without a row in shoppers is one who declared nothing, not one who does not exist.
    named = (shop.shoppers, shop.events, shop.exposures, shop.outcomes)
    return tuple(pl.concat([table["shopper_id"].drop_nulls() for table in named]).unique().sort().to_list())


def _counts(names: pl.Series) -> dict[str, int]:
    counted = names.drop_nulls().value_counts(sort=False)
    return dict(zip(counted[names.name].to_list(), counted["count"].to_list(), strict=True))


def _top(counts: Mapping[str, int], n_names: int) -> list[str]:
    # Ties are broken by name: the vocabulary must not depend on the order in which threads counted.
    return sorted(counts, key=lambda name: (-counts[name], name))[:n_names]


def _named_slots(names: Sequence[str], n_slots: int) -> tuple[str, ...]:
    return (*names, *[""] * (n_slots - 1 - len(names)), EVERYTHING_ELSE)


def _group_names(by_redemptions: Mapping[str, int]) -> tuple[str, ...]:
    if len(by_redemptions) <= N_OFFER_GROUPS:
        names = _top(by_redemptions, N_OFFER_GROUPS)
        return (*names, *[""] * (N_OFFER_GROUPS - len(names)))
    return _named_slots(_top(by_redemptions, N_OFFER_GROUPS - 1), N_OFFER_GROUPS)


def _index(key: str, names: Sequence[str], value: str, dtype: type[pl.DataType], first: int) -> pl.DataFrame:
    numbers = pl.Series(value, range(first, first + len(names)), dtype=dtype)
    return pl.DataFrame([pl.Series(key, list(names), dtype=pl.String), numbers])


def _slots(names: pl.Series, slots: Sequence[str], otherwise: int) -> NDArray[np.int16]:
    places = {name: slot for slot, name in enumerate(slots) if name}
    return names.replace_strict(places, default=otherwise, return_dtype=pl.Int16).to_numpy().astype(np.int16)
