"""Raw columns in, columns of a canonical table out, and which values could not be read; intake.py calls it.

A column `*_s` may come as its name without `_s`: a date or time in ISO 8601 or a stated pattern. A column `*_micros`
may come as its name without `_micros`: an amount in currency units, converted digit by digit where it is text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from training.sources import parsing
from training.sources.mapping import ColumnSection, TableSection, canonical
from training.sources.names import MICROS, MONEY_SUFFIX, TIME_SUFFIX, short_name
from training.sources.tables import REAL, TEXT, TEXTS, WHOLE, Column, InvalidTable, Table
from training.sources.zones import utc_seconds

CURRENCY = "currency"
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
ISO_TIME = "be a date or time in ISO 8601 such as 2024-05-31T18:04:00+02:00"


@dataclass(frozen=True)
class Money:
    """The shop's currency and what one unit of another is worth in it."""

    currency_code: str = "USD"
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Where a canonical column comes from.

    is_short   a time in words or an amount in currency units
    time_zone  of times that say no offset
    """

    column: Column
    origin: ColumnSection
    is_short: bool
    time_zone: str = "UTC"

    @property
    def name(self) -> str:
        """How sentences call it: as the source does."""
        return " × ".join(self.origin.names) or self.column.name


@dataclass(frozen=True)
class Lost:
    """Values of one column that could not be read.

    rows    Boolean, one for each row
    values  as they came
    """

    found: Found
    rule: str
    rows: pl.Series
    values: pl.Series


@dataclass(frozen=True)
class Plan:
    """Where all columns of one table come from; `currency` says where each row's ISO code stands."""

    table: Table
    found: tuple[Found, ...]
    money: Money = Money()
    currency: ColumnSection | None = None

    @property
    def names(self) -> set[str]:
        """The source's columns that are needed."""
        named = {name for each in self.found for name in each.origin.names}
        return named if self.currency is None else named | set(self.currency.names)


def plan_of(table: Table, section: TableSection, names: list[str], source: str, money: Money, zone: str) -> Plan:
    """Return the plan for a source with these columns.

    names   the source's columns
    source  how sentences call it
    zone    the shop's time zone
    raises  InvalidTable  naming a column that the source does not have, or has twice over
    """
    if not section.columns:
        return Plan(table, _named_alike(table, names, source, zone), money, _named_currency(names))
    found, currency = [], None
    for name, origin in section.columns.items():
        for needed in origin.names:
            if needed not in names:
                raise InvalidTable(f"{source} must have a column {needed}, got {', '.join(names) or 'none'}")
        known = canonical(table, name)
        if known:
            found.append(Found(known[0], origin, known[1], origin.time_zone or zone))
        else:
            currency = origin
    places = list(table.schema)
    return Plan(table, tuple(sorted(found, key=lambda each: places.index(each.column.name))), money, currency)


def _named_alike(table: Table, names: list[str], source: str, zone: str) -> tuple[Found, ...]:
    found = []
    for column in table.columns:
        short = short_name(column)
        given = [name for name in (column.name, short) if name in names]
        if len(given) > 1:
            raise InvalidTable(f"{source} must give {column.name} or {short}, got both")
        if not given and column.required:
            wanted = f"{column.name} (or {short})" if short else column.name
            raise InvalidTable(f"{source} must have a column {wanted}, got {', '.join(names) or 'none'}")
        found += [Found(column, ColumnSection(column=name), name != column.name, zone) for name in given]
    return tuple(found)


@dataclass
class Reading:
    """What became of a batch.

    frame    all columns of the table; null where nothing was given or nothing could be read
    lost     by column, in the table's order
    n_local  times without an offset, by column
    """

    frame: pl.DataFrame
    lost: list[Lost]
    n_local: dict[str, int]


def read_columns(plan: Plan, raw: pl.DataFrame) -> Reading:
    """Return a batch in the canonical columns that the plan fills, in the order of the table.

    raw  holds plan.names
    """
    reading = Reading(pl.DataFrame(), [], {})
    rates = _rates(plan, raw, reading)
    columns = {}
    for found in plan.found:
        values = _column(found, raw, reading)
        if rates is not None and found.column.name.endswith(MONEY_SUFFIX):
            values = (values * rates).round().cast(WHOLE)
        columns[found.column.name] = values.rename(found.column.name)
    reading.frame = pl.DataFrame([columns[name] for name in plan.table.schema if name in columns])
    return reading


def _named_currency(names: list[str]) -> ColumnSection | None:
    return ColumnSection(column=CURRENCY) if CURRENCY in names else None


def _rates(plan: Plan, raw: pl.DataFrame, reading: Reading) -> pl.Series | None:
    """What one unit of each row's currency is worth; None where all rows are in the shop's own."""
    if plan.currency is None:
        return None
    origin = plan.currency
    if origin.column is None:
        given = pl.Series(CURRENCY, [origin.constant], TEXT).new_from_index(0, raw.height)
    else:
        given = parsing.as_text(raw[origin.column]).str.strip_chars()
    codes = _recoded(given, origin)
    shop = plan.money.currency_code
    used = set(codes.unique().drop_nulls()) - {"", shop}
    if not used:
        return None
    known = {shop: 1.0, "": 1.0, **plan.money.rates}
    rates = codes.replace_strict(known, default=None, return_dtype=REAL).set(codes.is_null(), 1.0)
    if used - known.keys():
        found = Found(Column(CURRENCY, TEXT, ""), origin, is_short=False)
        rule = f"be {shop}, or a currency with a rate in [shop.rates] of shop.toml"
        reading.lost.append(Lost(found, rule, rates.is_null(), codes))
    return rates


