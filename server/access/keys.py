"""The clients' file: who they are, what they may ask, how fast; and their keys, kept only as hashes.

In: a TOML file with one [[client]] per client. Out: checked clients, and new keys for them.
Read by server/access/gate.py; written to by `stratagem keys new`.

A key is `stratagem~NAME~SECRET`, its secret 256 random bits. Nobody can list 2^256 secrets, so a slow or salted
password hash would guard nothing and would give anybody a way to burn our time: SHA-256 of the whole key is the right
hash. The name is hashed with it: a hash copied under another client's name opens nothing.
"""

import hashlib
import hmac
import os
import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.problems import WrongSettings

Scope = Literal["strategy", "profile", "recommendation", "feedback", "risk", "admin"]
SCOPES: tuple[Scope, ...] = ("strategy", "profile", "recommendation", "feedback", "risk", "admin")
NAME = r"^[a-z0-9][a-z0-9.-]{0,62}$"
PREFIX = "stratagem~"
SECRET_BYTES = 32
# What an unknown name is compared with: a refusal then takes the same time whether or not the name exists.
_NOBODY = hashlib.sha256(b"").hexdigest()


class Client(BaseModel):
    """One entry of the file. `hashes` holds two while a key is being replaced by the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME)]
    scopes: frozenset[Scope]
    hashes: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = ()
    certificates: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    rate_per_s: Annotated[float, Field(gt=0, le=1e9)] | None = None
    burst: Annotated[int, Field(ge=1, le=10**9)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    client: tuple[Client, ...] = ()


@dataclass(frozen=True)
class Clients:
    """Every client, by name and by the identity in its certificate."""

    by_name: dict[str, Client]
    by_certificate: dict[str, Client]

    def of_key(self, key: str) -> Client | None:
        """Whose key this is, found out in a time that tells neither names nor hashes."""
        name = key[len(PREFIX) :].partition("~")[0]
        client = self.by_name.get(name)
        hashed = hash_of(key)
        is_known = False
        for kept in (client.hashes if client else ()) or (_NOBODY,):
            is_known |= hmac.compare_digest(kept, hashed)
        return client if is_known and client is not None else None


def hash_of(key: str) -> str:
    """What the file keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_clients(path: Path) -> Clients:
    """Read the clients' file.

    raises  WrongSettings  naming the entry and the field; never with what the field holds
    """
    try:
        return clients_in(path.read_bytes().decode(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise WrongSettings(f"STRATAGEM_API_KEYS must be a readable file, got {path}: {reason}") from None


def clients_in(text: str, subject: str) -> Clients:
    """Check the text of a clients' file.

    subject  how messages name the file
    raises   WrongSettings
    """
    try:
        entries = _File.model_validate(tomllib.loads(text)).client
    except tomllib.TOMLDecodeError:  # its message may quote the line
        raise WrongSettings(f"STRATAGEM_API_KEYS must be TOML, got something else in {subject}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        rule = first["msg"][0].lower() + first["msg"][1:]
        raise WrongSettings(f"STRATAGEM_API_KEYS: {place}: {rule} ({subject})") from None
    for field, values in (
        ("name", [entry.name for entry in entries]),
        ("hashes", [hashed for entry in entries for hashed in entry.hashes]),
        ("certificates", [identity for entry in entries for identity in entry.certificates]),
    ):
        twice = next((value for row, value in enumerate(values) if value in values[:row]), None)
        if twice is not None:
            told = "the same" if field == "hashes" else repr(twice)
            raise WrongSettings(f"STRATAGEM_API_KEYS: {field} must be of one client only, got {told} twice ({subject})")
    return Clients(
        {entry.name: entry for entry in entries},
        {identity: entry for entry in entries for identity in entry.certificates},
    )


def new_key(
    name: str, scopes: Sequence[str], rate_per_s: float | None = None, burst: int | None = None
) -> tuple[str, str]:
    """Draw a key for a client.

    name        of the client: lower-case letters, digits, dots, hyphens
    scopes      of SCOPES
    rate_per_s  rows a second; None: the server's own limit
    burst       rows at once; None: the server's own
    returns     the key, to be shown once and kept by nobody else; and its entry for the clients' file
    raises      WrongSettings  if the entry breaks a rule
    """
    key = f"{PREFIX}{name}~{secrets.token_urlsafe(SECRET_BYTES)}"
    lines = ["[[client]]", f'name = "{name}"', f'hashes = ["{hash_of(key)}"]']
    lines.append("scopes = [" + ", ".join(f'"{scope}"' for scope in dict.fromkeys(scopes)) + "]")
    lines += [f"rate_per_s = {float(rate_per_s)}"] if rate_per_s is not None else []
    lines += [f"burst = {burst}"] if burst is not None else []
    entry = "\n".join(lines) + "\n"
    clients_in(entry, f"client {name!r}")
    return key, entry


def add_entry(path: Path, entry: str) -> None:
    """Append an entry to the clients' file, whole or not at all; a new file is readable by its owner only.

    raises  WrongSettings  if the file would no longer be right, as with a name it has already; or cannot be written
    """
    try:
        before = path.read_text() if path.exists() else ""
        text = before.rstrip("\n") + ("\n\n" if before.strip() else "") + entry
        clients_in(text, str(path))
        written = path.with_name(path.name + ".new")
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(file, "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(file)
        written.replace(path)
    except OSError as error:
        raise WrongSettings(f"STRATAGEM_API_KEYS must be a file we can write, got {path}: {error.strerror}") from None
