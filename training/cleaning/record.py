"""What a rule did to rows goes here: removed ones to the quarantine with a sentence, all of them to the report's tally.

The modules of training/cleaning call it only where a rule caught a row, so a clean table pays nothing for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from training.cleaning.report import Rule, Tally
from training.quarantine import Quarantine
from training.sources.staging import INPUT, LINE

ORIGIN = (INPUT, LINE)


@dataclass(frozen=True)
class Record:
    """Where the rules of one table report.

    columns  the table's own, which a quarantined row shows
    """

    columns: tuple[str, ...]
    tally: Tally
    kept: Quarantine

    def removed(self, rows: pl.DataFrame, rule: Rule, reason: pl.Expr) -> None:
        """Send rows to the quarantine and count them.

        rows    caught by the rule, with their origin; none is no rows
        reason  of each row, one sentence with column, rule and value
        """
        if rows.is_empty():
            return
        inputs = pl.Series("input", self.tally.inputs, pl.String())
        self.kept.add(
            rows.select(
                pl.lit(rule.table).alias("table"),
                inputs.gather(rows[INPUT]),
                pl.col(LINE).alias("line"),
                pl.lit(rule.rule).alias("rule"),
                reason.alias("reason"),
                pl.struct(self.columns).struct.json_encode().alias("row"),
            )
        )
        self.tally.add(rule, rows.select(*self.columns, *ORIGIN))

    def changed(self, before: pl.DataFrame, after: pl.DataFrame, rule: Rule) -> None:
        """Count rows that stay, with some columns changed or flagged.

        before  the rows that the rule caught, as they were
        after   the same rows as they are now; columns that differ or are new are shown
        """
        if before.is_empty():
            return
        shown = [rule.column] if rule.column in before.columns else []
        new = [name for name in after.columns if name not in before.columns]
        self.tally.add(rule, before.select(*shown, *ORIGIN), after.select(*shown, *new))


@dataclass(frozen=True)
class Deferred(Record):
    """A Record of one part that several threads clean at once: it keeps what it is told until it is the part's turn."""

    told: list[Callable[[], None]] = field(default_factory=list)

    def removed(self, rows: pl.DataFrame, rule: Rule, reason: pl.Expr) -> None:
        """See Record.removed."""
        self.told.append(lambda: super(Deferred, self).removed(rows, rule, reason))

    def changed(self, before: pl.DataFrame, after: pl.DataFrame, rule: Rule) -> None:
        """See Record.changed."""
        self.told.append(lambda: super(Deferred, self).changed(before, after, rule))

    def tell(self) -> None:
        """Report everything, in the order in which it came."""
        for each in self.told:
            each()


def without(frame: pl.DataFrame, gone: pl.Series) -> pl.DataFrame:
    """Return the rows that stay; the very frame where all do.

    gone  Boolean, one for each row
    """
    return frame.filter(~gone) if gone.any() else frame
