"""Who can reach the gateway, and by which certificates: real handshakes over a real server."""

import logging
from pathlib import Path

import grpc
import pytest

from server.access.keys import new_key
from server.access.tls import check_exposure, credentials, is_loopback
from server.problems import WrongSettings
from server.settings import Settings
from tests.server.access.certificates import Authority, Pair, pem, private_key
from tests.server.access.guarded import listening

SECRET = "a-secret-of-at-least-thirty-two-bytes"
OURS, THEIRS = Authority("ours"), Authority("theirs")
GATEWAY = OURS.issued("gateway", alternative="gateway.example")
CLIENT = OURS.issued("bidder")


def settings_with(folder: Path, pair: Pair = GATEWAY, **changes: object) -> Settings:
    """Settings with a certificate."""
    certificate, key = pair.written(folder, "gateway")
    return Settings.model_validate({"tls_certificate": certificate, "tls_key": key} | changes)


def mutual(folder: Path, **changes: object) -> Settings:
    """Settings that ask every client for a certificate of ours."""
    (folder / "ca.pem").write_bytes(OURS.certificate)
    return settings_with(folder, tls_client_ca=folder / "ca.pem", **changes)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_this_machine_alone_reaches_a_loopback_address(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "[::]", "", "*", "10.0.0.1", "192.0.2.1", "gateway.example", "localhost.example", "127.1"]
)
def test_beyond_this_machine_needs_a_certificate(host: str) -> None:
    with pytest.raises(WrongSettings, match=r"^STRATAGEM_TLS_CERTIFICATE must be set to listen beyond this machine"):
        check_exposure(Settings(host=host, jwt_secret=SECRET))


def test_credentials_cannot_be_had_without_the_check() -> None:
    with pytest.raises(WrongSettings, match="beyond this machine"):
        credentials(Settings(host="0.0.0.0"))


def test_beyond_this_machine_needs_callers_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"^STRATAGEM_API_KEYS.* must be set .*STRATAGEM_ALLOW_ANONYMOUS=true"):
        check_exposure(settings_with(tmp_path, host="0.0.0.0"))


def test_beyond_this_machine_anybody_may_call_only_where_that_is_said(tmp_path: Path) -> None:
    check_exposure(settings_with(tmp_path, host="0.0.0.0", allow_anonymous=True))
    check_exposure(settings_with(tmp_path, host="0.0.0.0", jwt_secret=SECRET))


def test_anybody_and_keys_contradict_each_other() -> None:
    with pytest.raises(WrongSettings, match=r"^STRATAGEM_ALLOW_ANONYMOUS must be false"):
        check_exposure(Settings(allow_anonymous=True, jwt_secret=SECRET))


def test_without_a_certificate_there_is_no_tls() -> None:
    assert credentials(Settings()) is None


@pytest.mark.parametrize("only", ["tls_certificate", "tls_key", "tls_client_ca"])
def test_a_certificate_and_its_key_come_together(tmp_path: Path, only: str) -> None:
    (tmp_path / "file").write_bytes(GATEWAY.certificate)
    with pytest.raises(WrongSettings, match=f"must both be set, got STRATAGEM_{only.upper()} without"):
        credentials(Settings.model_validate({only: tmp_path / "file"}))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    def refusal(pair: Pair = GATEWAY, **changes: object) -> str:
        with pytest.raises(WrongSettings) as raised:
            credentials(settings_with(tmp_path, pair, **changes))
        return str(raised.value).replace(str(tmp_path), "")

    certificate, key = GATEWAY.certificate, GATEWAY.key
    assert (
        refusal(tls_key=tmp_path / "no")
        == "STRATAGEM_TLS_KEY must be a readable file, got /no: No such file or directory"
    )
    assert refusal(Pair(b"no", key)) == "STRATAGEM_TLS_CERTIFICATE must be PEM certificates, got /gateway.pem"
    assert (
        refusal(Pair(certificate, b"no"))
        == "STRATAGEM_TLS_KEY must be a PEM private key without a password, got /gateway.key"
    )
    other = pem(private_key())
    assert (
        refusal(Pair(certificate, other))
        == "STRATAGEM_TLS_KEY must be the key of STRATAGEM_TLS_CERTIFICATE, got /gateway.key"
    )
    assert "STRATAGEM_TLS_CERTIFICATE must be valid now" in refusal(OURS.issued("late", (-30, -1)))
    assert "STRATAGEM_TLS_CERTIFICATE must be valid now" in refusal(OURS.issued("early", (1, 30)))
    (tmp_path / "ca.pem").write_bytes(b"no")
    assert "STRATAGEM_TLS_CLIENT_CA must be PEM certificates" in refusal(tls_client_ca=tmp_path / "ca.pem")


