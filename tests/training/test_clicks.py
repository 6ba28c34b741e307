"""A click on an offer is an answer of its own: nothing that counts redemptions counts it."""

from dataclasses import replace

import numpy as np
import polars as pl

from training import labels
from training.catalogue import catalogue_json
from training.dataset import WEEK_S, Dataset, dataset_of
from training.features.tags import contacts_of
from training.sources.tables import Shop


def with_clicks(shop: Shop) -> Shop:
    """The shop, every redemption preceded by two clicks on another offer."""
    offers = shop.offers["offer_id"].sort().to_list()
    following = dict(zip(offers, offers[1:] + offers[:1], strict=True))
    clicked = shop.outcomes.with_columns(kind=pl.lit("click"), offer_id=pl.col("offer_id").replace(following))
    return replace(shop, outcomes=pl.concat([shop.outcomes, clicked, clicked]))


def test_clicks_are_labels_of_their_own(shop: Shop, dataset: Dataset) -> None:
    both = dataset_of(with_clicks(shop))
    _, grid = dataset.weekly()
    redeemed = labels.redeemed_groups(dataset, grid)
    assert redeemed.any()
    assert not labels.clicked_groups(dataset, grid).any()
    assert np.array_equal(labels.redeemed_groups(both, grid), redeemed)
    assert labels.clicked_groups(both, grid).any()
    assert not np.array_equal(labels.clicked_groups(both, grid), redeemed)


def test_ledger_names_contacts_and_catalogue_are_the_same_with_clicks(shop: Shop, dataset: Dataset) -> None:
    both = dataset_of(with_clicks(shop))
    assert np.array_equal(both.ledger.kind, dataset.ledger.kind)
    assert both.vocabulary == dataset.vocabulary
    ours, plain = (contacts_of(one.shop, one.vocabulary) for one in (both, dataset))
    assert np.array_equal(ours.is_answer, plain.is_answer)
    assert catalogue_json(both) == catalogue_json(dataset)


def test_spend_in_a_group_is_what_was_paid_in_its_category(dataset: Dataset) -> None:
    _, grid = dataset.weekly()
    bought, spend = labels.group_spend(dataset, grid)
    shop, vocabulary = dataset.shop, dataset.vocabulary
    lines = shop.events.join(shop.items.select("item_id", "category"), on="item_id")
    # The last week's four weeks end after the data: the sum stops where they do.
    for shopper, week in ((0, 0), (3, 2), (7, grid.size - 5), (7, grid.size - 1)):
        own = lines.filter(
            (pl.col("shopper_id") == vocabulary.shopper_ids[shopper])
            & (pl.col("time_s") >= grid[week])
            & (pl.col("time_s") < grid[week] + 4 * WEEK_S)
        )
        for group, name in enumerate(vocabulary.offer_groups):
            inside = own.filter(pl.col("category") == name)
            orders, refunds = (inside.filter(pl.col("kind") == kind) for kind in ("order", "refund"))
            paid = (orders["paid_micros"].sum() - refunds["paid_micros"].sum()) / labels.MICROS
            # float32 sums of a few dozen lines
            np.testing.assert_allclose(spend[shopper, week, group], max(paid, 0.0), rtol=1e-5, atol=1e-5)
            assert bought[shopper, week, group] == (orders.height > 0)
