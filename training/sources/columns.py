"""Raw columns in, columns of a canonical table out, and which values could not be read; intake.py calls it.

A column `*_s` may come as its name without `_s`: a date or time in ISO 8601 or a stated pattern. A column `*_micros`
may come as its name without `_micros`: an amount in currency units, converted digit by digit where it is text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels import fields
from training.sources.mapping import ColumnSection, TableSection, canonical
from training.sources.names import MICROS, MONEY_SUFFIX, TIME_SUFFIX, short_name
from training.sources.tables import REAL, TEXT, TEXTS, WHOLE, Column, InvalidTable, Table
from training.sources.zones import utc_seconds

CURRENCY = "currency"
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
# Nine digits before the point keep every amount and its sums far inside int64.
MOST_UNITS = 1e9
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
        given = _as_text(raw[origin.column]).str.strip_chars()
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
        return _product(found, [without_empty(raw[name]) for name in origin.product], reading)
    if origin.column is None:
        given = pl.Series(found.column.name, [origin.constant]).new_from_index(0, raw.height)
    else:
        given = without_empty(raw[origin.column])
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


def without_empty(raw: pl.Series) -> pl.Series:
    """Return text with null for empty; anything else as it is."""
    if raw.dtype == pl.String:
        empty = raw.str.len_bytes() == 0
        return raw.set(empty, None) if empty.any() else raw
    return raw


def _as_text(raw: pl.Series) -> pl.Series:
    return raw if raw.dtype == pl.String else raw.cast(pl.String)


def _recoded(given: pl.Series, origin: ColumnSection) -> pl.Series:
    """The source's own words in the words of the table."""
    if not origin.values and not origin.starts_with:
        return given
    text = kept = _as_text(given)
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
        rule, product = "be numbers", _real(given[0])
        for each in given[1:]:
            product = product * _real(each)
    else:
        rule, product = "be amounts whose product is below 1,000,000,000", _amount(given[-1])
        for each in given[:-1]:
            product = _times(product, each)
    # The factors are put into words only where some product is missing: it costs as much as the product.
    if product.null_count():
        words = pl.select(pl.concat_str([_as_text(each) for each in given], separator=" × ")).to_series()
        _lose(found, rule, product.is_null() & words.is_not_null(), words, reading)
    return product.abs() if found.origin.absolute else product


