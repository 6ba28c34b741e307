"""What cleaning takes from the data: centres for missing values, limits of outliers, all from before train_until_s.

Called once for a table before its rows are cleaned, so nothing that came later leaks into what training sees. Only the
columns that are asked for are read; a table without a rule that needs a value is not read at all.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.cleaning.doors import EARLIEST_S, LATEST_S, is_missing
from training.cleaning.imputers import Imputer, fit_imputer
from training.cleaning.policy import USUAL_FACTOR, ColumnPolicy, Policy
from training.cleaning.report import Fitted
from training.sources.staging import INPUT, LINE, Staged, scanned
from training.sources.tables import TEXT, WHOLE

# 160 MB of float64; every second value of a shop with twice as many says the same.
MOST_EXACT = 20_000_000
MOST_MODELLED = 200_000
CENTRES = ("mean", "median", "min", "max", "most_frequent")
# The median absolute deviation of a normal distribution is its standard deviation divided by this.
MAD_SCALE = 1.4826
_DRAWS = 2**32
ALL_ROWS, WINDOW = "all rows", "training window"


@dataclass(frozen=True)
class Limits:
    """Beyond which values are outliers; None: not on that side."""

    below: float | None
    above: float | None


@dataclass
class Fits:
    """What was fitted for one table, by column, and how the report tells it."""

    values: dict[str, str | float] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    imputers: dict[str, Imputer] = field(default_factory=dict)
    told: list[Fitted] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_drawn(share: float) -> pl.Expr:
    """Return whether each row is in a sample of about this share, which depends on its input and line alone.

    share  in (0, 1]
    """
    mixed = (pl.col(LINE).cast(pl.UInt64) + pl.col(INPUT).cast(pl.UInt64) * 1_000_003) * 2_654_435_761 % _DRAWS
    return mixed < round(share * _DRAWS)


def fitted(staged: Staged, policy: Policy, train_until_s: int) -> Fits:
    """Return all values that the policy of one table needs.

    staged         rows as they were read
    train_until_s  end of the training window, exclusive
    """
    fits = Fits()
    wanted = [each for each in policy.columns if each.missing in CENTRES or each.outliers]
    modelled = [each for each in policy.columns if each.missing == "model"]
    if not (wanted or modelled) or not staged.n_rows.get(policy.table.name):
        return fits
    window, has_window = _window(staged, policy, train_until_s)
    where = WINDOW if has_window else ALL_ROWS
    for each in wanted:
        _fit_column(_Column(staged, policy, each, window, where), fits)
    if modelled:
        sample = _sample(staged, policy, window)
        for each in modelled:
            _fit_model(policy, each, sample, where, fits)
    return fits


def _window(staged: Staged, policy: Policy, train_until_s: int) -> tuple[pl.Expr, bool]:
    """Which rows may be fitted on, and whether the table says when; one that nowhere does is as one without a time."""
    time = policy.time
    if time is None or not staged.scan(policy.table.name).select(pl.col(time).count()).collect().item():
        return pl.lit(True), False
    return pl.col(time).is_between(EARLIEST_S, min(train_until_s, LATEST_S), closed="left"), True


@dataclass(frozen=True)
class _Column:
    """One column whose values are to be fitted, and the rows that count."""

    staged: Staged
    policy: Policy
    each: ColumnPolicy
    window: pl.Expr
    where: str

    @property
    def rows(self) -> pl.Expr:
        """Rows in the window that hold a possible value; of events' amounts, those of orders alone."""
        column, value = self.each.column, pl.col(self.each.column.name)
        usable = self.window & ~is_missing(value, column.dtype)
        if column.dtype != TEXT:
            usable &= _possible(self.each) & ~value.cast(pl.Float64).is_infinite()
            if self.policy.table.name == "events":
                usable &= pl.col("kind") == "order"
        return usable

    def values(self) -> tuple[NDArray[np.float64], bool]:
        """The numbers, and whether they are a sample."""
        name, table, rows = self.each.column.name, self.policy.table.name, self.rows
        share = 1.0
        if self.staged.n_rows[table] > MOST_EXACT:
            n_rows = self.staged.scan(table).select(rows.sum()).collect(engine="streaming").item()
            share = min(1.0, MOST_EXACT / max(1, n_rows))
        drawn = rows & is_drawn(share) if share < 1.0 else rows
        found = [
            scanned(self.policy.table, [part])
            .filter(drawn)
            .select(pl.col(name).cast(pl.Float64))
            .collect()
            .to_series()
            .to_numpy()
            for part in self.staged.parts[table]
        ]
        return np.concatenate(found) if found else np.empty(0), share < 1.0

    def counts(self) -> pl.DataFrame:
        """How often each value stands there: `value`, `len`; the most frequent first, equal ones in order."""
        name, found = self.each.column.name, pl.DataFrame(schema={"value": self.each.column.dtype, "len": pl.UInt32()})
        for part in self.staged.parts[self.policy.table.name]:
            lazy = scanned(self.policy.table, [part]).filter(self.rows).group_by(pl.col(name).alias("value")).len()
            found = pl.concat([found, lazy.collect()]).group_by("value").agg(pl.col("len").sum())
        return found.sort("len", "value", descending=[True, False])


