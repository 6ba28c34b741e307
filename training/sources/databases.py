"""A database's address and a query in, its rows in blocks out, over ADBC; what reads shop.toml makes its sources here.

Nothing is ever written: what is run is always `select … from (query)`. PostgreSQL sends rows by COPY, block by block;
SQLite is read from a file opened read-only. A column of a type that no table could hold comes as the text which the
database prints for it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import adbc_driver_manager
import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import pyarrow as pa
from adbc_driver_manager.dbapi import Connection, Cursor

from training.sources.arrow_rows import batch_of
from training.sources.reading import Batch, Interrupted, Source, Tell
from training.sources.tables import InvalidTable

POSTGRESQL, SQLITE, WITHOUT_DRIVER = ("postgresql", "postgres"), "sqlite", ("mysql", "mariadb")
BLOCK_BYTES, BLOCK_ROWS = 16 << 20, 65_536
# A name stands in sentences; a query of a page would hide them.
LONGEST_NAME = 80
# A server that is gone without a word is noticed within a minute; libpq alone would wait for hours.
PATIENCE = "connect_timeout=10&keepalives_idle=20&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=60000"


def database(address: str, query: str = "", relation: str = "", folder: Path = Path()) -> Source:
    """Return what a query or a relation of a database gives, as a source; nothing is asked of the database yet.

    address   postgresql://user:password@host:port/name, or sqlite:///file.db
    query     one select; empty: all of `relation`
    relation  table or view as the database spells it, perhaps with its schema: public.orders
    folder    where a relative SQLite file is looked for
    raises    InvalidTable  if the address names no database that can be read, or query and relation are not one of two
    """
    scheme, shown = address.partition("://")[0], without_password(address)
    if bool(query.strip()) == bool(relation.strip()):
        raise InvalidTable(f"{shown} must come with either a query or a relation, got {'both' if query else 'neither'}")
    asked = query.strip().rstrip("; ") or f"select * from {_quoted_relation(relation)}"
    name = f"{shown} ({_cut(' '.join(query.split()) or relation)})"
    if scheme in POSTGRESQL:
        _check_readable(address)
        return _Postgresql(name, asked, address)
    if scheme == SQLITE:
        return _Sqlite(name, asked, folder / unquote(address.removeprefix("sqlite://").removeprefix("/")))
    if scheme in WITHOUT_DRIVER:
        raise InvalidTable(
            f"{shown} cannot be read: there is no packaged ADBC driver for MySQL or MariaDB; export its tables to CSV "
            "or Parquet, or copy them to PostgreSQL or SQLite"
        )
    raise InvalidTable(f"database must begin with postgresql:// or sqlite:///, got {shown!r}")


def without_password(address: str) -> str:
    """Return a database's address fit for messages and stamps: no password, wherever in it one stands.

    address  as shop.toml gives it
    """
    # Up to the last @: a password that was not percent-encoded may hold @ and / itself.
    bare = re.sub(r"://([^:@/?]*):.*@", r"://\1@", address, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", bare, flags=re.IGNORECASE)


@dataclass(frozen=True)
class _Postgresql:
    """Rows of one query of a PostgreSQL database."""

    name: str
    query: str
    address: str
    place: str = "row"
    n_bytes: int = 0

    def digest(self) -> str:
        """Two sums of the rows' hashes, computed by the server: the same for the same rows in any order."""
        sums = (
            "sum(hashtextextended(asked::text, 0)::numeric)::text, sum(hashtextextended(asked::text, 1)::numeric)::text"
        )
        with self._opened() as connection, _told(self.name), connection.cursor() as cursor:
            schema = _schema(cursor, self.query)
            cursor.execute(f"select count(*), {sums} from ({self.query}\n) as asked")
            return _hashed(self.name, str(schema), str(cursor.fetchone()))

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read every row, in the order in which the server sends them."""
        with self._opened() as connection, _told(self.name), connection.cursor() as cursor:
            schema = _schema(cursor, self.query)
            _check_names(self.name, schema.names)
            columns = ", ".join(f"{_quoted(field.name)}{_print(field)} as {_quoted(field.name)}" for field in schema)
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BLOCK_BYTES)})
            yield from _blocks(self.name, cursor, f"select {columns} from ({self.query}\n) as asked", tell)

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        patient = self.address + ("&" if "?" in self.address else "?") + PATIENCE
        with _told(self.name, secret=urlsplit(self.address).password):
            connection = adbc_driver_postgresql.dbapi.connect(patient)
        with connection:
            yield connection


@dataclass(frozen=True)
class _Sqlite:
    """Rows of one query of a SQLite file."""

    name: str
    query: str
    path: Path
    place: str = "row"

    @property
    def n_bytes(self) -> int:
        """Bytes of the file, all its tables together."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def digest(self) -> str:
        """The bytes of the file and of what SQLite has written ahead of it."""
        digest = hashlib.blake2b(self.query.encode(), digest_size=16)
        with _told(self.name):
            for path in (self.path, self.path.with_name(self.path.name + "-wal")):
                if path == self.path or path.exists():
                    with path.open("rb") as content:
                        while block := content.read(1 << 20):
                            digest.update(block)
        return digest.hexdigest()

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read every row, in SQLite's order.

        A column of any SQLite table may hold numbers in one row and text in the next, so all values are looked at
        first, in the same transaction: whole numbers stay whole, numbers stay numbers, any mixture with text is text.
        """
        if not self.path.is_file():
            raise InvalidTable(f"{self.name} must be a file, got {'a folder' if self.path.exists() else 'nothing'}")
        with _told(self.name):
            connection = adbc_driver_sqlite.dbapi.connect(f"file:{quote(str(self.path.resolve()))}?mode=ro")
        with connection, _told(self.name), connection.cursor() as cursor:
            cursor.execute(f"select * from ({self.query}\n) as asked limit 0")
            names = [column[0] for column in cursor.description or ()]
            _check_names(self.name, names)
            types = ", ".join(f"{bound}(nullif(typeof({_quoted(name)}), 'null'))" for name in names for bound in BOUNDS)
            cursor.execute(f"select {types} from ({self.query}\n) as asked")
            found = cursor.fetchone() or ()
            columns = ", ".join(
                f"{_stored(name, found[2 * at], found[2 * at + 1])} as {_quoted(name)}" for at, name in enumerate(names)
            )
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BLOCK_ROWS)})
            yield from _blocks(self.name, cursor, f"select {columns} from ({self.query}\n) as asked", tell)


# In the alphabet SQLite's types stand blob, integer, real, text: the first and last tell which there are.
BOUNDS = ("min", "max")


def _stored(name: str, first: str | None, last: str | None) -> str:
    """The expression by which a SQLite column comes in one type, given the first and last of its types."""
    column = _quoted(name)
    if first == last == "integer" or first is None:
        return column
    if first == "blob" or last == "text":
        return f"cast({column} as text)"
    return f"cast({column} as real)"


def _blocks(name: str, cursor: Cursor, query: str, tell: Tell) -> Iterator[Batch]:
    """The rows of a query as they come; whatever ends them early says after how many."""
    cursor.execute(query)
    reader = cursor.fetch_record_batch()
    n_rows = 0
    try:
        for block in reader:
            if block.num_rows:
                yield _batch(block, n_rows, tell)
                n_rows += block.num_rows
    except (OSError, pa.ArrowException, adbc_driver_manager.Error) as error:
        raise Interrupted(f"{name} stopped after row {n_rows}: {_reason(error)}") from error
    if not n_rows:
        yield _batch(reader.schema.empty_table(), 0, tell)


def _batch(block: Any, n_before: int, tell: Tell) -> Batch:
    plain = [
        column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column
        for column in block.columns
    ]
    return batch_of(pa.table(plain, names=block.schema.names), n_before, 0, tell)


def _schema(cursor: Cursor, query: str) -> Any:
    return cursor.adbc_execute_schema(f"select * from ({query}\n) as asked")


def _print(field: Any) -> str:
    """What turns a column into text where Arrow has no type for it that a table could take."""
    kind = field.type
    if (field.metadata or {}).get(b"POSTGRESQL:type") == b"money":
        return "::numeric::text"
    if isinstance(kind, pa.BaseExtensionType):
        return "" if pa.types.is_string(kind.storage_type) else "::text"
    if pa.types.is_list(kind):
        return "" if pa.types.is_string(kind.value_type) else "::text"
    is_plain = (
        pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_timestamp,
        pa.types.is_date,
    )  # fmt: skip
    return "" if any(is_it(kind) for is_it in is_plain) else "::text"


@contextmanager
def _told(name: str, secret: str | None = None) -> Iterator[None]:
    """Turn a driver's refusal into one sentence, without the password."""
    try:
        yield
    except (OSError, pa.ArrowException, adbc_driver_manager.Error) as error:
        reason = _reason(error)
        for told in {secret, unquote(secret)} if secret else ():
            reason = reason.replace(told, "***")
        raise InvalidTable(f"{name} must be readable, got: {reason}") from None


