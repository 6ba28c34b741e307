"""What is installed, what answers, what is missing and how to get it: the findings behind `stratagem doctor`."""

import importlib.metadata
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from server.problems import Problem
from server.repository import open_repository
from server.settings import Settings

OLDEST_PYTHON = (3, 11)
PATIENCE_S = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    part       what was looked at
    found      what is there, in words
    is_ok      whether the product can work with it
    is_needed  whether anything fails without it
    remedy     what to type when it is not ok; empty when it is
    """

    part: str
    found: str
    is_ok: bool
    is_needed: bool = True
    remedy: str = ""


def examine(settings: Settings, triton_folder: Path) -> Iterator[Finding]:
    """Look at every part in the order in which a request meets it.

    settings       where repository, state, plan and ports are
    triton_folder  Triton's own environment
    returns        findings, one by one, so that a slow one does not hold back the rest
    """
    yield _python()
    yield _packages()
    yield _program("C compiler", ("cc", "gcc", "clang"), "install one, on Debian: apt-get install gcc libc6-dev")
    yield _triton_environment(triton_folder)
    yield _repository(settings)
    yield _plan(settings)
    yield _answers("Triton", os.environ.get("TRITON_URL", ""), "`stratagem serve` starts one; or set TRITON_URL")
    yield _answers("gateway", f"{settings.host}:{settings.port}", "start it with `stratagem serve`")
    yield _program(
        "browser", ("chromium", "google-chrome"), "only for one test; on Debian: apt-get install chromium", needed=False
    )


def _python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return Finding(
        "Python", found, sys.version_info >= OLDEST_PYTHON, remedy="install Python 3.11 and run `make setup`"
    )


def _packages() -> Finding:
    """Installed versions against the exact pins of pyproject.toml."""
    wrong, n_pins = [], 0
    for requirement in importlib.metadata.requires("stratagem") or []:
        pin = re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)$", requirement)
        if pin is None:  # the extras are for tests
            continue
        n_pins += 1
        try:
            version = importlib.metadata.version(pin[1]).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        if version != pin[2]:
            wrong.append(f"{pin[1]} is {version}, pinned {pin[2]}")
    return Finding("packages", "; ".join(wrong) or f"all {n_pins} at their pins", not wrong, remedy="run `make setup`")


def _program(part: str, names: tuple[str, ...], remedy: str, needed: bool = True) -> Finding:
    path = next((found for name in names if (found := shutil.which(name))), None)
    return Finding(part, path or "none of " + ", ".join(names), path is not None, needed, remedy)


def _triton_environment(folder: Path) -> Finding:
    binaries = list(folder.glob("**/bin/tritonserver"))
    found = str(binaries[0]) if binaries else f"no tritonserver under {folder}"
    return Finding("Triton environment", found, bool(binaries), remedy="run `make setup`")


def _repository(settings: Settings) -> Finding:
    try:
        release = open_repository(settings.repository).release
    except (Problem, OSError) as problem:
        return Finding("model repository", str(problem), False, remedy="run `stratagem export`")
    return Finding("model repository", f"release {release}, every hash as in the manifest", True)


def _plan(settings: Settings) -> Finding:
    file = settings.plan / "plan.json"
    if not file.exists():
        return Finding(
            "plan", f"no {file}", False, False, "run `stratagem plan --budget AMOUNT`; without it only free actions"
        )
    return Finding("plan", f"{json.loads(file.read_text())['plan_id']}", True)


def _answers(part: str, address: str, remedy: str) -> Finding:
    """Whether a gRPC server is there; a socket first, because a closed port answers at once."""
    if not address:
        return Finding(part, "no address set", False, False, remedy)
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S), grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
    except (OSError, ValueError, grpc.FutureTimeoutError):
        return Finding(part, f"nothing answers at {address}", False, False, remedy)
    return Finding(part, f"answers at {address}", True, False)
