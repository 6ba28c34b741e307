"""Ten actions and an argmax over them: what the naive server and Ray Serve answer with.

In: what the heads say of a batch. Out: one DecideResponse per request. Ray's own environment imports it too.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stratagem.v1 import event_pb2, strategy_pb2

N_OFFERS, N_ADS = 4, 5
MARGIN, DISCOUNT, BASKET, CONTACT_COST = 0.25, 0.5, 0.4, 0.03
OUTPUTS = ("category_prob", "redeem_prob", "spend_uplift")
NOTHING = strategy_pb2.Action(kind=strategy_pb2.ACTION_KIND_NOTHING)
OFFERS = [
    strategy_pb2.Action(
        kind=strategy_pb2.ACTION_KIND_OFFER, channel=event_pb2.CHANNEL_PROMOTIONS,
        offer_id=f"{offer}:grocery", campaign_id=str(offer), title="grocery: money off",
    )
    for offer in range(N_OFFERS)
]  # fmt: skip
ADS = [
    strategy_pb2.Action(kind=strategy_pb2.ACTION_KIND_AD, channel=event_pb2.CHANNEL_ADS, category=f"category {place}")
    for place in range(N_ADS)
]
ACTIONS = [NOTHING, *OFFERS, *ADS]

Heads = Mapping[str, NDArray[np.float32]]


class KnownRows:
    """A few fixed rows of features that stand for every shopper there is."""

    def __init__(self, known: Path) -> None:
        """Read the rows.

        known  the heads' self_test.npz
        """
        with np.load(known) as rows:
            self._tensors = {name: rows[f"in_{name}"] for name in ("features", "shopper_vector")}
        self._n_rows = len(self._tensors["features"])

    def of(self, requests: Sequence[strategy_pb2.DecideRequest]) -> dict[str, NDArray[np.float32]]:
        """The heads' inputs, a row per request, by the hash of its shopper."""
        rows = [zlib.crc32(request.shopper_id.encode()) % self._n_rows for request in requests]
        return {name: array[rows] for name, array in self._tensors.items()}


def responses(requests: Sequence[strategy_pb2.DecideRequest], heads: Heads) -> list[strategy_pb2.DecideResponse]:
    """The best action for each request.

    heads  OUTPUTS, a row per request
    """
    values = _values(heads)
    best = values.argmax(axis=1)
    worth = np.rint(1e6 * values[np.arange(len(requests)), best]).astype(np.int64)
    return [
        strategy_pb2.DecideResponse(
            decision=strategy_pb2.Decision(
                decision_id=request.decision_id, shopper_id=request.shopper_id, action=ACTIONS[action],
                value_micros=value_micros, propensity=1.0, rung=strategy_pb2.RUNG_FULL, currency_code="USD",
            )
        )
        for request, action, value_micros in zip(requests, best.tolist(), worth.tolist(), strict=True)
    ]  # fmt: skip


def _values(heads: Heads) -> NDArray[np.float32]:
    """What each action is worth in currency units, (batch, 10)."""
    offers = MARGIN * heads["spend_uplift"][:, :N_OFFERS] - DISCOUNT * heads["redeem_prob"][:, :N_OFFERS]
    ads = BASKET * heads["category_prob"][:, :N_ADS]
    nothing = np.zeros((offers.shape[0], 1), np.float32)
    return np.concatenate([nothing, offers - CONTACT_COST, ads - CONTACT_COST], axis=1)
