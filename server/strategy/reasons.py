"""Why a decision is what it is, in sentences that a marketer reads.

In: a row of a Menu and of a Choice. Out: ordered reasons, the weightiest first. Every number comes from the
decision's own economics and predictions; nothing is looked up or estimated here. Called by server/decide.py.
"""

from functools import lru_cache
from operator import and_

import numpy as np

from server.strategy.actions import NOTHING, Action, Bar, Menu
from server.strategy.catalogue import ChannelName, Lift
from server.strategy.decision import SAFE_DEFAULT, Candidate, Reason, Terms
from server.strategy.economics import Predicted, believed_uplift, offer_parts
from server.strategy.policy import Choice

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥"}
# Why the encoder ranks an item: its tensor item_reason holds places of this list.
RECOMMENDED = (
    "fits what the shopper looked at and bought lately",
    "bought before, and due again",
    "often bought next after the latest items",
    "new here, and like what the shopper buys",
)
FOLLOWS = 2
BARRED = {
    Bar.NOT_LIVE: "not live at this time",
    Bar.ALREADY_SENT: "already sent to this shopper",
    Bar.COST_UNKNOWN: "without a known discount",
    Bar.TOO_MANY_CONTACTS: "barred because the shopper was reached too often lately",
    Bar.OVER_BUDGET: "beyond what is left of the budget",
}


def reasons_of(
    menu: Menu,
    choice: Choice,
    row: int,
    predicted: Predicted,
    chosen: Candidate,
    runner_up: Candidate | None,
    terms: Terms,
) -> tuple[Reason, ...]:
    """The reasons for the choice in one row, the weightiest first."""
    reasons = [worth(chosen, runner_up, terms)]
    if choice.is_exploration[row]:
        reasons.insert(0, exploration(chosen, terms))
    reasons += evidence(menu, int(choice.chosen[row]), row, predicted, terms)
    if chosen.action.kind != "offer":
        reasons.append(no_offer(menu, row, choice))
    if not terms.plan_id:
        reasons.append(Reason("no_plan", "No plan is loaded, so nothing that costs money is allowed."))
    return tuple(reasons)


def safe_default_reason(left_s: float) -> Reason:
    """Why nothing is done when the models cannot be asked and nothing is remembered of the shopper.

    left_s  of the caller's time when it was given up
    """
    words = (
        f"Nothing is done: {max(0.0, left_s) * 1000:.0f} ms were left of the caller's time without an answer of the "
        "models, and none of an earlier decision is remembered."
    )
    return Reason("safe_default", words)


def cached_reason(age_s: float) -> Reason:
    """That the predictions are those of an earlier decision."""
    words = (
        f"Decided from predictions {age_s:.0f} s old, at today's price and state: the models did not answer in time."
    )
    return Reason("cached", words)


def worth(chosen: Candidate, runner_up: Candidate | None, terms: Terms) -> Reason:
    """What the chosen action brings and costs, against the best that was left."""
    other, code = SAFE_DEFAULT if runner_up is None else runner_up, terms.currency_code
    lead = chosen.score_micros - other.score_micros
    price = price_in_words(terms.shadow_price)
    economics = f"{money(other.value_micros, code)} of extra margin for {money(other.cost_micros, code)}"
    if chosen.action.kind == "nothing":
        if runner_up is None:
            return Reason("only_choice", "Nothing is done: no other action is allowed.")
        short = f"{money(abs(lead), code)} {'short' if lead >= 0 else 'more than nothing'} at {price}"
        words = f"Nothing is done: the best other action, {name_of(other.action)}, would bring {economics}, {short}."
        return Reason("nothing_pays", words)
    verb = "beats" if lead >= 0 else "trails"
    own = f"{money(chosen.value_micros, code)} of extra margin for an expected {money(chosen.cost_micros, code)}"
    words = f"Worth {own}; at {price} that {verb} the runner-up, {name_of(other.action)}, by {money(abs(lead), code)}."
    return Reason("worth", words)


@lru_cache(maxsize=16)
def price_in_words(shadow_price: float) -> str:
    """The shadow price as part of a sentence; one plan has one."""
    return f"the budget's price of {shadow_price:.3g}"


def exploration(chosen: Candidate, terms: Terms) -> Reason:
    """That the action was drawn, with the two probabilities that make it useful later."""
    words = (
        f"Drawn at random: {percent(terms.explore_share)} of decisions explore, so that what each action brings can be "
        f"learned; this one had a chance of {percent(chosen.propensity)}."
    )
    return Reason("exploration", words)


def evidence(menu: Menu, action: int, row: int, predicted: Predicted, terms: Terms) -> list[Reason]:
    """What the models say that makes the action worth this much; empty for nothing."""
    kind = menu.kind(action)
    if kind == "offer":
        return [offer_evidence(menu, action, row, predicted, terms)]
    if kind == "ad":
        slot = int(menu.ad_category[row])
        prob = percent(float(predicted.category_prob[row, slot]))
        words = f"Buys {menu.catalogue.category_name(slot)} within 7 days with probability {prob}; "
        return [Reason("affinity", words + lifted(menu, "ads", "an ad"))]
    if kind == "recommendations":
        titles = menu.titles(row)
        probs = [percent(prob) for prob in menu.panel_prob[row, : len(titles)].tolist()]
        words = f"Will buy within 7 days, with probability: {listed(titles, probs)}; "
        return [Reason("next_items", words + lifted(menu, "content", "a place on the panel"))]
    if kind == "social":
        return [Reason("no_evidence", "Social counts as worth nothing: there is no evidence yet of what a post adds.")]
    return []


