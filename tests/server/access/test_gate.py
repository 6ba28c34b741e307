"""The gate: each refusal once, scopes, rates, what is remembered and what is forgotten again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from stratagem.v1 import feedback_pb2, profile_pb2, recommendation_pb2, risk_pb2, strategy_pb2

from server.access.gate import COSTLY_BYTES, FALSE_COST_PER_S, RECHECK_S, REMEMBERED, Access, Principal
from server.access.keys import SCOPES, hash_of, new_key
from server.problems import Forbidden, Overloaded, Problem, RateExceeded, Unauthenticated, WrongSettings
from server.settings import Settings
from tests.server.access.guarded import DECIDE, listening

SECRET = "a-secret-of-at-least-thirty-two-bytes"
NOW_S = 1_700_000_000.0
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
PROFILE = "/stratagem.v1.ProfileService/Get"


@dataclass
class Clocks:
    """Both clocks of a gate, which stand still until they are moved."""

    monotonic_s: float = 1000.0
    wall_s: float = NOW_S

    def gate(self, **changes: object) -> Access:
        """A gate by these clocks."""
        return Access(Settings.model_validate(changes), lambda: self.monotonic_s, lambda: self.wall_s)

    def pass_by(self, seconds: float) -> None:
        """Move both."""
        self.monotonic_s += seconds
        self.wall_s += seconds


@dataclass
class Files:
    """A clients' file with keys by client."""

    path: Path
    keys: dict[str, str] = field(default_factory=dict)

    def write(self, **scopes: list[str]) -> None:
        """Clients with these scopes; one that has had a key before keeps it, one not named is gone."""
        entries = []
        for name, given in scopes.items():
            key, entry = new_key(name, given)
            kept = self.keys.setdefault(name, key)
            entries.append(entry.replace(hash_of(key), hash_of(kept)))
        self.path.write_text("\n".join(entries))


@pytest.fixture
def clocks() -> Clocks:
    """Clocks of a test's own."""
    return Clocks()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A clients' file with two clients."""
    files = Files(tmp_path / "clients.toml")
    files.write(bidder=["strategy", "feedback"], auditor=["profile", "admin"])
    return files


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    """What a caller with a token sends, among other things."""
    return [("user-agent", "test"), ("authorization", f"Bearer {token}"), ("trace-bin", b"\0")]


def token(expires_s: float = NOW_S + 3600, subject: str = "bidder", scope: str = "strategy") -> str:
    """A valid token."""
    return jwt.encode({"sub": subject, "aud": "stratagem", "exp": expires_s, "scope": scope}, SECRET, "HS256")


def test_nothing_configured_lets_this_machine_in_and_nobody_from_beyond_ask_for_descriptions(clocks: Clocks) -> None:
    here = clocks.gate()
    assert here.admit(DECIDE, []).name == "anonymous"
    assert here.admit(REFLECT, bearer("whatever")).kind == "anonymous"
    beyond = clocks.gate(host="0.0.0.0", allow_anonymous=True)
    assert beyond.admit(DECIDE, []).name == "anonymous"
    with pytest.raises(Forbidden, match="needs the scope 'admin'"):
        beyond.admit(REFLECT, [])


