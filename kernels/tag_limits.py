"""TAGS: what is said of a shopper in words and shares, and TagLimits: the numbers that decide which.

In: limits fitted by training/features/tags.py. Out: tags.json beside the models, and back. Applied by kernels/tags.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from kernels.checks import InvalidInput, check
from kernels.family import Feature
from kernels.features import N_CATEGORIES

CHANNELS = ("ads", "promotions", "content", "social")
TIERS = ("", "champion", "loyal", "big spender", "recent", "slipping", "occasional", "dormant")
SENSITIVITIES = ("", "low", "medium", "high")
LIFECYCLES = ("prospect", "new", "active", "at risk", "lapsed", "won back")
N_AFFINITIES = 5
N_SCORES = 5
N_CHURN_INPUTS = 6


def _tag(name: str, unit: str, neutral: float, meaning: str, width: int = 1) -> Feature:
    return Feature(name, unit, "float32", width, "tags", neutral, meaning)


TAGS: tuple[Feature, ...] = (
    _tag("recency_score", "score", 0.0, "1 to 5, 5 for the fifth that ordered last; 0 if never ordered"),
    _tag("frequency_score", "score", 0.0, "1 to 5, 5 for the fifth with the most recent orders; 0 if never ordered"),
    _tag("monetary_score", "score", 0.0, "1 to 5, 5 for the fifth that spent most recently; 0 if never ordered"),
    _tag("tier", "code of TIERS", 0.0, "what the three scores say together; 0 if never ordered"),
    _tag("affinity_slot", "category slot", -1.0, "categories bought more than the shop's share of them", N_AFFINITIES),
    _tag("affinity_lift", "ratio", np.nan, "share of lines over the shop's share, shrunk towards 1", N_AFFINITIES),
    _tag("promoted_line_share", "share", np.nan, "lines bought at a discount or with a coupon; NaN below evidence"),
    _tag("price_position", "ratio", np.nan, "mean price of a line over what its categories cost; NaN below evidence"),
    _tag("price_sensitivity", "rank", np.nan, "0 to 1 among training shoppers: promoted and cheap is 1"),
    _tag("price_sensitivity_level", "code of SENSITIVITIES", 0.0, "third of training shoppers; 0 below evidence"),
    _tag("expected_gap_days", "days", np.nan, "own mean gap between orders, drawn to the shop's; NaN if never ordered"),
    _tag("churn_prob", "probability", np.nan, "of no order within churn_weeks; NaN if never ordered"),
    _tag("channel", "1 + place in CHANNELS", 0.0, "where contacts are answered most; 0 below evidence"),
    _tag("channel_answer_rate", "ratio", np.nan, "answers per contact there, drawn to the shop's; NaN below evidence"),
    _tag("lifecycle", "code of LIFECYCLES", 0.0, "where in a shopper's life; 0 is a prospect who never ordered"),
)
N_TAGS = sum(tag.width for tag in TAGS)


def tag_columns() -> tuple[str, ...]:
    """Return the name of every column of `tags`, in order.

    returns  N_TAGS names; a column of a wide tag is called name[index]
    """
    return tuple(tag.name if tag.width == 1 else f"{tag.name}[{index}]" for tag in TAGS for index in range(tag.width))


@dataclass(frozen=True)
class TagLimits:
    """What tags are told against; every number is fitted on what happened before `train_until_s`.

    train_until_s       seconds since the epoch
    recency_days        (4,)  edges between the fifths, ascending
    frequency           (4,)  edges of orders_hl91d
    monetary            (4,)  edges of spend_hl91d, currency units
    category_share      (N_CATEGORIES,)  share of all order lines; 0 for a slot that names no single category
    category_price      (N_CATEGORIES,)  mean list price of a line, currency units; 0 where unknown
    promoted_share      (n_knots,)  evenly spread quantiles of the share of promoted lines, ascending
    price_position      (n_knots,)  quantiles of the price position, ascending
    sensitivity         (2,)  edges between low, medium and high
    typical_gap_days    median days between two orders of a shopper, > 0
    at_risk_due         days since the last order over the expected gap above which a shopper is at risk
    lapsed_due          the same for lapsed, ≥ at_risk_due
    churn_weeks         weeks that churn_prob looks ahead, ≥ 1
    churn_coefficients  (N_CHURN_INPUTS + 1,)  of `churn_inputs`, the shift last
    channel_rate        (n_channels,)  answers per contact in each of CHANNELS
    """

    train_until_s: int
    recency_days: tuple[float, ...]
    frequency: tuple[float, ...]
    monetary: tuple[float, ...]
    category_share: tuple[float, ...]
    category_price: tuple[float, ...]
    promoted_share: tuple[float, ...]
    price_position: tuple[float, ...]
    sensitivity: tuple[float, ...]
    typical_gap_days: float
    at_risk_due: float
    lapsed_due: float
    churn_weeks: int
    churn_coefficients: tuple[float, ...]
    channel_rate: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check lengths and order once; the loop behind trusts them."""
        for name, n_values in _LENGTHS.items():
            found = len(getattr(self, name))
            check(found == n_values, f"{name} must have {n_values} values, got {found}")
        for name in (*_LENGTHS, "promoted_share", "price_position"):
            check(bool(np.isfinite(getattr(self, name)).all()), f"{name} must be finite, got {getattr(self, name)}")
        for name in _ASCENDING:
            values = getattr(self, name)
            check(list(values) == sorted(values), f"{name} must ascend, got {values}")
        check(self.typical_gap_days > 0, f"typical_gap_days must be > 0, got {self.typical_gap_days}")
        check(self.churn_weeks >= 1, f"churn_weeks must be ≥ 1, got {self.churn_weeks}")
        is_ordered = 0 < self.at_risk_due <= self.lapsed_due
        check(is_ordered, f"at_risk_due must be in (0, {self.lapsed_due}], got {self.at_risk_due}")

    def to_json(self) -> bytes:
        """The content of tags.json."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "TagLimits":
        """Read tags.json.

        content  as `to_json` wrote it
        raises   InvalidInput  if it is not JSON, a number is missing or one breaks its rule
        """
        try:
            read: Mapping[str, Any] = json.loads(content)
            return cls(**{name: _value(read[name]) for name in (field.name for field in fields(cls))})
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"tags.json must hold tag limits of this version, got {error!r}") from error


_LENGTHS = {
    "recency_days": N_SCORES - 1,
    "frequency": N_SCORES - 1,
    "monetary": N_SCORES - 1,
    "category_share": N_CATEGORIES,
    "category_price": N_CATEGORIES,
    "sensitivity": 2,
    "churn_coefficients": N_CHURN_INPUTS + 1,
    "channel_rate": len(CHANNELS),
}
_ASCENDING = ("recency_days", "frequency", "monetary", "promoted_share", "price_position", "sensitivity")


def _value(read: Any) -> Any:
    return tuple(float(value) for value in read) if isinstance(read, list) else read
