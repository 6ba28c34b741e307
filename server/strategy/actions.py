"""The menu of a batch: every action of every channel with its value, its cost and whether it is allowed.

In: predictions, catalogue, what each shopper was sent. Out: a Menu of (batch, n_actions) matrices in micros.
Called by server/decide.py for requests and by server/planner.py for an audience: the plan prices what is served.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.strategy import economics
from server.strategy.catalogue import Bools, Catalogue, ChannelName, Floats, Ints, OfferTable
from server.strategy.economics import N_PANEL_ITEMS, Economics, Predicted

KindName = Literal["nothing", "offer", "ad", "recommendations", "social"]
NOTHING = 0


class Bar(IntEnum):
    """Why an action is not allowed; OPEN is allowed."""

    OPEN = 0
    NOT_LIVE = 1
    ALREADY_SENT = 2
    COST_UNKNOWN = 3
    TOO_MANY_CONTACTS = 4
    OVER_BUDGET = 5
    EMPTY = 6


class Action(NamedTuple):
    """Something to do for one shopper; fields that do not belong to its kind are empty."""

    kind: KindName
    channel: ChannelName | None = None
    offer_id: str = ""
    campaign_id: str = ""
    title: str = ""
    category: str = ""
    item_ids: tuple[str, ...] = ()


DO_NOTHING, SOCIAL = Action("nothing"), Action("social", "social")


@dataclass(frozen=True)
class Asking:
    """What the strategy must know of a batch besides the predictions.

    at_s                (batch,) int64            the moment of each decision, seconds since 1970 UTC
    sent                (batch, n_offers) bool    offers that the shopper already has
    contacts            (batch,) float64          contacts so far, halved every 28 days
    budget_left_micros  (batch,) int64            what may still be spent
    """

    at_s: Ints
    sent: Bools
    contacts: Floats
    budget_left_micros: Ints


@dataclass(frozen=True)
class Menu:
    """All actions of a batch, in this order: nothing, one per offer, one ad, one panel, one social post.

    value_micros  (batch, n_actions) int64  expected extra margin, may be negative
    cost_micros   (batch, n_actions) int64  expected cost, ≥ 0, rounded up
    barred        (batch, n_actions) int8   a Bar each
    redeem_prob   (batch, n_offers) float64 P(redeemed | sent)
    ad_category   (batch,) int64            slot that the ad is for
    panel         (batch, N_PANEL_ITEMS) int64  item rows, -1 for none
    panel_prob    (batch, N_PANEL_ITEMS) float64  P(bought within 7 days) of each
    """

    catalogue: Catalogue
    table: OfferTable
    value_micros: Ints
    cost_micros: Ints
    barred: NDArray[np.int8]
    redeem_prob: Floats
    ad_category: Ints
    panel: Ints
    panel_prob: Floats

    @cached_property
    def eligible(self) -> Bools:
        """Which actions are allowed, (batch, n_actions); nothing always is."""
        return np.equal(self.barred, Bar.OPEN)

    @cached_property
    def values(self) -> list[list[int]]:
        """value_micros as lists: a row's numbers are read one by one, and numpy is slow at that."""
        rows: list[list[int]] = self.value_micros.tolist()
        return rows

    @cached_property
    def costs(self) -> list[list[int]]:
        """cost_micros as lists."""
        rows: list[list[int]] = self.cost_micros.tolist()
        return rows

    @cached_property
    def offers_by_bar(self) -> list[list[int]]:
        """How many offers of each row stand under each Bar, in the order of Bar."""
        offers = self.barred[:, 1 : self.ad]
        counted: list[list[int]] = np.stack([np.count_nonzero(offers == bar, axis=1) for bar in Bar], axis=1).tolist()
        return counted

    @property
    def n_actions(self) -> int:
        """Actions per shopper."""
        return int(self.value_micros.shape[1])

    @cached_property
    def ad(self) -> int:
        """Column of the ad; the panel and the social post follow it."""
        return 1 + len(self.table.offers)

    def kind(self, action: int) -> KindName:
        """The kind of one column."""
        if action == NOTHING:
            return "nothing"
        if action < self.ad:
            return "offer"
        kinds: tuple[KindName, ...] = ("ad", "recommendations", "social")
        return kinds[action - self.ad]

    @cached_property
    def _offers(self) -> dict[int, Action]:
        """The offers that were asked for, by column: most rows of a batch choose among a few."""
        return {}

    @cached_property
    def _titles(self) -> dict[int, list[str]]:
        """The panels that were asked for, by row: both the action and its reason name them."""
        return {}

    def action(self, row: int, action: int) -> Action:
        """What one column means for the shopper of one row."""
        kind = self.kind(action)
        if kind == "offer":
            known = self._offers.get(action)
            if known is None:
                offer = self.table.offers[action - 1]
                category = self.catalogue.category_name(offer.category)
                known = Action("offer", "promotions", offer.offer_id, offer.campaign_id, offer.title, category)
                self._offers[action] = known
            return known
        if kind == "ad":
            return Action("ad", "ads", category=self.catalogue.category_name(int(self.ad_category[row])))
        if kind == "recommendations":
            names = self.catalogue.items.item_id
            shown = tuple([names[item] for item in self.panel[row].tolist() if item >= 0])
            return Action("recommendations", "content", title=", ".join(self.titles(row)), item_ids=shown)
        return SOCIAL if kind == "social" else DO_NOTHING

    def titles(self, row: int) -> list[str]:
        """Names of the items on the row's panel; the id where there is no name."""
        titles = self._titles.get(row)
        if titles is None:
            items = self.catalogue.items
            shown = [item for item in self.panel[row].tolist() if item >= 0]
            titles = self._titles[row] = [items.title[item] or items.item_id[item] for item in shown]
        return titles