def _fit_column(column: _Column, fits: Fits) -> None:
    each = column.each
    name, told = each.column.name, fits.told
    if each.missing == "most_frequent":
        counts = column.counts()
        if counts.height:
            fits.values[name] = counts["value"][0]
            n_values = int(counts["len"].sum())
            told.append(_told(column, "most frequent", counts["value"][0], n_values, is_sampled=False))
    if each.outliers is None and each.missing not in ("mean", "median", "min", "max"):
        return
    values, is_sampled = column.values()
    if not values.size:
        fits.notes.append(f"{column.policy.table.name}.{name} has no value in the {column.where}; nothing was fitted.")
        return
    if each.missing in ("mean", "median", "min", "max"):
        centre = _centre(each.missing, values)
        fits.values[name] = round(centre) if each.column.dtype == WHOLE else centre
        told.append(_told(column, each.missing, fits.values[name], values.size, is_sampled))
    if each.outliers:
        limits = _limits(each, values)
        if limits.above is None and limits.below is None:
            fits.notes.append(f"{column.policy.table.name}.{name} hardly varies; no limit of outliers was fitted.")
            return
        fits.limits[name] = limits
        for side, limit in (("outlier below", limits.below), ("outlier above", limits.above)):
            if limit is not None:
                told.append(_told(column, side, limit, values.size, is_sampled))


def _sample(staged: Staged, policy: Policy, window: pl.Expr) -> pl.DataFrame:
    """Rows of the window to fit models on, always in the same order, with empty text and NaN as null."""
    rows = staged.scan(policy.table.name).filter(window)
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    drawn = rows.filter(is_drawn(min(1.0, MOST_MODELLED / max(1, n_rows)))).collect().sort(INPUT, LINE)
    return drawn.with_columns(
        pl.when(~is_missing(pl.col(each.column.name), each.column.dtype)).then(pl.col(each.column.name))
        for each in policy.columns
    )


def _fit_model(policy: Policy, each: ColumnPolicy, sample: pl.DataFrame, where: str, fits: Fits) -> None:
    column, table = each.column, policy.table.name
    if column.dtype != TEXT:
        sample = sample.filter(pl.col(column.name).is_null() | _possible(each))
    others = [other.column for other in policy.columns if other is not each]
    imputer = fit_imputer(column, others, sample)
    if imputer is None:
        fits.notes.append(f"{table}.{column.name} has too few values in the {where} for a model; none was fitted.")
        return
    fits.imputers[column.name] = imputer
    read = ", ".join(feature.name for feature, _ in imputer.features)
    is_sampled = sample.height >= MOST_MODELLED * 0.9
    fits.told.append(Fitted(table, column.name, "model", f"trees over {read}", imputer.n_rows, where, is_sampled))


def _possible(each: ColumnPolicy) -> pl.Expr:
    column = each.column
    lowest = [limit for limit in (column.least, each.least) if limit is not None]
    highest = [limit for limit in (column.most, each.most) if limit is not None]
    return pl.col(column.name).is_between(max(lowest, default=-np.inf), min(highest, default=np.inf))


def _told(column: _Column, statistic: str, value: str | float, n_values: int, is_sampled: bool) -> Fitted:
    name = column.each.column.name
    return Fitted(column.policy.table.name, name, statistic, value, n_values, column.where, is_sampled)


def _centre(way: str, values: NDArray[np.float64]) -> float:
    if way == "mean":
        return float(np.mean(values))
    if way == "median":
        return float(np.median(values))
    return float(np.min(values) if way == "min" else np.max(values))


def _limits(each: ColumnPolicy, values: NDArray[np.float64]) -> Limits:
    """The limits of a method; without spread there are none, or every other value would lie beyond them."""
    rule = each.outliers
    if rule is None:
        return Limits(None, None)
    factor = USUAL_FACTOR[rule.method] if rule.factor is None else rule.factor
    both = rule.sides == "both"
    if rule.method == "quantile":
        high = _quantile(values, rule.limit, "higher")
        # 1 - 0.9 is a little less than a tenth, which would name the value before the one that is meant.
        low = _quantile(values, round(1 - rule.limit, 12), "lower") / factor if both else None
        return Limits(low, factor * high if high > 0 else None)
    if rule.method == "iqr":
        lower, upper = _quantile(values, 0.25, "linear"), _quantile(values, 0.75, "linear")
        spread = upper - lower
    else:
        lower = upper = float(np.median(values))
        spread = MAD_SCALE * float(np.median(np.abs(values - lower)))
    if spread == 0:
        return Limits(None, None)
    return Limits(lower - factor * spread if both else None, upper + factor * spread)


def _quantile(values: NDArray[np.float64], share: float, method: Literal["higher", "lower", "linear"]) -> float:
    found = pl.Series(values, dtype=pl.Float64()).quantile(share, method)
    return float(found or 0.0)
