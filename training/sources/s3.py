"""An s3:// address in, the stored objects it names out, each readable like a file; what reads shop.toml calls it.

Endpoint, region and credentials are found as every S3 client finds them: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, the files
in ~/.aws, the role of the machine. Nothing is written.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from training.sources.tables import InvalidTable

SCHEME = "s3://"
WILD = re.compile(r"[*?\[]")
# Larger blocks than a disk's: each is one system call on a socket, and Parquet reads columns of megabytes.
BLOCK_BYTES = 4 << 20
# How often in a row a broken download is taken up again before a word of it has come.
N_TRIES = 4
PATIENCE = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"})


@dataclass(frozen=True)
class StoredObject:
    """One object as it was when it was listed.

    name     its s3:// address
    n_bytes  as stored, packed
    etag     the server's fingerprint of its bytes
    """

    name: str
    n_bytes: int
    etag: str
    client: Any = field(repr=False, compare=False)

    def digest(self) -> str:
        """Address, ETag and size: S3 changes the ETag with the bytes."""
        return hashlib.blake2b(f"{self.name}\0{self.etag}\0{self.n_bytes}".encode(), digest_size=16).hexdigest()

    def open(self) -> BinaryIO:
        """Open it at its first byte; it can be sought in, and a broken download goes on where it stopped.

        raises  OSError  on reading: a server that stays away, or an object that changed since it was listed
        """
        return cast(BinaryIO, io.BufferedReader(_Download(self), BLOCK_BYTES))


def stored_objects(address: str) -> list[StoredObject]:
    """Return the objects that an address names, by name.

    address  s3://bucket/key, s3://bucket/prefix/ or s3://bucket/orders/*.csv.gz, where * stays within a folder
    raises   InvalidTable  in one sentence if there is no such bucket or object, no credentials, or no server
    """
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket:
        raise InvalidTable(f"an S3 address must be s3://bucket/key or s3://bucket/prefix/, got {address!r}")
    with _told(address):
        # A session of its own: boto3's shared one would keep the credentials it found first.
        client = boto3.Session().client("s3", config=PATIENCE)
        wild = WILD.search(key)
        listed = list(_listed(client, bucket, key[: wild.start()] if wild else key))
    # Some tools write an empty object for each folder.
    found = [entry for entry in listed if _matches(entry["Key"], key) and not entry["Key"].endswith("/")]
    if not found:
        raise InvalidTable(f"{address} must name at least one object, got none")
    return [
        StoredObject(f"{SCHEME}{bucket}/{entry['Key']}", entry["Size"], entry["ETag"], client)
        for entry in sorted(found, key=lambda entry: str(entry["Key"]))
    ]


class _Download(io.RawIOBase):
    """The bytes of an object, fetched as they are read."""

    def __init__(self, source: StoredObject) -> None:
        self._source = source
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.n_bytes}[whence]
        if start + offset != self._at:
            self._drop()
            self._at = max(0, start + offset)
        return self._at

    def readinto(self, into: Any) -> int:
        n_wanted = min(len(into), self._source.n_bytes - self._at)
        if n_wanted <= 0:
            return 0
        block = self._block(n_wanted)
        into[: len(block)] = block
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        self._drop()
        super().close()

    def _block(self, n_wanted: int) -> bytes:
        for n_left in reversed(range(N_TRIES)):
            try:
                self._body = self._body or self._fetched()
                block = bytes(self._body.read(n_wanted))
                if block:
                    return block
                raise OSError("the server ended it early")
            except ClientError as error:
                raise OSError(self._lost(_reason(error))) from error
            except (OSError, BotoCoreError, HTTPError) as error:
                self._drop()
                if not n_left:
                    raise OSError(self._lost(_reason(error))) from error
        raise AssertionError("the last try returns or raises")

    def _fetched(self) -> Any:
        bucket, _, key = self._source.name.removeprefix(SCHEME).partition("/")
        # IfMatch: the rest of another version must never be put behind the beginning of this one.
        answer = self._source.client.get_object(
            Bucket=bucket, Key=key, Range=f"bytes={self._at}-", IfMatch=self._source.etag
        )
        return answer["Body"]

    def _lost(self, reason: str) -> str:
        return f"broke off after {self._at:,} of {self._source.n_bytes:,} bytes: {reason}"

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _listed(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def _matches(key: str, wanted: str) -> bool:
    """Whether a key is meant by what stands behind the bucket: a glob, an object, or a folder of them."""
    if WILD.search(wanted):
        return PurePosixPath(f"/{key}").match(f"/{wanted}")
    return key == wanted or not wanted or key.startswith(wanted if wanted.endswith("/") else f"{wanted}/")


@contextmanager
def _told(address: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError, HTTPError, ValueError) as error:
        raise InvalidTable(f"{address} must be readable, got: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What happened and, where the owner can mend it, how."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE"
    if isinstance(error, ClientError):
        known = {
            "NoSuchBucket": "there is no such bucket",
            "NoSuchKey": "there is no such object any more",
            "PreconditionFailed": "the object was changed while it was being read",
            "AccessDenied": "these credentials may not read it",
            "403": "these credentials may not read it",
            "SignatureDoesNotMatch": "the secret key does not belong to the access key",
            "InvalidAccessKeyId": "there is no such access key",
        }
        code = str(error.response.get("Error", {}).get("Code", ""))
        return known.get(code, str(error))
    return " ".join(str(error).split()).rstrip(".")
