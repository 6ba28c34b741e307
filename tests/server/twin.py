"""The strategy in plain Python, one shopper and one action at a time: what server/strategy must agree with."""

import math
from collections.abc import Sequence

from server.strategy.catalogue import Lift, Offer
from tests.server.markets import Market


def added(prob: float, lift: Lift | None) -> float:
    """Added purchase probability: the lift's share, never past certainty."""
    return 0.0 if lift is None else min(prob * (lift.lift - 1), 1 - prob)


def menu_row(market: Market, row: int) -> list[tuple[float, int, bool]]:
    """Value in micros before rounding, cost in micros, and whether it is allowed, for each action of one shopper."""
    asking, shop = market.asking, market.economics
    at_s, left = int(asking.at_s[row]), int(asking.budget_left_micros[row])
    reachable = float(asking.contacts[row]) < shop.contacts_cap

    def open_(cost: float) -> bool:
        return reachable and math.ceil(cost) <= left

    actions = [(0.0, 0, True)]
    for place, (value, cost, is_live) in enumerate(offer_terms(market, row, at_s)):
        allowed = is_live and not asking.sent[row, place] and cost is not None and open_(cost)
        actions.append((value, math.ceil(cost or shop.contact_cost_micros["promotions"]), allowed))
    ads = ad_values(market, row)
    actions.append((max(ads) if ads else 0.0, shop.contact_cost_micros["ads"], bool(ads) and open_(30_000)))
    panel = panel_rows(market, row)
    content = shop.contact_cost_micros["content"]
    actions.append((panel_value(market, panel), content, bool(panel) and open_(content)))
    actions.append((0.0, shop.contact_cost_micros["social"], open_(10_000)))
    return actions


def offer_terms(market: Market, row: int, at_s: int) -> list[tuple[float, float | None, bool]]:
    """Value, cost (None: unknown) and whether it is live, for each offer of the batch's table."""
    offers = market.catalogue.offers_between(int(market.asking.at_s.min()), int(market.asking.at_s.max())).offers
    live = [offer.starts_s <= at_s <= offer.ends_s for offer in offers]
    terms = []
    for offer, is_live in zip(offers, live, strict=True):
        prob = redemption(market, row, offer) if is_live else 0.0
        part = min(1.0, prob / offer.arm_redemptions) if offer.arm_redemptions > 0 else 0.0
        uplift, spread = (
            float(column[row, offer.arm]) for column in (market.forecast.spend_uplift, market.forecast.spend_uplift_se)
        )
        believed = uplift**3 / (uplift**2 + spread**2)
        value = market.economics.margin_share * believed * 1e6 * part - market.economics.risk_loss_micros * prob
        contact = market.economics.contact_cost_micros["promotions"]
        cost = None if offer.discount_micros is None else contact + prob * offer.discount_micros
        terms.append((value, cost, is_live))
    return terms


def redemption(market: Market, row: int, offer: Offer) -> float:
    """Probability that a live offer is redeemed."""
    if offer.offer_group < 0:
        return 0.0
    share = offer.group_share
    if offer.usual_prob > 0:
        share *= float(market.forecast.category_prob[row, offer.category]) / offer.usual_prob
    return float(market.forecast.redeem_prob[row, offer.offer_group]) * min(1.0, share)


def ad_values(market: Market, row: int) -> list[float]:
    """What an ad for each category that can be advertised would add."""
    spend, lift = market.catalogue.category_spend_micros, market.catalogue.placements.get("ads")
    return [
        market.economics.margin_share * added(float(market.forecast.category_prob[row, slot]), lift) * int(spend[slot])
        for slot in market.catalogue.ad_slots.tolist()
        if slot < len(spend) - 1 and spend[slot] > 0
    ]


def panel_rows(market: Market, row: int) -> list[tuple[int, float]]:
    """Rows and probabilities of the first three items that may be shown."""
    items, forecast = market.catalogue.items, market.forecast
    of_index = {
        int(index): place for place, index in enumerate(items.item_index) if index > 0 and items.is_showable[place]
    }
    listed = zip(forecast.item_index[row].tolist(), forecast.item_prob[row].tolist(), strict=True)
    return [(of_index[index], prob) for index, prob in listed if index in of_index][:3]


def panel_value(market: Market, panel: Sequence[tuple[int, float]]) -> float:
    """What the panel adds; an item without a price adds nothing."""
    lift, prices = market.catalogue.placements.get("content"), market.catalogue.items.price_micros
    return market.economics.margin_share * math.fsum(
        added(prob, lift) * max(0, int(prices[place])) for place, prob in panel
    )


def best(value: Sequence[int], cost: Sequence[int], eligible: Sequence[bool], price: float) -> int:
    """The best action: highest score, then cheapest, then first."""
    return min(
        (place for place in range(len(value)) if eligible[place]),
        key=lambda place: (-(value[place] - price * cost[place]), cost[place], place),
    )
