"""What the doors demand of a field, and what an unset one means.

In: a field's name and value. Out: the value, or InvalidRequest with field, rule, value and subject.
"""

import math
import time

from kernels.ledger import MONEY_LIMIT_MICROS, QUANTITY_LIMIT
from server.gateway.doors import Context
from server.problems import InvalidRequest

ID_BYTES = 200
# Year 2200: a time in milliseconds or micros by mistake is refused instead of decaying every feature to nothing.
LAST_TIME_S = 7_258_118_400


def required_id(name: str, value: str, subject: str = "") -> str:
    """An id that must be there."""
    if not value:
        raise InvalidRequest(f"{name} must be set, got ''{subject}")
    return optional_id(name, value, subject)


def optional_id(name: str, value: str, subject: str = "") -> str:
    """An id that may be unset."""
    size = len(value.encode())
    if size > ID_BYTES:
        raise InvalidRequest(f"{name} must be at most {ID_BYTES} bytes, got {size}{subject}")
    return value


def moment(name: str, value: int, subject: str = "") -> int:
    """A time in seconds since 1970 UTC."""
    return whole(name, value, 1, LAST_TIME_S, subject)


def moment_or_now(request: object, subject: str = "") -> int:
    """The request's time_s; the server's clock where it is unset."""
    if not request.HasField("time_s"):  # type: ignore[attr-defined]
        return int(time.time())
    return moment("time_s", request.time_s, subject)  # type: ignore[attr-defined]


def whole(name: str, value: int, lowest: int, highest: int, subject: str = "") -> int:
    """A whole number within a range, both ends included."""
    if not lowest <= value <= highest:
        raise InvalidRequest(f"{name} must be in [{lowest}, {highest}], got {value}{subject}")
    return value


def amount(name: str, value: int, subject: str = "") -> int:
    """An amount of money that cannot be negative."""
    return whole(name, value, 0, MONEY_LIMIT_MICROS, subject)


def quantity(name: str, value: float, subject: str = "") -> float:
    """A number of units."""
    if not (math.isfinite(value) and 0 <= value <= QUANTITY_LIMIT):
        raise InvalidRequest(f"{name} must be finite and in [0, {QUANTITY_LIMIT:g}], got {value}{subject}")
    return value


def time_left_s(context: Context, default_s: float) -> float:
    """Seconds until the caller's deadline; the default where the caller set none."""
    left_s = context.time_remaining()
    return default_s if left_s is None else left_s
