"""Normalisation: the one way in which numbers of any size become numbers near 0, fitted on the training window.

In: columns of numbers, NaN where unknown. Out: a frozen Normalisation that the models hold in their graphs, that export
writes to normalisation.json and that the feature tables have beside them. Called by training/models/standard.py,
training/export.py and training/features/assembly.py.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from kernels.checks import InvalidInput, check

# A column whose spread is below says nothing; scale 0 keeps it silent if it varies later.
LEAST_SPREAD = 1e-6
# Beyond it a value is no more telling than at it.
LIMIT = 8.0
_BLOCK_ROWS = 16_384

Floats = NDArray[np.float64]
Numbers = NDArray[np.float32] | NDArray[np.float64]


def squeezed(values: Numbers) -> Numbers:
    """Signed log1p: counts, days and money keep their order and lose their long tails; NaN stays.

    values   any shape
    returns  same shape and type
    """
    return np.sign(values) * np.log1p(np.abs(values))


@dataclass(frozen=True)
class Moments:
    """Count, mean and squared deviations of squeezed columns; moments of parts merge into those of the whole.

    n        (n_columns,) int64    values that are not NaN
    mean     (n_columns,) float64
    squares  (n_columns,) float64  sum of squared deviations from the mean
    """

    n: NDArray[np.int64]
    mean: Floats
    squares: Floats

    @classmethod
    def of(cls, values: Numbers) -> "Moments":
        """Moments of the columns of rows, NaN left out.

        values  (n, n_columns) float32 or float64  as the kernels write them, not squeezed
        """
        n_columns = values.shape[1]
        found = cls(np.zeros(n_columns, np.int64), np.zeros(n_columns), np.zeros(n_columns))
        for first in range(0, values.shape[0], _BLOCK_ROWS):
            found = found.merged(cls._of_block(squeezed(values[first : first + _BLOCK_ROWS]).astype(np.float64)))
        return found

    @classmethod
    def _of_block(cls, values: Floats) -> "Moments":
        is_known = ~np.isnan(values)
        n = is_known.sum(axis=0)
        mean = np.where(is_known, values, 0.0).sum(axis=0) / np.maximum(n, 1)
        return cls(n, mean, (np.where(is_known, values - mean, 0.0) ** 2).sum(axis=0))

    def merged(self, other: "Moments") -> "Moments":
        """Moments of both sets of rows together.

        source  Chan, Golub and LeVeque 1979, eq. 2.1
        """
        n = self.n + other.n
        shift, share = other.mean - self.mean, other.n / np.maximum(n, 1)
        return Moments(n, self.mean + shift * share, self.squares + other.squares + shift**2 * self.n * share)

    def normalisation(self, columns: Sequence[str], fitted_until_s: int | None = None) -> "Normalisation":
        """Zero mean and unit spread of what was seen.

        columns         names, in order
        fitted_until_s  end of the training window, excluded; None where the rows say themselves what they are
        """
        spread = np.sqrt(self.squares / np.maximum(self.n, 1))
        scale = np.where(spread > LEAST_SPREAD, 1.0 / np.maximum(spread, LEAST_SPREAD), 0.0)
        return Normalisation(tuple(columns), tuple(self.mean.tolist()), tuple(scale.tolist()), fitted_until_s)


@dataclass(frozen=True)
class Normalisation:
    """value -> (squeezed(value) - mean) * scale, within ±LIMIT; NaN stays NaN.

    columns         names, in order
    mean            of each squeezed column over the training rows
    scale           one over its spread; 0 for a column that never varied
    fitted_until_s  end of the training window, excluded; None if unknown
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    fitted_until_s: int | None = None

    def __post_init__(self) -> None:
        """Check lengths and numbers once."""
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            check(len(values) == len(self.columns), f"{name} must have {len(self.columns)} values, got {len(values)}")
            check(bool(np.isfinite(values).all()), f"{name} must be finite, got {values}")
        check(min(self.scale, default=0.0) >= 0, f"scale must be ≥ 0, got {min(self.scale, default=0.0)}")

    def applied(self, values: Numbers) -> Numbers:
        """Normalised rows.

        values   (n, n_columns)  not squeezed
        returns  same shape and type, within ±LIMIT or NaN
        raises   InvalidInput  if the number of columns differs
        """
        n_columns = len(self.columns)
        check(values.shape[1:] == (n_columns,), f"values must have {n_columns} columns, got shape {values.shape}")
        standard = (squeezed(values) - np.array(self.mean)) * np.array(self.scale)
        limited: Numbers = np.clip(standard, -LIMIT, LIMIT).astype(values.dtype)
        return limited

    def to_json(self) -> dict[str, object]:
        """What a file says of it; the rule itself is part, for readers in other languages."""
        return {"rule": RULE, "limit": LIMIT, **asdict(self)}

    @classmethod
    def from_json(cls, content: bytes) -> "Normalisation":
        """Read `to_json` back.

        raises  InvalidInput  if it is not JSON, of another rule, or a number is missing
        """
        try:
            read = orjson.loads(content)
            if (read["rule"], read["limit"]) != (RULE, LIMIT):
                raise InvalidInput(f"rule must be {RULE!r} within {LIMIT}, got {read['rule']!r} within {read['limit']}")
            return cls(tuple(read["columns"]), tuple(read["mean"]), tuple(read["scale"]), read["fitted_until_s"])
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"a normalisation must be one of this version, got {error!r}") from error


RULE = "clip((sign(value) * log1p(abs(value)) - mean) * scale)"
