"""RecommendationService: what a shopper will probably buy next.

In: a shopper and a moment. Out: items with calibrated probabilities and a reason each.
"""

import grpc
import numpy as np
from stratagem.v1 import recommendation_pb2, recommendation_pb2_grpc

from kernels.features import N_TOP_ITEMS, read_states
from server.batch import state_age_s
from server.gateway import fields
from server.gateway.errors import names_its_problems
from server.problems import UnknownShopper
from server.repository import Repository
from server.settings import Settings
from server.state.store import States
from server.strategy.catalogue import Catalogue
from server.strategy.reasons import recommendation_reason
from server.triton.client import Models


class RecommendationServicer(recommendation_pb2_grpc.RecommendationServiceServicer):
    """The door onto the recommendation model."""

    def __init__(self, repository: Repository, states: States, models: Models, settings: Settings) -> None:
        """Rank a catalogue's items."""
        self._repository = repository
        self._states = states
        self._models = models
        self._settings = settings

    @names_its_problems
    async def Recommend(
        self, request: recommendation_pb2.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> recommendation_pb2.RecommendResponse:
        """The likeliest items, best first."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        shopper_id = fields.required_id("shopper_id", request.shopper_id)
        subject = f" (shopper {shopper_id!r})"
        at_s = fields.moment_or_now(request, subject)
        limit = N_TOP_ITEMS
        if request.HasField("limit"):
            limit = fields.whole("limit", request.limit, 1, N_TOP_ITEMS, subject)
        snapshot = self._states.read([shopper_id])
        if not snapshot.is_known[0]:
            raise UnknownShopper(f"shopper_id must be known, got {shopper_id!r}; record an event of the shopper first")
        features, history = read_states(snapshot.states, np.array([at_s], np.int64))
        predicted = await self._models.predict(features, history, within_s)
        catalogue = self._repository.catalogue
        rows = catalogue.items.rows_of(predicted.item_index[0]).tolist()
        bought = {row for row in catalogue.items.rows_of(history[0]).tolist() if row >= 0}
        return recommendation_pb2.RecommendResponse(
            items=[
                item_message(catalogue, row, float(prob), row in bought)
                for row, prob in zip(rows, predicted.item_prob[0].tolist(), strict=True)
                if row >= 0
            ][:limit],
            state_age_s=state_age_s(snapshot, 0, at_s),
            release=self._repository.release,
        )


def item_message(catalogue: Catalogue, row: int, prob: float, is_repeat: bool) -> recommendation_pb2.Recommendation:
    """One item in the catalogue's words."""
    items = catalogue.items
    category = catalogue.category_name(int(items.category[row]))
    message = recommendation_pb2.Recommendation(
        item_id=items.item_id[row],
        title=items.title[row],
        category=category,
        purchase_prob=prob,
        reason=recommendation_reason(items.title[row] or items.item_id[row], prob, is_repeat),
    )
    if items.price_micros[row] >= 0:
        message.price_micros = int(items.price_micros[row])
    return message
