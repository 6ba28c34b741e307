"""Text of whole columns into numbers: times in ISO 8601 or a fixed pattern, and amounts of money digit by digit.

In: an Arrow text column, its bytes and offsets. Out: one number and one mark for each text. training/sources/columns.py
calls it; it takes a few nanoseconds a value where a regular expression takes hundreds.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array, is_ascending, plain
from kernels.compiled import entry, inlined

# What became of a text.
UNREAD, LOCAL, ABSOLUTE = 0, 1, 2
MICROS = 1_000_000
# Directives of a pattern that `instants` follows; YMD HMS as in strptime, f for decimals, z for an offset.
DIRECTIVES = "YmdHMSfz"
_MOST_WHOLE_DIGITS, _N_DECIMALS = 9, 6


def amounts(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read amounts such as -12.99 as whole micros; a seventh decimal rounds half away from zero.

    text     (n_bytes,) uint8      all texts behind each other
    offsets  (n_rows + 1,) int64   text i is text[offsets[i] : offsets[i + 1]]
    returns  micros (n_rows,) and whether the text is such an amount (n_rows,); micros are 0 where it is not
    raises   InvalidInput          if offsets do not ascend within the text
    source   reference.records.amount: an optional sign, up to nine digits, optionally a point and decimals
    """
    _check_texts(text, offsets)
    micros, is_read = np.zeros(offsets.size - 1, np.int64), np.zeros(offsets.size - 1, np.bool_)
    _amounts(plain(text), plain(offsets), micros, is_read)
    return micros, is_read


