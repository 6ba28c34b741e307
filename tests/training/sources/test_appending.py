"""What was read stays read: new files append, removed ones disappear, and no row is ever lost without a word."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from training.sources.content import FileContent
from training.sources.delimited import Delimited, Layout, fields_of
from training.sources.documents import Json
from training.sources.reading import Batch, Interrupted, Source, Unread
from training.sources.shop import ingest, read_shop
from training.sources.tables import TABLES, InvalidTable

# A fresh folder for every example costs milliseconds, whatever the machine does beside it.
EXAMPLES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEAD = "who,when,what,which,n,paid"
SHOP = """[shop]
time_zone = "Europe/London"
[events]
source = "*.csv"
[events.columns]
shopper_id = "who"
time = "when"
kind = { column = "what", values = { bought = "order" } }
item_id = "which"
quantity = "n"
paid = "paid"
"""
LINES = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s3", ""]),
        st.sampled_from(["2024-05-31 12:00", "2024-01-31", "31/05/2024", "2024-03-31 01:30"]),
        st.sampled_from(["bought", "view", "stolen"]),
        st.sampled_from(["p1", "p2"]),
        st.sampled_from(["1", "2", "x", "-1", ""]),
        st.sampled_from(["1.50", "2", "1e3", ""]),
    ).map(",".join),
    max_size=8,
)
SOUND = "s9,2024-05-30,bought,p9,1,1\n"


def quiet(_: str) -> None:
    """Progress that nobody watches."""


def read_all(source: Source) -> tuple[list[Batch], list[Unread]]:
    """Everything that a source gives before it ends or breaks off."""
    unread: list[Unread] = []
    batches = []
    try:
        for batch in source.batches(unread.append):
            batches.append(batch)  # noqa: PERF402 - what came before a break counts
    except Interrupted:
        pass
    return batches, unread


def read_or_refused(source: Source) -> tuple[list[Batch], list[Unread]]:
    """The same of a source that may also be refused as a whole, by its name and a rule."""
    try:
        return read_all(source)
    except InvalidTable as refused:
        if not str(refused).startswith(f"{source.name} "):
            raise
        return [], []


def shop_folder(folder: Path, files: dict[str, list[str]]) -> Path:
    """A shop of some CSV files, each with enough sound rows not to be refused."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.toml").write_text(SHOP)
    for old in folder.glob("*.csv"):
        old.unlink()
    for name, lines in files.items():
        (folder / name).write_text("\n".join([HEAD, *lines, ""]) + SOUND * (len(lines) + 1))
    return folder


