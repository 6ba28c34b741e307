"""Twins of records and fields: one record, one array, one text at a time, in plain Python."""

import datetime
import re
from decimal import ROUND_HALF_UP, Decimal

AMOUNT = re.compile(r"([+-]?)([0-9]{1,9})(?:\.([0-9]*))?", re.ASCII)
INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.,][0-9]{1,18})?)?"
    r"(?: ?(?:[Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9])?))?)?"
)


def records(text: bytes, separator: bytes, is_last: bool, patience: int) -> list[tuple[bytes, int, int, bool, bool]]:
    """Split a text into records.

    text       begins where a record begins
    separator  one byte
    is_last    whether nothing follows
    patience   a quote open over so many bytes counts as never closed
    returns    of each record its bytes, the line ends before it, its fields, whether its quotes are broken, and whether
               a quote stands within a field that is not quoted
    """
    found = []
    at = n_lines = 0
    while at < len(text):
        end, fields, is_odd = _record(text, at, separator)
        is_open = end is None
        is_broken = end == -1 or (is_open and (is_last or len(text) - at >= patience))
        if is_open and not is_broken:
            break
        if is_broken or end is None:
            end = text.find(b"\n", at)
            end, is_odd = (len(text) if end < 0 else end), False
        if end == len(text) and not is_last:
            break
        record = text[at:end]
        found.append((record.removesuffix(b"\r"), n_lines, fields, is_broken, is_odd))
        n_lines += record.count(b"\n") + 1
        at = end + 1
    return found


def _record(text: bytes, at: int, separator: bytes) -> tuple[int | None, int, bool]:
    """End of the record at a place (None: its quote is open; -1: broken), its fields, and whether it is odd."""
    fields, is_odd = 0, False
    while True:
        fields += 1
        if text[at : at + 1] == b'"':
            quoted = re.compile(rb'"(?:[^"]|"")*"(?!")').match(text, at)
            if quoted is None:
                return None, fields, is_odd
            at = quoted.end()
            if text[at : at + 2] == b"\r\n" or text[at:] == b"\r":
                at += 1
            if text[at : at + 1] not in (separator, b"\n", b""):
                return -1, fields, is_odd
        else:
            bare = re.compile(rb"[^\n" + re.escape(separator) + rb"]*").match(text, at)
            end = bare.end() if bare else at
            is_odd = is_odd or b'"' in text[at:end]
            at = end
        if text[at : at + 1] != separator:
            return at, fields, is_odd
        at += 1


def amount(text: str) -> int | None:
    """Read an amount as whole micros, by decimal arithmetic.

    text     such as -12.99
    returns  micros; None if it is no amount
    """
    if not AMOUNT.fullmatch(text):
        return None
    return int((Decimal(text.rstrip(".")) * 1_000_000).quantize(Decimal(1), ROUND_HALF_UP))


def instant(text: str) -> int | None:
    """Read a time in ISO 8601 by the calendar of Python.

    text     with blanks around it at most
    returns  seconds since 1970, as if UTC where it says no offset; None if it is no time
    """
    found = INSTANT.fullmatch(text.strip(" "))
    if not found:
        return None
    year, month, day, hour, minute, second, sign, ahead_h, ahead_m = found.groups()
    try:
        date = datetime.datetime(int(year), int(month), int(day), tzinfo=datetime.UTC)
    except ValueError:
        return None
    ahead_s = (int(ahead_h or 0) * 60 + int(ahead_m or 0)) * 60 * (-1 if sign == "-" else 1)
    clock_s = (int(hour or 0) * 60 + int(minute or 0)) * 60 + int(second or 0)
    return int(date.timestamp()) + clock_s - ahead_s
