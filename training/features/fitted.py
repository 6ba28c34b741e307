"""Everything that features are told against, fitted once on what happened before the end of training.

In: a shop. Out: a frozen Fitted, which every partition of shoppers shares and nothing changes. Called by
training/features/assembly.py.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.item_tags import ItemLimits, item_tag_columns
from kernels.tag_limits import TagLimits
from training.dataset import Dataset, shop_ledger
from training.features.attributes import Codes, fit_codes, item_attributes
from training.features.item_tags import fit_item_limits, lines_of, tags_at
from training.features.tags import ChurnCheck, check_churn, contacts_of, fit_tag_limits
from training.sources.tables import Shop


@dataclass(frozen=True)
class Fitted:
    """What all partitions share.

    dataset       the shop's vocabulary and windows; the ledger of a partition holds its own shoppers only
    tag_limits    of shopper tags
    item_limits   of price bands
    codes         of declared values
    band_of_item  (n_items + 1,) int8  price band by vocabulary index, as of the end of training; 0 is unknown
    churn         how the probability of churn did on the validation window
    """

    dataset: Dataset
    tag_limits: TagLimits
    item_limits: ItemLimits
    codes: Codes
    band_of_item: NDArray[np.int8]
    churn: ChurnCheck

    def of_shoppers(self, shop: Shop, shopper_ids: tuple[str, ...]) -> Dataset:
        """Return a part of the shop, ready to be asked: its own shoppers, everybody's vocabulary and windows.

        shop         tables that hold at least all rows of these shoppers
        shopper_ids  in the order of their rows
        """
        vocabulary = replace(self.dataset.vocabulary, shopper_ids=shopper_ids)
        return Dataset(shop, vocabulary, self.dataset.splits, shop_ledger(shop, vocabulary))


def fit(dataset: Dataset) -> Fitted:
    """Fit every limit; what happened from the end of training on changes none of them.

    raises  InvalidTable  if nobody ordered before the end of training
    """
    shop, until_s = dataset.shop, dataset.splits.train_until_s
    contacts = contacts_of(shop, dataset.vocabulary)
    tag_limits = fit_tag_limits(dataset, contacts)
    codes = fit_codes(shop, until_s)
    category = category_codes(shop, codes)
    item_limits = fit_item_limits(shop, category, until_s)
    bands = tags_at(shop, lines_of(shop), category, item_limits, until_s)[:, item_tag_columns().index("price_band")]
    indexes = item_indexes(dataset)
    band_of_item = np.zeros(len(dataset.vocabulary.item_ids) + 1, np.int8)
    band_of_item[indexes] = bands
    band_of_item[0] = 0
    return Fitted(dataset, tag_limits, item_limits, codes, band_of_item, check_churn(dataset, contacts, tag_limits))


def category_codes(shop: Shop, codes: Codes) -> NDArray[np.int64]:
    """Return the category code of each of `shop.items`; 0 where it is missing or new."""
    return item_attributes(shop.items, codes)["category_code"].fill_null(0).to_numpy().astype(np.int64)


def item_indexes(dataset: Dataset) -> NDArray[np.int32]:
    """Return the vocabulary index of each of `shop.items`; 0 for one outside of it."""
    joined = dataset.shop.items.select("item_id").join(
        dataset.vocabulary.item_index, on="item_id", how="left", maintain_order="left"
    )
    return joined["item"].fill_null(0).to_numpy()