def _times(micros: pl.Series, factor: pl.Series) -> pl.Series:
    """Micros times a number; null where the result is beyond what an amount may be."""
    number = _real(factor)
    if (number == number.round()).all():
        is_near = (number * micros).abs() < MOST_UNITS * MICROS
        return number.set(~is_near, None).cast(WHOLE, strict=False) * micros
    exact = (_amount(factor).cast(pl.Int128) * micros.cast(pl.Int128)).to_frame("micros")
    size = pl.col("micros").abs()
    rounded = (size + MICROS // 2) // MICROS * pl.col("micros").sign()
    return exact.select(
        pl.when(size < int(MOST_UNITS) * MICROS * MICROS).then(rounded).cast(WHOLE, strict=False)
    ).to_series()


def _parsed(found: Found, raw: pl.Series, reading: Reading) -> tuple[pl.Series, str]:
    """The column in its canonical type, null where it cannot be read, and the rule that such a value breaks."""
    column = found.column
    if column.dtype == TEXT:
        return _text(raw), "be text or a whole number"
    if column.dtype == TEXTS:
        return _texts(raw), "be a list of ids, or one text with ids parted by |"
    if column.dtype == REAL:
        return _real(raw), "be a number"
    if column.name.endswith(TIME_SUFFIX) and (found.is_short or found.origin.format or found.origin.unit):
        return _instant(found, raw, reading)
    if column.name.endswith(MONEY_SUFFIX) and found.is_short:
        return _amount(raw), "be an amount such as 12.99"
    return _whole(raw), "be a whole number"


def _nothing(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(raw.name, [None], dtype).new_from_index(0, raw.len())


def _text(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.String:
        return raw
    if raw.dtype.is_float():
        # Where some rows have no id, many tools write whole ids as 13085.0.
        return _whole(raw).cast(pl.String)
    readable = raw.dtype.is_integer() or raw.dtype in (pl.Categorical, pl.Enum, pl.Boolean)
    return raw.cast(pl.String) if readable else _nothing(raw, TEXT)


def _texts(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.String:
        return raw.str.split("|")
    return raw.cast(TEXTS) if isinstance(raw.dtype, pl.List) else _nothing(raw, TEXTS)


def _real(raw: pl.Series) -> pl.Series:
    readable = raw.dtype == pl.String or raw.dtype.is_numeric()
    return raw.cast(pl.Float64, strict=False) if readable else _nothing(raw, REAL)


def _kept(raw: pl.Series, where: pl.Series) -> pl.Series:
    """Whole numbers where a float is one that was meant, null elsewhere."""
    return raw.set(~where, None).cast(pl.Int64, strict=False)


def _whole(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_float():
        return _kept(raw, raw == raw.round())
    readable = raw.dtype == pl.String or raw.dtype.is_integer() or raw.dtype.is_decimal()
    return raw.cast(pl.Int64, strict=False) if readable else _nothing(raw, WHOLE)


def _amount(raw: pl.Series) -> pl.Series:
    """Whole micros of amounts: text digit by digit, a seventh decimal rounds half up; floats to the nearest micro."""
    if raw.dtype.is_float():
        # A float holds 10⁹ units to within 2⁻²³, so the nearest micro is the one that was meant.
        return _kept((raw * MICROS).round(), raw.is_finite() & (raw.abs() < MOST_UNITS))
    if raw.dtype.is_integer():
        return (raw.cast(WHOLE, strict=False) * MICROS).set(raw.abs() >= int(MOST_UNITS), None)
    if not (raw.dtype == pl.String or raw.dtype.is_decimal()):
        return _nothing(raw, WHOLE)
    micros, is_read = fields.amounts(*text_of(_as_text(raw)))
    return _marked(raw, micros, is_read)


def _instant(found: Found, raw: pl.Series, reading: Reading) -> tuple[pl.Series, str]:
    """Seconds since 1970 UTC."""
    origin = found.origin
    if origin.unit:
        number = _amount(raw) if raw.dtype == pl.String else _real(raw) * MICROS
        return (number // MICROS // PER_SECOND[origin.unit]).cast(WHOLE, strict=False), "be a number of " + origin.unit
    if isinstance(raw.dtype, pl.Datetime | pl.Date):
        seconds = raw.dt.epoch("s")
        if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
            return seconds, ISO_TIME
        reading.n_local[found.name] = raw.len() - raw.null_count()
        return utc_seconds(seconds, found.time_zone), f"exist in {found.time_zone}"
    if raw.dtype != pl.String:
        return _nothing(raw, WHOLE), ISO_TIME
    seconds, is_local = _first_that_fits(raw, origin.format or ("",))
    n_local = int(is_local.sum())
    if n_local:
        reading.n_local[found.name] = n_local
        local = utc_seconds(seconds, found.time_zone)
        seconds = local if n_local == raw.len() else local.zip_with(is_local, seconds)
    if not origin.format:
        return seconds, ISO_TIME
    return seconds, f"be a time such as {' or '.join(origin.format)} that exists in {found.time_zone}"


def _first_that_fits(raw: pl.Series, patterns: tuple[str, ...]) -> tuple[pl.Series, pl.Series]:
    """Seconds of the first pattern that reads each text, and whether it says no offset."""
    text, offsets = text_of(raw)
    times_s, marks = np.zeros(raw.len(), np.int64), np.zeros(raw.len(), np.uint8)
    for pattern in patterns:
        if fields.follows(pattern):
            read_s, read = fields.instants(text, offsets, pattern)
        else:
            read_s, read = _strptime(raw, pattern)
        times_s = np.where(marks == fields.UNREAD, read_s, times_s)
        marks = np.where(marks == fields.UNREAD, read, marks)
        if (marks != fields.UNREAD).all():
            break
    return _marked(raw, times_s, marks != fields.UNREAD), pl.Series(marks == fields.LOCAL)


def _strptime(raw: pl.Series, pattern: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    has_offset = "%z" in pattern or "%#z" in pattern
    zone = "UTC" if has_offset else None
    has_clock = any(directive in pattern for directive in ("%H", "%I", "%T", "%R", "%X", "%c", "%s"))
    parse: Callable[[pl.Series], pl.Series] = (
        (lambda texts: texts.str.to_datetime(pattern, time_unit="us", time_zone=zone, strict=False))
        if has_clock
        else (lambda texts: texts.str.to_date(pattern, strict=False))
    )
    try:
        seconds = parse(raw.str.strip_chars()).dt.epoch("s")
    except pl.exceptions.PolarsError as error:
        raise InvalidTable(
            f"format must be a pattern of strptime, got {pattern!r}: {str(error).splitlines()[0]}"
        ) from error
    mark = fields.ABSOLUTE if has_offset else fields.LOCAL
    marks = np.where(seconds.is_not_null().to_numpy(), np.uint8(mark), np.uint8(fields.UNREAD))
    return seconds.fill_null(0).to_numpy(), marks


def text_of(raw: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a text column's bytes and offsets, as Arrow lays them out."""
    array = raw.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, text = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return (np.zeros(0, np.uint8) if text is None else np.frombuffer(text, np.uint8)), ends


def _marked(raw: pl.Series, values: NDArray[np.int64], is_read: NDArray[np.bool_]) -> pl.Series:
    column = pl.Series(raw.name, values)
    return column if is_read.all() else column.set(~pl.Series(is_read), None)