def _reason(error: Exception) -> str:
    """The one line of a driver's message that says what happened."""
    text = re.sub(r"^(?:[A-Z_]+: )?(?:\[\w+\] )?", "", str(error).strip())
    server = re.search(r"(?:ERROR|FATAL): +(.*)", text)
    line = server.group(1) if server else text.splitlines()[0] if text else type(error).__name__
    return re.sub(r"^(Failed to \w+(?: query)?|PQ\w+\(\) failed): ", "", line).rstrip(".:")


def _check_readable(address: str) -> None:
    try:
        # urlsplit reads the port only when asked for it.
        is_clear = urlsplit(address).port != 0 and address.count("@") <= 1
    except ValueError:
        is_clear = False
    if not is_clear:
        raise InvalidTable(
            f"{without_password(address)} must be postgresql://user:password@host:port/name; in a password write / as "
            "%2F, @ as %40 and : as %3A"
        )


def _check_names(name: str, columns: Sequence[str]) -> None:
    repeated = {column for column in columns if list(columns).count(column) > 1}
    if repeated:
        raise InvalidTable(f"{name} must name each column once, got {', '.join(sorted(repeated))} more than once")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_relation(relation: str) -> str:
    return ".".join(_quoted(part) for part in relation.strip().split("."))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _hashed(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
