"""Every feature of a shop as Parquet: shoppers, items, events, sequences and reviews, and features.json that says what
each column is. `stratagem features` calls write_features.

In: a shop as ingested. Out: a folder. Shoppers are cut into partitions by a hash of their id; each is a pure function
of its own rows and of what was fitted, written before the next begins, so that a run that was killed continues.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import orjson
import polars as pl

from training.dataset import Dataset, dataset_of
from training.features import frames
from training.features.columns import COLUMNS, Column
from training.features.fitted import Fitted, fit
from training.features.normalisation import Moments
from training.freshness import sources_of
from training.risk import risk_columns
from training.sources.shop import read_shop
from training.sources.tables import TABLES, InvalidTable, Shop
from training.text.features import FIRST_SEEN, Embed, TextFeatures, text_features

INDEX, LIMITS, NORMALISATION = "features.json", "tags.json", "normalisation.json"
ITEM_LIMITS, CODES = "item_limits.json", "codes.json"
# A partition's events with all their columns take about a gigabyte.
EVENTS_PER_PARTITION = 2_000_000
SHOPPER_TABLES = ("shoppers", "events", "sequences")
_SLICE_ROWS = 65_536

Progress = Callable[[str], None]


class _Index(TypedDict):
    digest: str
    at_s: int
    n_partitions: int
    rows: dict[str, int]
    files: list[str]


@dataclass(frozen=True)
class FeaturesReport:
    """What write_features did.

    folder        the `into` of write_features
    is_fresh      False: inputs, options and code had not changed and nothing was done
    at_s          the moment of the query
    n_partitions  of shoppers
    rows          by table
    """

    folder: Path
    is_fresh: bool
    at_s: int
    n_partitions: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Options:
    """How to write features.

    at_s          the moment of the query: nothing from this second on is known; None: the midnight after the last event
    n_partitions  of shoppers; None: as many as EVENTS_PER_PARTITION asks for
    embed         makes sentence embeddings; None leaves them null
    """

    at_s: int | None = None
    n_partitions: int | None = None
    embed: Embed | None = None


def write_features(shop_folder: Path, into: Path, progress: Progress, options: Options = Options()) -> FeaturesReport:
    """Write every feature table; nothing is done where neither inputs nor options nor our code have changed.

    shop_folder  canonical tables, as ingested
    into         the folder to write; on any failure it stays as it was
    progress     called with a sentence at each step
    raises       InvalidTable, InvalidInput  in one sentence
    """
    digest = _digest(shop_folder, options)
    known = _index(into)
    if known and known["digest"] == digest and all((into / name).exists() for name in known["files"]):
        progress(f"{into} is up to date")
        return FeaturesReport(into, False, known["at_s"], known["n_partitions"], known["rows"])
    dataset = dataset_of(read_shop(shop_folder))
    at_s = options.at_s or dataset.splits.end_s
    _check_moment(dataset, at_s)
    fitted = fit(dataset)
    progress(f"limits fitted on what happened before {dataset.splits.train_until_s}; asking as of {at_s}")
    n_partitions = options.n_partitions or max(1, -(-dataset.shop.events.height // EVENTS_PER_PARTITION))
    work = _work_folder(into, digest)
    _write_partitions(fitted, at_s, n_partitions, work, progress)
    _write_rest(fitted, at_s, options.embed, work, progress)
    rows = {table: _n_rows(work, table) for table in COLUMNS}
    _write_index(work, fitted, digest, at_s, n_partitions, rows)
    _move_into_place(work, into)
    progress(f"{sum(rows.values()):,} rows of {sum(map(len, COLUMNS.values()))} columns in {into}")
    return FeaturesReport(into, True, at_s, n_partitions, rows)


def partition_frames(
    shop: Shop, shopper_ids: tuple[str, ...], velocity: pl.DataFrame, fitted: Fitted, at_s: int
) -> dict[str, pl.DataFrame]:
    """Return the feature tables of some shoppers; a pure function, the one to hand to a worker.

    shop         tables that hold all rows of these shoppers, and all items and offers
    shopper_ids  sorted
    velocity     of each of shop.events, row by row
    """
    part = fitted.of_shoppers(shop, shopper_ids)
    return {
        "shoppers": frames.shoppers_frame(part, fitted, at_s),
        "events": frames.events_frame(part, fitted, velocity, at_s),
        "sequences": frames.sequences_frame(part, fitted, at_s),
    }


def partition_of(shopper_ids: pl.Series, n_partitions: int) -> pl.Series:
    """Return each shopper's partition; the same on every machine and in every release.

    shopper_ids  (n,) strings
    returns      (n,) UInt32 in [0, n_partitions)
    """
    numbers = [
        int.from_bytes(hashlib.blake2b(shopper.encode(), digest_size=8).digest(), "little") % n_partitions
        for shopper in shopper_ids.to_list()
    ]
    return pl.Series("partition", numbers, pl.UInt32)


def _write_partitions(fitted: Fitted, at_s: int, n_partitions: int, work: Path, progress: Progress) -> None:
    names = [work / f"{_partition_name(number, n_partitions)}.json" for number in range(n_partitions)]
    if all(name.exists() for name in names):
        return
    shop, until_s = fitted.dataset.shop, fitted.dataset.splits.train_until_s
    ids = pl.Series("shopper_id", frames.known_shoppers(shop, at_s), pl.String())
    partition = partition_of(ids, n_partitions)
    # A device or a card is shared by shoppers of any partition: its velocity is told before shoppers part.
    velocity = risk_columns(shop.events, shop.shoppers)
    for number, marker in enumerate(names):
        if marker.exists():
            continue
        chosen = tuple(ids.filter(partition == number).to_list())
        part, rows = _part_of(shop, chosen)
        told = partition_frames(part, chosen, velocity[rows], fitted, at_s)
        for table, frame in told.items():
            _write(frame, work / f"{table}-{_partition_name(number, n_partitions)}.parquet")
        early = fitted.of_shoppers(part, frames.known_shoppers(part, until_s))
        learned = {
            "shoppers": frames.shoppers_frame(early, fitted, until_s),
            "events": told["events"].filter(pl.col("time_s") < until_s),
        }
        marker.write_bytes(orjson.dumps({table: _moments(table, frame) for table, frame in learned.items()}))
        progress(
            f"partition {number + 1} of {n_partitions}: {len(chosen):,} shoppers, {told['events'].height:,} events"
        )


def _part_of(shop: Shop, shopper_ids: tuple[str, ...]) -> tuple[Shop, pl.Series]:
    """The tables with the rows of some shoppers only, and which rows of events those are."""
    ids = pl.Series("shopper_id", shopper_ids, pl.String()).implode()
    is_ours = pl.col("shopper_id").is_in(ids)
    own = {name: getattr(shop, name).filter(is_ours) for name in ("shoppers", "exposures", "outcomes")}
    rows = shop.events.select(is_ours.fill_null(value=False).arg_true()).to_series()
    return replace(shop, events=shop.events[rows], **own), rows


def _write_rest(fitted: Fitted, at_s: int, embed: Embed | None, work: Path, progress: Progress) -> None:
    """Items, reviews and what was fitted."""
    text = _text(fitted, at_s, embed, progress)
    items = frames.items_frame(fitted, at_s).join(text.items, on="item_id", how="left", maintain_order="left")
    _write(items, work / "items.parquet")
    _write(text.reviews, work / "reviews.parquet")
    text.write(work / "text")
    for name in ("text_items", "text_reviews"):
        (work / "text" / f"{name}.parquet").unlink()
    (work / LIMITS).write_bytes(fitted.tag_limits.to_json())
    (work / ITEM_LIMITS).write_bytes(fitted.item_limits.to_json())
    (work / CODES).write_bytes(orjson.dumps(asdict(fitted.codes), option=orjson.OPT_INDENT_2))
    until_s = fitted.dataset.splits.train_until_s
    seen = fitted.dataset.shop.events.filter(pl.col("time_s") < until_s)["item_id"].unique()
    early = frames.items_frame(fitted, until_s).filter(pl.col("item_id").is_in(seen.implode())).sort("item_id")
    learned = _moments("items", early)
    found = {name: _merged(work, name) for name in ("shoppers", "events")} | {"items": _of_moments(learned)}
    told = {name: moments.normalisation(_numbers(name)[0], until_s).to_json() for name, moments in found.items()}
    (work / NORMALISATION).write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))


def _text(fitted: Fitted, at_s: int, embed: Embed | None, progress: Progress) -> TextFeatures:
    shop, until_s = fitted.dataset.shop, fitted.dataset.splits.train_until_s
    first = shop.events.group_by("item_id").agg(pl.col("time_s").min().alias(FIRST_SEEN))
    # An item that nobody touched in the training window is as one that came after it, whether or not it ever sells.
    items = shop.items.join(first, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col(FIRST_SEEN).fill_null(until_s).clip(upper_bound=until_s)
    )
    reviews = shop.reviews.filter((pl.col("time_s") < at_s).fill_null(value=True))
    return text_features(items, reviews, until_s, embed, progress)


def _numbers(table: str) -> tuple[list[str], list[Column]]:
    """Names of the numbers of a table, a wide column's one by one, and the columns that hold them."""
    chosen = [column for column in COLUMNS[table] if "Float" in column.dtype and column.file.startswith("kernels")]
    names = []
    for column in chosen:
        width = int(column.dtype.split("(")[-1].rstrip(",) ")) if column.dtype.startswith("Array") else 1
        names += [column.name] if width == 1 else [f"{column.name}[{place}]" for place in range(width)]
    return names, chosen


