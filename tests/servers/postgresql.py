"""A PostgreSQL of one's own: a new cluster in a temporary folder, its address out; tests and benchmarks start it.

PostgreSQL refuses to run as root, so a caller who is root starts it as `nobody`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.ports import free_port

DEBIAN_PACKAGE = "postgresql"
# A cold start takes a tenth of a second on an idle machine.
PATIENCE_S = 60.0
OWNER, PASSWORD = "owner", "open sesame"


@dataclass(frozen=True)
class Postgresql:
    """A running server.

    port     on 127.0.0.1
    process  the server itself
    """

    port: int
    process: subprocess.Popen[bytes]

    def address(self, password: str = PASSWORD) -> str:
        """Its address as shop.toml gives it, password within."""
        return f"postgresql://{OWNER}:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE_S)


@contextmanager
def postgresql() -> Iterator[Postgresql]:
    """Run a PostgreSQL for as long as the block runs.

    raises  FileNotFoundError  where its programs are missing
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        data, secret = folder / "data", folder / "password"
        secret.write_text(PASSWORD)
        who = _who()
        if who is not None:
            for place in (folder, secret):
                os.chown(place, who, -1)
        initdb = (
            programs / "initdb", "-D", data, "-U", OWNER, "--auth=scram-sha-256", "--pwfile", secret, "--no-sync",
            "--encoding=UTF8", "--no-locale",
        )  # fmt: skip
        subprocess.run(initdb, user=who, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        server = Postgresql(*_started(programs, folder, who))
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


def _started(programs: Path, folder: Path, who: int | None) -> tuple[int, subprocess.Popen[bytes]]:
    port, log = free_port(), folder / "log"
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "autovacuum=off")
    command = [programs / "postgres", "-D", folder / "data", "-p", str(port)]
    command += [word for setting in settings for word in ("-c", setting)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, user=who, cwd=folder, stdout=output, stderr=output)
    until_s = time.monotonic() + PATIENCE_S
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, user=who, cwd=folder, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            process.wait()
            raise RuntimeError(f"PostgreSQL did not come up: {log.read_text()}")
    return port, process


def _programs() -> Path:
    """The folder of initdb and postgres; Debian keeps it off the PATH."""
    on_path = shutil.which("postgres")
    if on_path and Path(on_path).with_name("pg_isready").exists():
        return Path(on_path).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not debian:
        raise FileNotFoundError(f"postgres is not installed (Debian package {DEBIAN_PACKAGE})")
    return debian[-1].parent


def _who() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None
