"""Decisions as rows, and the columns that a gateway would send for them: the definition that tests compare with."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratagem.v1 import event_pb2, strategy_pb2

DECIDED, UNKNOWN = strategy_pb2.ROW_STATUS_DECIDED, strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER
NOTHING = ("nothing", "")


@dataclass(frozen=True)
class ShopRow:
    """One row; action and runner-up are (kind, name): nothing, offer or recommendations."""

    shopper_id: str
    is_known: bool = True
    action: tuple[str, str] = NOTHING
    item_ids: tuple[str, ...] = ()
    value_micros: int = 0
    cost_micros: int = 0
    score_micros: int = 0
    propensity: float = 1.0
    runner_up: tuple[str, str] = NOTHING
    runner_up_score_micros: int = 0
    rung: int = strategy_pb2.RUNG_FULL
    state_age_s: int = 0


def action_message(action: tuple[str, str]) -> strategy_pb2.Action:
    """The action as a message, without items."""
    kind, name = action
    if kind == "offer":
        return strategy_pb2.Action(
            kind=strategy_pb2.ACTION_KIND_OFFER, channel=event_pb2.CHANNEL_PROMOTIONS, offer_id=name
        )
    if kind == "recommendations":
        return strategy_pb2.Action(kind=strategy_pb2.ACTION_KIND_RECOMMENDATIONS, channel=event_pb2.CHANNEL_CONTENT)
    return strategy_pb2.Action(kind=strategy_pb2.ACTION_KIND_NOTHING)


def columns_message(rows: Sequence[ShopRow], batch_id: str, **terms: object) -> strategy_pb2.DecideBatchResponse:
    """What a gateway answers for these rows."""
    answer = strategy_pb2.DecideBatchResponse(batch_id=batch_id, currency_code="EUR", **terms)
    actions, items = list[tuple[str, str]](), list[str]()
    answer.item_offsets.append(0)
    for row in rows:
        answer.statuses.append(DECIDED if row.is_known else UNKNOWN)
        answer.action_index.append(_place(actions, row.action) if row.is_known else 0)
        answer.value_micros.append(row.value_micros if row.is_known else 0)
        answer.cost_micros.append(row.cost_micros if row.is_known else 0)
        answer.score_micros.append(row.score_micros if row.is_known else 0)
        answer.propensity.append(row.propensity if row.is_known else 0.0)
        answer.runner_up_index.append(_place(actions, row.runner_up) if row.is_known else 0)
        answer.runner_up_score_micros.append(row.runner_up_score_micros if row.is_known else 0)
        answer.rungs.append(row.rung if row.is_known else 0)
        answer.state_age_s.append(row.state_age_s if row.is_known else 0)
        answer.vector_age_s.append(0.0)
        answer.predictions_age_s.append(0.0)
        answer.item_index.extend(_place(items, item_id) for item_id in row.item_ids if row.is_known)
        answer.item_offsets.append(len(answer.item_index))
    answer.actions.extend(action_message(action) for action in actions)
    answer.item_ids.extend(items)
    return answer


def _place(things: list, thing: object) -> int:
    if thing not in things:
        things.append(thing)
    return things.index(thing)
