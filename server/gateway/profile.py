"""ProfileService: what is known about a shopper.

In: a shopper and a moment. Out: features as the models see them, tags and a summary for people, the latest events.
"""

import logging
import time

import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import profile_pb2, profile_pb2_grpc

from kernels.features import FEATURES, read_states
from server.encoding import Encoder
from server.gateway import fields
from server.gateway.doors import Context
from server.gateway.outlook import outlook_message
from server.gateway.shopper_tags import tags_message
from server.problems import ModelUnavailable, TooLate, UnknownShopper
from server.repository import Repository
from server.settings import Settings
from server.state.shopper import Shopper
from server.strategy.catalogue import Catalogue

N_TOP_CATEGORIES = 5
_logger = logging.getLogger(__name__)


class ProfileServicer(profile_pb2_grpc.ProfileServiceServicer):
    """The door onto one shopper's state."""

    def __init__(self, repository: Repository, encoder: Encoder, settings: Settings) -> None:
        """Tell what the states and the models say, in the catalogue's words."""
        self._repository = repository
        self._catalogue = repository.catalogue
        self._encoder = encoder
        self._settings = settings
        self.n_without_outlook = 0

    def Get(self, request: profile_pb2.GetRequest, context: Context) -> profile_pb2.GetResponse:
        """One shopper's profile."""
        within_s = fields.time_left_s(context, self._settings.decide_within_s)
        shopper_id = fields.required_id("shopper_id", request.shopper_id)
        at_s = fields.moment_or_now(request, f" (shopper {shopper_id!r})")
        shopper = self._encoder.states.shopper(shopper_id)
        if shopper is None:
            raise UnknownShopper(f"shopper_id must be known, got {shopper_id!r}; record an event of the shopper first")
        features, history = read_states(shopper.state[None, :], np.array([at_s], np.int64))
        message = features_message(features[0], history[0])
        limits = self._repository.tag_limits
        return profile_pb2.GetResponse(
            shopper_id=shopper_id,
            features=message,
            summary=summary_message(message, self._catalogue),
            latest_events=latest_messages(shopper, self._catalogue),
            state_age_s=max(0, at_s - shopper.last_event_s) if shopper.last_event_s else 0,
            time_s=at_s,
            currency_code=self._catalogue.currency_code,
            tags=None if limits is None else tags_message(features, limits, self._catalogue),
            outlook=self._outlook(shopper_id, features, within_s - self._settings.reserve_s),
        )

    def _outlook(self, shopper_id: str, features: NDArray[np.float32], within_s: float) -> profile_pb2.Outlook | None:
        """What the models foretell, or nothing where they do not answer: the rest of a profile needs no model."""
        models, began_s = self._encoder.models, time.monotonic()
        try:
            snapshot = self._encoder.states.read([shopper_id])
            snapshot = self._encoder.freshened([shopper_id], snapshot, within_s)
            left_s = within_s - (time.monotonic() - began_s)
            return outlook_message(models.foretell(features, snapshot.encodings, left_s), snapshot.encodings[0])
        except (ModelUnavailable, TooLate) as problem:
            self.n_without_outlook += 1
            _logger.info("profile without an outlook, the %d. so far: %s", self.n_without_outlook, problem)
            return None


def features_message(features: NDArray[np.float32], history: NDArray[np.int32]) -> profile_pb2.ShopperFeatures:
    """Columns as named fields; wide features become repeated ones."""
    message = profile_pb2.ShopperFeatures()
    column = 0
    for feature in FEATURES:
        if feature.dtype == "int32":
            getattr(message, feature.name).extend(history.tolist())
        elif feature.width > 1:
            getattr(message, feature.name).extend(features[column : column + feature.width].tolist())
            column += feature.width
        else:
            setattr(message, feature.name, float(features[column]))
            column += 1
    return message


def summary_message(features: profile_pb2.ShopperFeatures, catalogue: Catalogue) -> profile_pb2.Summary:
    """Recency, frequency and money, for people."""
    summary = profile_pb2.Summary(
        n_orders=round(features.n_orders),
        paid_micros=round(features.spend_total * 1e6),
        top_categories=top_categories(np.array(features.category_lines_hl91d), catalogue),
    )
    if features.has_ordered:
        summary.recency_days = features.order_recency_days
        summary.discount_share = features.discount_depth_hl91d
    return summary


def top_categories(lines: NDArray[np.float64], catalogue: Catalogue) -> list[str]:
    """Names of the categories with the most order lines, most first; categories without a name are left out."""
    bought = [slot for slot in np.argsort(-lines, kind="stable").tolist() if lines[slot] > 0]
    named = [name for slot in bought if (name := catalogue.category_name(slot))]
    return named[:N_TOP_CATEGORIES]


def latest_messages(shopper: Shopper, catalogue: Catalogue) -> list[profile_pb2.LatestEvent]:
    """The latest events with the items' names."""
    items = catalogue.items
    return [
        profile_pb2.LatestEvent(
            time_s=time_s,
            kind=kind,
            item_id=items.item_id[item] if item >= 0 else "",
            title=items.title[item] if item >= 0 else "",
            paid_micros=paid_micros,
        )
        for time_s, paid_micros, item, kind in shopper.latest.tolist()
    ]
