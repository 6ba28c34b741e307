"""Small made-up shops and predictions for the strategy's tests: hypothesis draws them, the twin prices them."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.strategy.actions import Asking
from server.strategy.catalogue import Catalogue, Items, Lift, Offer
from server.strategy.economics import Economics

NOW_S = 1_500_000_000
N_CATEGORIES, N_GROUPS, N_ARMS, N_TOP = 5, 4, 3, 6


@dataclass(frozen=True)
class Forecast:
    """Predictions without a model."""

    category_prob: NDArray[np.float32]
    redeem_prob: NDArray[np.float32]
    spend_uplift: NDArray[np.float32]
    spend_uplift_se: NDArray[np.float32]
    item_index: NDArray[np.int32]
    item_prob: NDArray[np.float32]


@dataclass(frozen=True)
class Market:
    """Everything that a menu depends on."""

    catalogue: Catalogue
    forecast: Forecast
    asking: Asking
    economics: Economics


@st.composite
def offers(draw: st.DrawFn) -> list[Offer]:
    """Up to eight offers of up to three campaigns; some not live, some without a discount or a prediction."""
    return [
        Offer(
            offer_id=f"offer-{place}",
            campaign_id=f"campaign-{draw(st.integers(0, 2))}",
            arm=draw(st.integers(0, N_ARMS - 1)),
            offer_group=draw(st.integers(-1, N_GROUPS - 1)),
            category=draw(st.integers(0, N_CATEGORIES - 1)),
            title="",
            discount_micros=draw(st.none() | st.integers(0, 5_000_000)),
            starts_s=NOW_S + draw(st.integers(-3, 1)),
            ends_s=NOW_S + draw(st.integers(-1, 3)),
            group_share=draw(st.floats(0.01, 1.0)),
            usual_prob=draw(st.just(0.0) | st.floats(0.01, 1.0)),
            arm_redemptions=draw(st.just(0.0) | st.floats(0.01, 2.0)),
        )
        for place in range(draw(st.integers(0, 8)))
    ]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """A shop, a batch of shoppers and what is predicted of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, table = draw(st.integers(1, 4)), draw(offers())
    n_items = 8
    items = Items(
        item_id=[f"item-{row}" for row in range(n_items)],
        title=[f"Item {row}" for row in range(n_items)],
        item_index=np.array([0, *range(1, n_items)], np.int32),
        category=rng.integers(0, N_CATEGORIES, n_items).astype(np.int16),
        price_micros=np.where(rng.random(n_items) < 0.2, -1, rng.integers(0, 9_000_000, n_items)),
        is_showable=rng.random(n_items) < 0.7,
    )
    lifts = {
        channel: Lift(lift, lift - 0.1, lift + 0.1)
        for channel in ("ads", "content")
        if (lift := draw(st.none() | st.floats(0.5, 9.0))) is not None
    }
    spend = np.where(rng.random(N_CATEGORIES) < 0.3, 0, rng.integers(1, 40_000_000, N_CATEGORIES))
    ad_slots = np.flatnonzero(rng.random(N_CATEGORIES) < 0.7)
    catalogue = Catalogue(
        "made-up",
        "USD",
        NOW_S,
        ("a", "b", "c", "d", "other"),
        ("A", "B", "C"),
        tuple(table),
        spend,
        lifts,
        ad_slots,
        items,
    )
    sent = rng.random((batch, len(catalogue.offers_between(NOW_S, NOW_S + 1).offers))) < 0.3
    asking = Asking(
        at_s=NOW_S + rng.integers(0, 2, batch),
        sent=sent,
        contacts=rng.choice([0.0, 1.0, 6.0, 9.0], batch),
        budget_left_micros=rng.choice([0, 60_000, 10**12], batch),
    )
    costs = {"ads": 30_000, "promotions": 50_000, "content": draw(st.sampled_from([0, 5_000])), "social": 10_000}
    risk = draw(st.sampled_from([0, 20_000]))
    return Market(catalogue, forecast(rng, batch), asking, Economics(0.25, costs, risk, contacts_cap=6.0))


def forecast(rng: np.random.Generator, batch: int) -> Forecast:
    """Predictions within their ranges, edges included."""

    def probs(width: int) -> NDArray[np.float32]:
        drawn = rng.random((batch, width)) ** 2
        drawn[rng.random((batch, width)) < 0.1] = 0.0
        drawn[rng.random((batch, width)) < 0.05] = 1.0
        return drawn.astype(np.float32)

    return Forecast(
        category_prob=probs(N_CATEGORIES),
        redeem_prob=probs(N_GROUPS),
        spend_uplift=rng.normal(2.0, 5.0, (batch, N_ARMS)).astype(np.float32),
        spend_uplift_se=rng.random((batch, N_ARMS)).astype(np.float32),
        item_index=rng.integers(0, 10, (batch, N_TOP)).astype(np.int32),
        item_prob=-np.sort(-probs(N_TOP), axis=1),
    )
