"""RecommendationService: what a shopper will probably buy next.

In: a shopper and a moment. Out: items with calibrated probabilities and a reason each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import recommendation_pb2, recommendation_pb2_grpc

from kernels.features import N_TOP_ITEMS
from server.batch import ages_s
from server.encoding import Encoder
from server.gateway import fields
from server.gateway.doors import Context
from server.problems import NotInRelease, UnknownShopper
from server.repository import Repository
from server.settings import Settings
from server.strategy.catalogue import Catalogue, Items
from server.strategy.reasons import recommendation_reason, session_reason
from server.triton.client import N_SESSION, SESSION

MOST_SESSION_ITEMS = 1_000


class RecommendationServicer(recommendation_pb2_grpc.RecommendationServiceServicer):
    """The door onto the recommendation model."""

    def __init__(self, repository: Repository, encoder: Encoder, settings: Settings) -> None:
        """Tell what the encoder ranks, in the catalogue's words."""
        self._repository = repository
        self._encoder = encoder
        self._settings = settings

    def Recommend(
        self, request: recommendation_pb2.RecommendRequest, context: Context
    ) -> recommendation_pb2.RecommendResponse:
        """The likeliest items, best first."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        shopper_id = fields.required_id("shopper_id", request.shopper_id)
        subject = f" (shopper {shopper_id!r})"
        at_s = fields.moment_or_now(request, subject)
        limit = N_TOP_ITEMS
        if request.HasField("limit"):
            limit = fields.whole("limit", request.limit, 1, N_TOP_ITEMS, subject)
        snapshot = self._encoder.states.read([shopper_id])
        if not snapshot.is_known[0]:
            raise UnknownShopper(f"shopper_id must be known, got {shopper_id!r}; record an event of the shopper first")
        snapshot = self._encoder.freshened([shopper_id], snapshot, within_s)
        return recommendation_pb2.RecommendResponse(
            items=item_messages(self._repository.catalogue, snapshot.encodings[0])[:limit],
            state_age_s=int(ages_s(snapshot.last_event_s, np.array([at_s]))[0]),
            release=self._repository.release,
        )

    def RecommendSession(
        self, request: recommendation_pb2.RecommendSessionRequest, context: Context
    ) -> recommendation_pb2.RecommendSessionResponse:
        """What an anonymous session leads to, best first."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        fields.whole("n_item_ids", len(request.item_ids), 0, MOST_SESSION_ITEMS)
        for item_id in request.item_ids:
            fields.required_id("item_ids", item_id)
        limit = fields.whole("limit", request.limit, 1, N_TOP_ITEMS) if request.HasField("limit") else N_TOP_ITEMS
        if SESSION not in self._repository.served:
            raise NotInRelease(
                f"release {self._repository.release} must hold a model {SESSION}, got none: when it was trained, the "
                "shop's data had too few sessions to learn from"
            )
        catalogue = self._repository.catalogue
        session = {"session_items": session_of(catalogue.items, request.item_ids)}
        told = self._encoder.models.ask(SESSION, session, within_s)
        return recommendation_pb2.RecommendSessionResponse(
            items=next_messages(catalogue, told["item_index"][0], told["item_prob"][0])[:limit],
            release=self._repository.release,
        )


def session_of(items: Items, item_ids: Sequence[str]) -> NDArray[np.int32]:
    """A session as its model reads it, (1, N_SESSION): items without a place in the vocabulary are passed over."""
    rows = [items.row_of_id.get(item_id, -1) for item_id in item_ids]
    known = [index for row in rows if row >= 0 and (index := int(items.item_index[row])) > 0][-N_SESSION:]
    return np.array([[0] * (N_SESSION - len(known)) + known], np.int32)


def next_messages(
    catalogue: Catalogue, item_index: NDArray[np.generic], item_prob: NDArray[np.generic]
) -> list[recommendation_pb2.Recommendation]:
    """Ranked items of a session in the catalogue's words."""
    items = catalogue.items
    ranked = zip(items.rows_of(item_index.astype(np.int32)).tolist(), item_prob.tolist(), strict=True)
    messages = []
    for row, prob in ranked:
        if row >= 0:
            message = item_message(catalogue, row, 0.0, session_reason(name_of(items, row), prob))
            message.next_prob = prob
            messages.append(message)
    return messages


def item_messages(catalogue: Catalogue, encoding: np.void) -> list[recommendation_pb2.Recommendation]:
    """What the encoder ranked for one shopper, best first; places that name no item are left out."""
    items = catalogue.items
    rows = items.rows_of(encoding["item_index"]).tolist()
    because = items.rows_of(encoding["item_because"]).tolist()
    ranked = zip(rows, encoding["item_prob"].tolist(), encoding["item_reason"].tolist(), because, strict=True)
    return [
        item_message(catalogue, row, prob, recommendation_reason(name_of(items, row), prob, why, name_of(items, other)))
        for row, prob, why, other in ranked
        if row >= 0
    ]


def name_of(items: Items, row: int) -> str:
    """An item's title, or its id where it has none; empty for no item."""
    return items.title[row] or items.item_id[row] if row >= 0 else ""


def item_message(catalogue: Catalogue, row: int, prob: float, reason: str) -> recommendation_pb2.Recommendation:
    """One item in the catalogue's words."""
    items = catalogue.items
    category = catalogue.category_name(int(items.category[row]))
    message = recommendation_pb2.Recommendation(
        item_id=items.item_id[row],
        title=items.title[row],
        category=category,
        purchase_prob=prob,
        reason=reason,
    )
    if items.price_micros[row] >= 0:
        message.price_micros = int(items.price_micros[row])
    return message
