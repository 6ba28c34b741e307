"""Our names and the protos' numbers for the same things.

In: a name of server.strategy. Out: an enum value of stratagem.v1, or a whole message. Called by the servicers.
"""

from stratagem.v1 import event_pb2, strategy_pb2

from server.strategy.actions import Action
from server.strategy.decision import Candidate, Decision

KINDS = {
    "nothing": strategy_pb2.ACTION_KIND_NOTHING,
    "offer": strategy_pb2.ACTION_KIND_OFFER,
    "ad": strategy_pb2.ACTION_KIND_AD,
    "recommendations": strategy_pb2.ACTION_KIND_RECOMMENDATIONS,
    "social": strategy_pb2.ACTION_KIND_SOCIAL,
}
CHANNELS = {
    None: event_pb2.CHANNEL_UNSPECIFIED,
    "ads": event_pb2.CHANNEL_ADS,
    "promotions": event_pb2.CHANNEL_PROMOTIONS,
    "content": event_pb2.CHANNEL_CONTENT,
    "social": event_pb2.CHANNEL_SOCIAL,
}
CHANNEL_NAMES = {number: name for name, number in CHANNELS.items() if name}
RUNGS = {
    "full": strategy_pb2.RUNG_FULL,
    "cached": strategy_pb2.RUNG_CACHED,
    "safe_default": strategy_pb2.RUNG_SAFE_DEFAULT,
}


def action_message(action: Action) -> strategy_pb2.Action:
    """An action in the protos' words."""
    return strategy_pb2.Action(
        kind=KINDS[action.kind],
        channel=CHANNELS[action.channel],
        offer_id=action.offer_id,
        campaign_id=action.campaign_id,
        item_ids=action.item_ids,
        category=action.category,
        title=action.title,
    )


def candidate_message(candidate: Candidate) -> strategy_pb2.Candidate:
    """A candidate in the protos' words."""
    return strategy_pb2.Candidate(
        action=action_message(candidate.action),
        value_micros=candidate.value_micros,
        cost_micros=candidate.cost_micros,
        score_micros=candidate.score_micros,
        propensity=candidate.propensity,
    )


def decision_message(decision: Decision) -> strategy_pb2.Decision:
    """A decision in the protos' words."""
    chosen, terms = decision.chosen, decision.terms
    return strategy_pb2.Decision(
        decision_id=decision.decision_id,
        shopper_id=decision.shopper_id,
        action=action_message(chosen.action),
        value_micros=chosen.value_micros,
        cost_micros=chosen.cost_micros,
        shadow_price=terms.shadow_price,
        score_micros=chosen.score_micros,
        propensity=chosen.propensity,
        is_exploration=decision.is_exploration,
        runner_up=None if decision.runner_up is None else candidate_message(decision.runner_up),
        candidates=[candidate_message(candidate) for candidate in decision.candidates],
        reasons=[strategy_pb2.Reason(code=reason.code, words=reason.words) for reason in decision.reasons],
        rung=RUNGS[decision.rung],
        state_age_s=decision.state_age_s,
        release=terms.release,
        plan_id=terms.plan_id,
        decided_at_s=decision.decided_at_s,
        currency_code=terms.currency_code,
    )