def offer_evidence(menu: Menu, action: int, row: int, predicted: Predicted, terms: Terms) -> Reason:
    """What the campaign adds, and why this offer carries its part of it."""
    offer, code = menu.table.offers[action - 1], terms.currency_code
    uplift_micros = round(float(predicted.spend_uplift[row, offer.arm]) * 1e6)
    spread_micros = round(float(predicted.spend_uplift_se[row, offer.arm]) * 1e6)
    believed_micros = round(float(believed_uplift(np.array(float(uplift_micros)), np.array(float(spread_micros)))))
    prob = float(menu.redeem_prob[row, action - 1])
    part = float(offer_parts(menu.table, menu.redeem_prob[row : row + 1])[0, action - 1])
    words = (
        f"A campaign of type {menu.catalogue.arms[offer.arm]} is predicted to add {money(uplift_micros, code)} "
        f"(± {money(spread_micros, code)}) of spend in 28 days, {money(believed_micros, code)} allowing for noise; "
        f"this offer, redeemed with probability {percent(prob)}, carries {percent(part)} of it."
    )
    return Reason("uplift", words)


def no_offer(menu: Menu, row: int, choice: Choice) -> Reason:
    """Why no offer was made."""
    counted, n_lossy = menu.offers_by_bar[row], 0
    if counted[Bar.OPEN]:
        scores = choice.scores[row]
        is_open = menu.eligible[row, 1 : menu.ad].tolist()
        n_lossy = sum(map(and_, is_open, map(scores[NOTHING].__gt__, scores[1 : menu.ad])))
    return _no_offer(tuple(counted), n_lossy)


@lru_cache(maxsize=4_096)
def _no_offer(counted: tuple[int, ...], n_lossy: int) -> Reason:
    """Why no offer was made, by how many stand under each Bar; a few cases are most."""
    n_offers, n_open = sum(counted), counted[Bar.OPEN]
    if not n_offers:
        return Reason("no_offer", "No offer: none is live at this time.")
    parts = [f"{counted[bar]} {words}" for bar, words in BARRED.items() if counted[bar]]
    if n_lossy:
        parts.append(f"{n_lossy} worth less than nothing at the budget's price")
    if n_open > n_lossy:
        parts.append(f"{n_open - n_lossy} that pay, but less than what was chosen")
    return Reason("no_offer", f"No offer: of {n_offers}, {', '.join(parts)}.")


def lifted(menu: Menu, channel: ChannelName, subject: str) -> str:
    """What placements are known to multiply purchases by, or that nothing is known."""
    return _lifted(menu.catalogue.placements.get(channel), subject)


@lru_cache(maxsize=64)
def _lifted(lift: Lift | None, subject: str) -> str:
    if lift is None:
        return f"there is no evidence yet of what {subject} adds, so it counts as nothing."
    return (
        f"{subject} multiplies such purchases by {lift.lift:.3g} (95 % interval {lift.lower:.3g} to {lift.upper:.3g})."
    )


def name_of(action: Action) -> str:
    """The action as the object of a sentence."""
    if action.kind == "offer":
        return f"an offer on {action.category or action.title or action.offer_id}"
    names = {
        "ad": f"a mailer ad for {action.category}",
        "recommendations": f"a panel of {len(action.item_ids)} recommendations",
        "social": "a social post",
    }
    return names.get(action.kind, "doing nothing")


def money(micros: int, currency_code: str) -> str:
    """An amount as people write it; small ones keep four decimals, because most costs here are cents."""
    amount = abs(micros) / 1e6
    symbol = SYMBOLS.get(currency_code) or f"{currency_code} "
    sign = "-" if micros < 0 else ""
    return f"{sign}{symbol}{amount:,.2f}" if amount >= 0.1 or micros == 0 else f"{sign}{symbol}{amount:.4f}"


def percent(share: float) -> str:
    """A share in percent, two digits that matter."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def listed(names: list[str], shares: list[str]) -> str:
    """Names with their shares, as a list in a sentence."""
    return ", ".join([f"{name} {share}" for name, share in zip(names, shares, strict=True)])


def recommendation_reason(title: str, prob: float, reason: int, because: str) -> str:
    """Why an item is recommended.

    reason   the largest part of the item's rate, as the encoder tells it: an index of RECOMMENDED
    because  the item that it follows most; empty where none stands out
    """
    why = RECOMMENDED[reason]
    if reason == FOLLOWS and because:
        why = f"often bought after {because}"
    return f"{title}: {why}; bought within 7 days with probability {percent(prob)}."


def session_reason(title: str, prob: float) -> str:
    """Why an item is shown to an anonymous shopper."""
    return f"{title}: comes next in sessions like this one with probability {percent(prob)}."
