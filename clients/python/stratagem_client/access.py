"""How a client proves who it is and checks who answers: TLS, client certificates, bearer tokens.

In: certificates in PEM and a token or where to get one. Out: channel credentials and the metadata of one call.
"""

import asyncio
import inspect
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from stratagem_client.refusals import WrongUse

TokenSource = Callable[[], str | Awaitable[str]]
Metadata = tuple[tuple[str, str], ...]
_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")


@dataclass(frozen=True)
class Tls:
    """Certificates in PEM.

    root_certificates   who may have signed the gateway's; None: the system's own list
    client_certificate  ours, where the gateway asks for one; with client_key
    server_name         the name on the gateway's certificate; empty: that of the address
    """

    root_certificates: bytes | None = None
    client_certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        """A certificate needs its key."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise WrongUse("client_certificate and client_key must be given together, got one of them")

    @classmethod
    def from_files(cls, roots: Path | None, certificate: Path | None = None, key: Path | None = None) -> "Tls":
        """Read the PEM files that are given."""
        return cls(_pem(roots), _pem(certificate), _pem(key))

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC wants them."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.client_key, self.client_certificate)


@dataclass(frozen=True)
class Access:
    """How one client reaches its gateway.

    tls            None: in the clear
    token          a bearer token, or what returns one, awaited if need be; None: no token
    token_lasts_s  after which time the source is asked again; it is also asked when the gateway answers UNAUTHENTICATED
    """

    tls: Tls | None = None
    token: str | TokenSource | None = field(default=None, repr=False)
    token_lasts_s: float = math.inf

    def check(self, addresses: tuple[str, ...]) -> None:
        """A token never leaves this machine in the clear.

        raises  WrongUse  naming the address
        """
        if self.token is None or self.tls is not None:
            return
        for address in addresses:
            if not _is_on_this_machine(address):
                raise WrongUse(
                    f"a token must not be sent in the clear beyond this machine: set tls (address {address!r})"
                )


class Tokens:
    """The bearer token of every call, fetched once and again when it no longer holds."""

    def __init__(self, access: Access) -> None:
        """Fetch nothing yet."""
        self._access = access
        self._lock = asyncio.Lock()
        self._token = ""
        self._fetched_s = -math.inf

    async def metadata(self) -> Metadata:
        """What a call carries; fetched by one caller at a time."""
        source = self._access.token
        if source is None:
            return ()
        if isinstance(source, str):
            return (("authorization", f"Bearer {source}"),)
        async with self._lock:
            if time.monotonic() - self._fetched_s >= self._access.token_lasts_s or not self._token:
                fetched = source()
                self._token = await fetched if inspect.isawaitable(fetched) else fetched
                self._fetched_s = time.monotonic()
            return (("authorization", f"Bearer {self._token}"),)

    def forget(self, refused: Metadata) -> bool:
        """Drop a token that was refused; False if no other can be had."""
        if not callable(self._access.token):
            return False
        if refused == (("authorization", f"Bearer {self._token}"),):
            self._token = ""
        return True


def _pem(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _is_on_this_machine(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    host = address.rpartition(":")[0].strip("[]") or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