def instants(
    text: NDArray[np.uint8], offsets: NDArray[np.int64], pattern: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Read dates and times as seconds since 1970.

    text     (n_bytes,) uint8      all texts behind each other
    offsets  (n_rows + 1,) int64   text i is text[offsets[i] : offsets[i + 1]]
    pattern  of DIRECTIVES, as strptime has them; empty: ISO 8601, from a date alone to a time with decimals and offset
    returns  seconds (n_rows,), and UNREAD, LOCAL or ABSOLUTE (n_rows,) uint8: LOCAL says no offset and counts as if UTC
    raises   InvalidInput          if offsets do not ascend within the text, or the pattern has another directive
    source   reference.records.instant
    """
    _check_texts(text, offsets)
    check(follows(pattern), f"pattern must use only %{', %'.join(DIRECTIVES)}, got {pattern!r}")
    times_s, marks = np.zeros(offsets.size - 1, np.int64), np.zeros(offsets.size - 1, np.uint8)
    steps = np.frombuffer(pattern.encode(), np.uint8).copy()
    _instants(plain(text), plain(offsets), steps, times_s, marks)
    return times_s, marks


def follows(pattern: str) -> bool:
    """Say whether `instants` can follow a pattern of strptime.

    pattern  such as %d/%m/%Y %H:%M
    returns  False where it has another directive, or bytes beyond ASCII
    """
    parts = pattern.split("%")[1:]
    return pattern.isascii() and all(part and part[0] in DIRECTIVES for part in parts)


def _check_texts(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
    check_array("text", text, np.uint8)
    check_array("offsets", offsets, np.int64)
    check(offsets.size >= 1 and is_ascending(offsets), "offsets must ascend and hold at least one")
    check(offsets[0] >= 0 and offsets[-1] <= text.size, f"offsets must lie within the text of {text.size} bytes")


@entry
def _amounts(text, offsets, micros, is_read):
    for row in range(micros.size):
        at, end = offsets[row], offsets[row + 1]
        sign = 1
        if at < end and (text[at] == 43 or text[at] == 45):
            sign = 44 - np.int64(text[at])
            at += 1
        whole, n_digits = 0, 0
        while at < end and 48 <= text[at] <= 57:
            whole = whole * 10 + (np.int64(text[at]) - 48)
            n_digits += 1
            at += 1
            if n_digits > _MOST_WHOLE_DIGITS:
                break
        if n_digits == 0 or n_digits > _MOST_WHOLE_DIGITS:
            continue
        value, n_decimals, is_up = whole, 0, 0
        if at < end and text[at] == 46:
            at += 1
            while at < end and 48 <= text[at] <= 57:
                if n_decimals < _N_DECIMALS:
                    value = value * 10 + (np.int64(text[at]) - 48)
                elif n_decimals == _N_DECIMALS:
                    is_up = 1 if text[at] >= 53 else 0
                n_decimals += 1
                at += 1
        if at < end:
            continue
        for _ in range(n_decimals, _N_DECIMALS):
            value *= 10
        micros[row] = sign * (value + is_up)
        is_read[row] = True


@inlined
def _number(text, at, end, least, most):
    """The number of `least` to `most` digits at a place, and the place behind it; -1 if there are fewer."""
    number, n = 0, 0
    while at < end and n < most and 48 <= text[at] <= 57:
        number = number * 10 + (np.int64(text[at]) - 48)
        n += 1
        at += 1
    return (number, at) if n >= least else (-1, at)


@inlined
def _day(year, month, day):
    """Days since 1970 of a date of the Gregorian calendar, after a shift that puts leap days at a year's end."""
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469


@inlined
def _is_date(year, month, day):
    if month < 1 or month > 12 or day < 1 or year < 1:
        return False
    n_days = 31
    if month == 2:
        n_days = 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    elif month == 4 or month == 6 or month == 9 or month == 11:
        n_days = 30
    return day <= n_days


@entry
def _offset_s(text, at, end):
    """Seconds ahead of UTC that an offset at a place says, and the place behind it; -1 for the place: there is none."""
    if at >= end:
        return 0, -1
    if text[at] == 90 or text[at] == 122:
        return 0, at + 1
    if text[at] != 43 and text[at] != 45:
        return 0, -1
    sign = 44 - np.int64(text[at])
    hours, at = _number(text, at + 1, end, 2, 2)
    minutes = 0
    if at < end and text[at] == 58:
        minutes, at = _number(text, at + 1, end, 2, 2)
    elif at < end:
        minutes, at = _number(text, at, end, 2, 2)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return 0, -1
    return sign * (hours * 3600 + minutes * 60), at


@entry
def _iso(text, at, end):
    """Seconds and mark of one text in ISO 8601."""
    year, at = _number(text, at, end, 4, 4)
    if year < 0 or at >= end or text[at] != 45:
        return 0, UNREAD
    month, at = _number(text, at + 1, end, 2, 2)
    if month < 0 or at >= end or text[at] != 45:
        return 0, UNREAD
    day, at = _number(text, at + 1, end, 2, 2)
    if day < 0 or not _is_date(year, month, day):
        return 0, UNREAD
    time_s = _day(year, month, day) * 86_400
    if at == end:
        return time_s, LOCAL
    if text[at] != 32 and text[at] != 84:
        return 0, UNREAD
    hour, at = _number(text, at + 1, end, 2, 2)
    if hour < 0 or hour > 23 or at >= end or text[at] != 58:
        return 0, UNREAD
    minute, at = _number(text, at + 1, end, 2, 2)
    if minute < 0 or minute > 59:
        return 0, UNREAD
    second = 0
    if at < end and text[at] == 58:
        second, at = _number(text, at + 1, end, 2, 2)
        if second < 0 or second > 59:
            return 0, UNREAD
        if at < end and (text[at] == 46 or text[at] == 44):
            fraction, at = _number(text, at + 1, end, 1, 18)
            if fraction < 0:
                return 0, UNREAD
    time_s += hour * 3600 + minute * 60 + second
    if at == end:
        return time_s, LOCAL
    if text[at] == 32:
        at += 1
    ahead_s, at = _offset_s(text, at, end)
    return (time_s - ahead_s, ABSOLUTE) if at == end else (0, UNREAD)


@entry
def _patterned(text, at, end, steps):
    """Seconds and mark of one text in a pattern."""
    year, month, day, hour, minute, second, ahead_s, mark = 1970, 1, 1, 0, 0, 0, 0, LOCAL
    step = 0
    while step < steps.size:
        if steps[step] != 37:
            if at >= end or text[at] != steps[step]:
                return 0, UNREAD
            at += 1
            step += 1
            continue
        directive = steps[step + 1]
        step += 2
        value = 0
        if directive == 89:
            year, at = _number(text, at, end, 4, 4)
            value = year
        elif directive == 109:
            month, at = _number(text, at, end, 1, 2)
        elif directive == 100:
            day, at = _number(text, at, end, 1, 2)
        elif directive == 72:
            hour, at = _number(text, at, end, 1, 2)
        elif directive == 77:
            minute, at = _number(text, at, end, 1, 2)
        elif directive == 83:
            second, at = _number(text, at, end, 1, 2)
        elif directive == 102:
            value, at = _number(text, at, end, 1, 18)
        else:
            ahead_s, at = _offset_s(text, at, end)
            value, mark = at, ABSOLUTE
        if value < 0:
            return 0, UNREAD
    is_time = 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59
    if at != end or not is_time or not _is_date(year, month, day):
        return 0, UNREAD
    return _day(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - ahead_s, mark


@entry
def _instants(text, offsets, steps, times_s, marks):
    for row in range(times_s.size):
        at, end = offsets[row], offsets[row + 1]
        # A space before or behind is how some databases fill a column.
        while at < end and text[at] == 32:
            at += 1
        while at < end and text[end - 1] == 32:
            end -= 1
        if steps.size == 0:
            time_s, mark = _iso(text, at, end)
        else:
            time_s, mark = _patterned(text, at, end, steps)
        times_s[row] = time_s
        marks[row] = mark
