"""Ray Serve's own virtual environment: Ray brings forty packages that have no place in ours.

In: a folder. Out: the Python of an environment that holds Ray at its pin, and what it shares with us at our pins.
"""

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
DEFAULT_FOLDER = ROOT / "build/rivals/ray"
RAY = "ray[serve]==2.60.0"
# Pinned in pyproject.toml, so that Ray Serve runs on the same gRPC, messages and graphs as we do.
SHARED = ("grpcio", "protobuf", "numpy", "onnxruntime", "uvloop")
# Of the replica's own door; in Ray's network namespace nobody else takes it.
DIRECT_PORT = 40_000


def variables(is_direct: bool) -> dict[str, str]:
    """Environment variables of every process of Ray.

    is_direct  replicas listen themselves, which Ray switches on by its setting for throughput; the proxy stays
    """
    found = {"PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", "RAY_USAGE_STATS_ENABLED": "0"}  # nothing leaves this machine
    if is_direct:
        found["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
        found["RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT"] = str(DIRECT_PORT)
    return found


def prepared(folder: Path = DEFAULT_FOLDER) -> Path:
    """Return the environment's Python, installed first where it is missing or its pins have changed.

    folder  the environment; replaced as a whole
    raises  FileNotFoundError  with pip's words, if a package cannot be had
    """
    pins, told = _pins(), folder / "pins.txt"
    python = folder / "bin/python"
    if told.exists() and told.read_text().split() == pins:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--python", str(python)]
    done = subprocess.run([*pip, "install", *pins], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FileNotFoundError(f"{RAY} must be installable, but pip said: {done.stderr.strip().splitlines()[-1]}")
    told.write_text("\n".join(pins) + "\n")
    return python


def _pins() -> list[str]:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [RAY, *(pin for pin in dependencies if pin.split("==")[0] in SHARED)]
