"""Requests completed before they are sent: every decision and every row of feedback gets its id here, once.

In: ids or whole requests of the caller. Out: copies with an id, so that a retry is the same request.
"""

import uuid
from collections.abc import Sequence
from typing import TypeVar

from stratagem.v1 import event_pb2, feedback_pb2, profile_pb2, recommendation_pb2, strategy_pb2

DecideAsk = str | strategy_pb2.DecideRequest
ProfileAsk = str | profile_pb2.GetRequest
RecommendAsk = str | recommendation_pb2.RecommendRequest
Named = TypeVar("Named", event_pb2.Event, feedback_pb2.Exposure, feedback_pb2.Outcome)


def decide_request(ask: DecideAsk) -> strategy_pb2.DecideRequest:
    """A request with a decision_id: the caller's, or a new one."""
    request = strategy_pb2.DecideRequest()
    if isinstance(ask, str):
        request.shopper_id = ask
    else:
        request.CopyFrom(ask)
    if not request.decision_id:
        request.decision_id = uuid.uuid4().hex
    return request


def named(rows: Sequence[Named]) -> list[Named]:
    """Copies of rows, each with an event_id: the caller's, or a new one."""
    copies = []
    for row in rows:
        copy = type(row)()
        copy.CopyFrom(row)
        copy.event_id = copy.event_id or uuid.uuid4().hex
        copies.append(copy)
    return copies
