"""`stratagem train` under torchrun: two workers, one model, and what one worker would have found, within noise."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from training.fit import TrainReport

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cli", "train", "--quick"]


@pytest.fixture(scope="module")
def said(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that two workers wrote, and what the command printed."""
    into = tmp_path_factory.mktemp("workers")
    ran = subprocess.run(
        [sys.executable, *COMMAND, "--shop", str(shop_folder), "--into", str(into)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3_000:]
    return into, ran.stdout


def test_two_workers_find_what_one_finds_within_noise(
    said: tuple[Path, str], trained: tuple[Path, TrainReport]
) -> None:
    one, two = (orjson.loads((folder / "evaluation.json").read_bytes()) for folder in (trained[0], said[0]))
    assert set(two["models"]) == set(one["models"])
    for model, found in one["models"].items():
        for row, again in zip(found["rows"], two["models"][model]["rows"], strict=True):
            for name, figure in row["figures"].items():
                # Dropout differs, so a figure may move; two runs' difference spreads √2 times as wide as an interval.
                slack = max(2**0.5 * (figure["upper"] - figure["lower"]), 0.02)
                assert abs(again["figures"][name]["value"] - figure["value"]) <= slack, (model, row["name"], name)


def test_one_worker_speaks_and_no_checkpoint_is_left(said: tuple[Path, str]) -> None:
    into, printed = said
    assert printed.count("response trained and judged") == 1
    assert sorted(into.rglob("*.writing")) == sorted(into.rglob("checkpoint.pt")) == []
    assert (into / "trained").exists()