def test_every_service_has_a_scope_of_its_own_and_the_rest_is_for_the_admin(tmp_path: Path, clocks: Clocks) -> None:
    files = Files(tmp_path / "each.toml")
    files.write(**{scope: [scope] for scope in SCOPES})
    access = clocks.gate(api_keys=files.path)
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in (strategy_pb2, profile_pb2, recommendation_pb2, feedback_pb2, risk_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert len(methods) >= 9
    for method in (*methods, REFLECT, "/stratagem.v1.NewService/Ask", "", "no method"):
        expected = "admin"
        if method in methods:
            expected = method.split("/")[1].removeprefix("stratagem.v1.").removesuffix("Service").lower()
        for scope, key in files.keys.items():
            if scope == expected:
                assert access.admit(method, bearer(key)).name == scope
            else:
                with pytest.raises(Forbidden, match=f"needs the scope '{expected}'.*'{scope}'"):
                    access.admit(method, bearer(key))


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_health_is_told_to_anybody(files: Files, clocks: Clocks, method: str) -> None:
    principal = clocks.gate(api_keys=files.path, rate_per_s=1.0).admit(f"/grpc.health.v1.Health/{method}", [])
    principal.take(10**6)
    assert principal.scopes == frozenset()


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ([], "authorization must be set, got nothing"),
        ([("Authorization-x", "Bearer a")], "authorization must be set, got nothing"),
        ([("authorization", "")], "authorization must be set, got nothing"),
        ([("authorization", "Bearer ")], "authorization must be 'Bearer TOKEN', got something else"),
        ([("authorization", "Bearer")], "authorization must be 'Bearer TOKEN', got something else"),
        ([("authorization", "Basic YTpi")], "authorization must be 'Bearer TOKEN', got something else"),
        ([("authorization", b"Bearer a")], "authorization must be text, got bytes"),
        (
            [("authorization", "Bearer a"), ("authorization", "Bearer b")],
            "authorization must be set once, got it twice",
        ),
        ([("authorization", "Bearer stratagem~bidder~a")], "authorization must carry a key we know, got another"),
        ([("authorization", "Bearer stratagem~nobody~a")], "authorization must carry a key we know, got another"),
        ([("authorization", "Bearer a.b.c")], "authorization must carry a key of ours, got something else"),
    ],
)
def test_who_shows_nothing_valid_is_refused(
    files: Files, clocks: Clocks, metadata: list[tuple[str, str | bytes]], sentence: str
) -> None:
    with pytest.raises(Unauthenticated) as raised:
        clocks.gate(api_keys=files.path).admit(DECIDE, metadata)
    assert str(raised.value) == sentence


def test_certificates_count_only_where_the_handshake_checked_them(files: Files, clocks: Clocks) -> None:
    with pytest.raises(Unauthenticated, match="got nothing"):
        clocks.gate(api_keys=files.path).admit(DECIDE, [], [b"bidder"])


def test_keys_and_tokens_are_accepted_side_by_side(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path, jwt_secret=SECRET)
    by_key = access.admit(DECIDE, bearer(files.keys["bidder"]))
    by_token = access.admit(DECIDE, [("authorization", f"bearer {token()}")])
    assert [(caller.name, caller.kind) for caller in (by_key, by_token)] == [("bidder", "key"), ("bidder", "token")]


def test_statuses_reach_a_caller_over_the_wire(files: Files) -> None:
    settings = Settings(api_keys=files.path, rate_per_s=1.0, burst=10)
    with listening(settings) as server:
        call = server.insecure()
        assert call(files.keys["bidder"]) == "bidder"
        for wanted, said in (
            (grpc.StatusCode.UNAUTHENTICATED, {}),
            (grpc.StatusCode.PERMISSION_DENIED, {"token": files.keys["bidder"], "method": PROFILE}),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, {"token": files.keys["bidder"], "n_rows": 10}),
            (grpc.StatusCode.INVALID_ARGUMENT, {"token": files.keys["bidder"], "n_rows": 21}),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                call(**said)
            assert raised.value.code() is wanted


def test_a_token_is_checked_once_and_out_when_it_expires(clocks: Clocks) -> None:
    access = clocks.gate(jwt_secret=SECRET)
    sent = bearer(token(NOW_S + 100))
    first = access.admit(DECIDE, sent)
    clocks.pass_by(99.5)
    assert access.admit(DECIDE, sent) is first
    clocks.pass_by(0.5)
    with pytest.raises(Unauthenticated, match="has expired"):
        access.admit(DECIDE, sent)


def test_a_clock_stepping_back_lengthens_no_token_that_is_remembered(clocks: Clocks) -> None:
    access = clocks.gate(jwt_secret=SECRET)
    sent = bearer(token(NOW_S + 100))
    first = access.admit(DECIDE, sent)
    clocks.wall_s -= 3600
    clocks.monotonic_s += 99
    assert access.admit(DECIDE, sent) is first
    clocks.wall_s += 3600 + 100
    clocks.monotonic_s += 1
    with pytest.raises(Unauthenticated, match="has expired"):
        access.admit(DECIDE, sent)