@EXAMPLES
@given(first=LINES, second=LINES)
def test_a_file_that_comes_later_gives_the_tables_of_both_at_once(first: list[str], second: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        ingest(shop_folder(place / "in", {"a.csv": first}), place / "grown", quiet)
        both = shop_folder(place / "in", {"a.csv": first, "b.csv": second})
        said: list[str] = []
        ingest(both, place / "grown", said.append)
        assert any(sentence.startswith("a.csv is known") for sentence in said)
        ingest(both, place / "whole", quiet)
        for name, table in read_shop(place / "whole").tables().items():
            assert_frame_equal(read_shop(place / "grown").tables()[name], table)
        stamps = [json.loads((place / shop / "shop.json").read_text()) for shop in ("grown", "whole")]
        assert stamps[0] == stamps[1]


@EXAMPLES
@given(lines=LINES)
def test_rows_in_are_rows_out_and_rows_in_quarantine(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        ingest(shop_folder(place / "in", {"a.csv": lines}), place / "shop", quiet)
        n_out = read_shop(place / "shop").events.height
        caught = pl.read_parquet(place / "shop" / "quarantine.parquet").filter(pl.col("table") == "events")
        assert n_out + caught.height == 2 * len(lines) + 1
        assert caught["line"].is_between(2, 2 * len(lines) + 2).all()


def test_a_file_that_goes_takes_its_rows_with_it(tmp_path: Path) -> None:
    ingest(
        shop_folder(tmp_path / "in", {"a.csv": [], "b.csv": ["s1,2024-05-31,bought,p1,1,1"]}), tmp_path / "shop", quiet
    )
    assert "s1" in read_shop(tmp_path / "shop").events["shopper_id"]
    ingest(shop_folder(tmp_path / "in", {"a.csv": []}), tmp_path / "shop", quiet)
    assert read_shop(tmp_path / "shop").events["shopper_id"].to_list() == ["s9"]


@EXAMPLES
@given(raw=st.binary(max_size=200) | st.text(alphabet='ab",\n\r\x00é', max_size=60).map(str.encode))
def test_no_bytes_break_the_reader_and_no_record_is_lost(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.csv"
        path.write_bytes(b"a,b\n" + raw)
        batches, unread = read_all(Delimited(FileContent(path, "a.csv")))
        lines = [line for batch in batches for line in batch.lines] + [each.line for each in unread]
        assert len(set(lines)) == len(lines)
        # Every line that is not blank begins a record or stands within one that began above it.
        filled = {
            number for number, line in enumerate((b"a,b\n" + raw).split(b"\n"), start=1) if line not in (b"", b"\r")
        }
        assert not filled - {1} or min(filled - {1}) in lines or 1 in lines


ROWS = st.lists(st.lists(st.text(alphabet='ab",\n é', max_size=5), min_size=3, max_size=3), max_size=8)


@EXAMPLES
@given(rows=ROWS, separator=st.sampled_from(",;\t"), ending=st.sampled_from(["\n", "\r\n"]))
def test_what_pythons_csv_module_writes_is_read_back(rows: list[list[str]], separator: str, ending: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=ending)
    writer.writerows([["a", "b", "c"], *rows])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.csv"
        path.write_bytes(text.getvalue().encode())
        batches, unread = read_all(Delimited(FileContent(path, "a.csv"), Layout(separator)))
    read = [[value or "" for value in row] for batch in batches for row in batch.frame.iter_rows()]
    assert (read, unread) == (rows, [])


@EXAMPLES
@given(fields=st.lists(st.text(alphabet='ab",', max_size=4), min_size=2, max_size=4))
def test_fields_of_a_record_are_those_of_pythons_csv_module(fields: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    assert fields_of(text.getvalue(), ",") == fields


@EXAMPLES
@given(cut=st.integers(20, 400), flipped=st.integers(0, 400))
def test_a_damaged_archive_keeps_the_rows_before_the_damage(cut: int, flipped: int) -> None:
    text = "a,b\n" + "".join(f"{row},{row * row}\n" for row in range(200))
    raw = bytearray(gzip.compress(text.encode(), mtime=0)[:cut])
    raw[flipped % len(raw)] ^= 1
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.csv.gz"
        path.write_bytes(raw)
        batches, unread = read_or_refused(Delimited(FileContent(path, "a.csv.gz")))
        assert sum(batch.frame.height for batch in batches) + len(unread) <= 201


TEXT = "a,b\n" + "".join(f"{row},{row * row}\n" for row in range(50_000))
PACK = {"a.csv.gz": gzip.compress, "a.csv.zst": zstandard.compress}


def rows_and_reason(path: Path) -> tuple[list[tuple[str, ...]], str]:
    """What is read of a file before it stops, and why it does."""
    read: list[tuple[str, ...]] = []
    try:
        for batch in Delimited(FileContent(path, path.name)).batches(lambda _: None):
            read += batch.frame.rows()
    except InvalidTable as stopped:
        return read, str(stopped)
    return read, "it came to its end"


@pytest.mark.parametrize("name", PACK)
def test_an_archive_that_was_cut_off_keeps_its_rows_and_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    raw = PACK[name](TEXT.encode())
    path.write_bytes(raw[: len(raw) * 9 // 10])
    read, reason = rows_and_reason(path)
    assert 30_000 < len(read) < 50_000
    assert [row[0] for row in read] == [str(row) for row in range(len(read))]
    assert reason.startswith(f"{name} stopped after {len(read):,} rows: it must be whole ")
    assert reason.endswith(", got: an end in the middle of it")


def test_a_gzip_whose_checksum_is_wrong_keeps_every_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    raw = bytearray(gzip.compress(b"a,b\n1,2\n3,4\n"))
    raw[-8] ^= 1
    path.write_bytes(raw)
    read, reason = rows_and_reason(path)
    assert read == [("1", "2"), ("3", "4")]
    assert reason.startswith("a.csv.gz stopped after 2 rows: it must be whole gzip, got: ")


@pytest.mark.parametrize("name", PACK)
def test_archives_one_behind_another_are_one_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    padding = bytes(10_000) if name.endswith(".gz") else b""
    path.write_bytes(PACK[name](b"a,b\n1,") + PACK[name](b"") + PACK[name](b"2\n3,4\n") + padding)
    batches, unread = read_all(Delimited(FileContent(path, name)))
    assert ([row for batch in batches for row in batch.frame.rows()], unread) == ([("1", "2"), ("3", "4")], [])


def test_an_archive_cut_off_before_its_header_ends_is_refused_for_that(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:11])
    assert rows_and_reason(path)[1] == (
        "a.csv.gz must be text with a header, got none before it stopped: "
        "it must be whole gzip, got: an end in the middle of it"
    )


@EXAMPLES
@given(
    raw=st.binary(max_size=60) | st.text(alphabet='{}[]":,1a\n ', max_size=40).map(str.encode), is_array=st.booleans()
)
def test_no_json_breaks_the_reader(raw: bytes, is_array: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "a.json"
        path.write_bytes(raw)
        batches, unread = read_or_refused(Json(FileContent(path, "a.json"), is_array=is_array))
        assert sum(batch.frame.height for batch in batches) + len(unread) <= len(raw)


def test_an_array_within_an_object_gives_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"of": "shop", "rows": [{"a": 1.10, "b": "x"}, {"a": 2, "c": ["y"]}]}, indent=2))
    batches, unread = read_all(Json(FileContent(path, "a.json"), is_array=True))
    frame = pl.concat([batch.frame for batch in batches])
    assert (frame.to_dicts(), unread) == (
        [{"a": "1.1", "b": "x", "c": None}, {"a": "2", "b": None, "c": ["y"]}], [],
    )  # fmt: skip


def test_a_field_of_a_million_characters_is_taken_out_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3," + "x" * 1_000_001 + "\n4,5\n")
    batches, unread = read_all(Delimited(FileContent(path, "a.csv")))
    assert [row for batch in batches for row in batch.frame.rows()] == [("1", "2"), ("4", "5")]
    assert [(each.line, each.rule) for each in unread] == [(3, "long_field")]


def test_what_unpacks_to_far_more_than_any_text_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"a,b\n")
        for _ in range(50):
            file.write((b"1," + b"2" * 1_021 + b"\n") * (1 << 10))
    with pytest.raises(
        Interrupted, match=r"a\.csv\.gz stopped after [\d,]+ rows: it must not unpack to more than 250 times"
    ):
        for _ in Delimited(FileContent(path, "a.csv.gz")).batches(lambda _: None):
            pass


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("[events]\nsource = 'a.csv'\ncolour = 1", "shop.toml: events.colour is no key that stands there"),
        ("[shop]\nname = 'x'", "shop.toml: events must be given"),
        ("[events]\nsource = ", "shop.toml must be TOML in UTF-8, got: "),
        ("[events]\nsource = 'a.csv'\nencoding = 'klingon'", "shop.toml: events.encoding must be an encoding such as"),
        (
            "[events]\nsource = 'a.csv'\n[events.columns]\nwhen = 'x'",
            "shop.toml: events.columns.when must be a column of",
        ),
        (
            "[shop]\ntime_zone = 'Mars'\n[events]\nsource = 'a.csv'",
            "shop.toml: shop.time_zone must be an IANA time zone",
        ),
        ("[events]\nsource = 'b.csv'", "b.csv must be readable, got No such file or directory"),
    ],
)
def test_a_wrong_mapping_is_refused_in_one_sentence(tmp_path: Path, toml: str, sentence: str) -> None:
    (tmp_path / "shop.toml").write_text(toml)
    with pytest.raises(InvalidTable) as refused:
        ingest(tmp_path, tmp_path / "shop", quiet)
    assert str(refused.value).startswith(sentence)


