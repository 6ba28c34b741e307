"""Where the records of a delimited text begin and end, and what is wrong with them, before anybody parses a field.

In: a block of bytes. Out: one row for each record. training/sources/delimited.py cuts out what is faulty and hands the
rest to a parser that would stop at it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array
from kernels.compiled import entry, inlined

# Bits of `faults`. An ODD record can be read, but a parser that toggles at every quote reads it wrongly.
EMPTY, QUOTES, NUL, NOT_UTF8, LONG, ODD = 1, 2, 4, 8, 16, 32
NEWLINE, RETURN, QUOTE = 10, 13, 34
LONGEST_FIELD = 1_000_000
# A quote that stays open over as many bytes was never meant to be one.
PATIENCE = 16 << 20
# One 64-bit sum per line counts separators, quotes and bytes that need care; a longer line is walked in any case.
_QUOTES, _CARE = 1 << 32, 1 << 48
_LONGEST_COUNTED = 32_767


@dataclass(frozen=True)
class Records:
    """The records of a block, in order.

    starts, ends  (n_records,) int32  record i is block[starts[i] : ends[i]], its line end left out
    lines         (n_records,) int32  line ends of the block before it
    n_fields      (n_records,) int32  fields of it
    faults        (n_records,) uint8  bits EMPTY, QUOTES, NUL, NOT_UTF8, LONG, ODD
    n_bytes       bytes of the block that they take; what follows needs more data
    n_lines       line ends in those bytes
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    lines: NDArray[np.int32]
    n_fields: NDArray[np.int32]
    faults: NDArray[np.uint8]
    n_bytes: int
    n_lines: int


def records(
    block: NDArray[np.uint8],
    separator: int = 44,
    is_last: bool = False,
    patience: int = PATIENCE,
    longest_field: int = LONGEST_FIELD,
) -> Records:
    """Find every record that ends in a block.

    A record ends at a line end outside quotes. A field is quoted if its first byte is a quote; two quotes within stand
    for one. A record whose quotes do not close, or close before the field's end, is its first line alone, with QUOTES.

    block          (n_bytes,) uint8  text; begins where a record begins
    separator      byte between two fields
    is_last        whether nothing follows: the last record then needs no line end
    patience       a quote open over so many bytes up to the block's end counts as never closed
    longest_field  characters; a field with more is LONG
    returns        Records
    raises         InvalidInput      if the block is not bytes, or the separator a quote or a line end
    source         reference.records.records
    """
    check_array("block", block, np.uint8)
    check(block.size < 2**31, f"block must be shorter than 2 GiB, got {block.size} bytes")
    check(
        0 <= separator < 128 and separator not in (NEWLINE, RETURN, QUOTE),
        f"separator must be one ASCII character other than a quote or a line end, got {separator}",
    )
    n_most = _count_line_ends(block) + 1
    starts, ends = np.empty(n_most, np.int32), np.empty(n_most, np.int32)
    lines, n_fields = np.empty(n_most, np.int32), np.empty(n_most, np.int32)
    faults = np.zeros(n_most, np.uint8)
    costs = np.zeros(256, np.int64)
    costs[128:] = costs[0] = _CARE
    costs[QUOTE], costs[separator] = _QUOTES, 1
    n, n_bytes, n_lines = _find(
        block, costs, separator, is_last, patience, longest_field, starts, ends, lines, n_fields, faults
    )
    return Records(starts[:n], ends[:n], lines[:n], n_fields[:n], faults[:n], n_bytes, n_lines)


@entry
def _count_line_ends(block):
    n = 0
    for at in range(block.size):
        n += block[at] == NEWLINE
    return n


@entry
def _find(block, costs, separator, is_last, patience, longest_field, starts, ends, lines, n_fields, faults):
    at = n = n_lines = 0
    while at < block.size:
        end = at
        cost = 0
        while end < block.size and block[end] != NEWLINE:
            cost += costs[block[end]]
            end += 1
        fields = (cost & (_QUOTES - 1)) + 1
        n_ends = np.int64(1) if end < block.size else np.int64(0)
        fault = 0
        if cost & (_CARE - _QUOTES) or end - at > min(longest_field, _LONGEST_COUNTED):
            line_end = end
            end, fields, n_ends, fault = _walked(block, at, end, separator, is_last, patience, longest_field)
            if end < 0:
                break
            if cost >= _CARE or end != line_end or end - at > _LONGEST_COUNTED:
                fault |= _bytes_at_fault(block, at, end)
        elif end == block.size and not is_last:
            break
        elif cost >= _CARE:
            fault = _bytes_at_fault(block, at, end)
        starts[n] = at
        lines[n] = n_lines
        n_fields[n] = fields
        n_lines += n_ends
        at = end + 1 if end < block.size else end
        if end > starts[n] and block[end - 1] == RETURN:
            end -= 1
        ends[n] = end
        faults[n] = fault | EMPTY if end == starts[n] else fault
        n += 1
    return n, at, n_lines