def test_a_caller_is_checked_again_now_and_then(clocks: Clocks) -> None:
    access = clocks.gate(jwt_secret=SECRET)
    sent = bearer(token(NOW_S + 10_000))
    first = access.admit(DECIDE, sent)
    clocks.pass_by(RECHECK_S)
    again = access.admit(DECIDE, sent)
    assert again is not first
    assert (again.name, again.scopes) == (first.name, first.scopes)


def test_false_tokens_are_not_remembered_and_callers_only_so_many(clocks: Clocks) -> None:
    access = clocks.gate(jwt_secret=SECRET)
    assert access.n_remembered == 0
    with pytest.raises(Unauthenticated):
        access.admit(DECIDE, bearer(token() + "A"))
    assert access.n_remembered == 0
    for number in range(REMEMBERED + 10):
        access.admit(DECIDE, bearer(token(subject=f"client-{number}")))
        assert access.n_remembered <= REMEMBERED


def test_a_revoked_key_is_out_as_soon_as_the_file_is_read(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path)
    bidder, auditor = (bearer(files.keys[name]) for name in ("bidder", "auditor"))
    access.admit(DECIDE, bidder)
    assert access.refresh() is False, "nothing changed"
    files.write(auditor=["profile"], shop=["strategy"])
    assert access.refresh() is True
    with pytest.raises(Unauthenticated):
        access.admit(DECIDE, bidder)
    assert access.admit(PROFILE, auditor).scopes == {"profile"}, "a scope taken away is gone too"
    assert access.admit(DECIDE, bearer(files.keys["shop"])).name == "shop"


def test_a_caller_admitted_while_the_file_is_read_is_not_kept_by_it(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path)
    bidder = bearer(files.keys["bidder"])
    is_over = threading.Event()

    def hammer() -> None:
        while not is_over.is_set():
            is_admitted(access, bidder)

    with ThreadPoolExecutor(2) as threads:
        hammers = [threads.submit(hammer) for _ in range(2)]
        try:
            for _ in range(20):
                files.write(auditor=["profile"])
                assert access.refresh() is True
                assert not is_admitted(access, bidder)
                files.write(auditor=["profile"], bidder=["strategy"])
                assert access.refresh() is True
                assert is_admitted(access, bidder)
        finally:
            is_over.set()
        for running in hammers:
            running.result()


