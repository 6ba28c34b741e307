"""What a transaction is judged by: the one list of risk features and of the reasons they give, from proto to tensor.

In: how fast the keys of a transaction were used. Out: numbers by name, in the order of the model's input, parted by the
reason that each belongs to. training.risk and the gateway's door for risk fill them, training.models.risk_transaction
reads them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.velocity import Velocity

DAY_S = 86_400
# What is said of a window of kernels.velocity.WINDOWS_S in the names of features.
WINDOWS = ("1h", "24h", "7d", "30d")


@dataclass(frozen=True)
class Reason:
    """One group of features, judged together.

    features  names, in the order of the model's input
    sentence  said when the group speaks for fraud more than in the average transaction
    """

    name: str
    features: tuple[str, ...]
    sentence: str


def _use(key: str) -> tuple[str, ...]:
    counted = (name for window in WINDOWS for name in (f"n_{key}_events_{window}", f"{key}_spend_{window}_micros"))
    return (*counted, f"{key}_idle_s")


REASONS = (
    Reason("device_use", _use("device"), "How often, how lately and for how much the device was used before"),
    Reason("device_sharing", ("n_device_shoppers",), "How many shoppers used the device before"),
    Reason("address_use", _use("address"), "How often, how lately and for how much the address was used before"),
    Reason("address_sharing", ("n_address_shoppers",), "How many shoppers used the address before"),
    Reason("card_use", _use("card"), "How often, how lately and for how much the card was used before"),
    Reason("card_sharing", ("n_card_shoppers",), "How many shoppers used the card before"),
    Reason("shopper_use", _use("shopper"), "How often, how lately and for how much the shopper bought before"),
    Reason("sign_up", ("since_sign_up_s",), "The time since the shopper signed up"),
    Reason("amount", ("paid_micros",), "The amount"),
    Reason("time_of_day", ("time_of_day_s",), "The time of day"),
)
RISK_FEATURES = tuple(name for reason in REASONS for name in reason.features)
N_RISK_FEATURES = len(RISK_FEATURES)
# Code of a place in the answer that holds no reason; any other code is a place in REASONS, from 1.
NO_REASON = 0
N_REASONS_TOLD = 3


def sentence_of(code: int) -> str:
    """Return what a reason code says to people.

    code     from 0 to the number of REASONS
    returns  one sentence; empty for NO_REASON
    """
    return "" if code == NO_REASON else f"{REASONS[code - 1].sentence} speaks for fraud."


def key_features(told: Velocity, key: str) -> dict[str, NDArray[np.generic]]:
    """Return what velocity tells of one kind of key, by the names of the features.

    told     what stood before each event
    key      device, address, card or shopper; of the last its own shoppers are not counted
    returns  (n_events,) by name, each of its own type; NaN idle at a key's first event
    """
    features: dict[str, NDArray[np.generic]] = {}
    for place, window in enumerate(WINDOWS):
        features[f"n_{key}_events_{window}"] = told.n_events[:, place]
        features[f"{key}_spend_{window}_micros"] = told.spend_micros[:, place]
    if key != "shopper":
        features[f"n_{key}_shoppers"] = told.n_shoppers
    features[f"{key}_idle_s"] = told.since_previous_s
    return features
