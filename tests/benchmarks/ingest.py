"""A CSV of orders ingested with mapping and cleaning, beside a bare polars copy of the same CSV into Parquet.

In: a generated file, or one's own: STRATAGEM_INGEST names a shop.toml whose events come from one CSV. Out: how many
times longer ours takes, and the memory of its process. Run by `python -m tests.benchmarks ingest`.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from tests.benchmarks.record import Measured
from training.sources.mapping import read_mapping

N_QUICK, N_FULL = 2_000_000, 12_000_000
REPEATS = {True: 3, False: 5}
# One call that is not timed: it compiles kernels, and both find the file in memory.
N_ROWS_A_BLOCK = 500_000
MAPPING = """[shop]
currency_code = "GBP"
time_zone = "Europe/London"
[events]
source = "orders.csv"
[events.columns]
shopper_id = "Customer ID"
time = { column = "InvoiceDate", format = "%d/%m/%Y %H:%M:%S" }
kind = { column = "Invoice", starts_with = { C = "refund" }, otherwise = "order" }
item_id = "StockCode"
quantity = { column = "Quantity", absolute = true }
paid = { product = ["Quantity", "Price"], absolute = true }
order_id = "Invoice"
store_id = "Country"
[events.clean]
duplicates = "drop"
returns = "match"
"""


def measure(quick: bool, raw: Path | None) -> Measured:
    """Time both, each in a process of its own, in turn.

    quick    a file of 0.2 GB instead of 1.2 GB
    raw      folder for every time taken; None writes nothing
    returns  ratio_polars, seconds of both, peak_mb of our process
    """
    with tempfile.TemporaryDirectory() as scratch:
        named = os.environ.get("STRATAGEM_INGEST")
        mapping = Path(named) if named else _written(Path(scratch), N_QUICK if quick else N_FULL)
        csv = mapping.parent / read_mapping(mapping).events.source[0]
        taken: dict[str, list[dict[str, float]]] = {"ours": [], "polars": []}
        for repeat in range(REPEATS[quick] + 1):
            for side, source in (("ours", mapping), ("polars", csv)):
                told = _in_a_process(side, source, Path(scratch))
                if repeat:
                    taken[side].append(told)
        if raw is not None:
            (raw / "ingest.json").write_text(json.dumps(taken, indent=2))
    ours, polars = ([run["seconds"] for run in taken[side]] for side in ("ours", "polars"))
    ratios = [mine / theirs for mine, theirs in zip(ours, polars, strict=True)]
    figures = {
        "ratio_polars": statistics.median(ratios),
        "ingest_s": statistics.median(ours),
        "peak_mb": max(run["peak_mb"] for run in taken["ours"]),
    }
    rivals = {"polars scan_csv to Parquet, s": statistics.median(polars)}
    spread = {
        "ratio_polars": _spread(ratios),
        "ingest_s": _spread(ours),
        "polars scan_csv to Parquet, s": _spread(polars),
    }
    return Measured(figures, rivals, len(ratios), spread)


def _spread(values: list[float]) -> float:
    quarters = statistics.quantiles(values, n=4)
    return quarters[2] - quarters[0]


def _written(folder: Path, n_rows: int) -> Path:
    """A shop's export: orders and returns of a thousand shoppers in forty thousand rows, in no order of shoppers."""
    random = np.random.default_rng(0)
    items = pl.Series([f"WHITE HANGING HEART T-LIGHT HOLDER {item}" for item in range(20_000)])
    countries = pl.Series(["United Kingdom", "France", "Germany"])
    with (folder / "orders.csv").open("wb") as file:
        for begin in range(0, n_rows, N_ROWS_A_BLOCK):
            n = min(N_ROWS_A_BLOCK, n_rows - begin)
            is_return = random.random(n) < 0.02
            number = pl.Series((begin + np.arange(n)) // 17).cast(pl.String)
            item = random.zipf(1.3, n) % 20_000
            # From 02:00 on: no clock was ever put forward then, so that every row is one that stays.
            time_s = 1_600_000_000 + (begin + np.arange(n)) * 100_000_000 // n_rows // 86_400 * 86_400
            frame = pl.DataFrame(
                {
                    "Invoice": pl.select(
                        pl.when(pl.Series(is_return)).then(pl.lit("C") + number).otherwise(number)
                    ).to_series(),
                    "StockCode": pl.Series(item).cast(pl.String),
                    "Description": items[pl.Series(item)],
                    "Quantity": np.where(is_return, -1, 1) * random.integers(1, 20, n),
                    "InvoiceDate": pl.from_epoch(
                        pl.Series(time_s + random.integers(7_200, 86_400, n)), "s"
                    ).dt.strftime("%d/%m/%Y %H:%M:%S"),
                    "Price": random.integers(50, 5_000, n) / 100,
                    "Customer ID": random.integers(10_000, 10_000 + n_rows // 40, n),
                    "Country": countries[pl.Series(random.integers(0, 3, n))],
                }
            )
            frame.write_csv(file, include_header=begin == 0)
    (folder / "shop.toml").write_text(MAPPING)
    return folder / "shop.toml"


def _in_a_process(side: str, source: Path, scratch: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=scratch) as into:
        words = [sys.executable, "-m", "tests.benchmarks.ingest", side, str(source), into]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _run(side: str, source: Path, into: Path) -> None:
    """One timed call; modules are imported before the clock starts, on both sides."""
    if side == "ours":
        from training.sources.shop import ingest

        begun_s = time.perf_counter()
        ingest(source, into / "shop", lambda _: None)
    else:
        begun_s = time.perf_counter()
        pl.scan_csv(source).sink_parquet(into / "copy.parquet")
    seconds = time.perf_counter() - begun_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
