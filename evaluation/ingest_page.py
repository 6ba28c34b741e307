"""What ingest read, removed and changed becomes one page for the person whose data it is.

In: cleaning.json and shop.json as parsed JSON. Out: a self-contained HTML document. Called by cli.py after an ingest.
"""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from plotly.offline import get_plotlyjs

from evaluation import ingest_figures
from evaluation.figures import MICROS
from evaluation.templates import template


class Example(TypedDict):
    """One row that a rule caught."""

    input: str
    line: int
    before: dict[str, object]
    after: dict[str, object] | None


class Rule(TypedDict):
    """What one rule did to one column of one table."""

    table: str
    rule: str
    column: str
    meaning: str
    action: Literal["removed", "changed", "flagged"]
    n_rows: int
    examples: list[Example]


class Fitted(TypedDict):
    """A value that cleaning took from the data."""

    table: str
    column: str
    statistic: str
    value: str | float
    n_values: int
    window: str
    is_sampled: bool


class Returns(TypedDict):
    """Refund lines and what was found of the orders they give back."""

    n_refunds: int
    n_full: int
    n_part: int
    n_unmatched: int
    n_units: float
    n_units_matched: float


class CleaningFile(TypedDict):
    """cleaning.json, as far as it is shown."""

    train_until_s: int
    rows_in: dict[str, int]
    rows_out: dict[str, int]
    rules: list[Rule]
    fitted: list[Fitted]
    returns: Returns | None
    distributions: list[ingest_figures.Distribution]
    notes: list[str]


class ShopFile(TypedDict):
    """shop.json, as far as it is shown.

    quarantine  rows in quarantine.parquet by table and rule: cleaning's, and those that a reader could not understand
    """

    shop: str
    currency_code: str
    notes: list[str]
    quarantine: dict[str, dict[str, int]]


@dataclass(frozen=True)
class _Unreadable:
    """Rows that a reader could not understand; they are not among cleaning's rows_in."""

    table: str
    rule: str
    n_rows: int


@dataclass(frozen=True)
class _Case:
    """A rule with its examples, as a reader meets them."""

    title: str
    meaning: str
    count: str
    rows: Sequence[tuple[str, str, str]]


def html(cleaning: CleaningFile, shop: ShopFile) -> str:
    """Render what an ingest did, figures and their script inlined: the file opens without a network.

    cleaning  parsed cleaning.json
    shop      parsed shop.json
    returns   a complete HTML document
    """
    code = shop["currency_code"]
    unreadable = _unreadable(cleaning, shop)
    return template("ingest.html.j2", {"count": _count}).render(
        shop=shop["shop"],
        made_by=_made_by(cleaning),
        tiles=_tiles(cleaning, unreadable),
        tables=_tables(cleaning),
        unreadable=unreadable,
        rules=[(rule, _words(rule["rule"]), _share(rule["n_rows"], cleaning["rows_in"][rule["table"]]))
               for rule in cleaning["rules"]],
        losses=ingest_figures.losses(_losses(cleaning, unreadable)),
        returns=_returned(cleaning["returns"]),
        spreads=ingest_figures.spreads(cleaning["distributions"], code),
        texts=ingest_figures.texts(cleaning["distributions"]),
        columns=[_column(each, code) for each in cleaning["distributions"] if _is_told(each)],
        sample=_sample(cleaning["distributions"]),
        fitted=[_fit(each, code) for each in cleaning["fitted"]],
        cases=[_case(rule, code) for rule in cleaning["rules"] if rule["examples"]],
        notes=[*shop["notes"], *cleaning["notes"]],
        plotly_script=get_plotlyjs(),
    )  # fmt: skip


def _unreadable(cleaning: CleaningFile, shop: ShopFile) -> list[_Unreadable]:
    """What is in the quarantine and was not put there by cleaning."""
    removed: Counter[tuple[str, str]] = Counter()
    for rule in cleaning["rules"]:
        if rule["action"] == "removed":
            removed[rule["table"], rule["rule"]] += rule["n_rows"]
    left = [
        _Unreadable(table, rule, n_rows - removed[table, rule])
        for table, rules in shop["quarantine"].items()
        for rule, n_rows in rules.items()
    ]
    return [each for each in left if each.n_rows > 0]


def _made_by(cleaning: CleaningFile) -> str:
    until = _day(cleaning["train_until_s"])
    return (
        f"Made by stratagem ingest. Whatever was fitted, was fitted on rows before {until}. "
        "Every removed row is in quarantine.parquet with its file, line and reason."
    )


def _tiles(cleaning: CleaningFile, unreadable: Sequence[_Unreadable]) -> list[tuple[str, str]]:
    n_unreadable = sum(each.n_rows for each in unreadable)
    n_in = sum(cleaning["rows_in"].values()) + n_unreadable
    n_out = sum(cleaning["rows_out"].values())
    touched = {action: sum(rule["n_rows"] for rule in cleaning["rules"] if rule["action"] == action)
               for action in ("changed", "flagged")}  # fmt: skip
    tiles = [
        ("rows came in", _count(n_in)),
        ("rows went out, usable", _count(n_out)),
        (f"rows removed ({_share(n_in - n_out, n_in)})", _count(n_in - n_out)),
        ("values changed", _count(touched["changed"])),
        ("values marked and kept", _count(touched["flagged"])),
    ]
    returns = cleaning["returns"]
    if returns and returns["n_refunds"]:
        found = returns["n_full"] + returns["n_part"]
        told = f"of {_count(returns['n_refunds'])} refund lines found their order"
        tiles.append((told, _share(found, returns["n_refunds"])))
    return tiles