def test_a_client_that_trusts_our_authority_is_answered_and_any_other_hangs_up(tmp_path: Path) -> None:
    with listening(settings_with(tmp_path)) as server:
        assert server.secure(OURS.certificate)() == "anonymous"
        with pytest.raises(grpc.RpcError) as raised:
            server.secure(THEIRS.certificate)()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.guarded.n_answered == 1


def test_plain_text_gets_no_answer_from_a_tls_port(tmp_path: Path) -> None:
    with listening(settings_with(tmp_path)) as server:
        with pytest.raises(grpc.RpcError) as raised:
            server.insecure()()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.guarded.n_answered == 0


@pytest.mark.parametrize(
    "shown",
    [None, THEIRS.issued("bidder"), OURS.issued("bidder", (-30, -1)), OURS.issued("bidder", (1, 30))],
    ids=["none", "of another authority", "expired", "not yet valid"],
)
def test_mutual_tls_lets_no_other_certificate_in(tmp_path: Path, shown: Pair | None) -> None:
    with listening(mutual(tmp_path)) as server:
        with pytest.raises(grpc.RpcError) as raised:
            server.secure(OURS.certificate, shown)()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.secure(OURS.certificate, CLIENT)() == "bidder"
        assert server.guarded.n_answered == 1


def test_a_certificate_is_a_client_by_the_file(tmp_path: Path) -> None:
    named = '[[client]]\nname = "exchange"\nscopes = ["strategy"]\ncertificates = ["exchange.example"]\n'
    key, entry = new_key("shop", ["strategy"])
    (tmp_path / "clients.toml").write_text(named + entry)
    with listening(mutual(tmp_path, api_keys=tmp_path / "clients.toml")) as server:
        known = server.secure(OURS.certificate, OURS.issued("anything", alternative="exchange.example"))
        assert known() == "exchange"
        assert known(key) == "shop", "a key says more than the certificate of a proxy"
        with pytest.raises(grpc.RpcError) as raised:
            known(method="/stratagem.v1.ProfileService/Get")
        assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as raised:
            known(key[:-1] + ("A" if key[-1] != "A" else "B"))
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, "a wrong key is wrong beside a good certificate"
        with pytest.raises(grpc.RpcError) as raised:
            server.secure(OURS.certificate, CLIENT)()
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_new_certificates_serve_the_next_connection_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), listening(mutual(tmp_path)) as server:
        before = server.secure(OURS.certificate, CLIENT)
        assert before() == "bidder"
        (tmp_path / "gateway.key").write_bytes(pem(private_key()))  # half of a change: its certificate comes later
        assert server.secure(OURS.certificate, CLIENT)() == "bidder"
        assert "the certificate stays as it was: STRATAGEM_TLS_KEY must be the key" in caplog.text
        THEIRS.issued("gateway", alternative="gateway.example").written(tmp_path, "gateway")
        (tmp_path / "ca.pem").write_bytes(THEIRS.certificate)
        assert server.secure(THEIRS.certificate, THEIRS.issued("new"))() == "new"
        with pytest.raises(grpc.RpcError) as raised:
            server.secure(OURS.certificate, CLIENT)()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert before() == "bidder", "an open connection keeps what it shook hands on"
