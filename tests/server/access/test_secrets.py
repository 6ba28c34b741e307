"""Nothing that opens a door is ever written down: a whole run is searched for it."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest

from server.access.gate import Access
from server.access.keys import PREFIX, hash_of, new_key
from server.access.tls import credentials
from server.access.tokens import tokens_of
from server.problems import Problem, WrongSettings
from server.settings import Settings, load_settings
from tests.server.access.certificates import Authority
from tests.server.access.guarded import DECIDE, Listening, listening

SECRET = "planted-jwt-secret-0123456789-abcdefgh"
EXPLORE = "planted-explore-key"
CLAIMS = {"sub": "bidder", "aud": "stratagem", "exp": 4e9, "scope": "strategy"}
GENUINE = jwt.encode(CLAIMS, SECRET, "HS256")
EXPIRED = jwt.encode(CLAIMS | {"exp": 1}, SECRET, "HS256")
ELSEWHERE = jwt.encode(CLAIMS | {"aud": "planted-audience"}, SECRET, "HS256")
FOREIGN = jwt.encode(CLAIMS, SECRET[::-1], "HS256")
KEY, ENTRY = new_key("bidder", ["strategy"])
WRONG_KEY, _ = new_key("bidder", [])
OURS = Authority("ours")
GATEWAY = OURS.issued("gateway", alternative="gateway.example")


def planted() -> Iterator[str]:
    """Every text that must stay unsaid."""
    yield from (SECRET, SECRET[::-1], EXPLORE, "planted-audience", hash_of(KEY))
    yield from (key.removeprefix(f"{PREFIX}bidder~") for key in (KEY, WRONG_KEY))
    for token in (GENUINE, EXPIRED, ELSEWHERE, FOREIGN):
        yield from token.split(".")[1:]
    yield from GATEWAY.key.decode().splitlines()[1:-1]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings from an environment with secrets in it, as an operator gives them."""
    certificate, key = GATEWAY.written(tmp_path, "gateway")
    (tmp_path / "clients.toml").write_text(ENTRY)
    for name, value in (
        ("TLS_CERTIFICATE", certificate),
        ("TLS_KEY", key),
        ("API_KEYS", tmp_path / "clients.toml"),
        ("JWT_SECRET", SECRET),
        ("EXPLORE_KEY", EXPLORE),
    ):
        monkeypatch.setenv(f"STRATAGEM_{name}", str(value))
    return load_settings()


def answers(server: Listening) -> Iterator[str]:
    """What callers, right and wrong, are told over the wire."""
    call = server.secure(OURS.certificate)
    for token in (KEY, GENUINE, WRONG_KEY, EXPIRED, ELSEWHERE, FOREIGN, None, "", KEY[:-1], GENUINE + "A"):
        try:
            yield call(token)
        except grpc.RpcError as error:
            yield f"{error.code()} {error.details()} {error.debug_error_string()}"


def told(settings: Settings, folder: Path) -> Iterator[str]:
    """How everything that holds a secret shows itself, and every problem with its traceback."""
    access = Access(settings)
    held = (settings, access, tokens_of(settings), credentials(settings), access.admit(DECIDE, sent(KEY)))
    yield from (f"{thing!r} {thing}" for thing in held)
    yield settings.model_dump_json()
    for token in (WRONG_KEY, EXPIRED, ELSEWHERE, FOREIGN):
        try:
            access.admit(DECIDE, sent(token))
        except Problem as problem:
            yield "".join(traceback.format_exception(problem)) + repr(problem)
    settings.api_keys.write_text(f'[[client]]\nname = "bidder"\nscopes = []\nhashes = ["{KEY}"]')  # type: ignore[union-attr]
    access.refresh()
    settings.api_keys.write_text(f"[[client]]\nname = {KEY}")  # type: ignore[union-attr]
    access.refresh()
    (folder / "gateway.pem").write_bytes(GATEWAY.key)
    try:
        credentials(settings)
    except Problem as problem:
        yield "".join(traceback.format_exception(problem))


def sent(token: str) -> list[tuple[str, str | bytes]]:
    """A caller's metadata."""
    return [("authorization", f"Bearer {token}")]


def test_no_secret_is_in_any_log_answer_or_repr_of_a_whole_run(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        with listening(settings) as server:
            said = list(answers(server))
        shown = list(told(settings, tmp_path))
    assert said[:2] == ["bidder", "bidder"]
    assert sum("UNAUTHENTICATED" in answer for answer in said) == 8
    assert caplog.text.count("access stays as it was") == 2
    written = capfd.readouterr()
    everything = "\n".join([*said, *shown, caplog.text, written.out, written.err])
    assert [text for text in planted() if text in everything] == []


def test_a_secret_that_breaks_its_rule_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATAGEM_JWT_SECRET", "planted-and-short")
    with pytest.raises(WrongSettings, match=r"^STRATAGEM_JWT_SECRET: .*at least 32") as raised:
        load_settings()
    assert "planted" not in "".join(traceback.format_exception(raised.value))
