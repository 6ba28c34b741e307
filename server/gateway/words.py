"""Our names and the protos' numbers for the same things.

In: a name of server.strategy. Out: an enum value of stratagem.v1, or a whole message. Called by the servicers.
"""

from functools import lru_cache

from stratagem.v1 import event_pb2, strategy_pb2

from server.batch import Batch, decision_of
from server.strategy.actions import Action
from server.strategy.decision import Candidate, Decision, RungName, Terms

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


# Keys of fields on the wire: number << 3 | type, type 0 for whole numbers and 2 for messages.
DECISION_OF_UNARY = bytes((strategy_pb2.DecideResponse.DECISION_FIELD_NUMBER << 3 | 2,))
CALL_ID = bytes((strategy_pb2.DecideStreamResponse.CALL_ID_FIELD_NUMBER << 3,))
DECISION_OF_STREAM = bytes((strategy_pb2.DecideStreamResponse.DECISION_FIELD_NUMBER << 3 | 2,))


@lru_cache(maxsize=4_096)
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


@lru_cache(maxsize=16)
def _of_terms(terms: Terms, rung: RungName) -> bytes:
    """The fields that all decisions of a rung have in common, as they stand on the wire."""
    common = strategy_pb2.Decision(
        shadow_price=terms.shadow_price,
        rung=RUNGS[rung],
        release=terms.release,
        plan_id=terms.plan_id,
        currency_code=terms.currency_code,
    )
    return bytes(common.SerializeToString())


def _of_shopper(decision: Decision) -> strategy_pb2.Decision:
    chosen = decision.chosen
    return strategy_pb2.Decision(
        decision_id=decision.decision_id,
        shopper_id=decision.shopper_id,
        action=action_message(chosen.action),
        value_micros=chosen.value_micros,
        cost_micros=chosen.cost_micros,
        score_micros=chosen.score_micros,
        propensity=chosen.propensity,
        is_exploration=decision.is_exploration,
        runner_up=None if decision.runner_up is None else candidate_message(decision.runner_up),
        candidates=[candidate_message(candidate) for candidate in decision.candidates],
        reasons=[strategy_pb2.Reason(code=reason.code, words=reason.words) for reason in decision.reasons],
        state_age_s=decision.state_age_s,
        decided_at_s=decision.decided_at_s,
        vector_age_s=decision.vector_age_s,
        predictions_age_s=decision.predictions_age_s,
    )


def decision_bytes(batch: Batch | Decision, row: int) -> bytes:
    """A Decision message as it stands on the wire, of a row of a batch or of a decision that stands alone."""
    decision = batch if isinstance(batch, Decision) else decision_of(batch, row)
    # Messages of one type may be joined by joining their bytes.
    own: bytes = _of_shopper(decision).SerializeToString()
    return own + _of_terms(decision.terms, decision.rung)


def decide_response(decision: bytes) -> bytes:
    """A DecideResponse around a Decision message."""
    return DECISION_OF_UNARY + varint(len(decision)) + decision


def stream_response(call_id: int, decision: bytes) -> bytes:
    """A DecideStreamResponse around a Decision message."""
    return b"".join((CALL_ID, varint(call_id), DECISION_OF_STREAM, varint(len(decision)), decision))


def varint(number: int) -> bytes:
    """A whole number ≥ 0 as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)
