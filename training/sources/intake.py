"""One source and its mapping in, parsed pieces on disk out, kept and never parsed twice; staging.py joins them.

A piece holds the canonical rows whose shoppers fall into one part, as Arrow IPC, with the line of each and only the
columns that the mapping fills. Rows that could not be read are kept beside them, in the columns of quarantine.py.
"""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import orjson
import polars as pl
import pyarrow as pa

from training.quarantine import SCHEMA
from training.side_by_side import side_by_side
from training.sources.columns import Money, Plan, Reading, plan_of, read_columns
from training.sources.content import PACKED
from training.sources.files import choosing
from training.sources.mapping import ShopSection, TableSection
from training.sources.reading import Batch, Broken, Interrupted, Source, Unread
from training.sources.staging import INPUT, LINE, part_of, staged_schema
from training.sources.tables import Table

ABOUT, UNREAD = "about.json", "unread.parquet"
# Of delimited text, in a part; cleaning holds a part in memory several times over.
PART_BYTES = 64 << 20
MOST_PARTS, PARTS_OF_UNKNOWN = 256, 16
# Packed text is about this much smaller.
PACKING = 6
N_AHEAD = 2
# What is shown for a row that nobody named.
NAMED_BY = {"items": "item_id", "offers": "offer_id"}
Each = TypeVar("Each")


@dataclass(frozen=True)
class Input:
    """One source of one table.

    number  its place among all inputs of the shop, as in `_input`
    zone    the shop's time zone; says_zone: whether anybody stated it
    """

    number: int
    table: Table
    section: TableSection
    source: Source
    shop: ShopSection
    says_zone: bool = True

    @cached_property
    def digest(self) -> str:
        """The source's, computed once."""
        return self.source.digest()

    @property
    def n_parts(self) -> int:
        """In how many parts its rows are put: a power of 2."""
        if "shopper_id" not in self.table.schema:
            return 1
        n_bytes = self.source.n_bytes * (PACKING if self.source.name.endswith((*PACKED, ".parquet")) else 1)
        return parts_for(n_bytes) if n_bytes else PARTS_OF_UNKNOWN


