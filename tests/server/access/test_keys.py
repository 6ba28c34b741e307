"""API keys: drawn, kept as hashes, found again, and nothing else found."""

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.access.keys import PREFIX, add_entry, clients_in, hash_of, new_key, read_clients
from server.problems import WrongSettings

KEY, ENTRY = new_key("bidder", ["strategy", "feedback"], 500.0, 1000)
CLIENTS = clients_in(ENTRY, "the test")
HASH = "0" * 64


def test_a_new_key_opens_what_its_entry_says(tmp_path: Path) -> None:
    path = tmp_path / "clients.toml"
    path.write_text(ENTRY)
    client = read_clients(path).of_key(KEY)
    assert client is not None
    assert (client.name, client.scopes) == ("bidder", {"strategy", "feedback"})
    assert (client.rate_per_s, client.burst) == (500.0, 1000)


def test_the_file_keeps_no_part_of_the_secret() -> None:
    secret = KEY.removeprefix(f"{PREFIX}bidder~")
    assert len(secret) == 43, "256 bits"
    assert all(secret[at : at + 8] not in ENTRY for at in range(len(secret) - 8))


def test_no_two_keys_are_alike() -> None:
    assert len({new_key("bidder", [])[0] for _ in range(100)}) == 100


@settings(deadline=None)  # this machine is shared
@given(at=st.integers(0, len(KEY) - 1), other=st.characters(codec="ascii"))
def test_a_key_wrong_by_one_character_opens_nothing(at: int, other: str) -> None:
    wrong = KEY[:at] + other + KEY[at + 1 :]
    assert (CLIENTS.of_key(wrong) is None) == (wrong != KEY)


@pytest.mark.parametrize("wrong", [KEY[:-1], KEY + "A", KEY.upper(), PREFIX, f"{PREFIX}bidder~", hash_of(KEY), ""])
def test_nothing_but_the_key_opens(wrong: str) -> None:
    assert CLIENTS.of_key(wrong) is None


def test_a_hash_under_another_name_opens_nothing() -> None:
    moved = clients_in(ENTRY.replace('"bidder"', '"other"'), "the test")
    assert moved.of_key(KEY) is None
    assert moved.of_key(KEY.replace("bidder", "other")) is None


def test_two_keys_open_while_one_replaces_the_other() -> None:
    newer, _ = new_key("bidder", [])
    both = clients_in(ENTRY.replace(f'"{hash_of(KEY)}"', f'"{hash_of(KEY)}", "{hash_of(newer)}"'), "the test")
    assert [client and client.name for client in map(both.of_key, (KEY, newer))] == ["bidder", "bidder"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[client", "must be TOML, got something else in FILE"),
        ("[[clients]]", "clients: extra inputs are not permitted (FILE)"),
        ('[[client]]\nname = "a"', "client.0.scopes: field required (FILE)"),
        ('[[client]]\nname = "A"\nscopes = []', "client.0.name: string should match pattern"),
        ('[[client]]\nname = "a"\nscopes = ["everything"]', "client.0.scopes.0: input should be 'strategy', 'profile'"),
        ('[[client]]\nname = "a"\nscopes = []\nhashes = ["secret"]', "client.0.hashes.0: string should match pattern"),
        ('[[client]]\nname = "a"\nscopes = []\nrate_per_s = 0', "client.0.rate_per_s: input should be greater than 0"),
        ('[[client]]\nname = "a"\nscopes = []\n' * 2, "name must be of one client only, got 'a' twice (FILE)"),
        (
            f'[[client]]\nname = "a"\nscopes = []\nhashes = ["{HASH}", "{HASH}"]',
            "hashes must be of one client only, got the same twice (FILE)",
        ),
        (
            '[[client]]\nname = "a"\nscopes = []\ncertificates = ["x", "x"]',
            "certificates must be of one client only, got 'x' twice (FILE)",
        ),
    ],
)
def test_a_wrong_file_is_told_by_entry_and_field(text: str, sentence: str) -> None:
    with pytest.raises(WrongSettings) as raised:
        clients_in(text, "FILE")
    assert str(raised.value).startswith("STRATAGEM_API_KEYS")
    assert sentence in str(raised.value)


def test_a_secret_put_where_its_hash_belongs_is_not_repeated() -> None:
    with pytest.raises(WrongSettings) as raised:
        clients_in(f'[[client]]\nname = "a"\nscopes = []\nhashes = ["{KEY}"]', "FILE")
    assert KEY not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"must be a readable file, got .*: No such file or directory"):
        read_clients(tmp_path / "clients.toml")
    (tmp_path / "clients.toml").write_bytes(b"\xff")
    with pytest.raises(WrongSettings, match="not UTF-8"):
        read_clients(tmp_path / "clients.toml")


def test_entries_are_added_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "clients.toml"
    add_entry(path, ENTRY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("# who calls us\n" + path.read_text())
    path.chmod(0o640)
    other, entry = new_key("shop", ["profile"])
    add_entry(path, entry)
    before = path.read_text()
    with pytest.raises(WrongSettings, match="name must be of one client only, got 'shop' twice"):
        add_entry(path, new_key("shop", [])[1])
    assert path.read_text() == before
    assert before.startswith("# who calls us\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    clients = read_clients(path)
    assert [client and client.name for client in map(clients.of_key, (KEY, other))] == ["bidder", "shop"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"must be a file we can write, got .*none.clients.toml: No such file"):
        add_entry(tmp_path / "none" / "clients.toml", ENTRY)


@pytest.mark.parametrize(
    ("name", "scope"), [("Bidder", "strategy"), ('a"\nb', "strategy"), ("a~b", "risk"), ("a", "all")]
)
def test_a_key_is_not_drawn_for_an_entry_that_breaks_a_rule(name: str, scope: str) -> None:
    with pytest.raises(WrongSettings):
        new_key(name, [scope])