@entry
def _walked(block, at, line_end, separator, is_last, patience, longest_field):
    """End, fields, line ends and faults of the record at `at`, field by field; end -1: it needs more data."""
    fields, n_ends, fault, i = 1, 0, 0, at
    while True:
        start = i
        if i < block.size and block[i] == QUOTE:
            i, n_within = _behind_quotes(block, i)
            n_ends += n_within
            if i > block.size:
                if not is_last and block.size - at < patience:
                    return -1, 0, 0, 0
                fault |= QUOTES
            elif i < block.size and block[i] == RETURN and (i + 1 == block.size or block[i + 1] == NEWLINE):
                i += 1
            if i < block.size and block[i] != separator and block[i] != NEWLINE:
                fault |= QUOTES
            if fault & QUOTES:
                break
        else:
            while i < block.size and block[i] != separator and block[i] != NEWLINE:
                if block[i] == QUOTE:
                    fault |= ODD
                i += 1
        if i - start > longest_field and _n_characters(block, start, i) > longest_field:
            fault |= LONG
        if i == block.size or block[i] == NEWLINE:
            break
        fields += 1
        i += 1
    if fault & QUOTES:
        # Wherever the quote was meant to close, this line is wrong; the next may be right.
        i, n_ends, fault = line_end, 0, QUOTES
    if i == block.size:
        return (i, fields, n_ends, fault) if is_last else (-1, 0, 0, 0)
    return i, fields, n_ends + 1, fault


@inlined
def _behind_quotes(block, i):
    """Where the quoted field at i ends, and the line ends in it; beyond the block if it does not close there."""
    n_ends = 0
    i += 1
    while True:
        while i < block.size and block[i] != QUOTE:
            n_ends += block[i] == NEWLINE
            i += 1
        i += 1
        if i >= block.size or block[i] != QUOTE:
            return i, n_ends
        i += 1


@inlined
def _n_characters(block, start, end):
    n = 0
    for i in range(start, end):
        n += (block[i] & 0xC0) != 0x80
    return n


@entry
def _bytes_at_fault(block, at, end):
    """NUL and NOT_UTF8 of a stretch of bytes; overlong forms, surrogates and what lies beyond Unicode are not UTF-8."""
    fault, n_more, least, most = 0, 0, 0x80, 0xBF
    for i in range(at, end):
        byte = block[i]
        if n_more > 0:
            if byte < least or byte > most:
                return fault | NOT_UTF8
            n_more, least, most = n_more - 1, 0x80, 0xBF
        elif byte == 0:
            fault |= NUL
        elif byte >= 0x80:
            if byte < 0xC2 or byte > 0xF4:
                return fault | NOT_UTF8
            n_more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
            least = 0xA0 if byte == 0xE0 else 0x90 if byte == 0xF0 else 0x80
            most = 0x9F if byte == 0xED else 0x8F if byte == 0xF4 else 0xBF
    return fault | NOT_UTF8 if n_more > 0 else fault


def items(block: NDArray[np.uint8], state: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn a piece of a JSON array into lines, one for each element; what is around the array becomes blanks.

    block    (n_bytes,) uint8  JSON: an array, or an object of which the first array is meant; of any cut
    state    (3,) int64        depth; within a string or not (2: behind a backslash); the elements' depth (0: the array
                               has not begun, -1: it has ended); all 0 at first, changed for the piece that follows
    returns  (n_bytes,) uint8  the same bytes, line ends and blanks between tokens aside
    raises   InvalidInput      if an argument has another type or size
    source   json.loads of the whole, in tests/kernels/test_records.py
    """
    check_array("block", block, np.uint8)
    check_array("state", state, np.int64)
    check(state.size == 3, f"state must have 3 numbers, got {state.size}")
    lines = np.empty(block.size, np.uint8)
    _items(block, state, lines)
    return lines


@entry
def _items(block, state, lines):
    depth, string, level = state[0], state[1], state[2]
    for at in range(block.size):
        byte = block[at]
        shown = byte
        is_within = level > 0
        if string > 0:
            string = 1 if string == 2 else 2 if byte == 92 else 0 if byte == QUOTE else 1
        elif byte == QUOTE:
            string = 1
        elif byte == 123 or byte == 91:
            depth += 1
            if byte == 91 and level == 0 and depth <= 2:
                level = depth
        elif byte == 125 or byte == 93:
            if depth == level:
                level = -1
                is_within = False
            depth -= 1
        elif byte in (NEWLINE, RETURN):
            shown = 32
        elif byte == 44 and depth == level:
            shown = NEWLINE
        lines[at] = shown if is_within else 32
    state[0], state[1], state[2] = depth, string, level
