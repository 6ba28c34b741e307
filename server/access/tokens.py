"""Signed tokens (JWT): who sent this, what may they ask, until when.

In: the settings' keys and a token. Out: its checked claims, or a refusal that never repeats the token.
Called by server/access/gate.py for a token it has not seen lately.

A token's header is written by whoever sends it. It may pick among our keys by `kid`; how its signature is checked is
said by the key alone, so a public key is never taken for a shared secret and `none` is never an answer.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import jwt.types
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.problems import Unauthenticated, WrongSettings
from server.settings import Settings

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

RSA_BITS = 2048  # RFC 7518, 3.3
MOST_KEYS = 8  # a token without `kid` is tried against all of them
# gRPC takes 8 KiB of metadata and more; what an issuer signs for a client is below 2, and reading takes time per byte.
TOKEN_BYTES = 4096
SUBJECT_LENGTH = 128
# Clocks of issuer and server differ a little: a token may be this early. Its end has no such grace.
EARLY_S = 30.0
NOT_VALID = "authorization must carry a token signed with a key we know, got another"
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
# Times are checked here, against the clock that is handed in and without the library's taste for numbers in quotes.
_OPTIONS: jwt.types.Options = {
    "require": ["exp", "sub", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, repr=False)
class Key:
    """One key, with the one algorithm it is for."""

    key: PublicKey | bytes
    algorithm: str
    kid: str | None = None


@dataclass(frozen=True)
class Claims:
    """What a valid token says."""

    subject: str
    scopes: frozenset[str]
    expires_s: float


class Tokens:
    """Checks tokens against our keys, our name and our issuer's."""

    def __init__(self, keys: tuple[Key, ...], audience: str, issuer: str | None) -> None:
        """Check with these.

        audience  what `aud` must contain
        issuer    what `iss` must be; None: anything
        """
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._jwt = jwt.PyJWT()

    def verified(self, token: str, now_s: float) -> Claims:
        """The claims of a token that is ours, unaltered, and in time.

        now_s   seconds since the epoch
        raises  Unauthenticated
        """
        if len(token) > TOKEN_BYTES or not token.isascii():
            raise Unauthenticated(f"authorization must carry at most {TOKEN_BYTES} ASCII characters, got others")
        payload = self._payload(token)
        expires_s = _time(payload, "exp")
        if not now_s < expires_s:
            raise Unauthenticated("exp must be in the future, got a token that has expired")
        if "nbf" in payload and _time(payload, "nbf") > now_s + EARLY_S:
            raise Unauthenticated("nbf must be in the past, got a token that is not valid yet")
        subject, scope = payload["sub"], payload.get("scope", "")
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH or not subject.isprintable():
            raise Unauthenticated(f"sub must have 1 to {SUBJECT_LENGTH} printable characters, got a token with others")
        if not isinstance(scope, str):
            raise Unauthenticated("scope must be words parted by spaces, got a token with something else")
        return Claims(subject, frozenset(scope.split()), expires_s)

    def _payload(self, token: str) -> dict[str, object]:
        for key in self._candidates(token):
            try:
                payload: dict[str, object] = self._jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    options=_OPTIONS,
                )
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                continue
            except jwt.PyJWTError as error:
                raise Unauthenticated(_refusal(error)) from None
            return payload
        raise Unauthenticated(NOT_VALID)

    def _candidates(self, token: str) -> Iterator[Key]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated(NOT_VALID) from None
        kid, algorithm = header.get("kid"), header.get("alg")
        named = (key for key in self._keys if kid is None or key.kid is None or key.kid == kid)
        return (key for key in named if key.algorithm == algorithm)  # saves time; `decode` insists on it again


def _time(payload: dict[str, object], claim: str) -> float:
    value = payload[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unauthenticated(f"{claim} must be seconds since the epoch, got a token with something else")
    return value


def _refusal(error: jwt.PyJWTError) -> str:
    """Our words: the library's may quote the token. What is told here was signed, so its sender may know it."""
    if isinstance(error, jwt.InvalidAudienceError):
        return "aud must name us, got a token for somebody else"
    if isinstance(error, jwt.InvalidIssuerError):
        return "iss must be our issuer, got a token of another"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"{error.claim} must be set, got a token without"
    return NOT_VALID


def tokens_of(settings: Settings) -> Tokens | None:
    """What checks tokens by these settings; None where no key for them is set.

    raises  WrongSettings
    """
    keys: list[Key] = []
    if settings.jwt_secret is not None:
        keys.append(Key(settings.jwt_secret.get_secret_value().encode(), "HS256"))
    if settings.jwt_public_key is not None:
        keys += public_keys_in(settings.jwt_public_key)
    return Tokens(tuple(keys), settings.jwt_audience, settings.jwt_issuer) if keys else None


def public_keys_in(path: Path) -> list[Key]:
    """The public keys of a PEM or JWKS file, each with the algorithm of its kind.

    raises  WrongSettings
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WrongSettings(_wrong_file(path, str(error.strerror))) from None
    try:
        keys = _of_jwks(content) if content.lstrip()[:1] == b"{" else _of_pem(content)
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise WrongSettings(_wrong_file(path, "a key in it cannot be read")) from None
    if not 1 <= len(keys) <= MOST_KEYS:
        raise WrongSettings(_wrong_file(path, f"it has {len(keys)} public keys, and 1 to {MOST_KEYS} are needed"))
    return keys


def _wrong_file(path: Path, reason: str) -> str:
    return f"STRATAGEM_JWT_PUBLIC_KEY must be a file of public keys (PEM or JWKS), got {path}: {reason}"


def _of_pem(content: bytes) -> list[Key]:
    keys = [load_pem_public_key(block) for block in _PEM.findall(content)]
    return [Key(_strong(key), _algorithm(key)) for key in keys]


def _of_jwks(content: bytes) -> list[Key]:
    keys = []
    for entry in orjson.loads(content)["keys"]:
        if not isinstance(entry, dict):
            raise TypeError("not a key")
        if entry.get("use", "sig") != "sig":
            continue
        key = _strong(jwt.PyJWK(entry).key)  # a secret in it (kty oct) is no public key: refused there
        algorithm = _algorithm(key)
        if entry.get("alg", algorithm) != algorithm:
            raise ValueError("another algorithm than its kind of key has here")
        keys.append(Key(key, algorithm, entry.get("kid")))
    return keys


def _strong(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS:
        raise ValueError("too short")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise TypeError("not a public key we can use")
    return key


def _algorithm(key: object) -> str:
    """The one algorithm a key is for."""
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ES256", "secp384r1": "ES384"}[key.curve.name]
    return "EdDSA"
