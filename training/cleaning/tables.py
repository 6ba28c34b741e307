"""Staged rows in, clean tables and the report out: the order in which the rules of training/cleaning catch a row.

Events go first, because the bots found among them go from every other table. In each part of each table a row passes:
1 what it must hold (missing, time, impossible, limit); 2 duplicates; 3 missing values filled; 4 keys; 5 test accounts;
6 bots; 7 sales of nothing; 8 returns; 9 outliers. A removed row is told by the first rule that caught it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.cleaning.accounts import without_accounts, without_bots
from training.cleaning.distributions import spreads_of
from training.cleaning.doors import Check, checks_after_filling, checks_of, passed
from training.cleaning.fitting import Fits, fitted
from training.cleaning.order import by_shopper_and_time
from training.cleaning.policy import Policy, policies
from training.cleaning.record import Deferred, Record
from training.cleaning.repeats import without_duplicates, without_repeated_keys
from training.cleaning.report import CleaningReport, Returns, Tally
from training.cleaning.rules import TableRules
from training.cleaning.selling import with_returns_matched, without_nothing_sold
from training.cleaning.values import filled, flag_columns, within_limits
from training.cleaning.writing import parquet
from training.quarantine import Quarantine
from training.side_by_side import side_by_side
from training.sources.staging import Staged, scanned


def clean(
    staged: Staged,
    rules: Mapping[str, TableRules],
    train_until_s: int,
    kept: Quarantine,
    into: Path,
    progress: Callable[[str], None],
) -> CleaningReport:
    """Write `into/<table>.parquet` for every table, and return what cleaning did.

    staged         rows as they were read; a table that was not staged is written empty
    rules          by table; one that is left out is cleaned by TableRules()
    train_until_s  end of the window that values may be fitted on, exclusive
    kept           gets every removed row
    into           an existing folder
    progress       called with a sentence for each table that has rows
    raises         InvalidTable  if a rule does not fit its table
    """
    report = CleaningReport(train_until_s, {})
    tally = Tally(staged.inputs)
    bots: set[str] = set()
    for name, policy in policies(rules).items():
        report.rows_in[name] = staged.n_rows.get(name, 0)
        if report.rows_in[name]:
            progress(f"cleaning {name}: {report.rows_in[name]:,} rows")
        record = Record(tuple(policy.table.schema), tally, kept)
        _Cleaning(policy, fitted(staged, policy, train_until_s), record, report, bots).write(staged, into)
    report.rules = list(tally.rules.values())
    return report


@dataclass
class _Part:
    """One part of a table, as it came and as it left; told keeps what its rules did until it is the part's turn."""

    came: pl.DataFrame
    left: pl.DataFrame
    told: Deferred
    returns: Returns


class _Cleaning:
    """One table on its way through the rules."""

    def __init__(self, policy: Policy, fits: Fits, record: Record, report: CleaningReport, bots: set[str]) -> None:
        self._policy, self._fits, self._record, self._bots = policy, fits, record, bots
        self._report = report
        self._checks: tuple[Check, ...] = checks_of(policy)
        self._checks_after = checks_after_filling(policy)
        self._returns = Returns()

    def write(self, staged: Staged, into: Path) -> None:
        """Clean every part into the table's file, and tell the report."""
        table, report = self._policy.table, self._report
        spreads = spreads_of(table, report.rows_in[table.name])
        schema = table.schema | dict.fromkeys(flag_columns(self._policy), pl.Boolean())
        n_rows = 0
        with parquet(into / f"{table.name}.parquet", schema) as append:
            for _, part in side_by_side(self._part, staged.parts.get(table.name, ())):
                spreads.add(part.came, spreads.before)
                spreads.add(part.left, spreads.after)
                part.told.tell()
                self._returns.add(part.returns)
                n_rows += part.left.height
                append(part.left)
        report.rows_out[table.name] = n_rows
        report.fitted += self._fits.told
        report.notes += self._fits.notes
        if self._policy.matches_returns:
            report.returns = self._returns
        if report.rows_in[table.name]:
            report.distributions += spreads.told()

    def _part(self, file: Path) -> _Part:
        policy, returns = self._policy, Returns()
        told = Deferred(self._record.columns, self._record.tally, self._record.kept)
        came = scanned(policy.table, [file]).collect()
        frame = passed(came, self._checks, told)
        frame = without_duplicates(frame, policy, told)
        frame = passed(filled(frame, policy, self._fits, told), self._checks_after, told)
        frame = without_repeated_keys(frame, policy, told)
        if policy.table.name == "events":
            frame = without_accounts(by_shopper_and_time(frame), policy, (), told)
            # Threads add to one set of bots; nobody reads it before the last part of the events is done.
            frame = without_bots(frame, policy, told, self._bots)
            frame = with_returns_matched(without_nothing_sold(frame, policy, told), policy, told, returns)
        else:
            frame = without_accounts(frame, policy, self._bots, told)
        return _Part(came, within_limits(frame, policy, self._fits, told), told, returns)
