"""How columns were spread before cleaning and are after it: exact counts of missing values, histograms of a sample.

training/cleaning/tables.py adds every part twice, as it came and as it left; the report's page draws what comes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.cleaning.fitting import is_drawn
from training.cleaning.report import Distribution, Numbers
from training.sources.names import MONEY_SUFFIX, TIME_SUFFIX
from training.sources.tables import TEXT, TEXTS, Column, Table

MOST_SAMPLED = 50_000
N_BINS, N_TEXTS = 30, 12
# Tables of which a reader sees distributions, and the texts that say nothing by how often they stand there.
SHOWN = ("events", "items")
NOT_COUNTED = ("order_id", "device_id", "address_id", "card_id", "description")
# Half a percent on each side is drawn in the outermost bins; one wild value would flatten all others.
TAIL = 0.005
# A column whose typical value is this far below its high ones is read on a logarithmic axis.
LOG_FROM = 8.0


@dataclass
class Spread:
    """One side of a table, before or after: a running summary of each column, and the sampled rows."""

    n_rows: int = 0
    n_missing: dict[str, int] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    total: dict[str, float] = field(default_factory=dict)
    samples: list[pl.DataFrame] = field(default_factory=list)


@dataclass
class Spreads:
    """Both sides of one table.

    share  of the rows that are sampled
    """

    table: Table
    share: float
    before: Spread = field(default_factory=Spread)
    after: Spread = field(default_factory=Spread)

    def add(self, frame: pl.DataFrame, side: Spread) -> None:
        """Take in a part.

        frame  columns of the table, with their origin
        side   `before` or `after`
        """
        side.n_rows += frame.height
        numbers = [column for column in self.table.columns if column.dtype not in (TEXT, TEXTS)]
        for column in self.table.columns:
            known = side.n_missing.get(column.name, 0)
            side.n_missing[column.name] = known + frame[column.name].null_count()
        if frame.height and numbers:
            _add_numbers(frame, numbers, side)
        if self.table.name in SHOWN:
            wanted = [column.name for column in self.table.columns if _is_counted(column)]
            drawn = frame.lazy().filter(is_drawn(self.share)) if self.share < 1 else frame.lazy()
            side.samples.append(drawn.select(wanted).collect())

    def told(self) -> list[Distribution]:
        """Return every column's distribution, in the order of the table."""
        sampled = [pl.concat(side.samples) if side.samples else None for side in (self.before, self.after)]
        return [self._told(column, *sampled) for column in self.table.columns]

    def _told(self, column: Column, before: pl.DataFrame | None, after: pl.DataFrame | None) -> Distribution:
        sides = _numbers(column, self.before), _numbers(column, self.after)
        unit = "micros" if column.name.endswith(MONEY_SUFFIX) else "s" if column.name.endswith(TIME_SUFFIX) else ""
        if before is None or after is None or not _is_counted(column):
            return Distribution(self.table.name, column.name, unit, *sides, n_sampled=0)
        told = Distribution(self.table.name, column.name, unit, *sides, n_sampled=before.height)
        counted = _texts if column.dtype == TEXT else _histogram
        return counted(told, before[column.name].drop_nulls(), after[column.name].drop_nulls())


def spreads_of(table: Table, n_rows: int) -> Spreads:
    """Return the empty distributions of a table.

    n_rows  that will be added as they came
    """
    return Spreads(table, min(1.0, MOST_SAMPLED / max(1, n_rows)))


def _is_counted(column: Column) -> bool:
    return column.dtype != TEXTS and column.name not in NOT_COUNTED


def _add_numbers(frame: pl.DataFrame, numbers: list[Column], side: Spread) -> None:
    values = {column.name: pl.col(column.name) for column in numbers}
    found = frame.select(
        *(value.min().cast(pl.Float64).alias(f"{name} min") for name, value in values.items()),
        *(value.max().cast(pl.Float64).alias(f"{name} max") for name, value in values.items()),
        # Times multiply to more than an int64 holds: five billion rows of 2³¹ seconds.
        *((value.mean() * value.count()).alias(f"{name} sum") for name, value in values.items()),
    ).row(0, named=True)
    for name in values:
        if found[f"{name} min"] is None:
            continue
        side.least[name] = min(side.least.get(name, np.inf), found[f"{name} min"])
        side.most[name] = max(side.most.get(name, -np.inf), found[f"{name} max"])
        side.total[name] = side.total.get(name, 0.0) + found[f"{name} sum"]


def _numbers(column: Column, side: Spread) -> Numbers:
    name, n_missing = column.name, side.n_missing.get(column.name, 0)
    if name not in side.least:
        return Numbers(side.n_rows, n_missing)
    mean = side.total[name] / (side.n_rows - n_missing)
    return Numbers(side.n_rows, n_missing, side.least[name], mean, side.most[name])


def _texts(told: Distribution, before: pl.Series, after: pl.Series) -> Distribution:
    counts = before.alias("value").value_counts().sort("count", "value", descending=[True, False]).head(N_TEXTS)
    later: Mapping[str, int] = dict(after.alias("value").value_counts().iter_rows())
    values = tuple(counts["value"])
    return Distribution(
        told.table, told.column, told.unit, told.before, told.after, told.n_sampled,
        values=values,
        counts_before=tuple(counts["count"]),
        counts_after=tuple(later.get(value, 0) for value in values),
    )  # fmt: skip


def _histogram(told: Distribution, before: pl.Series, after: pl.Series) -> Distribution:
    came = before.cast(pl.Float64).to_numpy()
    came = came[np.isfinite(came)]
    if not came.size:
        return told
    edges, scale = _edges(came, is_time=told.unit == "s")
    left = after.cast(pl.Float64).to_numpy()
    return Distribution(
        told.table, told.column, told.unit, told.before, told.after, told.n_sampled,
        edges=tuple(edges.tolist()),
        scale=scale,
        counts_before=_counts(came, edges),
        counts_after=_counts(left[np.isfinite(left)], edges),
    )  # fmt: skip


def _edges(values: NDArray[np.float64], *, is_time: bool) -> tuple[NDArray[np.float64], Literal["linear", "log"]]:
    low, middle, high = np.quantile(values, [TAIL, 0.5, 1 - TAIL])
    if high <= low:
        low, high = low - 0.5, low + 0.5
    positive = values[values > 0]
    if not is_time and low >= 0 and positive.size and high > LOG_FROM * max(middle, np.min(positive)):
        first = max(np.quantile(positive, TAIL), high * 1e-6)
        return np.geomspace(first, high, N_BINS + 1), "log"
    return np.linspace(low, high, N_BINS + 1), "linear"


def _counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    return tuple(int(count) for count in counts)
