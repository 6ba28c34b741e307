"""What a transaction is judged by: the one list of risk features and of the reasons they give, from proto to tensor.

In: nothing. Out: names in the order of the model's input, parted by the reason that each belongs to. training.risk
fills them, training.models.risk_transaction reads them, the gateway's door for risk speaks them.
"""

from dataclasses import dataclass

DAY_S = 86_400
# A window's name as it ends the features' names, beside kernels.velocity.WINDOWS_S.
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
