"""What a person sees in the terminal: steps with their seconds, tables, a plan, a strategy with its reasons.

In: values of the verbs. Out: lines on standard output. Called by cli.py only.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

if TYPE_CHECKING:
    from rich.status import Status

    from evaluation.report import Strategy
    from server.strategy.plan import Plan

console = Console(highlight=False)


class Step:
    """One long step: `say` leaves a line, `show` a passing one."""

    def __init__(self, name: str, status: "Status") -> None:
        self._name, self._status, self._began = name, status, time.perf_counter()

    def say(self, words: str) -> None:
        """Leave a line with the seconds that have passed."""
        self.show(words)
        passed = f"[dim]{time.perf_counter() - self._began:6.1f} s[/]"
        console.print(f"{passed}  {self._name}: {escape(words)}", soft_wrap=True)

    def show(self, words: str) -> None:
        """Show where the step is; the next words replace these."""
        self._status.update(f"{self._name}: {escape(words)}")


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Show that a step is running, for as long as the block does."""
    with console.status(name) as status:
        yield Step(name, status)


class Finding(Protocol):
    """One thing that `stratagem doctor` looked at; see server/doctor.py."""

    @property
    def part(self) -> str: ...
    @property
    def found(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def is_ok(self) -> bool: ...
    @property
    def is_needed(self) -> bool: ...


def say_findings(findings: Iterable[Finding]) -> bool:
    """Print what was found and how to get what is missing; False if something that is needed is."""
    is_well = True
    for finding in findings:
        mark = "[green]ok[/]  " if finding.is_ok else "[red]no[/]  " if finding.is_needed else "[yellow]--[/]  "
        console.print(f"{mark}{finding.part:<20}{escape(finding.found)}", soft_wrap=True)
        if not finding.is_ok:
            console.print(f"    {'':<20}{finding.remedy}", style="dim", soft_wrap=True, markup=False)
        is_well = is_well and (finding.is_ok or not finding.is_needed)
    return is_well


def warn(sentence: str) -> None:
    """Print a sentence that must not be overlooked."""
    console.print(sentence, style="yellow", soft_wrap=True, markup=False)


def say_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under their titles; long cells fold."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def say_plan(plan_id: str, plan: "Plan", currency_code: str) -> None:
    """Print what a plan spends, where, and what for."""
    from server.strategy.plan import n_treated  # imported late: the help text must not wait for numba
    from server.strategy.reasons import money

    def amount(micros: float) -> str:
        return money(round(micros), currency_code)

    reached = f"{n_treated(plan):,} of {plan.chosen.shape[0]:,} shoppers"
    console.print(
        f"Plan {plan_id} reaches {reached}: {amount(plan.spend_micros)} of {amount(plan.budget_micros)} for "
        f"{amount(plan.value_micros)} of expected extra margin. No plan can bring more than "
        f"{amount(plan.dual_bound_micros)}; the next unit of budget would bring λ = {plan.shadow_price:.3g}."
    )
    rows = [
        (total.channel, f"{total.n_shoppers:,}", amount(total.cost_micros), amount(total.value_micros))
        for total in plan.channels
    ]
    say_table("Where the budget goes", ("channel", "shoppers", "spend", "expected extra margin"), rows)


def say_strategy(shown: "Strategy") -> None:
    """Print what one shopper gets, its economics and the reasons."""
    economics = "   ".join(f"{label} {amount}" for label, amount in shown.economics)
    reasons = "\n".join(f"• {reason}" for reason in shown.reasons)
    words = f"[bold]{escape(shown.action)}[/]\n{escape(economics)}\n{escape(reasons)}"
    console.print(Panel(words, title=escape(f"shopper {shown.shopper_id}"), title_align="left"))
