"""Objects come out of a real S3 server byte for byte, also over a connection that breaks."""

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.servers.cutting import Relay, relay
from tests.servers.seaweed import Seaweed
from training.sources.s3 import StoredObject, stored_objects
from training.sources.tables import InvalidTable

MIB = 1 << 20
# Each object spans several blocks of a download, and is of no round size.
CONTENT = np.random.default_rng(0).bytes(9 * MIB + 7)


@pytest.fixture
def server(seaweed_server: Seaweed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Seaweed:
    """The S3 server, found through the environment as any client finds it."""
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return seaweed_server


@pytest.fixture(scope="module")
def big(seaweed_server: Seaweed) -> str:
    """The address of an object of CONTENT."""
    seaweed_server.client().put_object(Bucket="shop", Key="big/content.bin", Body=CONTENT)
    return "s3://shop/big/content.bin"


@pytest.fixture
def weak(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The same server behind a line that can be made to break after a mebibyte."""
    with relay(server.address, MIB) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
        yield line


def put(server: Seaweed, *keys: str) -> None:
    client = server.client()
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda key: client.put_object(Bucket="shop", Key=key, Body=key.encode()), keys))


def the_one(address: str) -> StoredObject:
    (found,) = stored_objects(address)
    return found


def refusal(address: str) -> str:
    with pytest.raises(InvalidTable) as refused:
        stored_objects(address)
    return str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("glob/", ["glob/a.csv", "glob/b.csv", "glob/b.jsonl", "glob/old/c.csv"]),
        ("glob", ["glob/a.csv", "glob/b.csv", "glob/b.jsonl", "glob/old/c.csv"]),
        ("glob/a.csv", ["glob/a.csv"]),
        ("glob/*.csv", ["glob/a.csv", "glob/b.csv"]),
        ("glob/*/*.csv", ["glob/old/c.csv"]),
        ("glo?/[b-z].*", ["glob/b.csv", "glob/b.jsonl"]),
    ],
)
def test_an_address_names_an_object_a_folder_or_a_glob(server: Seaweed, wanted: str, found: list[str]) -> None:
    put(server, "glob/a.csv", "glob/b.csv", "glob/b.jsonl", "glob/old/c.csv", "globe/d.csv", "glob/old/")
    assert [each.name for each in stored_objects(f"s3://shop/{wanted}")] == [f"s3://shop/{key}" for key in found]


def test_a_listing_of_many_pages_is_read_to_its_end(server: Seaweed) -> None:
    keys = [f"many/{number:04}" for number in range(1_020)]
    put(server, *keys)
    assert len(stored_objects("s3://shop/many/")) == 1_020


def test_an_object_is_read_byte_for_byte_from_any_place(server: Seaweed, big: str) -> None:
    with the_one(big).open() as content:
        assert content.read() == CONTENT
        assert content.read() == b""
        content.seek(5 * MIB + 3)
        assert content.read(10) == CONTENT[5 * MIB + 3 :][:10]
        content.seek(-7, 2)
        assert content.read() == CONTENT[-7:]


def test_packed_objects_and_parquet_are_read_like_files(server: Seaweed) -> None:
    frame = pl.DataFrame({"id": range(100_000), "word": ["tea"] * 100_000})
    parquet = BytesIO()
    frame.write_parquet(parquet, row_group_size=10_000)
    server.client().put_object(Bucket="shop", Key="kinds/a.parquet", Body=parquet.getvalue())
    server.client().put_object(Bucket="shop", Key="kinds/a.csv.gz", Body=gzip.compress(frame.write_csv().encode()))
    packed, table = stored_objects("s3://shop/kinds/")
    with table.open() as content:
        assert_frame_equal(pl.read_parquet(content), frame)
    with packed.open() as content, gzip.open(content) as unpacked:
        assert_frame_equal(pl.read_csv(unpacked.read()), frame)


def test_an_object_of_no_bytes_is_empty(server: Seaweed) -> None:
    server.client().put_object(Bucket="shop", Key="none.csv", Body=b"")
    with the_one("s3://shop/none.csv").open() as content:
        assert content.read() == b""


def test_the_digest_changes_with_the_bytes_alone(server: Seaweed) -> None:
    def digest(body: bytes) -> str:
        server.client().put_object(Bucket="shop", Key="digest.csv", Body=body)
        return the_one("s3://shop/digest.csv").digest()

    assert digest(b"tea") == digest(b"tea")
    assert digest(b"tea") != digest(b"sea")


def test_a_download_that_breaks_goes_on_where_it_stopped(weak: Relay, big: str) -> None:
    found = the_one(big)
    weak.n_cuts = 3
    with found.open() as content:
        assert content.read() == CONTENT
    assert weak.n_cuts < 0


def test_a_server_that_stays_away_says_how_far_the_download_came(weak: Relay, big: str) -> None:
    found = the_one(big)
    with found.open() as content:
        content.read(10)
        weak.is_silent = True
        with pytest.raises(OSError, match=r"^broke off after [1-9][\d,]* of 9,437,191 bytes: "):
            content.read()


def test_an_object_changed_in_mid_read_is_not_read_on(server: Seaweed) -> None:
    put(server, "changed.csv")
    with the_one("s3://shop/changed.csv").open() as content:
        server.client().put_object(Bucket="shop", Key="changed.csv", Body=b"another")
        with pytest.raises(OSError, match="the object was changed while it was being read"):
            content.read()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("s3://nosuchbucket/orders/", "there is no such bucket"),
        ("s3://shop/nothing/", "must name at least one object, got none"),
        ("s3://shop/nothing/*.csv", "must name at least one object, got none"),
        ("s3://", "must be s3://bucket/key"),
        ("s3:///orders", "must be s3://bucket/key"),
    ],
)
def test_an_address_that_names_nothing_is_refused(server: Seaweed, address: str, sentence: str) -> None:
    assert sentence in refusal(address)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key does not belong to the access key"),
        ("AWS_ACCESS_KEY_ID", "nobody", "there is no such access key"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "Could not connect to the endpoint URL"),
        ("AWS_ENDPOINT_URL", "nowhere", "Invalid endpoint"),
    ],
)
def test_a_wrong_setting_is_named(
    server: Seaweed, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert sentence in refusal("s3://shop/big/")


def test_missing_credentials_are_said_with_what_to_set(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials; set AWS_ACCESS_KEY_ID" in refusal("s3://shop/big/")
