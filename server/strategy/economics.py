"""What an action is worth and what it costs: every formula of the strategy, each with its reason.

In: the models' predictions and the shop's catalogue. Out: money in micros, as float64 before rounding.
Called by actions.py. Value is extra margin: what the action adds, not what the sale is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.strategy.catalogue import Bools, ChannelName, Floats, Ints, Items, Lift, OfferTable

MICROS = 1_000_000
N_PANEL_ITEMS = 3


class Predicted(Protocol):
    """What the models say of a batch; the first axis of each is batch.

    category_prob    (batch, 64) float32  P(buys in the category within 7 days)
    redeem_prob      (batch, 16) float32  P(redeems an offer of the group within 28 days | it is sent)
    spend_uplift     (batch, 4) float32   extra spend over 28 days because of being sent the arm, currency units
    spend_uplift_se  (batch, 4) float32   its standard error
    item_index       (batch, 20) int32    vocabulary indexes, likeliest first; 0 pads
    item_prob        (batch, 20) float32  P(buys the item within 7 days), descending
    """

    @property
    def category_prob(self) -> NDArray[np.float32]: ...
    @property
    def redeem_prob(self) -> NDArray[np.float32]: ...
    @property
    def spend_uplift(self) -> NDArray[np.float32]: ...
    @property
    def spend_uplift_se(self) -> NDArray[np.float32]: ...
    @property
    def item_index(self) -> NDArray[np.int32]: ...
    @property
    def item_prob(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Economics:
    """The shop's own figures.

    margin_share         margin on one unit of spend, in (0, 1]
    contact_cost_micros  cost of reaching a shopper once, by channel, ≥ 0
    risk_loss_micros     expected loss to abuse of one offer, ≥ 0
    contacts_cap         contacts, halved every 28 days, from which on a shopper is left alone
    """

    margin_share: float
    contact_cost_micros: Mapping[ChannelName, int]
    risk_loss_micros: int
    contacts_cap: float


def redemption_probs(predicted: Predicted, table: OfferTable, at_s: Ints) -> Floats:
    """Probability that each offer is redeemed if it is sent; 0 for one that is not live or that no output predicts.

    at_s     (batch,) int64             the moment of each decision
    returns  (batch, n_offers) float64  in [0, 1]
    """
    probs = predicted.redeem_prob.astype(np.float64)[:, np.maximum(table.group, 0)]
    # A row must not depend on its company: offers that only other rows of the batch can get take no part here.
    return np.where((table.group >= 0) & table.is_live(at_s), probs, 0.0)


def offer_values(predicted: Predicted, table: OfferTable, redeem_prob: Floats, economics: Economics) -> Floats:
    """Extra margin because of each offer: margin x uplift of its campaign's arm x the offer's part - risk loss.

    Uplift was measured for being sent a whole campaign. It is apportioned to the campaign's offers by expected
    redemption, so that the parts of one campaign sum to its effect and no effect is ever paid twice.
    returns  (batch, n_offers) float64  micros, may be negative
    """
    of_campaign = np.zeros_like(redeem_prob)
    for campaign in range(int(table.campaign.max(initial=-1)) + 1):
        members = table.campaign == campaign
        # Contiguous, so that a row's sum is added in the same order however many rows there are; BLAS would not.
        of_campaign[:, members] = np.ascontiguousarray(redeem_prob[:, members]).sum(axis=1, keepdims=True)
    part = np.divide(redeem_prob, of_campaign, out=np.zeros_like(redeem_prob), where=of_campaign > 0)
    uplift = predicted.spend_uplift.astype(np.float64)[:, table.arm]
    values: Floats = economics.margin_share * MICROS * uplift * part
    values -= economics.risk_loss_micros * redeem_prob
    return values


def offer_costs(table: OfferTable, redeem_prob: Floats, economics: Economics) -> Floats:
    """Cost of each offer: contact, and the discount as often as it is claimed.

    The discount is paid on every redemption, also on those that would have been sales anyway.
    returns  (batch, n_offers) float64  micros, ≥ 0
    """
    discount: Floats = redeem_prob * np.maximum(table.discount_micros, 0)
    discount += economics.contact_cost_micros["promotions"]
    return discount


def added_prob(prob: Floats, lift: Lift | None) -> Floats:
    """How much more likely a purchase becomes: p x (lift - 1), at most 1 - p; 0 without evidence.

    A rate ratio measured over many shoppers must not push one shopper's probability past certainty.
    """
    if lift is None:
        return np.zeros_like(prob)
    return np.minimum(prob * (lift.lift - 1.0), 1.0 - prob)


def ad_values(predicted: Predicted, spend_micros: Ints, lift: Lift | None, economics: Economics) -> Floats:
    """Extra margin because of an ad for each category: margin x added purchase probability x spend per purchase.

    returns  (batch, n_categories) float64  micros; -inf for a category that nobody can advertise
    """
    n_categories = spend_micros.size
    prob = predicted.category_prob[:, :n_categories].astype(np.float64)
    values = economics.margin_share * added_prob(prob, lift) * spend_micros
    # The last slot is every other category, and a slot without spend is unused: neither can be put on a page.
    advertisable = spend_micros > 0
    advertisable[-1:] = False
    return np.where(advertisable, values, -np.inf)


def panel_values(item_prob: Floats, price_micros: Ints, lift: Lift | None, economics: Economics) -> Floats:
    """Extra margin because of a panel of items: margin x sum of added purchase probability x price.

    item_prob     (batch, n_panel) float64
    price_micros  (batch, n_panel) int64    0 where there is no item or no price: it adds nothing
    returns       (batch,) float64          micros
    """
    added: Floats = (added_prob(item_prob, lift) * price_micros).sum(axis=1)
    return economics.margin_share * added


def panel_prices(items: Items, rows: Ints) -> Ints:
    """Price of each item row; 0 where the row is -1 or the price is unknown."""
    if not items.price_micros.size:
        return np.zeros(rows.shape, np.int64)
    return np.where(rows >= 0, np.maximum(items.price_micros[rows], 0), 0)


def is_panel(rows: Ints) -> Bools:
    """Whether a panel has anything to show."""
    return np.asarray((rows >= 0).any(axis=1))