def _moments(table: str, frame: pl.DataFrame) -> dict[str, list[float]]:
    """Moments of a table's numbers, in slices that fit a cache several times over; as JSON holds them."""
    names, columns = _numbers(table)
    found = Moments.of(np.zeros((0, len(names))))
    for rows in frame.iter_slices(_SLICE_ROWS):
        parts = [rows[column.name].to_numpy().reshape(rows.height, -1).astype(np.float64) for column in columns]
        found = found.merged(Moments.of(np.hstack(parts)))
    return {name: getattr(found, name).tolist() for name in ("n", "mean", "squares")}


def _of_moments(told: Mapping[str, list[float]]) -> Moments:
    return Moments(np.array(told["n"], np.int64), np.array(told["mean"]), np.array(told["squares"]))


def _merged(work: Path, table: str) -> Moments:
    parts = [_of_moments(orjson.loads(marker.read_bytes())[table]) for marker in sorted(work.glob("[0-9]*-of-*.json"))]
    found = parts[0]
    for part in parts[1:]:
        found = found.merged(part)
    return found


def _write_index(
    work: Path, fitted: Fitted, digest: str, at_s: int, n_partitions: int, rows: Mapping[str, int]
) -> None:
    for marker in work.glob("[0-9]*-of-*.json"):
        marker.unlink()
    splits, shop = fitted.dataset.splits, fitted.dataset.shop
    files = sorted(str(file.relative_to(work)) for file in work.rglob("*") if file.is_file() and file.name != _DIGEST)
    content = {
        "digest": digest,
        "shop": shop.name,
        "currency_code": shop.currency_code,
        "at_s": at_s,
        "fitted_window": {"first_s": splits.first_s, "until_s": splits.train_until_s},
        "n_partitions": n_partitions,
        "rows": rows,
        "files": files,
        "churn_on_validation_window": asdict(fitted.churn),
        "tables": {table: [asdict(column) for column in columns] for table, columns in COLUMNS.items()},
    }
    (work / INDEX).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


