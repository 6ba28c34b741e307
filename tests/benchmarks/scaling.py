"""How the features' time grows with events, shoppers and threads, and what ten billion events would take.

Run by `python -m tests.benchmarks scaling`; docs/scaling.md is written from its record.
"""

import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from numba import get_num_threads, set_num_threads

from kernels.features import features_at
from kernels.ledger import COLUMNS, ledger_of
from tests.benchmarks.events import events_of
from tests.benchmarks.record import Measured
from tests.benchmarks.rivals import event_columns

EVENTS = (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
SHOPPERS = (1_000, 10_000, 100_000, 1_000_000)
PER_SHOPPER, FIXED_EVENTS = 100, 4_000_000
TEN_BILLION = 10**10


def measure(quick: bool, raw: Path | None) -> Measured:
    """Time ledger, shoppers' features and event columns over a grid of sizes.

    quick    one pass instead of three, and no size above two million events
    raw      folder for the grid as CSV; None writes nothing
    returns  nanoseconds for each event and stage, the slope of log time on log events, and the projection
    """
    repeats = 3 if quick else 5
    rows: list[dict[str, float]] = []
    most_threads = get_num_threads()
    sizes = [n for n in EVENTS if not quick or n <= 2_000_000]
    fixed = sizes[-1] if quick else FIXED_EVENTS
    grid = [(n, n // PER_SHOPPER, most_threads) for n in sizes]
    # Each size once: figures that are compared come from the same measurement.
    grid += [(fixed, n_shoppers, most_threads) for n_shoppers in SHOPPERS if n_shoppers * PER_SHOPPER != fixed]
    grid += [(fixed, fixed // PER_SHOPPER, n_threads) for n_threads in range(1, most_threads)]
    _stages(events_of(10_000, 100), 100)  # compiles what is not cached
    for n_events, n_shoppers, n_threads in grid:
        set_num_threads(n_threads)
        events = events_of(n_events, n_shoppers)
        stages = [_stages(events, n_shoppers) for _ in range(repeats)]
        seconds = {name: median(each[name] for each in stages) for name in stages[0]}
        rows.append({"n_events": events.height, "n_shoppers": n_shoppers, "n_threads": n_threads, **seconds})
    set_num_threads(most_threads)
    if raw is not None:
        pl.DataFrame(rows).write_csv(raw / "scaling.csv")
    return Measured(*_summary(rows, len(sizes)), int(rows[len(sizes) - 1]["n_events"]))


def _stages(events: pl.DataFrame, n_shoppers: int) -> dict[str, float]:
    columns = {name: events[name].to_numpy() for name in COLUMNS}
    times = [time.perf_counter()]
    ledger = ledger_of(events["shopper"].to_numpy(), n_shoppers, columns)
    times.append(time.perf_counter())
    features_at(ledger, np.arange(n_shoppers), np.full(n_shoppers, int(ledger.time_s.max())))
    times.append(time.perf_counter())
    event_columns.in_kernels(ledger)
    times.append(time.perf_counter())
    return dict(zip(("ledger_s", "shoppers_s", "events_s"), np.diff(times).tolist(), strict=True))


def _summary(rows: list[dict[str, float]], n_sizes: int) -> tuple[dict[str, float], dict[str, float]]:
    def in_all(row: dict[str, float]) -> float:
        return row["ledger_s"] + row["shoppers_s"] + row["events_s"]

    by_events, largest = rows[:n_sizes], rows[n_sizes - 1]
    alone = min(rows, key=lambda row: row["n_threads"])
    together = next(row for row in by_events if row["n_events"] == alone["n_events"])
    logs = np.log([[row["n_events"], in_all(row)] for row in by_events])
    core_s = in_all(largest) * largest["n_threads"] / largest["n_events"]
    stages = ("ledger", "shoppers", "events")
    figures = {
        "exponent_of_events": float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]),
        "threads_speedup": in_all(alone) / in_all(together),
        "ten_billion_events_core_hours": core_s * TEN_BILLION / 3_600,
        **{f"{stage}_ns_per_event": largest[f"{stage}_s"] / largest["n_events"] * 1e9 for stage in stages},
    }
    rivals = {
        f"{row['n_events']:,.0f} events, {row['n_shoppers']:,} shoppers, {row['n_threads']} threads: {stage}_s": row[
            f"{stage}_s"
        ]
        for row in rows
        for stage in stages
    }
    return figures, rivals
