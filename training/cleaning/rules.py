"""What stands under `[<table>.clean]` of a shop.toml: which rules clean a table, with what is done where nobody says.

In: the parsed section. Out: checked, frozen rules. The parser of shop.toml builds them; training/cleaning obeys them.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Section):
    """A value of the shop's own to put where one is missing."""

    constant: str | int | float = Field(description="the value, in the unit in which the column is named")


Way = Literal["drop", "keep", "indicator", "mean", "median", "min", "max", "most_frequent", "model"]


class Outliers(_Section):
    """Which values of a column are too far from the others, and what is done with them."""

    method: Literal["quantile", "iqr", "mad"] = Field(
        default="quantile",
        description="quantile: beyond `factor` times a quantile; iqr: further than `factor` interquartile ranges from "
        "the quartiles; mad: further than `factor` scaled median absolute deviations from the median",
    )
    limit: float = Field(default=0.999, gt=0.5, lt=1, description="which quantile; only for method quantile")
    factor: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="how far is too far; unset: 10 for quantile, 3 for iqr, 5 for mad",
    )
    sides: Literal["above", "both"] = Field(default="above", description="whether values may also be too small")
    then: Literal["clip", "drop", "flag"] = Field(
        default="clip", description="clip: set to the limit; drop: remove the row; flag: mark in <column>_is_outlier"
    )

    @model_validator(mode="after")
    def _has_room(self) -> "Outliers":
        if self.method == "quantile" and self.factor is not None and self.factor < 1:
            raise ValueError(f"factor must be ≥ 1 for method quantile, got {self.factor:g}")
        return self


class ColumnRules(_Section):
    """What is done with one column's values."""

    missing: Way | Constant | None = Field(
        default=None, description="what happens to rows without a value; unset: what the table says of a missing value"
    )
    outliers: Outliers | Literal["keep"] | None = Field(
        default=None,
        description="unset: clip quantity and paid of events at 10 times the 99.9 % quantile, keep all others",
    )
    least: float | None = Field(default=None, allow_inf_nan=False, description="a value below it cannot be")
    most: float | None = Field(default=None, allow_inf_nan=False, description="a value above it cannot be")

    @model_validator(mode="after")
    def _has_a_range(self) -> "ColumnRules":
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least must be ≤ most, got {self.least:g} > {self.most:g}")
        return self


class Bots(_Section):
    """Who shops like a program."""

    most_events_per_hour: int | None = Field(
        default=None, ge=1, description="a shopper with more events than this within 3,600 seconds is a bot"
    )
    shopper_ids: tuple[str, ...] = Field(default=(), description="glob patterns of shoppers known to be bots")


class TableRules(_Section):
    """How one table is cleaned; without arguments, how a table is cleaned of which shop.toml says nothing.

    Columns go by their canonical names, in canonical units (micros, seconds); one that ends in _micros may go by the
    rest of its name, and then its numbers are in currency units: `columns.paid.most = 5000`.
    """

    columns: Mapping[str, ColumnRules] = Field(default={}, description="rules of single columns")
    duplicates: Literal["drop", "keep"] | None = Field(
        default=None,
        description="rows equal in every column; unset: drop, but keep in outcomes, which may truly repeat",
    )
    nothing_sold: Literal["drop", "keep"] = Field(
        default="drop", description="orders and refunds of no units for no money; only for events"
    )
    test_accounts: tuple[str, ...] = Field(
        default=(), description="glob patterns of shopper ids that are removed; those of events hold for every table"
    )
    bots: Bots = Field(default=Bots(), description="shoppers that are removed; those of events hold for every table")
    returns: Literal["keep", "match"] = Field(
        default="keep", description="match: a refund gets the order of the line it gives back; only for events"
    )
    unmatched_returns: Literal["keep", "drop"] = Field(
        default="keep",
        description="what happens to a refund without any earlier order line; only where returns are matched",
    )
