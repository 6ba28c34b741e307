"""The feature set beside polars and pandas, one shopper's features, one update, and streaming kernels beside a copy.

The feature set is all that `stratagem features` counts: every column of kernels.features.FEATURES with the item history
for each shopper, and the running, session, day and velocity columns for each event. Unsorted, everybody starts from one
Parquet file; sorted, from frames in memory. The three answers are compared before any time is reported.
Run by `python -m tests.benchmarks features`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from kernels.features import apply_event, empty_state, features_at
from kernels.ledger import COLUMNS, Ledger, ledger_of
from tests.benchmarks import streams
from tests.benchmarks.events import events_file
from tests.benchmarks.record import Measured
from tests.benchmarks.rivals import event_columns, in_pandas, in_polars

FOLDER = Path("build/bench")
# Somebody else's events, with the columns of tests/benchmarks/events.py, shoppers numbered from 0 and none left out.
OWN_EVENTS = "STRATAGEM_BENCH_EVENTS"
KEYS = ["shopper", "time_s", "kind", "order"]
LEDGER_OF_ONE = 500
# float32 keeps 6e-8 of a value; polars and pandas add in other orders, and their squares cancel: 1e-5, 2 micros.
RELATIVE, ABSOLUTE = 1e-5, 2.0


@dataclass(frozen=True)
class Answer:
    """The whole feature set: `features_at` for each shopper, and a column for each name of event_columns."""

    shoppers: NDArray[np.float32]
    history: NDArray[np.int32]
    events: Mapping[str, NDArray[np.generic]]


def measure(quick: bool, raw: Path | None) -> Measured:
    """Time the three alternately, each from both starts.

    quick   a million events instead of ten, pandas once
    raw     folder for the events and our answers to them; None writes nothing
    returns figures of the contract, and seconds of each
    raises  ValueError  if the three answers differ
    """
    own = os.environ.get(OWN_EVENTS)
    file = Path(own) if own else events_file(FOLDER, *((1_000_000, 10_000) if quick else (10_000_000, 100_000)))
    events = pl.read_parquet(file)
    at_s, n_shoppers = int(events["time_s"].max()) + 3_600, int(events["shopper"].max()) + 1  # type: ignore[arg-type]
    in_order = events.sort(KEYS, maintain_order=True).with_columns(pl.col("shopper").set_sorted())
    contenders = {
        "ours": lambda: _ours(pl.read_parquet(file), at_s, n_shoppers),
        "polars": lambda: _polars(pl.scan_parquet(file).sort(KEYS, maintain_order=True), at_s, n_shoppers),
        "ours_sorted": lambda: _ours(in_order, at_s, n_shoppers),
        "polars_sorted": lambda: _polars(in_order.lazy(), at_s, n_shoppers),
    }
    _ours(events.head(1_000), at_s, n_shoppers)  # compiles what is not cached
    taken, answers = _alternated(contenders, 3 if quick else 5)
    began = time.perf_counter()
    answers["pandas"] = _pandas(
        pd.read_parquet(file).sort_values(KEYS, kind="stable", ignore_index=True), at_s, n_shoppers
    )
    taken["pandas"] = [time.perf_counter() - began]
    for name, answer in answers.items():
        _check_equal(name, answers["ours"], answer)
    if raw is not None:
        _write_raw(raw, file, answers["ours"])
    seconds = {name: median(times) for name, times in taken.items()}
    kernels = streams.ratios(2_000_000 if quick else 10_000_000, 7 if quick else 15)
    one = _one_shopper(events)
    figures = {
        "speedup_polars": seconds["polars"] / seconds["ours"],
        "speedup_polars_sorted": seconds["polars_sorted"] / seconds["ours_sorted"],
        "speedup_pandas": seconds["pandas"] / seconds["ours"],
        "copy_ratio_worst": max(ratio.times for ratio in kernels.values() if ratio.rival == "copy"),
        "exp_ratio_worst": max(ratio.times for ratio in kernels.values() if ratio.rival == "exp"),
        **one,
        "first_call_s": _first_call_s(),
    }
    rivals = {f"{name}_s": value for name, value in seconds.items()}
    rivals |= {f"copy_ratio_worst: {name}" if ratio.rival == "copy" else f"exp_ratio_worst: {name}": ratio.times
               for name, ratio in kernels.items()}  # fmt: skip
    spread = {f"{name}_s": _quartiles_apart(times) for name, times in taken.items()}
    return Measured(figures, rivals, events.height, spread)


def _ours(events: pl.DataFrame, at_s: int, n_shoppers: int) -> Answer:
    ledger = _ledger(events, n_shoppers)
    features, history = features_at(ledger, np.arange(n_shoppers), np.full(n_shoppers, at_s))
    return Answer(features, history, event_columns.in_kernels(ledger))


def _ledger(events: pl.DataFrame, n_shoppers: int) -> Ledger:
    return ledger_of(events["shopper"].to_numpy(), n_shoppers, {name: events[name].to_numpy() for name in COLUMNS})


def _polars(in_order: pl.LazyFrame, at_s: int, n_shoppers: int) -> Answer:
    # Both halves read the same sorted rows: collected once, or polars would sort for each.
    rows = in_order.collect().lazy()
    shoppers, history = in_polars.features(rows, at_s, is_sorted=True)
    told = event_columns.in_polars(rows)
    whole, items = in_polars.as_arrays((shoppers, history), n_shoppers)
    return Answer(whole, items, {name: told[name].to_numpy() for name in told.columns})


def _pandas(in_order: pd.DataFrame, at_s: int, n_shoppers: int) -> Answer:
    told = event_columns.in_pandas(in_order)
    features, history = in_pandas.features(in_order, at_s, n_shoppers)
    return Answer(features, history, {name: told[name].to_numpy() for name in told.columns})


def _alternated(
    contenders: Mapping[str, Callable[[], Answer]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Answer]]:
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Answer] = {}
    for _ in range(repeats):
        for name, contender in contenders.items():
            answers.pop(name, None)
            began = time.perf_counter()
            answers[name] = contender()
            taken[name].append(time.perf_counter() - began)
    return taken, answers


def _check_equal(name: str, ours: Answer, theirs: Answer) -> None:
    pairs = {"history": (ours.history, theirs.history), "shoppers": (ours.shoppers, theirs.shoppers)}
    pairs |= {column: (values, theirs.events[column]) for column, values in ours.events.items()}
    for part, (mine, other) in pairs.items():
        tolerance = ABSOLUTE if part not in ("history", "shoppers") else 1e-4
        if not np.allclose(mine.astype(np.float64), other.astype(np.float64), RELATIVE, tolerance, equal_nan=True):
            raise ValueError(f"{part} must be equal in the kernels and in {name}")


def _one_shopper(events: pl.DataFrame) -> dict[str, float]:
    """Microseconds for all features of a ledger of 500 events as they come, and for taking one event into a state."""
    some = events.head(LEDGER_OF_ONE).with_columns(pl.lit(0, pl.Int64).alias("shopper"))
    ledger, at_s = _ledger(some, 1), np.array([int(some["time_s"].max())])  # type: ignore[arg-type]
    shopper, state = np.zeros(1, np.int64), empty_state()
    rows = [tuple(getattr(ledger, name)[row].item() for name in COLUMNS) for row in range(ledger.n_events)]

    def all_events() -> None:
        for row in rows:
            apply_event(state, *row)

    reads = [_timed(lambda: features_at(ledger, shopper, at_s)) for _ in range(2_000)]
    updates = [_timed(all_events) / len(rows) for _ in range(50)]
    return {"shopper_us": median(reads) * 1e6, "update_us": median(updates) * 1e6}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _first_call_s() -> float:
    """Seconds that a new process takes to import the kernels and answer its first shopper, from the compiled cache."""
    code = (
        "import numpy as np\nfrom kernels.features import features_at\nfrom kernels.ledger import empty_ledger\n"
        "features_at(empty_ledger(1), np.zeros(1, np.int64), np.zeros(1, np.int64))"
    )
    return _timed(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def _quartiles_apart(times: list[float]) -> float:
    if len(times) < 2:
        return 0.0
    low, _, high = quantiles(times, n=4, method="inclusive")
    return high - low


def _write_raw(folder: Path, file: Path, ours: Answer) -> None:
    pl.read_parquet(file).write_parquet(folder / "events.parquet")
    np.savez_compressed(folder / "shoppers.npz", features=ours.shoppers, history=ours.history)
    pl.DataFrame({name: np.ascontiguousarray(values) for name, values in ours.events.items()}).write_parquet(
        folder / "event_columns.parquet"
    )
