"""A stranger's export goes from inspect to features by the command line alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
N_DAYS, N_ROWS = 80, 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop's CSV of orders, cancellations, a row without a customer and one that cannot be read."""
    folder = tmp_path_factory.mktemp("verbs")
    draw = np.random.default_rng(7)
    day = np.sort(draw.integers(0, N_DAYS, N_ROWS))
    is_return = np.arange(N_ROWS) % 40 == 39
    frame = pl.DataFrame(
        {
            "Invoice": [f"{'C' if back else ''}{50_000 + row // 4}" for row, back in enumerate(is_return)],
            "StockCode": [f"A{code}" for code in draw.integers(100, 130, N_ROWS)],
            "Description": ["RED TEA POT"] * N_ROWS,
            "Quantity": np.where(is_return, -1, draw.integers(1, 6, N_ROWS)),
            "InvoiceDate": [
                f"2024-{1 + d // 28:02}-{1 + d % 28:02} {9 + row % 9:02}:30:00" for row, d in enumerate(day)
            ],
            "Price": draw.integers(100, 900, N_ROWS) / 100,
            "Customer ID": [str(12_000 + who) for who in draw.integers(0, 25, N_ROWS)],
        }
    )
    lines = frame.write_csv().splitlines()
    lines[10] = lines[10].rsplit(",", 1)[0] + ","
    lines[20] = lines[20].replace(":30:00", ":30:half")
    (folder / "orders.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """One verb of `stratagem`, with its output captured."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *words], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_proposal_ingests_as_it_stands_and_its_features_are_written(folder: Path) -> None:
    toml, shop, into = folder / "shop.toml", folder / "shop", folder / "features"
    proposed = run("inspect", str(folder / "orders.csv"), "--into", str(toml))
    assert proposed.returncode == 0, proposed.stderr
    assert "unsure: " in proposed.stdout
    ingested = run("ingest", str(toml), "--into", str(shop))
    assert ingested.returncode == 0, ingested.stderr
    taken_out = pl.read_parquet(shop / "quarantine.parquet").sort("line")
    assert taken_out["line"].to_list() == [11, 21]
    assert "orders.csv line 21" in taken_out["reason"][1]
    assert json.loads((shop / "cleaning.json").read_bytes())["rows_out"]["events"] == N_ROWS - 2
    assert "what came in, what went out" in (shop / "ingest.html").read_text()
    written = run("features", "--shop", str(shop), "--into", str(into))
    assert written.returncode == 0, written.stderr
    assert pl.read_parquet(into / "events-*.parquet").height == N_ROWS - 2
    assert pl.read_parquet(into / "shoppers-*.parquet").height == 25
    assert run("features", "--shop", str(shop), "--into", str(into)).stdout.count("up to date") == 1


def test_inspect_writes_over_nothing(folder: Path) -> None:
    kept = folder / "kept.toml"
    kept.write_text("mine")
    refused = run("inspect", str(folder / "orders.csv"), "--into", str(kept))
    assert (refused.returncode, kept.read_text()) == (1, "mine")
    assert "exists already" in refused.stderr


def test_what_is_no_table_is_refused_in_one_sentence(folder: Path) -> None:
    (folder / "picture.csv").write_bytes(bytes(range(256)) * 40)
    refused = run("inspect", str(folder / "picture.csv"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("stratagem: ")
    assert "Traceback" not in refused.stderr
