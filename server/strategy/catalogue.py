"""What the shop can do, as frozen tables: offers, categories, items and the evidence for each channel.

In: values read by server/repository.py. Out: the tables that actions.py, reasons.py and the planner look things up in.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ChannelName = Literal["ads", "promotions", "content", "social"]
CHANNELS: tuple[ChannelName, ...] = ("ads", "promotions", "content", "social")


@dataclass(frozen=True)
class Offer:
    """One offer of one campaign.

    arm              index of the campaign's type in Catalogue.arms
    offer_group      index of the output of `response` that predicts its redemption; -1: none does
    category         slot of the items it covers
    group_share      part of the group's redemptions that falls to one offer, in (0, 1]
    usual_prob       share of shopper-weeks with a purchase in `category`; 0: redemption does not follow the category
    arm_redemptions  redemptions per shopper who was sent a campaign of the arm; 0: none was seen
    discount_micros  expected face value when redeemed; None: unknown, and then the offer is never made
    starts_s, ends_s seconds since 1970 UTC; live from the first to the last, both included
    """

    offer_id: str
    campaign_id: str
    arm: int
    offer_group: int
    category: int
    title: str
    discount_micros: int | None
    starts_s: int
    ends_s: int
    group_share: float
    usual_prob: float
    arm_redemptions: float


@dataclass(frozen=True)
class Lift:
    """Purchases of placed items over purchases of the same items unplaced: a rate ratio with its 95 % interval."""

    lift: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Items:
    """The shop's items, one row each; row r of every column is the same item.

    item_index    (n_items,) int32   place in the models' vocabulary, 1 and up; 0: outside of it
    category      (n_items,) int16   slot of its category
    price_micros  (n_items,) int64   typical unit price; -1: unknown
    is_showable   (n_items,) bool    its kind was placed before, so the lift holds for it, and may be shown to anybody
    """

    item_id: list[str]
    title: list[str]
    item_index: NDArray[np.int32]
    category: NDArray[np.int16]
    price_micros: Ints
    is_showable: Bools

    @cached_property
    def row_of_id(self) -> dict[str, int]:
        """Row of each item_id."""
        return {item_id: row for row, item_id in enumerate(self.item_id)}

    @cached_property
    def _row_of_index(self) -> Ints:
        """Row of each vocabulary index, between two ends that hold -1: padding, and whatever lies beyond."""
        rows = np.full(int(self.item_index.max(initial=0)) + 2, -1, np.int64)
        known = np.flatnonzero(self.item_index > 0)
        rows[self.item_index[known]] = known
        return rows

    @cached_property
    def _price_or_nothing(self) -> Ints:
        """Price of each row, 0 where it is unknown, and of row -1."""
        return np.append(np.maximum(self.price_micros, 0), 0)

    @cached_property
    def _is_hidden(self) -> Bools:
        """Whether each row may not be shown; row -1 never may."""
        return ~np.append(self.is_showable, False)

    def is_hidden(self, rows: Ints) -> Bools:
        """Whether each row names nothing that may be shown."""
        return self._is_hidden[rows]

    def rows_of(self, item_index: NDArray[np.int32]) -> Ints:
        """Row of each vocabulary index of a prediction; -1 where it names no item."""
        return np.take(self._row_of_index, item_index, mode="clip")

    def prices_of(self, rows: Ints) -> Ints:
        """Price of each row; 0 where the row is -1 or its price is unknown."""
        return self._price_or_nothing[rows]


@dataclass(frozen=True)
class Catalogue:
    """The shop as one release of the models knows it.

    as_of_s                the last event that training saw, seconds since 1970 UTC
    categories             name of every category slot; the last slot is every other category
    category_spend_micros  (n_categories,) int64  mean paid in the category by a shopper in a week with a purchase
    placements             evidence by channel; a channel without evidence is absent
    ad_slots               slots that an ad can be for: advertised before, so that the lift holds, and to anybody
    """

    shop: str
    currency_code: str
    as_of_s: int
    categories: tuple[str, ...]
    arms: tuple[str, ...]
    offers: tuple[Offer, ...]
    category_spend_micros: Ints
    placements: dict[ChannelName, Lift]
    ad_slots: Ints
    items: Items

    def category_name(self, slot: int) -> str:
        """The slot's name; empty if it has none."""
        return self.categories[slot] if 0 <= slot < len(self.categories) else ""

    @cached_property
    def advertisable(self) -> Ints:
        """Slots that an ad can be for and that anybody spends in; the last is every other category, so never."""
        is_spent_in = self.category_spend_micros[self.ad_slots] > 0
        return self.ad_slots[is_spent_in & (self.ad_slots < len(self.categories) - 1)]

    def offers_between(self, first_s: int, last_s: int) -> "OfferTable":
        """The offers live at any moment from first_s to last_s; the same object while the same offers are."""
        span = (bisect_right(self._turns, first_s), bisect_right(self._turns, last_s))
        if span not in self._tables:
            live = [offer for offer in self.offers if offer.starts_s <= last_s and offer.ends_s >= first_s]
            self._tables[span] = OfferTable.of(live)
        return self._tables[span]

    @cached_property
    def _turns(self) -> list[int]:
        """The moments at which an offer starts, or is over for the first time."""
        return sorted({moment for offer in self.offers for moment in (offer.starts_s, offer.ends_s + 1)})

    @cached_property
    def _tables(self) -> dict[tuple[int, int], "OfferTable"]:
        """Tables made so far, by the turns before their first and their last moment."""
        return {}


