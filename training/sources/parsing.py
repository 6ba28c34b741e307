"""One raw column in, its values in a canonical type out, null where one cannot be read; columns.py calls it.

Text becomes numbers a column at a time: an amount digit by digit, a time by the first pattern that fits.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels import fields
from training.sources.names import MICROS
from training.sources.tables import REAL, TEXT, TEXTS, WHOLE, InvalidTable

# Nine digits before the point keep every amount and its sums far inside int64.
MOST_UNITS = 1e9


def without_empty(raw: pl.Series) -> pl.Series:
    """Return text with null for empty; anything else as it is."""
    if raw.dtype == pl.String:
        empty = raw.str.len_bytes() == 0
        return raw.set(empty, None) if empty.any() else raw
    return raw


def as_text(raw: pl.Series) -> pl.Series:
    """Return any column as text."""
    return raw if raw.dtype == pl.String else raw.cast(pl.String)


def nothing(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return a column of its length in which every value is null."""
    return pl.Series(raw.name, [None], dtype).new_from_index(0, raw.len())


def texts(raw: pl.Series) -> pl.Series:
    """Return text, whole numbers and categories as text."""
    if raw.dtype == pl.String:
        return raw
    if raw.dtype.is_float():
        # Where some rows have no id, many tools write whole ids as 13085.0.
        return wholes(raw).cast(pl.String)
    readable = raw.dtype.is_integer() or raw.dtype in (pl.Categorical, pl.Enum, pl.Boolean)
    return raw.cast(pl.String) if readable else nothing(raw, TEXT)


def lists(raw: pl.Series) -> pl.Series:
    """Return lists of text; a text is parted at each |."""
    if raw.dtype == pl.String:
        return raw.str.split("|")
    return raw.cast(TEXTS) if isinstance(raw.dtype, pl.List) else nothing(raw, TEXTS)


def reals(raw: pl.Series) -> pl.Series:
    """Return numbers as Float64."""
    readable = raw.dtype == pl.String or raw.dtype.is_numeric()
    return raw.cast(pl.Float64, strict=False) if readable else nothing(raw, REAL)


def _kept(raw: pl.Series, where: pl.Series) -> pl.Series:
    """Whole numbers where a float is one that was meant, null elsewhere."""
    return raw.set(~where, None).cast(pl.Int64, strict=False)


def wholes(raw: pl.Series) -> pl.Series:
    """Return whole numbers as Int64; a broken number is none."""
    if raw.dtype.is_float():
        return _kept(raw, raw == raw.round())
    readable = raw.dtype == pl.String or raw.dtype.is_integer() or raw.dtype.is_decimal()
    return raw.cast(pl.Int64, strict=False) if readable else nothing(raw, WHOLE)


def amounts(raw: pl.Series) -> pl.Series:
    """Return whole micros: text digit by digit, a seventh decimal rounds half up; floats to the nearest micro."""
    if raw.dtype.is_float():
        # A float holds 10⁹ units to within 2⁻²³, so the nearest micro is the one that was meant.
        return _kept((raw * MICROS).round(), raw.is_finite() & (raw.abs() < MOST_UNITS))
    if raw.dtype.is_integer():
        return (raw.cast(WHOLE, strict=False) * MICROS).set(raw.abs() >= int(MOST_UNITS), None)
    if not (raw.dtype == pl.String or raw.dtype.is_decimal()):
        return nothing(raw, WHOLE)
    micros, is_read = fields.amounts(*text_of(as_text(raw)))
    return _marked(raw, micros, is_read)


def product(micros: pl.Series, factor: pl.Series) -> pl.Series:
    """Return micros times a number; null where the result is beyond what an amount may be."""
    number = reals(factor)
    if (number == number.round()).all():
        is_near = (number * micros).abs() < MOST_UNITS * MICROS
        return number.set(~is_near, None).cast(WHOLE, strict=False) * micros
    exact = (amounts(factor).cast(pl.Int128) * micros.cast(pl.Int128)).to_frame("micros")
    size = pl.col("micros").abs()
    rounded = (size + MICROS // 2) // MICROS * pl.col("micros").sign()
    return exact.select(
        pl.when(size < int(MOST_UNITS) * MICROS * MICROS).then(rounded).cast(WHOLE, strict=False)
    ).to_series()


def seconds(raw: pl.Series, patterns: tuple[str, ...]) -> tuple[pl.Series, pl.Series]:
    """Return seconds since 1970 by the first pattern that reads each text, and whether the text says no offset."""
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
        read = parse(raw.str.strip_chars()).dt.epoch("s")
    except pl.exceptions.PolarsError as error:
        raise InvalidTable(
            f"format must be a pattern of strptime, got {pattern!r}: {str(error).splitlines()[0]}"
        ) from error
    mark = fields.ABSOLUTE if has_offset else fields.LOCAL
    marks = np.where(read.is_not_null().to_numpy(), np.uint8(mark), np.uint8(fields.UNREAD))
    return read.fill_null(0).to_numpy(), marks


def text_of(raw: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a text column's bytes and offsets, as Arrow lays them out."""
    array = raw.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, text = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return (np.zeros(0, np.uint8) if text is None else np.frombuffer(text, np.uint8)), ends


def _marked(raw: pl.Series, values: NDArray[np.int64], is_read: NDArray[np.bool_]) -> pl.Series:
    column = pl.Series(raw.name, values)
    return column if is_read.all() else column.set(~pl.Series(is_read), None)
