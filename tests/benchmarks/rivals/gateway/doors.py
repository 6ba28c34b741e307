"""How a server is reached, and a TLS certificate and bearer token of one's own to reach it with.

In: a folder. Out: a self-signed certificate for 127.0.0.1 with its key, and a token. Used by starting.py and driver.py.
"""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEBIAN_PACKAGE = "openssl"
SCOPE = "decide"
N_OTHER_TOKENS = 100


@dataclass(frozen=True)
class Door:
    """What a server shows and what its callers bring.

    certificate  PEM; callers trust it as their only root
    key          PEM
    token        opens SCOPE
    """

    certificate: Path
    key: Path
    token: str

    @property
    def authorization(self) -> str:
        """The value of the header `authorization`."""
        return f"Bearer {self.token}"

    def scopes(self) -> dict[str, list[str]]:
        """Scopes by header value, as a server keeps them: ours among those of other clients."""
        others = {f"Bearer {secrets.token_urlsafe(24)}": ["feedback"] for _ in range(N_OTHER_TOKENS)}
        return others | {self.authorization: [SCOPE, "profile"]}


@dataclass(frozen=True)
class Server:
    """A gRPC server that can be measured: a rival, or the gateway itself.

    address  "127.0.0.1:PORT"
    pid      of the process that listens; its children may work too
    door     what callers must bring; None: nothing, and no TLS
    is_shut  whether the address exists only in that process's own network namespace
    """

    address: str
    pid: int
    door: Door | None = None
    is_shut: bool = False

    def beside(self) -> list[str]:
        """The command that a program is started with, so that it can reach this server."""
        if not self.is_shut:
            return []
        return ["nsenter", f"--target={self.pid}", "--user", "--preserve-credentials", "--net"]


def new_door(folder: Path) -> Door:
    """Make a certificate by `openssl` and draw a token.

    folder   receives certificate.pem and key.pem
    raises   FileNotFoundError  where the program is missing
    """
    door = Door(folder / "certificate.pem", folder / "key.pem", secrets.token_urlsafe(24))
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout", str(door.key), "-out", str(door.certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return door
