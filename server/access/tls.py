"""What the gateway may listen on, and its certificates.

In: settings. Out: gRPC's server credentials, None where there is no TLS, or one sentence naming the setting to change.
Called by whatever binds the port, before it binds, and by server/access/gate.py for what the settings amount to.
"""

import ipaddress
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from server.problems import Problem, WrongSettings
from server.settings import Settings

_logger = logging.getLogger(__name__)


def check_exposure(settings: Settings) -> None:
    """Pass when the address to listen on is guarded well enough for who can reach it.

    raises  WrongSettings
    """
    if settings.allow_anonymous and is_authenticating(settings):
        rule = "must be false where keys, tokens or certificates tell callers apart"
        raise WrongSettings(f"STRATAGEM_ALLOW_ANONYMOUS {rule}, got true")
    if is_loopback(settings.host):
        return
    beyond = f"to listen beyond this machine, got none (STRATAGEM_HOST {settings.host!r})"
    if settings.tls_certificate is None:
        raise WrongSettings(f"STRATAGEM_TLS_CERTIFICATE must be set {beyond}; or listen on 127.0.0.1")
    if not is_authenticating(settings) and not settings.allow_anonymous:
        ways = "STRATAGEM_API_KEYS, _JWT_PUBLIC_KEY, _JWT_SECRET or _TLS_CLIENT_CA"
        raise WrongSettings(f"{ways} must be set {beyond}; or STRATAGEM_ALLOW_ANONYMOUS=true lets anybody in")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host; of names, `localhost` alone is taken at its word."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_authenticating(settings: Settings) -> bool:
    """Whether these settings can tell one caller from another."""
    ways = (settings.jwt_secret, settings.jwt_public_key, settings.api_keys, settings.tls_client_ca)
    return any(way is not None for way in ways)


Stamp = tuple[int, int, int]


def stamp_of(path: Path | None) -> Stamp | None:
    """What changes when a file does: time, size and inode; None where there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


@dataclass(frozen=True, repr=False)
class _Pems:
    """Checked contents of the files: key and chain fit each other."""

    key: bytes
    chain: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], root_certificates=self.client_ca)


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Server credentials whose files are looked at for every new connection and read again when they changed.

    returns  None where the settings have no certificate
    raises   WrongSettings  as check_exposure; or a file is missing, wrong, expired, or does not fit another
    """
    check_exposure(settings)
    if settings.tls_certificate is None or settings.tls_key is None:
        for name in ("tls_certificate", "tls_key", "tls_client_ca"):
            if getattr(settings, name) is not None:
                rule = "STRATAGEM_TLS_CERTIFICATE and STRATAGEM_TLS_KEY must both be set"
                raise WrongSettings(f"{rule}, got STRATAGEM_{name.upper()} without")
        return None
    first = _read(settings)
    return grpc.dynamic_ssl_server_credentials(
        first.configuration(),
        _fetcher(settings),
        require_client_authentication=settings.tls_client_ca is not None,
    )


def _fetcher(settings: Settings) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """What gRPC calls before every handshake: the new configuration where the files changed, else None."""
    stamps = _stamps(settings)
    lock = threading.Lock()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal stamps
        with lock:
            now = _stamps(settings)
            if now == stamps:
                return None
            stamps = now
        try:
            pems = _read(settings)
        except Problem as problem:  # such as a key written a moment before its certificate
            _logger.error("the certificate stays as it was: %s", problem)
            return None
        _logger.info("certificate read again from %s", settings.tls_certificate)
        return pems.configuration()

    return fetch


def _stamps(settings: Settings) -> list[Stamp | None]:
    return [stamp_of(path) for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)]


def _read(settings: Settings) -> _Pems:
    certificate, key = _bytes_of(settings, "tls_certificate"), _bytes_of(settings, "tls_key")
    client_ca = _bytes_of(settings, "tls_client_ca") if settings.tls_client_ca is not None else None
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WrongSettings(_must(settings, "tls_key", "a PEM private key without a password")) from None
    ours = _certificate_in(settings, "tls_certificate", certificate)
    if client_ca is not None:
        _certificate_in(settings, "tls_client_ca", client_ca)
    kind = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*kind) != ours.public_key().public_bytes(*kind):
        raise WrongSettings(_must(settings, "tls_key", "the key of STRATAGEM_TLS_CERTIFICATE"))
    return _Pems(key, certificate, client_ca)


def _certificate_in(settings: Settings, name: str, content: bytes) -> x509.Certificate:
    """The file's first certificate, which must be valid now."""
    try:
        first = x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise WrongSettings(_must(settings, name, "PEM certificates")) from None
    if not first.not_valid_before_utc <= datetime.now(UTC) <= first.not_valid_after_utc:
        until = f"{first.not_valid_before_utc:%Y-%m-%d} to {first.not_valid_after_utc:%Y-%m-%d}"
        raise WrongSettings(_must(settings, name, "valid now") + f": it is from {until}")
    return first


def _bytes_of(settings: Settings, name: str) -> bytes:
    try:
        content: bytes = getattr(settings, name).read_bytes()
    except OSError as error:
        raise WrongSettings(_must(settings, name, "a readable file") + f": {error.strerror}") from None
    return content


def _must(settings: Settings, name: str, rule: str) -> str:
    return f"STRATAGEM_{name.upper()} must be {rule}, got {getattr(settings, name)}"
