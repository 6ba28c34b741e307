"""The catalogue says of the shop what its tables say, as of the end of training."""

import json

import numpy as np
import polars as pl
import pytest

from kernels.features import N_CATEGORIES
from training.catalogue import catalogue_json, category_spend_micros, items_table
from training.dataset import WEEK_S, Dataset


def test_every_item_has_a_row_and_the_vocabulary_comes_first(dataset: Dataset) -> None:
    items = items_table(dataset)
    n_known = len(dataset.vocabulary.item_ids)
    assert items.height == dataset.shop.items.height
    assert items["item_index"][:n_known].to_list() == list(range(1, n_known + 1))
    assert (items["item_index"][n_known:] == 0).all()
    assert items["item_id"][:n_known].to_list() == list(dataset.vocabulary.item_ids)


def test_offers_name_slots_that_exist(dataset: Dataset) -> None:
    told = json.loads(catalogue_json(dataset))
    assert len(told["categories"]) == N_CATEGORIES
    assert len(told["offers"]) == dataset.shop.offers.height
    for offer in told["offers"]:
        assert told["categories"][offer["category"]]
        assert told["offer_groups"][offer["offer_group"]]
        assert offer["arm"] in told["arms"]


def test_category_spend_is_the_mean_of_weeks_with_a_purchase(dataset: Dataset) -> None:
    slot = dataset.vocabulary.categories.index("Bread")
    bread = dataset.shop.events.join(dataset.shop.items.filter(pl.col("category") == "Bread"), on="item_id").filter(
        (pl.col("kind") == "order") & (pl.col("time_s") < dataset.splits.train_until_s)
    )
    weeks = {}
    for shopper, time_s, paid in bread.select("shopper_id", "time_s", "paid_micros").iter_rows():
        weeks[shopper, time_s // WEEK_S] = weeks.get((shopper, time_s // WEEK_S), 0) + paid
    # Rounded to whole micros.
    assert category_spend_micros(dataset)[slot] == pytest.approx(np.mean(list(weeks.values())), abs=1)


def test_the_catalogue_does_not_change_between_runs(dataset: Dataset) -> None:
    assert catalogue_json(dataset) == catalogue_json(dataset)