def test_a_wrong_file_changes_nothing_and_is_told(
    files: Files, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    access = clocks.gate(api_keys=files.path)
    before = files.path.read_text()
    files.path.write_text("[[client")
    assert access.refresh() is False
    assert "access stays as it was: STRATAGEM_API_KEYS must be TOML" in caplog.text
    assert access.admit(DECIDE, bearer(files.keys["bidder"])).name == "bidder"
    files.path.unlink()
    assert access.refresh() is False
    files.path.write_text(before.replace('"strategy", ', ""))
    assert access.refresh() is True
    with pytest.raises(Forbidden):
        access.admit(DECIDE, bearer(files.keys["bidder"]))


def test_a_gate_does_not_open_over_a_wrong_file(tmp_path: Path, clocks: Clocks) -> None:
    with pytest.raises(WrongSettings, match="STRATAGEM_API_KEYS"):
        clocks.gate(api_keys=tmp_path / "none.toml")


def test_public_keys_are_rotated_in_a_running_gate(
    tmp_path: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    def public(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    claims = {"sub": "bidder", "aud": "stratagem", "exp": NOW_S + 3600, "scope": "strategy"}
    by_old, by_new = (bearer(jwt.encode(claims, key, "ES256")) for key in (old, new))
    path = tmp_path / "public.pem"
    path.write_bytes(public(old))
    access = clocks.gate(jwt_public_key=path)
    admitted = {}
    for content, stage in (
        (public(old), "old"),
        (public(old) + public(new), "both"),
        (public(new), "new"),
    ):
        path.write_bytes(content)
        access.refresh()
        admitted[stage] = [is_admitted(access, sent) for sent in (by_old, by_new)]
    assert admitted == {"old": [True, False], "both": [True, True], "new": [False, True]}


def is_admitted(access: Access, sent: list[tuple[str, str | bytes]]) -> bool:
    """Whether a decision may be asked for with this."""
    try:
        return bool(access.admit(DECIDE, sent))
    except Problem:
        return False


def test_a_client_past_its_rate_is_told_how_long_to_wait(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path, rate_per_s=10.0, burst=5)
    sent = bearer(files.keys["bidder"])
    access.admit(DECIDE, sent).take(25, clocks.monotonic_s)
    with pytest.raises(RateExceeded, match=r"≤ 10 rows/s, got 1 more too early \(client 'bidder'\)") as raised:
        access.admit(DECIDE, sent)
    assert raised.value.retry_after_s == pytest.approx(2.1)
    assert access.admit(PROFILE, bearer(files.keys["auditor"])).name == "auditor", "another client's rate is its own"
    clocks.pass_by(raised.value.retry_after_s)
    access.admit(DECIDE, sent).take(1, clocks.monotonic_s)


def test_a_client_has_one_rate_however_it_comes_in_and_whenever_the_file_is_read(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path, jwt_secret=SECRET, rate_per_s=10.0)
    access.admit(DECIDE, bearer(files.keys["bidder"])).take(60, clocks.monotonic_s)
    files.write(bidder=["strategy"], other=[])
    access.refresh()
    for sent in (bearer(files.keys["bidder"]), bearer(token())):
        with pytest.raises(RateExceeded):
            access.admit(DECIDE, sent)


def test_a_rate_in_the_file_replaces_the_one_for_everybody(tmp_path: Path, clocks: Clocks) -> None:
    key, entry = new_key("bidder", ["strategy"], 100.0, 7)
    slow, slow_entry = new_key("shop", ["strategy"], 3.0)
    (tmp_path / "clients.toml").write_text(entry + slow_entry)
    access = clocks.gate(api_keys=tmp_path / "clients.toml", rate_per_s=1.0)
    buckets = [access.admit(DECIDE, bearer(sent)).bucket for sent in (key, slow)]
    assert [(bucket.rate_per_s, bucket.burst) for bucket in buckets if bucket] == [(100.0, 7.0), (3.0, 3.0)]


def test_a_flood_of_false_tokens_delays_new_ones_only(files: Files, clocks: Clocks) -> None:
    access = clocks.gate(api_keys=files.path, jwt_secret=SECRET)
    known = bearer(token())
    access.admit(DECIDE, known)
    for number in range(int(FALSE_COST_PER_S) - 8):
        with pytest.raises(Unauthenticated):
            access.admit(DECIDE, bearer(f"false.{number}"))
    with pytest.raises(Unauthenticated):
        access.admit(DECIDE, bearer("long." + "A" * 7 * COSTLY_BYTES))
    with pytest.raises(Overloaded) as raised:
        access.admit(DECIDE, bearer("false.again"))
    assert raised.value.retry_after_s == pytest.approx(1 / FALSE_COST_PER_S)
    assert access.admit(DECIDE, known).name == "bidder"
    assert access.admit(DECIDE, bearer(files.keys["bidder"])).name == "bidder"
    clocks.pass_by(raised.value.retry_after_s or 0.0)
    assert access.admit(DECIDE, bearer(token(subject="new"))).name == "new"


def test_principals_say_nothing_that_opens_a_door(clocks: Clocks) -> None:
    sent = token()
    principal = clocks.gate(jwt_secret=SECRET).admit(DECIDE, bearer(sent))
    assert repr(principal) == "Principal(name='bidder', kind='token', scopes=frozenset({'strategy'}))"
    assert principal == Principal("bidder", "token", frozenset({"strategy"}), None, principal.until_s)