_DIGEST = "digest.txt"


def _digest(shop_folder: Path, options: Options) -> str:
    """Name inputs, options and our own code by their contents."""
    salt = f"{options.at_s}|{options.n_partitions}|{options.embed is not None}"
    digest = hashlib.sha256(salt.encode())
    tables = [shop_folder / f"{name}.parquet" for name in TABLES]
    for file in [shop_folder / "shop.json", *tables, *sources_of("kernels", "training")]:
        if not file.exists():
            raise InvalidTable(f"{file} must exist; run `stratagem ingest` first")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def _check_moment(dataset: Dataset, at_s: int) -> None:
    splits = dataset.splits
    if not splits.train_until_s <= at_s:
        raise InvalidTable(
            f"at_s must be ≥ the end of training {splits.train_until_s}, got {at_s}: limits would know the future"
        )


def _index(into: Path) -> _Index | None:
    file = into / INDEX
    if not file.exists():
        return None
    index: _Index = orjson.loads(file.read_bytes())
    return index


def _work_folder(into: Path, digest: str) -> Path:
    """The folder that a run fills; what a killed run of the same digest left in it is used again."""
    work = into.with_name(f".{into.name}.partial")
    if work.exists() and (not (work / _DIGEST).exists() or (work / _DIGEST).read_text() != digest):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / _DIGEST).write_text(digest)
    return work


def _move_into_place(work: Path, into: Path) -> None:
    (work / _DIGEST).unlink()
    before = into.with_name(f".{into.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    # No rename replaces a full folder, so the old one steps aside first.
    if into.exists():
        into.rename(before)
    work.rename(into)
    shutil.rmtree(before, ignore_errors=True)


def _write(frame: pl.DataFrame, file: Path) -> None:
    fresh = file.with_suffix(".writing")
    frame.write_parquet(fresh, compression="zstd", statistics=True)
    fresh.replace(file)


def _partition_name(number: int, n_partitions: int) -> str:
    return f"{number:05}-of-{n_partitions:05}"


def _n_rows(work: Path, table: str) -> int:
    return sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in _files(work, table))


def _files(folder: Path, table: str) -> Iterator[Path]:
    yield from sorted(folder.glob(f"{table}-*.parquet" if table in SHOPPER_TABLES else f"{table}.parquet"))
