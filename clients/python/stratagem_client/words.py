"""Decisions in words, for people.

In: an action and its economics. Out: one sentence. Used by columns.py and by whoever shows a Decision.
"""

from stratagem.v1 import strategy_pb2


def money(micros: int, currency_code: str) -> str:
    """An amount with its currency; below ten cents with four decimals, because most costs here are cents.

    micros  millionths of the currency
    """
    digits = 2 if abs(micros) >= 100_000 or micros == 0 else 4
    return f"{micros / 1e6:,.{digits}f} {currency_code}".rstrip()


def action_in_words(action: strategy_pb2.Action) -> str:
    """What to do, as an instruction."""
    words = {
        strategy_pb2.ACTION_KIND_OFFER: f"send the offer {action.title or action.offer_id}",
        strategy_pb2.ACTION_KIND_AD: f"show an ad for {action.category}",
        strategy_pb2.ACTION_KIND_RECOMMENDATIONS: f"recommend {action.title or ', '.join(action.item_ids)}",
        strategy_pb2.ACTION_KIND_SOCIAL: "write on a social network",
    }
    return words.get(action.kind, "do nothing")


def economics_in_words(value_micros: int, cost_micros: int, currency_code: str) -> str:
    """What an action adds and what it costs."""
    return f"{money(value_micros, currency_code)} more margin expected for {money(cost_micros, currency_code)}"


def decision_in_words(decision: strategy_pb2.Decision) -> str:
    """One sentence of one decision."""
    economics = economics_in_words(decision.value_micros, decision.cost_micros, decision.currency_code)
    return f"{decision.shopper_id}: {action_in_words(decision.action)} ({economics})"
