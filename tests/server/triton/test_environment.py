"""Triton's own environment: made once, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.triton.environment import Environment, prepared

ROOT = Path(__file__).resolve().parents[3]


def test_an_environment_that_is_ready_is_not_made_again(triton_environment: Environment) -> None:
    said: list[str] = []
    assert prepared(say=said.append) == triton_environment
    assert said == []


def test_triton_has_a_numpy_of_its_own_below_2(triton_environment: Environment) -> None:
    found = subprocess.run(
        [triton_environment.folder / "venv/bin/python", "-c", "import numpy, onnxruntime; print(numpy.__version__)"],
        env=triton_environment.variables(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith("1.")


def test_the_server_runs_and_its_stub_finds_its_libraries(triton_environment: Environment) -> None:
    for program in (triton_environment.binary, triton_environment.backends / "python/triton_python_backend_stub"):
        told = subprocess.run(
            ["ldd", program], env=triton_environment.variables(), capture_output=True, text=True, check=True
        )
        assert "not found" not in told.stdout


def test_packages_that_cannot_be_fetched_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    nowhere = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    nowhere |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "server.triton.environment", "--folder", str(tmp_path / "triton")],
        cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("triton: nvidia-pytriton==")
    assert "must be reachable" in done.stderr
    assert list((tmp_path / "triton").iterdir()) == []


def test_a_python_without_its_shared_library_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import pathlib, sysconfig; pathlib.Path.exists = lambda self: False\n"
        "from server.triton.environment import NotPrepared, python_library\n"
        "try: python_library()\n"
        "except NotPrepared as problem: print(problem)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("libpython3.")
    assert f"apt-get install libpython3.{sys.version_info.minor}" in told
