"""Missing values guessed from the other columns of their row, by gradient-boosted trees.

In: a sample of a table's training window. Out: an Imputer, which fills rows of any part. Equal samples, equal trees.
training/cleaning/fitting.py fits one for each column that asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.sources.tables import TEXT, TEXTS, WHOLE, Column

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

# A text grows one tree a class and round, so it gets fewer of each and fewer rows: rarer texts are never guessed.
MOST_CLASSES, MOST_TEXT_ROWS = 20, 50_000
# scikit-learn's own bound on the values of a categorical feature is 255.
MOST_CATEGORIES = 200
N_ROUNDS, N_TEXT_ROUNDS = 60, 10
RATE, TEXT_RATE = 0.1, 0.3
FEWEST_ROWS = 20
SEED = 0
DAY_S, HOUR_S = 86_400, 3_600


@dataclass(frozen=True)
class Imputer:
    """A fitted model of one column.

    features  the columns it reads, and for a text the values it knows, the most frequent first
    n_rows    rows it was fitted on
    """

    column: Column
    features: tuple[tuple[Column, tuple[str, ...]], ...]
    model: "HistGradientBoostingRegressor | HistGradientBoostingClassifier"
    n_rows: int

    def guessed(self, rows: pl.DataFrame) -> pl.Series:
        """Return the column's value for each row, never below or above what the column may hold.

        rows  the table's columns
        """
        said = self.model.predict(_matrix(rows, self.features))
        if self.column.dtype == TEXT:
            return pl.Series(self.column.name, said.astype(str), pl.String())
        low = -np.inf if self.column.least is None else self.column.least
        high = np.inf if self.column.most is None else self.column.most
        bounded = np.clip(said, low, high)
        whole = np.rint(bounded).astype(np.int64) if self.column.dtype == WHOLE else bounded
        return pl.Series(self.column.name, whole, self.column.dtype)


def fit_imputer(column: Column, others: Sequence[Column], sample: pl.DataFrame) -> Imputer | None:
    """Return a model of one column; None where the sample has too few values, or all are the same.

    others  columns it may read
    sample  rows with those columns, in an order that depends on nothing but the rows
    """
    known = sample.filter(pl.col(column.name).is_not_null())
    if column.dtype == TEXT:
        known = known.filter(pl.col(column.name).is_in(_most_frequent(known[column.name], MOST_CLASSES)))
        known = known.gather_every(known.height // MOST_TEXT_ROWS + 1)
    if known.height < FEWEST_ROWS or known[column.name].n_unique() < 2:
        return None
    features = []
    for other in others:
        values = _most_frequent(known[other.name], MOST_CATEGORIES) if other.dtype == TEXT else ()
        # A text that stands once says nothing of other rows; a column that is the same everywhere neither.
        if other.dtype != TEXTS and known[other.name].n_unique() > 1 and (other.dtype != TEXT or values):
            features.append((other, values))
    if not features:
        return None
    return Imputer(column, tuple(features), _trained(column, known, tuple(features)), known.height)


def _most_frequent(texts: pl.Series, most: int) -> tuple[str, ...]:
    counts = texts.drop_nulls().alias("value").value_counts().filter(pl.col("count") > 1)
    return tuple(counts.sort("count", "value", descending=[True, False])["value"].head(most))


def _trained(
    column: Column, known: pl.DataFrame, features: tuple[tuple[Column, tuple[str, ...]], ...]
) -> "HistGradientBoostingRegressor | HistGradientBoostingClassifier":
    # scikit-learn takes longer to import than most shops to clean, and few rules ask for a model.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    is_text = [mark for feature, _ in features for mark in _marks(feature)]
    shared = {"categorical_features": is_text, "early_stopping": False, "random_state": SEED, "min_samples_leaf": 10}
    if column.dtype == TEXT:
        model = HistGradientBoostingClassifier(max_iter=N_TEXT_ROUNDS, learning_rate=TEXT_RATE, **shared)
    else:
        model = HistGradientBoostingRegressor(max_iter=N_ROUNDS, learning_rate=RATE, **shared)
    return model.fit(_matrix(known, features), known[column.name].to_numpy())


def _marks(feature: Column) -> list[bool]:
    """Whether each of a feature's columns is categorical: a time becomes its second, its hour and its weekday."""
    return [False] * 3 if feature.name.endswith("_s") else [feature.dtype == TEXT]


def _matrix(rows: pl.DataFrame, features: Sequence[tuple[Column, tuple[str, ...]]]) -> NDArray[np.float64]:
    columns: list[pl.Expr] = []
    for number, (feature, values) in enumerate(features):
        value = pl.col(feature.name)
        if feature.dtype == TEXT:
            codes = {text: float(code) for code, text in enumerate(values)}
            columns.append(value.replace_strict(codes, default=None, return_dtype=pl.Float64()).alias(f"{number}"))
        elif feature.name.endswith("_s"):
            columns += [
                value.cast(pl.Float64).alias(f"{number}"),
                (value % DAY_S // HOUR_S).cast(pl.Float64).alias(f"{number} hour"),
                (value // DAY_S % 7).cast(pl.Float64).alias(f"{number} weekday"),
            ]
        else:
            columns.append(value.cast(pl.Float64).alias(f"{number}"))
    return rows.select(columns).cast(pl.Float64).to_numpy()
