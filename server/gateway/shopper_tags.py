"""A shopper's tags in the protos' words.

In: one row of FEATURES and the release's limits. Out: a ShopperTags message. Called by server/gateway/profile.py.
The channel that a shopper answers in is a tag too, but of the feature tables only: a state counts contacts of all
channels together.
"""

import math

import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import profile_pb2

from kernels.tag_limits import CHANNELS, LIFECYCLES, N_AFFINITIES, SENSITIVITIES, TIERS, TagLimits, tag_columns
from kernels.tags import tags
from server.strategy.catalogue import Catalogue

_NO_CONTACTS = np.zeros((1, 2 * len(CHANNELS)), np.float32)


def tags_message(features: NDArray[np.float32], limits: TagLimits, catalogue: Catalogue) -> profile_pb2.ShopperTags:
    """What is said of a shopper; a number that is not known stays unset.

    features  (1, N_FEATURES) float32
    limits    of the release
    """
    told = dict(zip(tag_columns(), tags(features, _NO_CONTACTS, limits)[0].tolist(), strict=True))
    message = profile_pb2.ShopperTags(
        recency_score=int(told["recency_score"]),
        frequency_score=int(told["frequency_score"]),
        monetary_score=int(told["monetary_score"]),
        tier=_TIERS[int(told["tier"])],
        affinities=_affinities(told, catalogue),
        price_sensitivity=_SENSITIVITIES[int(told["price_sensitivity_level"])],
        churn_weeks=limits.churn_weeks,
        lifecycle=_LIFECYCLES[int(told["lifecycle"])],
    )
    for field, tag in _NUMBERS.items():
        if not math.isnan(told[tag]):
            setattr(message, field, told[tag])
    return message


def _enum_name(prefix: str, name: str) -> str:
    return f"{prefix}_{name.upper().replace(' ', '_') or 'UNSPECIFIED'}"


_TIERS = [profile_pb2.Tier.Value(_enum_name("TIER", name)) for name in TIERS]
_SENSITIVITIES = [profile_pb2.PriceSensitivity.Value(_enum_name("PRICE_SENSITIVITY", name)) for name in SENSITIVITIES]
_LIFECYCLES = [profile_pb2.Lifecycle.Value(_enum_name("LIFECYCLE", name)) for name in LIFECYCLES]
_NUMBERS = {
    "price_sensitivity_rank": "price_sensitivity",
    "promoted_line_share": "promoted_line_share",
    "price_position": "price_position",
    "churn_prob": "churn_prob",
    "expected_gap_days": "expected_gap_days",
}


def _affinities(told: dict[str, float], catalogue: Catalogue) -> list[profile_pb2.Affinity]:
    found = [(int(told[f"affinity_slot[{place}]"]), told[f"affinity_lift[{place}]"]) for place in range(N_AFFINITIES)]
    named = [(catalogue.category_name(slot), lift) for slot, lift in found if slot >= 0]
    return [profile_pb2.Affinity(category=name, lift=lift) for name, lift in named if name]
