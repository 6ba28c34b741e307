"""What is foretold of every shopper: outcomes of the coming days, one probability each.

In: nothing. Out: the one list that training, server and config.pbtxt share; kernels.tag_limits.TAGS say what was, these
say what comes. The model `tags` answers them in this order.
"""

from dataclasses import dataclass

DAY_S = 86_400
WEEK_S, MONTH_S = 7 * DAY_S, 28 * DAY_S


@dataclass(frozen=True)
class FutureTag:
    """One outcome that is foretold.

    name       of the tag, as the door tells it
    horizon_s  how far it looks ahead; a session ends when it ends
    """

    name: str
    horizon_s: int
    meaning: str


FUTURE_TAGS: tuple[FutureTag, ...] = (
    FutureTag("orders_session", 0, "orders before the open session ends; of shoppers in a session"),
    FutureTag("orders_7d", WEEK_S, "orders within 7 days"),
    FutureTag("churns_28d", MONTH_S, "orders nothing within 28 days"),
    FutureTag("spends_more_28d", MONTH_S, "spends more in the next 28 days than in the last 28"),
    FutureTag("spends_much_28d", MONTH_S, "spends in 28 days as much as the top fifth of training did"),
    FutureTag("orders_often_28d", MONTH_S, "orders on four days or more of the next 28"),
    FutureTag("uses_coupon_28d", MONTH_S, "uses a coupon within 28 days"),
    FutureTag("buys_reduced_28d", MONTH_S, "more than half of what it buys within 28 days is reduced, if it buys"),
    FutureTag("tries_category_28d", MONTH_S, "buys in a category it never bought, within 28 days"),
    FutureTag("rebuys_item_7d", WEEK_S, "buys an item again, within 7 days"),
    FutureTag(
        "orders_on_weekends_28d", MONTH_S, "half or more of its orders within 28 days are on weekends, if it orders"
    ),
    FutureTag(
        "orders_in_evenings_28d", MONTH_S, "half or more of its orders within 28 days are from 18:00 UTC, if it orders"
    ),
    FutureTag("answers_28d", MONTH_S, "redeems an offer within 28 days, if reached by a campaign"),
    FutureTag("refunds_28d", MONTH_S, "gives something back within 28 days"),
    FutureTag("only_looks_7d", WEEK_S, "views or fills a cart within 7 days, but orders nothing"),
    FutureTag("leaves_cart_7d", WEEK_S, "fills a cart within 7 days, but orders nothing"),
)
N_FUTURE_TAGS = len(FUTURE_TAGS)
