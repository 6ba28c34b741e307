"""FeedbackService: what shoppers did, who was reached, and what came of it.

In: stratagem.v1 rows. Out: what became of each row. server/record.py does the work.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from stratagem.v1 import event_pb2, feedback_pb2, feedback_pb2_grpc

from kernels.ledger import EXPOSURE, REDEMPTION, order_key
from server.decision_block import Record
from server.encoding import Encoder
from server.gateway import fields
from server.gateway.doors import Context
from server.gateway.words import CHANNEL_NAMES
from server.problems import InvalidRequest
from server.record import Recorder, Row, place_of
from server.state.store import Happening
from server.strategy.catalogue import Items, campaign_key, offer_key

EVENT_KINDS = {
    event_pb2.EVENT_KIND_VIEW: "view",
    event_pb2.EVENT_KIND_CART: "cart",
    event_pb2.EVENT_KIND_ORDER: "order",
    event_pb2.EVENT_KIND_REFUND: "refund",
}
OUTCOME_KINDS = {feedback_pb2.OUTCOME_KIND_REDEMPTION: "redemption"}
Message = TypeVar("Message")


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """The door onto the durable log and the shoppers' states."""

    def __init__(self, items: Items, encoder: Encoder, recorder: Recorder, most_rows: int) -> None:
        """Take feedback on a shop's items; the vectors of whom it concerns are refreshed behind it."""
        self._items = items
        self._encoder = encoder
        self._recorder = recorder
        self._most_rows = most_rows

    def Record(self, request: feedback_pb2.RecordRequest, context: Context) -> feedback_pb2.RecordResponse:
        """Acknowledge each row once it is on disk."""
        n_rows = len(request.events) + len(request.exposures) + len(request.outcomes)
        if not 1 <= n_rows <= self._most_rows:
            raise InvalidRequest(f"events, exposures and outcomes must have 1 to {self._most_rows} rows, got {n_rows}")
        context.principal.take(n_rows)
        checked = [
            *self._checked(request.events, lambda event: event_row(event, self._items)),
            *self._checked(request.exposures, exposure_row),
            *self._checked(request.outcomes, outcome_row),
        ]
        rows = [row for row in checked if isinstance(row, Row)]
        is_new = iter(self._recorder.record(rows))
        self._encoder.refresh_later(row.happening.shopper_id for row in rows)
        results = iter([result_from(row, is_new) for row in checked])
        return feedback_pb2.RecordResponse(
            events=[next(results) for _ in request.events],
            exposures=[next(results) for _ in request.exposures],
            outcomes=[next(results) for _ in request.outcomes],
        )

    def _checked(self, messages: "Iterator[Message]", row_from: Callable[[Message], Row]) -> "Iterator[Row | str]":
        """Each message as a row, or as the sentence that refuses it."""
        for message in messages:
            try:
                yield row_from(message)
            except InvalidRequest as problem:
                yield str(problem)


def result_from(row: Row | str, is_new: "Iterator[bool]") -> feedback_pb2.RecordResult:
    """What became of one row; a row that was recorded takes its answer off `is_new`."""
    if isinstance(row, str):
        return feedback_pb2.RecordResult(status=feedback_pb2.RECORD_STATUS_INVALID, problem=row)
    status = feedback_pb2.RECORD_STATUS_RECORDED if next(is_new) else feedback_pb2.RECORD_STATUS_DUPLICATE
    return feedback_pb2.RecordResult(status=status)


def event_row(event: event_pb2.Event, items: Items) -> Row:
    """An event as a row."""
    named, subject = _named(event)
    if event.kind not in EVENT_KINDS:
        raise InvalidRequest(f"kind must be view, cart, order or refund, got {event.kind}{subject}")
    item_id = fields.optional_id("item_id", event.item_id, subject)
    order_id = fields.optional_id("order_id", event.order_id, subject)
    quantity = fields.quantity("quantity", event.quantity, subject) if event.HasField("quantity") else 1.0
    money = {
        name: fields.amount(name, getattr(event, name), subject)
        for name in ("paid_micros", "discount_micros", "coupon_micros")
    }
    place = place_of(items, item_id)
    happening = Happening(
        event_id=event.event_id,
        shopper_id=event.shopper_id,
        time_s=event.time_s,
        kind=event.kind,
        item_row=place.item_row,
        item=place.item,
        category=place.category,
        order=order_key(order_id),
        quantity=quantity,
        **money,
    )
    store_id = fields.optional_id("store_id", event.store_id, subject)
    what = {"event_kind": EVENT_KINDS[event.kind], "item_id": item_id, "quantity": quantity}
    return Row("event", happening, named | what | money | {"order_id": order_id or None, "store_id": store_id or None})


def exposure_row(exposure: feedback_pb2.Exposure) -> Row:
    """An exposure as a row; being sent an offer, or a whole campaign, is remembered with the shopper."""
    named, subject = _named(exposure)
    if exposure.channel not in CHANNEL_NAMES:
        raise InvalidRequest(f"channel must be ads, promotions, content or social, got {exposure.channel}{subject}")
    what = _campaign(exposure, subject)
    propensity = exposure.propensity if exposure.HasField("propensity") else None
    if propensity is not None and not 0 < propensity <= 1:
        raise InvalidRequest(f"propensity must be in (0, 1], got {propensity}{subject}")
    sent_key = 0
    if exposure.offer_id or exposure.campaign_id:
        sent_key = offer_key(exposure.offer_id) if exposure.offer_id else campaign_key(exposure.campaign_id)
    happening = Happening(exposure.event_id, exposure.shopper_id, exposure.time_s, EXPOSURE, sent_key=sent_key)
    return Row(
        "exposure", happening, named | what | {"channel": CHANNEL_NAMES[exposure.channel], "propensity": propensity}
    )


def outcome_row(outcome: feedback_pb2.Outcome) -> Row:
    """An outcome as a row."""
    named, subject = _named(outcome)
    if outcome.kind not in OUTCOME_KINDS:
        raise InvalidRequest(f"kind must be redemption, got {outcome.kind}{subject}")
    value_micros = outcome.value_micros if outcome.HasField("value_micros") else None
    happening = Happening(outcome.event_id, outcome.shopper_id, outcome.time_s, REDEMPTION)
    what = _campaign(outcome, subject) | {"outcome_kind": OUTCOME_KINDS[outcome.kind], "value_micros": value_micros}
    return Row("outcome", happening, named | what)


def _named(row: event_pb2.Event | feedback_pb2.Exposure | feedback_pb2.Outcome) -> tuple[Record, str]:
    """What every row must have, and the subject of every sentence about it."""
    event_id = fields.required_id("event_id", row.event_id)
    subject = f" (event {event_id!r})"
    shopper_id = fields.required_id("shopper_id", row.shopper_id, subject)
    time_s = fields.moment("time_s", row.time_s, subject)
    return {"event_id": event_id, "shopper_id": shopper_id, "time_s": time_s}, subject


def _campaign(row: feedback_pb2.Exposure | feedback_pb2.Outcome, subject: str) -> Record:
    """The campaign that a row names."""
    names = ("campaign_id", "offer_id", "decision_id")
    return {name: fields.optional_id(name, getattr(row, name), subject) or None for name in names}