def test_currencies_are_converted_or_taken_out(tmp_path: Path) -> None:
    folder = shop_folder(tmp_path / "in", {})
    toml = SHOP.replace("[events]", "[shop.rates]\nEUR = 0.85\n[events]") + 'currency = "code"\n'
    (folder / "shop.toml").write_text(toml)
    rows = [f"s{row},2024-05-31,bought,p1,1,10,{code}" for row, code in enumerate(["USD", "EUR", "CHF", ""])]
    (folder / "a.csv").write_text("\n".join([HEAD + ",code", *rows, ""]))
    ingest(folder, tmp_path / "shop", quiet)
    assert read_shop(tmp_path / "shop").events["paid_micros"].to_list() == [10_000_000, 8_500_000, 10_000_000]
    assert pl.read_parquet(tmp_path / "shop" / "quarantine.parquet")["reason"].to_list() == [
        "a.csv line 4: code must be USD, or a currency with a rate in [shop.rates] of shop.toml, got 'CHF'"
    ]


def test_all_tables_of_a_shop_have_their_columns(tmp_path: Path) -> None:
    ingest(shop_folder(tmp_path / "in", {"a.csv": []}), tmp_path / "shop", quiet)
    for name, frame in read_shop(tmp_path / "shop").tables().items():
        assert frame.columns == list(TABLES[name].schema)
