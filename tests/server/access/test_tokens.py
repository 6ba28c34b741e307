"""Signed tokens: the valid one passes, and every way to make a false one is tried."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from server.access.tokens import TOKEN_BYTES, Tokens, public_keys_in, tokens_of
from server.problems import Unauthenticated, WrongSettings
from server.settings import Settings
from tests.server.access.certificates import pem, private_key

NOW_S = 1_700_000_000.0
SECRET = "a-secret-of-at-least-thirty-two-bytes"
RSA = rsa.generate_private_key(65537, 2048)
SIGNERS = {
    "RS256": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"sub": "bidder", "aud": "stratagem", "iss": "issuer", "exp": NOW_S + 60, "scope": "strategy other:scope risk"}
Signer = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def public_pem(signer: Signer) -> bytes:
    """Its public key."""
    return signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_jwk(signer: Signer, algorithm: str, **more: str) -> dict[str, object]:
    """Its public key as a JWKS has it."""
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(signer.public_key(), as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"} | more


def checking(folder: Path, content: bytes, **changes: object) -> Tokens:
    """What checks tokens by a file of public keys."""
    path = folder / "public.pem"
    path.write_bytes(content)
    tokens = tokens_of(Settings.model_validate({"jwt_public_key": path, "jwt_issuer": "issuer"} | changes))
    assert tokens is not None
    return tokens


def by_secret(**changes: object) -> Tokens:
    """What checks tokens by a shared secret."""
    tokens = tokens_of(Settings.model_validate({"jwt_secret": SECRET, "jwt_issuer": "issuer"} | changes))
    assert tokens is not None
    return tokens


def signed(claims: dict[str, object], **headers: object) -> str:
    """A token signed with the shared secret."""
    return jwt.encode(claims, SECRET, "HS256", headers=headers or None)


def without(claim: str) -> dict[str, object]:
    """The claims but one."""
    return {name: value for name, value in CLAIMS.items() if name != claim}


def refusal(tokens: Tokens, token: str) -> str:
    """What the sender of a false token is told, which never repeats it."""
    with pytest.raises(Unauthenticated) as raised:
        tokens.verified(token, NOW_S)
    sentence = str(raised.value)
    parts = [part for part in token.split(".") if len(part) > 12]
    assert not any(part in sentence for part in parts)
    return sentence


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_token_of_each_kind_of_key_passes(tmp_path: Path, algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    token = jwt.encode(CLAIMS, signer, algorithm)
    for content in (public_pem(signer), json.dumps({"keys": [public_jwk(signer, algorithm)]}).encode()):
        claims = checking(tmp_path, content).verified(token, NOW_S)
        assert (claims.subject, claims.expires_s) == ("bidder", NOW_S + 60)
        assert claims.scopes == {"strategy", "other:scope", "risk"}


def test_a_token_of_the_shared_secret_passes() -> None:
    assert by_secret().verified(signed(CLAIMS), NOW_S).subject == "bidder"
    assert by_secret().verified(signed(CLAIMS | {"aud": ["others", "stratagem"]}), NOW_S).subject == "bidder"
    assert by_secret(jwt_issuer=None).verified(signed(without("iss")), NOW_S).subject == "bidder"
    assert by_secret().verified(signed(without("scope")), NOW_S).scopes == frozenset()


def test_without_keys_nothing_checks_tokens() -> None:
    assert tokens_of(Settings()) is None


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        (CLAIMS | {"exp": NOW_S}, "exp must be in the future, got a token that has expired"),
        (CLAIMS | {"exp": NOW_S - 3600}, "exp must be in the future, got a token that has expired"),
        (CLAIMS | {"exp": str(NOW_S + 60)}, "exp must be seconds since the epoch, got a token with something else"),
        (CLAIMS | {"exp": True}, "exp must be seconds since the epoch, got a token with something else"),
        (CLAIMS | {"exp": float("inf")}, "exp must be seconds since the epoch, got a token with something else"),
        (CLAIMS | {"exp": float("nan")}, "exp must be seconds since the epoch, got a token with something else"),
        (without("exp"), "exp must be set, got a token without"),
        (CLAIMS | {"nbf": NOW_S + 31}, "nbf must be in the past, got a token that is not valid yet"),
        (CLAIMS | {"nbf": "soon"}, "nbf must be seconds since the epoch, got a token with something else"),
        (CLAIMS | {"aud": "others"}, "aud must name us, got a token for somebody else"),
        (CLAIMS | {"aud": []}, "aud must be set, got a token without"),
        (without("aud"), "aud must be set, got a token without"),
        (CLAIMS | {"iss": "others"}, "iss must be our issuer, got a token of another"),
        (without("iss"), "iss must be set, got a token without"),
        (without("sub"), "sub must be set, got a token without"),
        (CLAIMS | {"sub": ""}, "sub must have 1 to 128 printable characters, got a token with others"),
        (CLAIMS | {"sub": "a\nINFO forged"}, "sub must have 1 to 128 printable characters, got a token with others"),
        (CLAIMS | {"sub": "a" * 129}, "sub must have 1 to 128 printable characters, got a token with others"),
        (CLAIMS | {"sub": 7}, "authorization must carry a token signed with a key we know, got another"),
        (CLAIMS | {"scope": ["strategy"]}, "scope must be words parted by spaces, got a token with something else"),
    ],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(claims: dict[str, object], sentence: str) -> None:
    assert refusal(by_secret(), signed(claims)) == sentence


def test_a_token_may_be_as_early_as_clocks_differ() -> None:
    assert by_secret().verified(signed(CLAIMS | {"nbf": NOW_S + 30}), NOW_S).subject == "bidder"


def test_a_key_of_another_opens_nothing(tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    assert "key we know" in refusal(checking(tmp_path, public_pem(RSA)), jwt.encode(CLAIMS, other, "RS256"))
    assert "key we know" in refusal(by_secret(), jwt.encode(CLAIMS, SECRET[::-1], "HS256"))


def forged(header: dict[str, object], claims: dict[str, object], secret: bytes | None) -> str:
    """A token put together by hand, as no library would."""
    parts = [json.dumps(part).encode() for part in (header, claims)]
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret, body, hashlib.sha256) if secret is not None else b""
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, ["none"], "HS256", "HS512", "RS256"])
def test_an_unsigned_token_is_refused_whatever_it_calls_itself(tmp_path: Path, name: object) -> None:
    token = forged({"alg": name, "typ": "JWT"}, CLAIMS, None)
    for tokens in (checking(tmp_path, public_pem(RSA)), by_secret()):
        assert "key we know" in refusal(tokens, token)


@pytest.mark.parametrize("kept", [public_pem(RSA), public_pem(RSA).strip(), public_pem(SIGNERS["EdDSA"])])
def test_a_public_key_is_never_taken_for_a_shared_secret(tmp_path: Path, kept: bytes) -> None:
    token = forged({"alg": "HS256", "typ": "JWT"}, CLAIMS, kept)
    assert "key we know" in refusal(checking(tmp_path, public_pem(RSA)), token)
    both = checking(tmp_path, public_pem(RSA), jwt_secret=SECRET)
    assert "key we know" in refusal(both, token)
    assert both.verified(signed(CLAIMS), NOW_S) == both.verified(jwt.encode(CLAIMS, RSA, "RS256"), NOW_S)


def test_a_key_checks_by_its_own_algorithm_only(tmp_path: Path) -> None:
    tokens = checking(tmp_path, public_pem(RSA))
    assert "key we know" in refusal(tokens, jwt.encode(CLAIMS, RSA, "RS512"))
    assert "key we know" in refusal(tokens, jwt.encode(CLAIMS, RSA, "PS256"))
    relabelled = jwt.encode(CLAIMS, RSA, "RS512").split(".")
    relabelled[0] = jwt.encode({}, RSA, "RS256").split(".")[0]
    assert "key we know" in refusal(tokens, ".".join(relabelled))


def test_keys_inside_a_token_are_not_heeded(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    tokens = checking(tmp_path, public_pem(SIGNERS["ES256"]))
    own = {"jwk": public_jwk(other, "ES256"), "jku": "https://127.0.0.1/keys", "x5u": "https://127.0.0.1/keys"}
    assert "key we know" in refusal(tokens, jwt.encode(CLAIMS, other, "ES256", headers=own))


GENUINE = signed(CLAIMS)


@settings(deadline=None)  # this machine is shared
@given(at=st.integers(0, len(GENUINE) - 1), other=st.characters(codec="latin-1"))
def test_a_token_altered_anywhere_is_refused(at: int, other: str) -> None:
    altered = GENUINE[:at] + other + GENUINE[at + 1 :]
    if altered == GENUINE:
        assert by_secret().verified(altered, NOW_S).subject == "bidder"
    else:
        refusal(by_secret(), altered)


@settings(deadline=None)  # this machine is shared
@given(claims=st.dictionaries(st.sampled_from(sorted(CLAIMS)), st.text() | st.integers() | st.none(), min_size=1))
def test_a_payload_exchanged_under_a_genuine_signature_is_refused(claims: dict[str, object]) -> None:
    header, payload, signature = GENUINE.split(".")
    other = base64.urlsafe_b64encode(json.dumps(CLAIMS | claims).encode()).rstrip(b"=").decode()
    assert other != payload
    refusal(by_secret(), f"{header}.{other}.{signature}")


@settings(deadline=None)  # this machine is shared
@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_noise_is_refused_in_words(text: str) -> None:
    refusal(by_secret(), text)


def test_a_header_of_nested_lists_is_refused_in_words() -> None:
    nested = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
    assert "key we know" in refusal(by_secret(), f"{nested}.e30.AAAA")


def test_a_token_is_no_longer_than_it_needs_to_be() -> None:
    assert "at most" in refusal(by_secret(), signed(CLAIMS | {"more": "x" * TOKEN_BYTES}))


def test_keys_are_rotated_without_refusing_anybody(tmp_path: Path) -> None:
    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    by_old, by_new = (jwt.encode(CLAIMS, key, "ES256") for key in (old, new))
    both = checking(tmp_path, public_pem(old) + public_pem(new))
    assert both.verified(by_old, NOW_S) == both.verified(by_new, NOW_S)
    after = checking(tmp_path, public_pem(new))
    assert after.verified(by_new, NOW_S).subject == "bidder"
    assert "key we know" in refusal(after, by_old)


def test_a_token_is_checked_by_the_key_it_names(tmp_path: Path) -> None:
    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    keys = [public_jwk(old, "ES256", kid="old", use="sig", alg="ES256"), public_jwk(new, "ES256", kid="new")]
    sealing = public_jwk(RSA, "RS256", kid="seal", use="enc")
    tokens = checking(tmp_path, json.dumps({"keys": [*keys, sealing]}).encode())
    assert tokens.verified(jwt.encode(CLAIMS, new, "ES256", headers={"kid": "new"}), NOW_S).subject == "bidder"
    assert tokens.verified(jwt.encode(CLAIMS, new, "ES256"), NOW_S).subject == "bidder"
    assert "key we know" in refusal(tokens, jwt.encode(CLAIMS, new, "ES256", headers={"kid": "old"}))
    assert "key we know" in refusal(tokens, jwt.encode(CLAIMS, RSA, "RS256", headers={"kid": "seal"}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has 0 public keys"),
        (b"{", "a key in it cannot be read"),
        (b'{"keys": []}', "it has 0 public keys"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}', "cannot be read"),
        (b'{"keys": [3]}', "cannot be read"),
        (json.dumps({"keys": [public_jwk(RSA, "RS256", alg="HS256")]}).encode(), "cannot be read"),
        (json.dumps({"keys": [public_jwk(RSA, "RS256", alg="RS512")]}).encode(), "cannot be read"),
        (pem(private_key()), "it has 0 public keys"),
        (public_pem(RSA) * 9, "it has 9 public keys"),
        (public_pem(RSA).replace(b"A", b"B"), "cannot be read"),
    ],
)
def test_a_file_that_is_not_of_public_keys_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(WrongSettings, match=r"^STRATAGEM_JWT_PUBLIC_KEY must be a file of public keys") as raised:
        checking(tmp_path, content)
    assert reason in str(raised.value)


def test_weak_and_unknown_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    for key in (
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ):
        path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(WrongSettings, match="cannot be read"):
            public_keys_in(path)
    with pytest.raises(WrongSettings, match="No such file or directory"):
        public_keys_in(tmp_path / "none.pem")
