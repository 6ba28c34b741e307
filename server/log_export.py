"""The log as Parquet: one file per writer, segment and kind of record, each made once.

In: a log's folder. Out: TARGET/decisions/writer-2-00000007.parquet and so on; `exported` reads them all as one table.
Called by cli.py; training and evaluation read the files.

A segment that its writer has left behind never changes, so its files are made once and then only counted. The newest
segment of each writer still grows and is read again. Each file is written beside its place and renamed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from server.decision_block import ENCODED, MAGIC, SAFE, Block, Record, block_from
from server.feedback import KINDS, Kind, payloads_of, segments_of, writers_of

# What names a record of a kind: a caller who repeats itself is counted once.
NAMES: dict[Kind, str] = {kind: "decision_id" if kind == "decision" else "event_id" for kind in KINDS}
SHARED = ("shadow_price", "explore_share", "release", "plan_id", "rung")
AGES = ("state_age_s", "vector_age_s", "predictions_age_s")
SAFE_ACTION = orjson.dumps(SAFE["action"]).decode()


def export_log(folder: Path, target: Path, progress: Callable[[int], None] | None = None) -> dict[Kind, int]:
    """Bring the Parquet files up to date; returns how many records of each kind they hold, repeated ones too.

    progress  called after each segment with the number of records in files so far
    """
    for kind in KINDS:
        (target / f"{kind}s").mkdir(parents=True, exist_ok=True)
    counts: Counter[Kind] = Counter(dict.fromkeys(KINDS, 0))
    for writer in writers_of(folder):
        name = "writer-0" if writer == folder else writer.name
        segments = segments_of(writer)
        for segment in segments:
            make = _part if segment == segments[-1] else _closed_part
            counts.update(make(segment, target, f"{name}-{segment.stem}"))
            if progress is not None:
                progress(counts.total())
    return {kind: counts[kind] for kind in KINDS}


def exported(target: Path, kind: Kind) -> pl.LazyFrame:
    """All records of a kind, the first of each name.

    target  where `export_log` wrote
    """
    parts = sorted((target / f"{kind}s").glob("*.parquet"))
    if not parts:
        return pl.LazyFrame()
    return pl.concat([pl.scan_parquet(part) for part in parts], how="diagonal_relaxed").unique(
        NAMES[kind], keep="first", maintain_order=True
    )


def _closed_part(segment: Path, target: Path, name: str) -> dict[Kind, int]:
    """How many records a closed segment has of each kind; its files are made where they are not yet."""
    done = target / f"{name}.done"
    if done.exists():
        counts: dict[Kind, int] = orjson.loads(done.read_bytes())
        return counts
    counts = _part(segment, target, name)
    _written(done, lambda partial: partial.write_bytes(orjson.dumps(counts)))
    return counts


def _part(segment: Path, target: Path, name: str) -> dict[Kind, int]:
    frames: dict[Kind, list[pl.DataFrame]] = {kind: [] for kind in KINDS}
    rows: dict[Kind, list[Record]] = {kind: [] for kind in KINDS}
    for payload in payloads_of(segment):
        if payload.startswith(MAGIC):
            frames["decision"].append(decisions_frame(block_from(payload)))
        else:
            record = orjson.loads(payload)
            rows[record.pop("kind")].append({name: _flat(value) for name, value in record.items()})
    for kind, told in rows.items():
        if told:
            frames[kind].append(pl.DataFrame(told, infer_schema_length=None))
    for kind, parts in frames.items():
        if parts:
            frame = pl.concat(parts, how="diagonal_relaxed")
            _written(target / f"{kind}s" / f"{name}.parquet", frame.write_parquet)
    return {kind: sum(frame.height for frame in parts) for kind, parts in frames.items()}


def _written(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    partial.replace(path)


def _flat(value: object) -> object:
    """Nested values as JSON text: their shape differs from row to row, and Parquet wants one."""
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def decisions_frame(block: Block) -> pl.DataFrame:
    """A block of decisions as columns, without a dictionary per row.

    `action` is JSON text; `eligible_*` are lists of one length in a row, the menu's open actions; features and the
    encoder's answer are arrays of fixed width. A safe default has none of these.
    """
    header, columns = block.header, block.columns
    named = {name: header[name] for name in ("decision_id", "shopper_id", "decided_at_s")}
    frame = pl.DataFrame(named).with_columns(**{name: pl.lit(header[name]) for name in SHARED})
    if not columns:
        amounts = {name: pl.lit(SAFE[name]) for name in SAFE if name != "action"}
        return frame.with_columns(action=pl.lit(SAFE_ACTION), **amounts)
    rows, chosen = np.arange(frame.height), columns["chosen"]
    at_choice = {
        name: columns[name][rows, chosen] for name in ("value_micros", "cost_micros", "score_micros", "propensity")
    }
    at_choice["score_micros"] = np.rint(at_choice["score_micros"]).astype(np.int64)
    told = {"action": list(_actions(block)), **at_choice, "is_exploration": columns["is_exploration"]}
    told |= {name: columns[name] for name in (*AGES, "features", *ENCODED)}
    return frame.with_columns([pl.Series(name, value) for name, value in told.items()]).hstack(_eligible(block))


def _actions(block: Block) -> Iterator[str]:
    """The chosen action of each row as JSON text; an offer's is written once."""
    known: dict[int, str] = {}
    for row, column in enumerate(block.columns["chosen"].tolist()):
        if column > len(block.header["actions"]):  # an ad, a panel, a post: each row has its own
            yield orjson.dumps(block.action(row, column)).decode()
            continue
        if column not in known:
            known[column] = orjson.dumps(block.action(row, column)).decode()
        yield known[column]


def _eligible(block: Block) -> pl.DataFrame:
    columns = block.columns
    rows, open_columns = np.nonzero(columns["eligible"])
    names = np.array([block.short_name(column) for column in range(columns["eligible"].shape[1])])
    flat = pl.DataFrame(
        {
            "row": rows,
            "eligible_action": names[open_columns],
            **{
                f"eligible_{name}": columns[name][rows, open_columns]
                for name in ("value_micros", "cost_micros", "propensity")
            },
        }
    )
    every = pl.DataFrame({"row": np.arange(columns["chosen"].size)})
    lists = flat.group_by("row", maintain_order=True).agg(pl.all())
    return every.join(lists, on="row", how="left", maintain_order="left").drop("row")