@dataclass(frozen=True)
class OfferTable:
    """Offers in columns, a campaign's side by side, for arithmetic over a batch.

    group     (n_offers,) int64   output that predicts redemption; 0 where none does
    is_predicted  (n_offers,) bool  whether one does
    group_share, usual_prob, arm_redemptions  (n_offers,) float64  as Offer has them
    category  (n_offers,) int64   slot
    discount_micros  (n_offers,) int64  0 where it is unknown
    is_costed  (n_offers,) bool   whether the discount is known
    keys      (n_keys,) uint64    ascending: what an exposure may name, an offer or a whole campaign
    covered   (n_keys, n_offers) bool  whether being sent the key means having the offer
    """

    offers: tuple[Offer, ...]
    arm: Ints
    group: Ints
    is_predicted: Bools
    group_share: Floats
    usual_prob: Floats
    arm_redemptions: Floats
    category: Ints
    discount_micros: Ints
    is_costed: Bools
    starts_s: Ints
    ends_s: Ints
    keys: NDArray[np.uint64]
    covered: Bools

    @classmethod
    def of(cls, offers: list[Offer]) -> "OfferTable":
        """The columns of `offers`, by campaign; within one in their order."""
        offers = sorted(offers, key=lambda offer: offer.campaign_id)
        campaigns = sorted({offer.campaign_id for offer in offers})
        place = {campaign_id: index for index, campaign_id in enumerate(campaigns)}
        named = [offer_key(offer.offer_id) for offer in offers] + [campaign_key(name) for name in campaigns]
        campaign = np.array([place[offer.campaign_id] for offer in offers], np.int64)
        covered = np.vstack([np.eye(len(offers), dtype=np.bool_), np.arange(len(campaigns))[:, None] == campaign])
        keys = np.array(named, np.uint64)
        order = np.argsort(keys)
        group = np.array([offer.offer_group for offer in offers], np.int64)
        return cls(
            offers=tuple(offers),
            arm=np.array([offer.arm for offer in offers], np.int64),
            group=np.maximum(group, 0),
            is_predicted=group >= 0,
            group_share=np.array([offer.group_share for offer in offers]),
            usual_prob=np.array([offer.usual_prob for offer in offers]),
            arm_redemptions=np.array([offer.arm_redemptions for offer in offers]),
            category=np.array([offer.category for offer in offers], np.int64),
            discount_micros=np.array([offer.discount_micros or 0 for offer in offers], np.int64),
            is_costed=np.array([offer.discount_micros is not None for offer in offers], np.bool_),
            starts_s=np.array([offer.starts_s for offer in offers], np.int64),
            ends_s=np.array([offer.ends_s for offer in offers], np.int64),
            keys=keys[order],
            covered=covered[order],
        )

    def is_live(self, at_s: Ints) -> Bools:
        """Whether each offer is live at each moment, (batch, n_offers)."""
        return np.asarray((at_s[:, None] >= self.starts_s) & (at_s[:, None] <= self.ends_s))

    def sent(self, n_rows: int, row: Ints, key: NDArray[np.uint64]) -> Bools:
        """Which offers each shopper already has.

        row      (n_sent,) int64   the shopper's row in the batch
        key      (n_sent,) uint64  what was sent: offer_key or campaign_key
        returns  (n_rows, n_offers) bool
        """
        sent = np.zeros((n_rows, len(self.offers)), np.bool_)
        if row.size and self.keys.size:
            place = np.minimum(np.searchsorted(self.keys, key), self.keys.size - 1)
            known = self.keys[place] == key
            np.logical_or.at(sent, row[known], self.covered[place[known]])
        return sent


def offer_key(offer_id: str) -> int:
    """A stable 64-bit name of an offer, small enough to keep beside every shopper."""
    return _key(b"offer", offer_id)


def campaign_key(campaign_id: str) -> int:
    """A stable 64-bit name of a whole campaign."""
    return _key(b"campaign", campaign_id)


def _key(kind: bytes, name: str) -> int:
    # 64 bits: among a million names two collide with probability 3e-8, and then one offer too few is made.
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=kind).digest(), "little")
