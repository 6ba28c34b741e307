"""Raw columns of a shop's file in, columns of a canonical table out, or the first unreadable value; files.py calls it.

A column `*_s` may come as its name without `_s`: a date or time in ISO 8601, UTC where it carries no offset. A column
`*_micros` may come as its name without `_micros`: an amount in currency units, converted digit by digit, not by floats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from training.sources.tables import REAL, TEXT, TEXTS, WHOLE, Breach, Column, InvalidTable, Table

MICROS = 1_000_000
N_MICRO_DIGITS = 6
TIME_SUFFIX, MONEY_SUFFIX = "_s", "_micros"
# Nine digits before the point keep every amount and its sums far inside int64.
AMOUNT = r"^([+-]?)(\d{1,9})(?:\.(\d*))?$"
INSTANT = (
    r"^(?<date>\d{4}-\d{2}-\d{2})(?:[T ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)(?::(?<second>[0-5]\d)(?:[.,]\d+)?)?"
    r" ?(?:(?<zulu>[Zz])|(?<sign>[+-])(?<ahead_h>[01]\d|2[0-3]):?(?<ahead_m>[0-5]\d)?)?)?$"
)


@dataclass(frozen=True)
class Found:
    """Where a canonical column was found in a file.

    name  the file's name for it; `column.name`, or the short form
    """

    column: Column
    name: str

    @property
    def is_short(self) -> bool:
        """Whether the file gives a time in words or an amount in currency units."""
        return self.name != self.column.name


def short_name(column: Column) -> str | None:
    """Return the other name a file may use: "paid" for paid_micros, "time" for time_s; None if there is none."""
    for suffix in (MONEY_SUFFIX, TIME_SUFFIX):
        if column.dtype == WHOLE and column.name.endswith(suffix):
            return column.name.removesuffix(suffix)
    return None


def found_columns(table: Table, names: list[str], file_name: str) -> list[Found]:
    """Return where each canonical column stands in the file; a column that may be left out and is, is not returned.

    names   the file's columns
    raises  InvalidTable  naming a required column that is missing, or one given twice over
    """
    found = []
    for column in table.columns:
        short = short_name(column)
        given = [name for name in (column.name, short) if name in names]
        if len(given) > 1:
            raise InvalidTable(f"{file_name} must give {column.name} or {short}, got both")
        if not given and column.required:
            wanted = f"{column.name} (or {short})" if short else column.name
            raise InvalidTable(f"{file_name} must have a column {wanted}, got {', '.join(names) or 'none'}")
        found += [Found(column, name) for name in given]
    return found


def parsed(found: Found, raw: pl.Series) -> pl.Series | Breach:
    """Return the column in its canonical type, or the first value that cannot be read as it.

    raw  as the file has it; empty text counts as unset
    """
    if raw.dtype == pl.String:
        raw = raw.replace("", None)
    if raw.dtype == pl.Null:
        return raw.cast(found.column.dtype)
    parse, rule = _parser(found)
    values = parse(raw).rename(found.column.name)
    lost = (values.is_null() & raw.is_not_null()).arg_true()
    return Breach(found.name, rule, raw[lost[0]], int(lost[0])) if len(lost) else values


def without_offset(raw: pl.Series) -> int:
    """Count the times of a short-form time column that do not say their offset from UTC."""
    if raw.dtype == pl.String:
        return int(raw.str.contains(r"^\d{4}-\d{2}-\d{2}(?:[T ][\d:.,]+)?$").sum())
    is_aware = isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None
    return 0 if is_aware else raw.len() - raw.null_count()


Parse = Callable[[pl.Series], pl.Series]


def _parser(found: Found) -> tuple[Parse, str]:
    column = found.column
    if column.dtype == TEXT:
        return _text, "be text or a whole number"
    if column.dtype == TEXTS:
        return _texts, "be a list of ids, or one text with ids parted by |"
    if column.dtype == REAL:
        return _real, "be a number"
    if not found.is_short:
        return _whole, "be a whole number"
    if column.name.endswith(MONEY_SUFFIX):
        return _amount, "be an amount such as 12.99"
    return _instant, "be a date or time in ISO 8601 such as 2024-05-31T18:04:00+02:00"


def _nothing(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(raw.name, [None] * raw.len(), dtype)


def _text(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.String:
        return raw
    readable = raw.dtype.is_integer() or raw.dtype in (pl.Categorical, pl.Enum)
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
    readable = raw.dtype == pl.String or raw.dtype.is_integer()
    return raw.cast(pl.Int64, strict=False) if readable else _nothing(raw, WHOLE)


def _amount(raw: pl.Series) -> pl.Series:
    """Whole micros of amounts: text digit by digit, a seventh decimal rounds half up; floats to the nearest micro."""
    if raw.dtype.is_float():
        # A float holds 10⁹ units to within 2⁻²³, so the nearest micro is the one that was meant.
        return _kept((raw * MICROS).round(), raw.is_finite())
    if not (raw.dtype == pl.String or raw.dtype.is_integer() or raw.dtype.is_decimal()):
        return _nothing(raw, WHOLE)
    groups = pl.col("text").str.extract_groups(AMOUNT).struct
    decimals = groups.field("3").fill_null("").str.pad_end(N_MICRO_DIGITS + 1, "0")
    whole = groups.field("2").cast(pl.Int64) * MICROS + decimals.str.head(N_MICRO_DIGITS).cast(pl.Int64)
    micros = whole + (decimals.str.slice(N_MICRO_DIGITS, 1) >= "5").cast(pl.Int64)
    sign = pl.when(groups.field("1") == "-").then(-1).otherwise(1)
    return raw.cast(pl.String).rename("text").to_frame().select(micros * sign).to_series()


def _instant(raw: pl.Series) -> pl.Series:
    if isinstance(raw.dtype, pl.Datetime | pl.Date):
        return raw.dt.epoch("s")
    if raw.dtype != pl.String:
        return _nothing(raw, WHOLE)
    groups = pl.col("text").str.strip_chars().str.extract_groups(INSTANT).struct

    def number(name: str) -> pl.Expr:
        return groups.field(name).cast(pl.Int64).fill_null(0)

    day_s = groups.field("date").str.to_date("%Y-%m-%d", strict=False).dt.epoch("s")
    ahead_s = number("ahead_h") * 3600 + number("ahead_m") * 60
    sign = pl.when(groups.field("sign") == "-").then(-1).otherwise(1)
    time_s = day_s + number("hour") * 3600 + number("minute") * 60 + number("second") - sign * ahead_s
    return raw.rename("text").to_frame().select(time_s).to_series()
