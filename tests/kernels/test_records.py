"""Records end where their twin says, wherever a block is cut; amounts and times are what decimal and calendar say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import fields
from kernels.checks import InvalidInput
from kernels.records import EMPTY, LONG, NOT_UTF8, NUL, ODD, QUOTES, Records, items, records
from kernels.reference import records as reference
from tests.kernels.ledgers import EXAMPLES

# Few letters, so that quotes, separators and line ends meet in every way.
TEXTS = st.text(alphabet='ab",\n\r', max_size=40).map(str.encode)


def bytes_of(text: bytes) -> np.ndarray:
    """A text as kernels take it."""
    return np.frombuffer(text, np.uint8)


def told(text: bytes, found: Records) -> list[tuple[bytes, int, int, bool, bool]]:
    """Records as their twin writes them; a record with broken quotes has no certain number of fields."""
    return [
        (
            text[start:end],
            int(line),
            -1 if fault & QUOTES else int(n_fields),
            bool(fault & QUOTES),
            bool(fault & ODD),
        )
        for start, end, line, n_fields, fault in zip(
            found.starts, found.ends, found.lines, found.n_fields, found.faults, strict=True
        )
    ]


def defined(text: bytes, is_last: bool, patience: int) -> list[tuple[bytes, int, int, bool, bool]]:
    """The twin's answer."""
    return [
        (record, line, -1 if is_broken else n_fields, is_broken, is_odd)
        for record, line, n_fields, is_broken, is_odd in reference.records(text, b",", is_last, patience)
    ]


@EXAMPLES
@given(text=TEXTS, is_last=st.booleans(), patience=st.integers(5, 60))
def test_records_equal_their_definition(text: bytes, is_last: bool, patience: int) -> None:
    assert told(text, records(bytes_of(text), 44, is_last, patience)) == defined(text, is_last, patience)


@EXAMPLES
@given(text=TEXTS)
def test_a_text_cut_at_any_place_has_the_same_records(text: bytes) -> None:
    whole = told(text, records(bytes_of(text), is_last=True))
    for cut in range(len(text) + 1):
        first = records(bytes_of(text[:cut]))
        second = records(bytes_of(text[first.n_bytes :]), is_last=True)
        later = [(record, line + first.n_lines, *rest) for record, line, *rest in told(text[first.n_bytes :], second)]
        assert told(text, first) + later == whole


@EXAMPLES
@given(text=st.binary(max_size=30))
def test_what_is_marked_as_no_utf8_is_what_python_does_not_decode(text: bytes) -> None:
    text = text.replace(b'"', b"").replace(b"\n", b"")
    found = records(bytes_of(text), is_last=True)
    try:
        text.decode()
        is_text = True
    except UnicodeDecodeError:
        is_text = False
    if text:
        assert bool(found.faults[0] & NOT_UTF8) != is_text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"\r\n", EMPTY),
        (b"a\0b\n", NUL),
        (b'"a\n', QUOTES),
        (b"abcdefg,1\n", LONG),
        ("é" * 6 + ",1\n", LONG),
        (b'a"b\n', ODD),
    ],
)
def test_each_fault_is_marked(text: bytes | str, fault: int) -> None:
    raw = text.encode() if isinstance(text, str) else text
    assert records(bytes_of(raw), is_last=True, longest_field=5).faults.tolist() == [fault]


def test_a_field_is_as_long_as_its_characters() -> None:
    assert records(bytes_of(("é" * 5 + "\n").encode()), longest_field=5).faults.tolist() == [0]


def test_a_quote_is_no_separator() -> None:
    with pytest.raises(InvalidInput, match="separator must be one ASCII character other than a quote"):
        records(bytes_of(b"a"), separator=34)


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='ab"\\[]{},\n', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@EXAMPLES
@given(
    values=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 1]),
    is_held=st.booleans(),
    cut=st.integers(0, 60),
)
def test_an_array_becomes_one_line_for_each_element(
    values: list[object], indent: int | None, is_held: bool, cut: int
) -> None:
    text = json.dumps({"n": 1, "rows": values, "end": {"a": [1]}} if is_held else values, indent=indent).encode()
    state = np.zeros(3, np.int64)
    lines = b"".join(items(bytes_of(part), state).tobytes() for part in (text[:cut], text[cut:]))
    assert [json.loads(line) for line in lines.split(b"\n") if line.strip()] == values
    assert state.tolist() == [0, 0, -1]


def laid_out(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as Arrow lays them out."""
    raw = [text.encode() for text in texts]
    return bytes_of(b"".join(raw)), np.cumsum([0, *(len(text) for text in raw)], dtype=np.int64)


AMOUNTS = st.from_regex(reference.AMOUNT, fullmatch=True) | st.text(alphabet="019.+-e ", max_size=12)


@EXAMPLES
@given(texts=st.lists(AMOUNTS, max_size=6))
def test_amounts_are_those_of_decimal_arithmetic(texts: list[str]) -> None:
    micros, is_read = fields.amounts(*laid_out(texts))
    assert [int(value) if read else None for value, read in zip(micros, is_read, strict=True)] == [
        reference.amount(text) for text in texts
    ]


TIMES = (
    st.from_regex(reference.INSTANT, fullmatch=True)
    | st.datetimes().map(lambda time: time.isoformat(" ", "seconds"))
    | st.text(alphabet="0123-: TZ+.", max_size=22)
)


@EXAMPLES
@given(texts=st.lists(TIMES, max_size=6))
def test_times_are_those_of_the_calendar(texts: list[str]) -> None:
    seconds, marks = fields.instants(*laid_out(texts))
    read = [int(value) if mark != fields.UNREAD else None for value, mark in zip(seconds, marks, strict=True)]
    assert read == [reference.instant(text) for text in texts]


@EXAMPLES
@given(times=st.lists(st.datetimes(), max_size=6))
def test_a_pattern_reads_what_strftime_wrote(times: list) -> None:
    texts = [f"{time:%d/%m/}{time.year:04}{time: %H:%M:%S}" for time in times]
    seconds, marks = fields.instants(*laid_out(texts), "%d/%m/%Y %H:%M:%S")
    assert (marks == fields.LOCAL).all()
    assert seconds.tolist() == [reference.instant(time.isoformat(" ", "seconds")) for time in times]


@pytest.mark.parametrize(
    ("text", "mark"), [("2024-05-31T18:04Z", 2), ("2024-05-31T18:04+0200", 2), ("2024-05-31", 1), ("31", 0)]
)
def test_a_time_says_whether_it_has_an_offset(text: str, mark: int) -> None:
    assert fields.instants(*laid_out([text]))[1].tolist() == [mark]


def test_a_directive_that_is_not_followed_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pattern must use only"):
        fields.instants(*laid_out(["1 May"]), "%d %b")