def menu_of(
    predicted: Predicted, catalogue: Catalogue, table: OfferTable, asking: Asking, shop_economics: Economics
) -> Menu:
    """Price every action for every shopper of a batch and say which are allowed."""
    batch, n_offers = asking.at_s.size, len(table.offers)
    ad, content, social = 1 + n_offers, 2 + n_offers, 3 + n_offers
    value, cost = np.zeros((batch, 4 + n_offers), np.int64), np.zeros((batch, 4 + n_offers), np.int64)
    is_live = table.is_live(asking.at_s)
    redeem_prob = economics.redemption_probs(predicted, table, is_live)
    value[:, 1:ad] = np.rint(economics.offer_values(predicted, table, redeem_prob, shop_economics))
    # Rounded up: a budget must not be overspent by the sum of halves.
    cost[:, 1:ad] = np.ceil(economics.offer_costs(table, redeem_prob, shop_economics))
    contact = shop_economics.contact_cost_micros
    cost[:, ad], cost[:, content], cost[:, social] = contact["ads"], contact["content"], contact["social"]
    ad_category, value[:, ad] = _best_ads(predicted, catalogue, shop_economics)
    listed = catalogue.items.rows_of(predicted.item_index)
    is_hidden = catalogue.items.is_hidden(listed)
    rows, places = np.arange(batch)[:, None], is_hidden.argsort(axis=1, kind="stable")[:, :N_PANEL_ITEMS]
    panel = np.where(is_hidden[rows, places], -1, listed[rows, places])
    item_prob = predicted.item_prob[rows, places].astype(np.float64)
    prices, lift = catalogue.items.prices_of(panel), catalogue.placements.get("content")
    value[:, content] = np.rint(economics.panel_values(item_prob, prices, lift, shop_economics))
    # Social stays at value 0: no source holds evidence of what a post adds, so only exploration can choose it.
    barred = _barred(table, asking, is_live, cost, shop_economics.contacts_cap)
    if not catalogue.advertisable.size:
        barred[:, ad] = Bar.EMPTY
    np.copyto(barred[:, content], Bar.EMPTY, where=(panel < 0).all(axis=1))
    return Menu(catalogue, table, value, cost, barred, redeem_prob, ad_category, panel, item_prob)


def _best_ads(predicted: Predicted, catalogue: Catalogue, shop_economics: Economics) -> tuple[Ints, Floats]:
    """The category that each shopper's ad is worth most for, and what it is worth in whole micros."""
    slots = catalogue.advertisable
    if not slots.size:
        nothing = np.zeros(predicted.category_prob.shape[0])
        return nothing.astype(np.int64), nothing
    probs, spend = predicted.category_prob[:, slots].astype(np.float64), catalogue.category_spend_micros[slots]
    values = economics.ad_values(probs, spend, catalogue.placements.get("ads"), shop_economics)
    return slots[values.argmax(axis=1)], np.rint(values.max(axis=1))


def _barred(
    table: OfferTable, asking: Asking, is_live: Bools, cost_micros: Ints, contacts_cap: float
) -> NDArray[np.int8]:
    """Why each action is not allowed; where several reasons hold, the one that lasts longest."""
    barred = np.zeros(cost_micros.shape, np.int8)
    # A later copy wins, so these stand from the reason that passes soonest to the one that never does.
    np.copyto(barred, Bar.OVER_BUDGET, where=cost_micros > asking.budget_left_micros[:, None])
    np.copyto(barred, Bar.TOO_MANY_CONTACTS, where=(asking.contacts >= contacts_cap)[:, None])
    offers = barred[:, 1 : 1 + len(table.offers)]
    np.copyto(offers, Bar.ALREADY_SENT, where=asking.sent)
    np.copyto(offers, Bar.NOT_LIVE, where=~is_live)
    np.copyto(offers, Bar.COST_UNKNOWN, where=~table.is_costed)
    barred[:, NOTHING] = Bar.OPEN
    return barred
