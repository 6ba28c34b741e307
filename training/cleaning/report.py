"""What cleaning tells: dataclasses that become cleaning.json, and the tally that adds up what every part reported.

training/cleaning fills it part by part; evaluation/ingest_page.py draws it from the JSON alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import polars as pl

from training.sources.staging import INPUT, LINE

N_EXAMPLES = 3
# An example is there to be read: a field of a million characters would hide the others.
LONGEST_TEXT = 200

Action = Literal["removed", "changed", "flagged"]
Value = str | int | float | None


@dataclass(frozen=True)
class Example:
    """One row that a rule caught.

    input   file, address or query it came from
    line    its line or row there, from 1
    before  the row as it came, or the columns that changed
    after   those columns afterwards; None for a removed row
    """

    input: str
    line: int
    before: Mapping[str, object]
    after: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Rule:
    """What one rule did to one column of one table.

    column    the column it looked at; empty: the row as a whole
    meaning   what it catches and what was done, in one sentence
    action    what happened to the rows
    n_rows    how many rows
    examples  the first few of them
    """

    table: str
    rule: str
    column: str
    meaning: str
    action: Action
    n_rows: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A value that cleaning took from the data.

    statistic   what it is, such as "mean" or "outlier above"
    n_values    values it was computed from
    window      "training window", or "all rows" for a table without a time
    is_sampled  whether those were a sample, drawn by line numbers
    """

    table: str
    column: str
    statistic: str
    value: str | float
    n_values: int
    window: str
    is_sampled: bool = False


@dataclass
class Returns:
    """Refund lines of events, and how many units were given back of earlier order lines of the same shopper and item.

    n_full, n_part, n_unmatched  refund lines; together n_refunds
    n_units, n_units_matched     units they gave back, and those found on order lines
    """

    n_refunds: int = 0
    n_full: int = 0
    n_part: int = 0
    n_unmatched: int = 0
    n_units: float = 0.0
    n_units_matched: float = 0.0

    def add(self, other: "Returns") -> None:
        """Count another part's refunds too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True)
class Numbers:
    """All rows' values of one numeric column; None where there is none."""

    n_rows: int
    n_missing: int
    least: float | None = None
    mean: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Distribution:
    """One column before and after cleaning.

    unit           of numbers: "micros", "s", or empty for the column's own
    before, after  over all rows
    edges          of the histogram's bins; the first and the last bin also hold all that lies beyond; empty for text
    scale          how the edges are spaced
    values         the most frequent texts before cleaning; empty for numbers
    counts_before, counts_after  sampled rows per bin or text
    n_sampled      rows before cleaning that were counted, chosen by line numbers
    """

    table: str
    column: str
    unit: str
    before: Numbers
    after: Numbers
    n_sampled: int
    edges: tuple[float, ...] = ()
    scale: Literal["linear", "log"] = "linear"
    values: tuple[str, ...] = ()
    counts_before: tuple[int, ...] = ()
    counts_after: tuple[int, ...] = ()


@dataclass
class CleaningReport:
    """What cleaning did, rule by rule; written to cleaning.json.

    rows_in, rows_out  by table
    fitted             values taken from rows before train_until_s
    returns            None where nobody asked for returns to be matched
    notes              what a reader of the figures must know, a sentence each
    """

    train_until_s: int
    rows_in: dict[str, int]
    rows_out: dict[str, int] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)
    returns: Returns | None = None
    distributions: list[Distribution] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Rules by table, name and column, added up over parts in the order in which they first caught a row."""

    inputs: Sequence[str]
    rules: dict[tuple[str, str, str], Rule] = field(default_factory=dict)

    def add(self, rule: Rule, before: pl.DataFrame, after: pl.DataFrame | None = None) -> None:
        """Count the rows of `before` for a rule, and keep examples until there are enough.

        before  caught rows as they came, with their origin
        after   the same rows and columns afterwards; None for removed rows
        """
        key = (rule.table, rule.rule, rule.column)
        known = self.rules.get(key, rule)
        wanted = N_EXAMPLES - len(known.examples)
        examples = self._examples(before.head(wanted), None if after is None else after.head(wanted))
        self.rules[key] = replace(known, n_rows=known.n_rows + before.height, examples=known.examples + examples)

    def _examples(self, before: pl.DataFrame, after: pl.DataFrame | None) -> tuple[Example, ...]:
        changed = [None] * before.height if after is None else [_told(row) for row in after.iter_rows(named=True)]
        return tuple(
            Example(self.inputs[row[INPUT]], row[LINE], _told(row), then)
            for row, then in zip(before.iter_rows(named=True), changed, strict=True)
        )


def _told(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value[:LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in row.items()
        if name not in (INPUT, LINE)
    }