def parts_for(n_bytes: int) -> int:
    """Return how many parts so many bytes of text need: a power of 2, so that finer parts lie within coarser ones."""
    return min(1 << max(0, (n_bytes - 1) // PART_BYTES).bit_length(), MOST_PARTS)


@dataclass
class About:
    """What became of an input; about.json.

    number    as in the pieces' `_input`
    n_lost    rows that could not be read, by "rule" of the quarantine
    first     the first sentence of each such reason, and how often the reason came
    stopped   why it was read no further; empty: it was read to its end
    may_keep  whether reading it again would give the same
    """

    number: int
    digest: str
    n_parts: int
    n_rows: int = 0
    n_lost: int = 0
    first: str = ""
    commonest: str = ""
    stopped: str = ""
    may_keep: bool = True
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parsed:
    """An input's pieces, by part."""

    folder: Path
    about: About
    input: Input

    @property
    def pieces(self) -> list[Path]:
        """One file for each part."""
        return [self.folder / f"{part:03}.arrow" for part in range(self.about.n_parts)]

    @property
    def unread(self) -> Path:
        """Rows that could not be read."""
        return self.folder / UNREAD


def parse(into: Path, taken: Input, digest: str, progress: Callable[[int, int], None]) -> About:
    """Parse one input into a folder.

    into      an existing, empty folder
    digest    of the source and all that its parsing depends on
    progress  called with rows and stored bytes so far
    raises    InvalidTable  if it is no such table at all; Interrupted if it broke off and the mapping does not say keep
    """
    about = About(taken.number, digest, taken.n_parts)
    reader = _Reader(taken, about)
    with _Pieces(into, taken, about.n_parts) as pieces:
        for batch, done in side_by_side(reader.work, _ahead(reader.batches())):
            pieces.add(done)
            about.n_rows += sum(frame.height for _, frame in done)
            progress(about.n_rows + len(reader.unread), batch.n_bytes)
    reader.write_unread(into / UNREAD)
    (into / ABOUT).write_bytes(orjson.dumps(about))
    return about


class _Reader:
    """The way of one input's batches through the mapping."""

    def __init__(self, taken: Input, about: About) -> None:
        self._input, self._about = taken, about
        self._plan: Plan | None = None
        self._n_local: dict[str, int] = {}
        self._frames: list[pl.DataFrame] = []
        self._reasons: dict[str, int] = {}
        self._lock = threading.Lock()
        self.unread: list[dict[str, object]] = []

    def batches(self) -> Iterator[Batch]:
        """The source's batches; a break becomes a row of the quarantine where the mapping allows it."""
        last = 0
        try:
            for batch in choosing(self._input.source, self._chosen).batches(self._tell):
                if self._plan is None:
                    self._chosen(batch.frame.columns)
                last = batch.lines[-1] if batch.lines.len() else last
                yield batch
        except Interrupted as error:
            if not isinstance(error, Broken) and self._input.section.on_interruption == "refuse":
                raise
            self._about.stopped, self._about.may_keep = str(error), isinstance(error, Broken)
            self._add(last + 1, "stopped", f"{error}; what stood before is kept", "")

    def _chosen(self, names: list[str]) -> list[str]:
        taken = self._input
        money = Money(taken.shop.currency_code, taken.shop.rates)
        self._plan = plan_of(taken.table, taken.section, names, taken.source.name, money, taken.shop.time_zone)
        wanted = self._plan.names
        left = [name for name in names if name not in wanted]
        if left and not taken.section.columns:
            sentence = f"{taken.source.name}: no table has the columns {', '.join(left)}; they were left out."
            self._about.notes.append(sentence)
        return [name for name in names if name in wanted]

    def _tell(self, unread: Unread) -> None:
        self._add(
            unread.line,
            unread.rule,
            f"{self._input.source.name} {self._input.source.place} {unread.line} {unread.reason}",
            unread.text,
        )
        with self._lock:
            self._count(unread.reason, 1)

    def _count(self, reason: str, n_rows: int) -> None:
        self._reasons[reason] = self._reasons.get(reason, 0) + n_rows

    def _add(self, line: int, rule: str, reason: str, text: str) -> None:
        taken = self._input
        row = {
            "table": taken.table.name,
            "input": taken.source.name,
            "line": line,
            "rule": rule,
            "reason": reason,
            "row": text,
        }
        self.unread.append(row)

    def work(self, batch: Batch) -> list[tuple[int, pl.DataFrame]]:
        """Map one batch; runs in a worker."""
        if self._plan is None or batch.frame.is_empty():
            return []
        table = self._plan.table
        reading = read_columns(self._plan, batch.frame)
        frame = reading.frame
        name = NAMED_BY.get(table.name)
        if name:
            said = ("title", name) if "title" in frame.columns else (name,)
            frame = frame.with_columns(pl.coalesce(said).alias("title"))
        frame = frame.with_columns(
            pl.lit(self._input.number, staged_schema(table)[INPUT]).alias(INPUT), batch.lines.cast(pl.Int64).alias(LINE)
        )
        with self._lock:
            for column, n_local in reading.n_local.items():
                self._n_local[column] = self._n_local.get(column, 0) + n_local
        if reading.lost:
            frame = self._without_lost(frame, batch, reading)
        return _parted(table, frame, self._about.n_parts)

    def _without_lost(self, frame: pl.DataFrame, batch: Batch, reading: Reading) -> pl.DataFrame:
        source = self._input.source
        gone = pl.repeat(False, frame.height, dtype=pl.Boolean(), eager=True)
        for lost in reading.lost:
            rows = lost.rows & ~gone
            gone = gone | rows
            caught = batch.frame.filter(rows)
            values = lost.values.filter(rows).to_list()
            said = [f"{lost.found.name} must {lost.rule}, got {value!r}" for value in values]
            places = batch.lines.filter(rows).cast(pl.Int64)
            told = [f"{source.name} {source.place} {line}: {why}" for line, why in zip(places, said, strict=True)]
            shown = caught.select(pl.struct(pl.all()).struct.json_encode()).to_series()
            rows_of = {
                "table": self._plan.table.name if self._plan else "", "input": source.name, "line": places,
                "rule": "unreadable_value", "reason": told, "row": shown,
            }  # fmt: skip
            with self._lock:
                self._frames.append(pl.DataFrame(rows_of, schema=SCHEMA))
                self._count(f"{lost.found.name} must {lost.rule}", len(told))
        return frame.filter(~gone)

    def write_unread(self, file: Path) -> None:
        """Write what was not read, by line, and tell it in the notes."""
        about, source = self._about, self._input.source
        unread = pl.concat([pl.DataFrame(self.unread, schema=SCHEMA), *self._frames]).sort("line", maintain_order=True)
        unread.write_parquet(file)
        about.n_lost = unread.height - bool(about.stopped)
        if about.n_lost:
            about.first = unread.filter(pl.col("rule") != "stopped")["reason"][0]
            about.commonest = max(self._reasons, key=lambda reason: self._reasons[reason])
            rows = "1 row" if about.n_lost == 1 else f"{about.n_lost:,} rows"
            about.notes.append(
                f"{rows} of {source.name} cannot be read and went to quarantine; the first: {about.first}"
            )
        if about.stopped:
            about.notes.append(f"{about.stopped}; the rows before that were kept.")
        if not self._input.says_zone:
            about.notes += [
                f"{source.name}: {n_local} values of {column} say no offset and were read as UTC."
                for column, n_local in self._n_local.items()
                if n_local
            ]


def _parted(table: Table, frame: pl.DataFrame, n_parts: int) -> list[tuple[int, pl.DataFrame]]:
    if n_parts == 1 or "shopper_id" not in table.schema:
        return [(0, frame)]
    parts = frame.with_columns(part_of(n_parts)).partition_by("_part", include_key=False, as_dict=True)
    return [(int(key[0]), part) for key, part in parts.items()]


class _Pieces:
    """Files that grow by a frame at a time."""

    def __init__(self, into: Path, taken: Input, n_parts: int) -> None:
        self._stack, self._table = ExitStack(), taken.table
        self._files = [str(into / f"{part:03}.arrow") for part in range(n_parts)]
        self._writers: list[pa.ipc.RecordBatchFileWriter] = []

    def __enter__(self) -> "_Pieces":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._writers:
            self._open(pl.DataFrame(schema=staged_schema(self._table)))
        self._stack.close()

    def add(self, parts: list[tuple[int, pl.DataFrame]]) -> None:
        """Append to each part; every frame has the columns of the first."""
        for part, frame in parts:
            if not self._writers:
                self._open(frame.clear())
            self._writers[part].write_table(_arrow(frame))

    def _open(self, empty: pl.DataFrame) -> None:
        schema = _arrow(empty).schema
        self._writers = [self._stack.enter_context(pa.ipc.new_file(file, schema)) for file in self._files]


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _ahead(items: Iterable[Each]) -> Iterator[Each]:
    """The same, produced by a thread of its own that is at most a few ahead; what it raises is raised here."""
    waiting: queue.Queue[tuple[Each | None, BaseException | None]] = queue.Queue(N_AHEAD)
    is_over = threading.Event()

    def put(item: Each | None, error: BaseException | None = None) -> None:
        while not is_over.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if is_over.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that reads
            put(None, error)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        is_over.set()
        thread.join()


def known(folder: Path) -> About | None:
    """Return what a folder of pieces says of itself; None if it was not finished."""
    file = folder / ABOUT
    return About(**orjson.loads(file.read_bytes())) if file.exists() else None


def key_of(taken: Input, code: str, source_digest: str) -> str:
    """Return the name under which an input's pieces are kept: it changes with the bytes, the mapping and our code."""
    section = taken.section.model_dump_json(exclude={"clean", "repeated", "source"})
    said = [
        taken.table.name,
        taken.source.name,
        section,
        taken.shop.model_dump_json(include={"currency_code", "rates", "time_zone"}),
    ]
    said += [str(taken.n_parts), str(taken.says_zone), code, pl.__version__, source_digest]
    return hashlib.blake2b("\0".join(said).encode(), digest_size=16).hexdigest()
