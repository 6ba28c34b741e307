"""JSON Lines, a JSON array and Parquet in, batches of raw columns out; files.py builds them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kernels.records import PATIENCE, items
from training.sources.arrow_rows import batch_of
from training.sources.content import blocks
from training.sources.delimited import SHOWN_BYTES, Choice, every_column
from training.sources.reading import Batch, Broken, Content, Interrupted, Tell, Unread
from training.sources.tables import InvalidTable

PARQUET_ROWS = 131_072
TEXTS = pl.List(pl.String())


@dataclass(frozen=True)
class _Lines:
    """Whole lines of JSON; `first` is the number of the first, and stopped says why nothing comes after them."""

    lines: list[bytes]
    first: int
    n_bytes: int
    stopped: Interrupted | None = None


@dataclass(frozen=True)
class Json:
    """Objects of JSON as a Source: one a line, or the elements of one array (is_array)."""

    content: Content
    is_array: bool = False
    choice: Choice = every_column
    encoding: str | None = None

    @property
    def place(self) -> str:
        """What a batch counts."""
        return "item" if self.is_array else "line"

    @property
    def name(self) -> str:
        """The content's."""
        return self.content.name

    @property
    def n_bytes(self) -> int:
        """Its stored size."""
        return self.content.n_bytes

    def digest(self) -> str:
        """Its bytes'."""
        return self.content.digest()

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read it twice, once for the names that any object has; see Source."""
        schema = self._schema()
        chosen = {name: schema[name] for name in self.choice(list(schema))}
        n_rows = 0
        yield Batch(pl.DataFrame(schema=chosen), pl.Series("line", [], pl.Int64))
        for part in self._parts():
            frame, lines = _rows(part, chosen, tell)
            n_rows += frame.height
            yield Batch(frame, lines, part.n_bytes)
            if part.stopped:
                raise part.stopped.after(self.name, n_rows)

    def _schema(self) -> dict[str, pl.DataType]:
        schema: dict[str, pl.DataType] = {}
        reason = "no objects"
        for part in self._parts():
            for name, dtype in _names(part.lines).items():
                schema[name] = TEXTS if TEXTS in (dtype, schema.get(name)) else dtype
            reason = str(part.stopped or reason)
        if not schema:
            wanted = (
                "a JSON array of objects, or an object that holds one"
                if self.is_array
                else "JSON Lines, one object a line"
            )
            raise InvalidTable(f"{self.name} must be {wanted}, got: {reason}")
        return schema

    def _parts(self) -> Iterator[_Lines]:
        texts = blocks(self.content, self.encoding)
        rest, first, n_bytes = b"", 1, 0
        stopped: Interrupted | None = None
        state = np.zeros(3, np.int64)
        is_last = False
        while not is_last:
            try:
                text = next(texts, None)
            except Interrupted as interrupted:
                text, stopped = None, interrupted
            is_last = text is None
            if text is not None:
                n_bytes = text.n_bytes
                rest += items(np.frombuffer(text.text, np.uint8), state).tobytes() if self.is_array else text.text
            elif self.is_array and state[2] >= 0 and not stopped:
                stopped = Broken("its array has no end" if state[2] else "it holds no array")
            cut = len(rest) if is_last else rest.rfind(b"\n") + 1
            if len(rest) - cut > PATIENCE:
                stopped, is_last = Broken(f"must not hold an object of more than {PATIENCE >> 20} MiB, got one"), True
            lines = rest[:cut].split(b"\n")
            if lines and not lines[-1]:
                lines.pop()
            yield _Lines(lines, first, n_bytes, stopped)
            first += len(lines)
            rest = rest[cut:]


def _names(lines: list[bytes]) -> dict[str, pl.DataType]:
    try:
        found = pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None).schema
        return {name: TEXTS if isinstance(dtype, pl.List) else pl.String() for name, dtype in found.items()}
    except pl.exceptions.PolarsError:
        names: dict[str, pl.DataType] = {}
        for line in lines:
            for name, value in (_object(line) or {}).items():
                names[name] = TEXTS if isinstance(value, list) or names.get(name) == TEXTS else pl.String()
        return names


def _object(line: bytes) -> dict[str, object] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _rows(part: _Lines, schema: dict[str, pl.DataType], tell: Tell) -> tuple[pl.DataFrame, pl.Series]:
    """The objects as rows; numbers come as the text they were written in, so amounts stay exact and ids keep zeros."""
    numbers = [number for number, line in enumerate(part.lines, start=part.first) if line.strip()]
    try:
        frame = (
            pl.read_ndjson(io.BytesIO(b"\n".join(part.lines)), schema=schema)
            if numbers
            else pl.DataFrame(schema=schema)
        )
        if frame.height == len(numbers):
            return frame, pl.Series("line", numbers, pl.Int64)
    except pl.exceptions.PolarsError:
        pass
    return _one_by_one(part, schema, tell)


def _one_by_one(part: _Lines, schema: dict[str, pl.DataType], tell: Tell) -> tuple[pl.DataFrame, pl.Series]:
    rows, numbers = [], []
    for number, line in enumerate(part.lines, start=part.first):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            reason = f"must be one JSON object, got {type(value).__name__}"
        except orjson.JSONDecodeError as error:
            value, reason = None, f"must be one JSON object, got: {error}"
        if isinstance(value, dict):
            rows.append({name: _text(value.get(name), dtype) for name, dtype in schema.items()})
            numbers.append(number)
        else:
            tell(Unread(number, "broken_json", reason, line[:SHOWN_BYTES].decode(errors="replace")))
    return pl.DataFrame(rows, schema=schema), pl.Series("line", numbers, pl.Int64)


def _text(value: object, dtype: pl.DataType) -> str | list[str | None] | None:
    if value is None:
        return None
    if dtype == TEXTS:
        listed = value if isinstance(value, list) else [value]
        return [None if one is None else _one(one) for one in listed]
    return _one(value)


def _one(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(frozen=True)
class Parquet:
    """Parquet as a Source."""

    content: Content
    choice: Choice = every_column
    place: str = "row"

    @property
    def name(self) -> str:
        """The content's."""
        return self.content.name

    @property
    def n_bytes(self) -> int:
        """Its stored size."""
        return self.content.n_bytes

    def digest(self) -> str:
        """Its bytes'."""
        return self.content.digest()

    def batches(self, tell: Tell) -> Iterator[Batch]:
        """Read it some rows at a time; see Source."""
        n_rows = 0
        try:
            with self.content.open() as stored, pq.ParquetFile(stored) as file:
                names = self.choice(list(file.schema_arrow.names))
                yield batch_of(file.schema_arrow.empty_table().select(names), 0, 0, tell)
                for rows in file.iter_batches(PARQUET_ROWS, columns=names):
                    share = (n_rows + rows.num_rows) / max(file.metadata.num_rows, 1)
                    yield batch_of(pa.Table.from_batches([rows]), n_rows, int(share * self.n_bytes), tell)
                    n_rows += rows.num_rows
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if n_rows:
                # What cannot be decoded is stored so; what could not be fetched may come next time.
                kind = Interrupted if isinstance(error, OSError) else Broken
                raise kind(f"{self.name} stopped after row {n_rows:,}: {reason}") from error
            raise InvalidTable(f"{self.name} must be Parquet, got: {reason}") from error