def _column(found: Found, raw: pl.DataFrame, reading: Reading) -> pl.Series:
    origin = found.origin
    if origin.product:
        return _product(found, [parsing.without_empty(raw[name]) for name in origin.product], reading)
    if origin.column is None:
        given = pl.Series(found.column.name, [origin.constant]).new_from_index(0, raw.height)
    else:
        given = parsing.without_empty(raw[origin.column])
    recoded = _recoded(given, origin)
    if recoded.dtype == pl.Null:
        return recoded.cast(found.column.dtype)
    values, rule = _parsed(found, recoded, reading)
    if values.null_count() > given.null_count():
        _lose(found, rule, values.is_null() & given.is_not_null(), given, reading)
    return values.abs() if origin.absolute and values.dtype.is_numeric() else values


def _lose(found: Found, rule: str, rows: pl.Series, given: pl.Series, reading: Reading) -> None:
    if rows.any():
        reading.lost.append(Lost(found, rule, rows, given))


def _recoded(given: pl.Series, origin: ColumnSection) -> pl.Series:
    """The source's own words in the words of the table."""
    if not origin.values and not origin.starts_with:
        return given
    text = kept = parsing.as_text(given)
    if origin.otherwise is not None:  # what is missing is no other value: it stays missing
        kept = pl.repeat(origin.otherwise, text.len(), eager=True).rename(text.name).set(text.is_null(), None)
    for beginning, value in reversed(list(origin.starts_with.items())):
        begins = text.str.starts_with(beginning).fill_null(False)
        if begins.any():
            kept = kept.set(begins, value)
    if not origin.values:
        return kept
    recoded = text.replace_strict(dict(origin.values), default=None, return_dtype=pl.String)
    return recoded if recoded.null_count() == 0 else recoded.zip_with(recoded.is_not_null(), kept)


def _product(found: Found, given: list[pl.Series], reading: Reading) -> pl.Series:
    """Factors multiplied: whole numbers and micros exactly, a broken number to the nearest micro."""
    if found.column.dtype == REAL:
        rule, product = "be numbers", parsing.reals(given[0])
        for each in given[1:]:
            product = product * parsing.reals(each)
    else:
        rule, product = "be amounts whose product is below 1,000,000,000", parsing.amounts(given[-1])
        for each in given[:-1]:
            product = parsing.product(product, each)
    # The factors are put into words only where some product is missing: it costs as much as the product.
    if product.null_count():
        words = pl.select(pl.concat_str([parsing.as_text(each) for each in given], separator=" × ")).to_series()
        _lose(found, rule, product.is_null() & words.is_not_null(), words, reading)
    return product.abs() if found.origin.absolute else product


def _parsed(found: Found, raw: pl.Series, reading: Reading) -> tuple[pl.Series, str]:
    """The column in its canonical type, null where it cannot be read, and the rule that such a value breaks."""
    column = found.column
    if column.dtype == TEXT:
        return parsing.texts(raw), "be text or a whole number"
    if column.dtype == TEXTS:
        return parsing.lists(raw), "be a list of ids, or one text with ids parted by |"
    if column.dtype == REAL:
        return parsing.reals(raw), "be a number"
    if column.name.endswith(TIME_SUFFIX) and (found.is_short or found.origin.format or found.origin.unit):
        return _instant(found, raw, reading)
    if column.name.endswith(MONEY_SUFFIX) and found.is_short:
        return parsing.amounts(raw), "be an amount such as 12.99"
    return parsing.wholes(raw), "be a whole number"


def _instant(found: Found, raw: pl.Series, reading: Reading) -> tuple[pl.Series, str]:
    """Seconds since 1970 UTC."""
    origin = found.origin
    if origin.unit:
        number = parsing.amounts(raw) if raw.dtype == pl.String else parsing.reals(raw) * MICROS
        return (number // MICROS // PER_SECOND[origin.unit]).cast(WHOLE, strict=False), "be a number of " + origin.unit
    if isinstance(raw.dtype, pl.Datetime | pl.Date):
        seconds = raw.dt.epoch("s")
        if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
            return seconds, ISO_TIME
        reading.n_local[found.name] = raw.len() - raw.null_count()
        return utc_seconds(seconds, found.time_zone), f"exist in {found.time_zone}"
    if raw.dtype != pl.String:
        return parsing.nothing(raw, WHOLE), ISO_TIME
    seconds, is_local = parsing.seconds(raw, origin.format or ("",))
    n_local = int(is_local.sum())
    if n_local:
        reading.n_local[found.name] = n_local
        local = utc_seconds(seconds, found.time_zone)
        seconds = local if n_local == raw.len() else local.zip_with(is_local, seconds)
    if not origin.format:
        return seconds, ISO_TIME
    return seconds, f"be a time such as {' or '.join(origin.format)} that exists in {found.time_zone}"
