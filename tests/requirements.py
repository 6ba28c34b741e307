"""Real programs that tests start: skipped with a reason where absent, a failure under STRATAGEM_ALL=1."""

import os
import shutil
from pathlib import Path

import pytest


def require_program(program: str, debian_package: str) -> None:
    """Skip the calling test unless `program` is on the PATH.

    program         executable name
    debian_package  what to install to get it
    """
    if shutil.which(program) is None:
        missing(f"{program} is not installed (Debian package {debian_package})")


def missing(reason: str) -> None:
    """Skip for `reason`, or fail where everything was promised to be installed."""
    if os.environ.get("STRATAGEM_ALL") == "1":
        pytest.fail(f"{reason}, and STRATAGEM_ALL=1 promises it")
    pytest.skip(reason)


def shared_data(name: str) -> Path:
    """Return a folder of the data sets that stand beside this repository, or skip the calling test without them.

    name  folder of ../shared/data
    """
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not beside the repository (../shared/data)")
    return folder