def _tables(cleaning: CleaningFile) -> list[tuple[str, str, str, str, str]]:
    return [
        (name, _count(came), _count(came - cleaning["rows_out"][name]), _count(cleaning["rows_out"][name]),
         _share(cleaning["rows_out"][name], came))
        for name, came in cleaning["rows_in"].items()
        if came
    ]  # fmt: skip


def _losses(cleaning: CleaningFile, unreadable: Sequence[_Unreadable]) -> list[tuple[str, int]]:
    """Why rows were lost and how many, the commonest reason first."""
    lost = [(f"{each.table}: {_words(each.rule)}", each.n_rows) for each in unreadable]
    lost += [
        (f"{rule['table']}: {_words(rule['rule'])} {rule['column']}".rstrip(), rule["n_rows"])
        for rule in cleaning["rules"]
        if rule["action"] == "removed"
    ]
    return sorted(lost, key=lambda reason: -reason[1])


def _returned(returns: Returns | None) -> list[tuple[str, str, str]]:
    if not returns or not returns["n_refunds"]:
        return []
    outcomes = (
        ("all its units were found on earlier orders", returns["n_full"]),
        ("only some of its units were found", returns["n_part"]),
        ("no earlier order line of that shopper and item had units left", returns["n_unmatched"]),
    )
    return [(label, _count(count), _share(count, returns["n_refunds"])) for label, count in outcomes]


def _is_told(each: ingest_figures.Distribution) -> bool:
    return (
        each["before"]["n_missing"] < each["before"]["n_rows"] or each["after"]["n_missing"] < each["after"]["n_rows"]
    )


def _column(each: ingest_figures.Distribution, currency_code: str) -> list[str]:
    """One column's cells: name, missing before and after, then least, mean and greatest before and after."""
    before, after = each["before"], each["after"]
    cells = [f"{each['table']}.{each['column'].removesuffix('_micros').removesuffix('_s')}"]
    cells += [_share(side["n_missing"], side["n_rows"]) for side in (before, after)]
    for name in ("least", "mean", "most"):
        for side in (before, after):
            cells.append(_value(side[name], each["unit"], currency_code))
    return cells


def _sample(distributions: Sequence[ingest_figures.Distribution]) -> str:
    drawn = {
        each["table"]: each["n_sampled"]
        for each in distributions
        if each["n_sampled"] and each["n_sampled"] < each["before"]["n_rows"]
    }
    told = " and ".join(f"{_count(n)} rows of {table}" for table, n in drawn.items())
    return f"Counted on {told}, chosen by line number." if told else "Counted on all rows."


def _fit(each: Fitted, currency_code: str) -> tuple[str, str, str, str]:
    unit = "micros" if each["column"].endswith("_micros") else ""
    value = each["value"] if isinstance(each["value"], str) else _value(each["value"], unit, currency_code)
    window = "all rows" if each["window"] == "all rows" else f"the {each['window']}"
    how = f"{_count(each['n_values'])} values of {window}"
    how += ", a sample" if each["is_sampled"] else ""
    return f"{each['table']}.{each['column'].removesuffix('_micros')}", _words(each["statistic"]), str(value), how


def _case(rule: Rule, currency_code: str) -> _Case:
    rows = []
    for example in rule["examples"]:
        after = _row(example["after"], currency_code) if example["after"] else ""
        rows.append((f"{example['input']}, line {example['line']}", _row(example["before"], currency_code), after))
    title = f"{rule['table']}: {_words(rule['rule'])} {rule['column']}".rstrip()
    return _Case(title, rule["meaning"], f"{_count(rule['n_rows'])} {rule['action']}", rows)


def _row(values: Mapping[str, object], currency_code: str) -> str:
    """The row's values by name; what is unset is left out, money and times are put as people write them."""
    told = []
    for name, value in values.items():
        if value is None and len(values) > 2:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            unit = "micros" if name.endswith("_micros") else "s" if name.endswith("_s") else ""
            value = _moment(value) if unit == "s" else _value(value, unit, currency_code, digits=6)
        told.append(f"{name.removesuffix('_micros').removesuffix('_s')} = {'nothing' if value is None else value}")
    return " · ".join(told)


def _value(value: float | None, unit: str, currency_code: str, digits: int = 4) -> str:
    if value is None:
        return ""
    if unit == "micros":
        return f"{value / MICROS:,.2f} {currency_code}"
    if unit == "s":
        return _day(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 or float(value).is_integer() else f"{value:,.{digits}g}"


def _day(at_s: float) -> str:
    return _moment(at_s, "%Y-%m-%d")


def _moment(at_s: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    """A time as people write it; the seconds themselves where no calendar reaches."""
    try:
        return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return f"{at_s:,.0f} s"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _count(number: int) -> str:
    return f"{number:,}"


def _share(part: int, whole: int) -> str:
    """A percentage that never says 0 or 100 of what is not."""
    if not whole or not part:
        return "0 %"
    share = 100 * part / whole
    if part == whole:
        return "100 %"
    return "< 0.01 %" if share < 0.01 else "> 99.99 %" if share > 99.99 else f"{share:.3g} %"
