"""What an action is worth and what it costs: every formula of the strategy, each with its reason.

In: the models' predictions and the shop's catalogue. Out: money in micros, as float64 before rounding.
Called by actions.py. Value is extra margin: what the action adds, not what the sale is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.strategy.catalogue import Bools, ChannelName, Floats, Ints, Lift, OfferTable

MICROS = 1_000_000
N_PANEL_ITEMS = 3
SMALLEST = float(np.finfo(np.float64).tiny)


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


def redemption_probs(predicted: Predicted, table: OfferTable, is_live: Bools) -> Floats:
    """Probability that each offer is redeemed if it is sent; 0 for one that is not live or that no output predicts.

    A group's probability is that of all its offers together, so one offer has its share of it; where the group is wider
    than the offer's category, that share follows how much likelier than usual the shopper is to buy in the category.
    is_live  (batch, n_offers) bool
    returns  (batch, n_offers) float64  in [0, 1]
    """
    # A row must not depend on its company: offers that only other rows of the batch can get take no part here.
    of_group = np.multiply(predicted.redeem_prob[:, table.group], is_live & table.is_predicted, dtype=np.float64)
    follows = table.usual_prob > 0
    likelier = predicted.category_prob[:, table.category] / np.where(follows, table.usual_prob, 1.0)
    share = np.minimum(table.group_share * np.where(follows, likelier, 1.0), 1.0)
    return of_group * share


def believed_uplift(uplift: Floats, uplift_se: Floats) -> Floats:
    """An effect discounted by its own noise: uplift x uplift² / (uplift² + se²).

    The posterior mean under a prior centred at no effect whose spread is the estimate itself: an effect twice its
    standard error keeps four fifths, one within its noise less than half. Source: empirical Bayes, Efron 2010, ch. 1.
    uplift, uplift_se  currency units, any one shape
    """
    squared = uplift * uplift
    return uplift * squared / np.maximum(squared + uplift_se * uplift_se, SMALLEST)


def offer_parts(table: OfferTable, redeem_prob: Floats) -> Floats:
    """The part of a campaign's effect that one offer carries: its redemptions over those of a whole campaign.

    Uplift was measured for being sent a whole campaign. A lone coupon that few redeem must not be credited with what
    a book of thirty did, and the offers of a campaign of the usual size sum to its effect: nothing is paid twice.
    returns  (batch, n_offers) float64  in [0, 1]; 0 where no redemption of the arm was ever seen
    """
    seen = table.arm_redemptions > 0
    parts = np.where(seen, redeem_prob / np.where(seen, table.arm_redemptions, 1.0), 0.0)
    return np.minimum(parts, 1.0)


def offer_values(predicted: Predicted, table: OfferTable, redeem_prob: Floats, economics: Economics) -> Floats:
    """Extra margin because of each offer: margin x believed uplift of its arm x the offer's part - risk loss.

    returns  (batch, n_offers) float64  micros, may be negative
    """
    uplift = predicted.spend_uplift[:, table.arm].astype(np.float64)
    believed = believed_uplift(uplift, predicted.spend_uplift_se[:, table.arm].astype(np.float64))
    values: Floats = economics.margin_share * MICROS * believed * offer_parts(table, redeem_prob)
    values -= economics.risk_loss_micros * redeem_prob
    return values


def offer_costs(table: OfferTable, redeem_prob: Floats, economics: Economics) -> Floats:
    """Cost of each offer: contact, and the discount as often as it is claimed.

    The discount is paid on every redemption, also on those that would have been sales anyway.
    returns  (batch, n_offers) float64  micros, ≥ 0
    """
    costs: Floats = redeem_prob * table.discount_micros
    costs += economics.contact_cost_micros["promotions"]
    return costs


def added_prob(prob: Floats, lift: Lift | None) -> Floats:
    """How much more likely a purchase becomes: p x (lift - 1), at most 1 - p; 0 without evidence.

    A rate ratio measured over many shoppers must not push one shopper's probability past certainty.
    """
    if lift is None:
        return np.zeros_like(prob)
    return np.minimum(prob * (lift.lift - 1.0), 1.0 - prob)


def ad_values(category_prob: Floats, spend_micros: Ints, lift: Lift | None, economics: Economics) -> Floats:
    """Extra margin because of an ad for each category: margin x added purchase probability x spend per purchase.

    category_prob  (batch, n_slots) float64
    spend_micros   (n_slots,) int64
    returns        (batch, n_slots) float64  micros
    """
    return economics.margin_share * added_prob(category_prob, lift) * spend_micros


def panel_values(item_prob: Floats, price_micros: Ints, lift: Lift | None, economics: Economics) -> Floats:
    """Extra margin because of a panel of items: margin x sum of added purchase probability x price.

    item_prob     (batch, n_panel) float64
    price_micros  (batch, n_panel) int64    0 where there is no item or no price: it adds nothing
    returns       (batch,) float64          micros
    """
    added: Floats = (added_prob(item_prob, lift) * price_micros).sum(axis=1)
    return economics.margin_share * added
