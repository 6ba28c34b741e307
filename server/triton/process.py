"""Gives the address of a ready Triton: the one at TRITON_URL, or one of our own that stops when we do.

In: a model repository. Out: "127.0.0.1:PORT" of a server whose models answer their known tensors.
Called by `python -m server`, cli.py and tests through `serving`.
"""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import stratagem

import kernels
import server
from server.problems import ModelUnavailable, PortInUse
from server.triton.environment import DEFAULT_FOLDER, ROOT, Environment, NotPrepared, prepared
from server.triton.mending import Mending
from server.triton.self_test import check_known_tensors, not_ready

HOST = "127.0.0.1"
MODELS = ("encoder", "heads", "predictions")
# The model that is our own code; it stands beside the code, whatever repository is served.
DECIDE = "decide"
DOOR = ROOT / "model_repository" / DECIDE
DOOR_VARIABLE = "STRATAGEM_DECIDE"
# The door's first start in an environment compiles the kernels there: 25 s on two busy cores, at most so long.
COMPILED_S = 120.0
N_LOGS = 20
N_PORT_TRIES = 3
STOP_S = 10.0
UNLOADED_S = 4  # less than the guard's own grace


@dataclass(frozen=True)
class Running:
    """A Triton that we started.

    guard    the process that ends Triton with us; ours to wait for
    address  "host:port" for gRPC
    metrics  URL of the Prometheus page
    log      everything Triton says
    """

    guard: subprocess.Popen[bytes]
    address: str
    metrics: str
    log: Path


@contextmanager
def serving(
    repository: Path,
    models: Sequence[str] = MODELS,
    *,
    port: int = 0,
    folder: Path = DEFAULT_FOLDER,
    within_s: float = 60.0,
    traces_url: str = "",
) -> Iterator[str]:
    """Yield the gRPC address of a Triton that serves `models` and answers their known tensors.

    repository  model folders; each may hold 1/self_test.npz
    models      loaded, and waited for
    port        for gRPC; 0 takes a free one
    folder      Triton's own environment and logs
    within_s    time for the server to become ready
    traces_url  where a Triton of our own sends its spans; empty: nowhere
    raises      ModelUnavailable  if no server gets ready or one answers wrongly; PortInUse  if `port` is taken
    """
    address = os.environ.get("TRITON_URL", "")
    if address:
        address = _checked_address(address)
        _wait(address, models, time.monotonic() + within_s, None)
        check_known_tensors(address, repository, models)
        yield address
        return
    with started(repository, models, port=port, folder=folder, within_s=within_s, traces_url=traces_url) as running:
        check_known_tensors(running.address, repository, models)
        yield running.address


@contextmanager
def started(
    repository: Path,
    models: Sequence[str] = MODELS,
    *,
    port: int = 0,
    folder: Path = DEFAULT_FOLDER,
    within_s: float = 60.0,
    traces_url: str = "",
) -> Iterator[Running]:
    """Yield a Triton of our own, ready but not yet tested; it ends with the block, or with this process.

    raises  ModelUnavailable  with the last lines of the log; PortInUse  naming `port`
    """
    for model in models:
        if model != DECIDE and not (repository / model / "config.pbtxt").exists():
            raise ModelUnavailable(f"{repository / model / 'config.pbtxt'} must exist; `stratagem export` writes it")
    try:
        environment = prepared(folder)
    except NotPrepared as problem:
        raise ModelUnavailable(str(problem)) from problem
    options = [f"--load-model={model}" for model in models] + _trace_options(traces_url)
    if DECIDE in models and not (repository / DECIDE).exists():
        options.append(f"--model-repository={_door_folder(environment)}")
    within_s += COMPILED_S if DECIDE in models else 0.0
    running = _launched(_Start(environment, repository, models, options), port, within_s)
    try:
        with Mending(running.address, DECIDE) if DECIDE in models else nullcontext():
            yield running
    finally:
        _stop(running.guard)


@dataclass(frozen=True)
class _Start:
    """What every try to start has in common."""

    environment: Environment
    repository: Path
    models: Sequence[str]
    options: Sequence[str]


def _door_folder(environment: Environment) -> Path:
    """A repository that holds the door alone: our checkout's other models would stand in the way of the served ones."""
    folder = environment.folder / "door"
    folder.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (folder / DECIDE).symlink_to(DOOR, target_is_directory=True)
    return folder


def _door_variables(environment: Environment, address: str) -> dict[str, str]:
    """What the door's stub must know beyond the settings, which it reads from the same variables as everybody.

    It imports our own packages from the folders that we do, but numpy from Triton's environment, and so has the
    kernels compiled for that numpy in a cache of its own.
    """
    ours = [str(Path(module.__path__[0]).parent) for module in (server, kernels, stratagem)]
    packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    told = {"path": list(dict.fromkeys([*ours, *packages])), "folder": str(Path.cwd()), "triton": address}
    return {DOOR_VARIABLE: json.dumps(told), "NUMBA_CACHE_DIR": str(environment.folder / "numba")}


def _trace_options(url: str) -> list[str]:
    """Spans only for calls that bring a traceparent (a rate of 0 draws none of Triton's own), as OTLP in JSON."""
    if not url:
        return []
    told = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=0"]
    mode = {"url": url, "resource": "service.name=stratagem-triton", "bsp_schedule_delay": "500"}
    told += [f"opentelemetry,{name}={value}" for name, value in mode.items()]
    return [f"--trace-config={setting}" for setting in told]


def _launched(start: _Start, port: int, within_s: float) -> Running:
    """A free port can be taken before Triton binds it; then others are tried, unless one was asked for."""
    deadline = time.monotonic() + within_s
    for last_try in [port != 0 or n + 1 == N_PORT_TRIES for n in range(N_PORT_TRIES)]:
        running = _spawn(start, _ports(port))
        try:
            _wait(running.address, start.models, deadline, running)
            return running
        except BaseException as problem:
            _stop(running.guard)
            if last_try or not isinstance(problem, ModelUnavailable) or not _is_port_trouble(running.log):
                raise
    raise AssertionError("the last try returns or raises")


def _ports(port: int) -> tuple[int, int, int]:
    """Ports for gRPC, HTTP and metrics, all free just now."""
    sockets = []
    try:
        for wanted in (port, 0, 0):
            bound = socket.socket()
            sockets.append(bound)
            # As Triton binds: connections of a server that was killed linger on its port for a minute.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind((HOST, wanted))
            except OSError as error:
                raise PortInUse(
                    f"port must be free for Triton, got {wanted}: {(error.strerror or '').lower()} ({HOST}:{wanted})"
                ) from error
        grpc, http, metrics = (bound.getsockname()[1] for bound in sockets)
        return grpc, http, metrics
    finally:
        for bound in sockets:
            bound.close()


def _spawn(start: _Start, ports: tuple[int, int, int]) -> Running:
    grpc, http, metrics = ports
    environment = start.environment
    log = _new_log(environment.folder.parent / "logs", grpc)
    options = {
        "model-repository": start.repository.absolute(),
        "backend-directory": environment.backends,
        "cache-directory": environment.caches,
        "model-control-mode": "explicit",
        "grpc-address": HOST, "grpc-port": grpc,
        "http-address": HOST, "http-port": http,
        "metrics-address": HOST, "metrics-port": metrics,
        "allow-gpu-metrics": str(Path("/dev/nvidiactl").exists()).lower(),
        # Whoever asked has been answered before the block ends; only the door has something to give back: its leases.
        "exit-timeout-secs": UNLOADED_S if DECIDE in start.models else 0,
    }  # fmt: skip
    command = [str(environment.binary), *(f"--{name}={value}" for name, value in options.items())]
    command += start.options
    variables = environment.variables()
    if DECIDE in start.models:
        variables |= _door_variables(environment, f"{HOST}:{grpc}")
    guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
    with log.open("wb") as output:
        process = subprocess.Popen(
            guard + command,
            stdin=subprocess.PIPE,  # held open by us alone: its end is our end
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            cwd=environment.folder,
            start_new_session=True,  # Ctrl-C is for us; we then stop Triton in order
        )
    return Running(process, f"{HOST}:{grpc}", f"http://{HOST}:{metrics}/metrics", log)


def _new_log(folder: Path, port: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"), key=lambda file: file.name)[: -N_LOGS + 1]:
        old.unlink(missing_ok=True)
    return folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{port}.log"


def _wait(address: str, models: Sequence[str], deadline: float, running: Running | None) -> None:
    """Return once every model is ready; `deadline` is a moment of time.monotonic."""
    while True:
        missing = not_ready(address, models)
        if not missing and (
            running is None or _tells_metrics(running.metrics)
        ):  # metrics open some 40 ms after the models
            return
        if running is not None and running.guard.poll() is not None:
            raise ModelUnavailable(f"Triton must become ready, but it ended: {_last_words(running.log)}")
        if time.monotonic() > deadline:
            said = f"; last in {running.log}: {_last_words(running.log)}" if running else ""
            raise ModelUnavailable(f"Triton at {address} must become ready in time, got: {missing}{said}")
        time.sleep(0.02)


def _tells_metrics(url: str) -> bool:
    """Whether Triton answers there, and not somebody who took the port first."""
    door = HTTPConnection(HOST, urlsplit(url).port or 0, timeout=1.0)
    try:
        door.request("GET", "/metrics")
        return b"nv_" in door.getresponse().read()
    except (OSError, HTTPException):
        return False
    finally:
        door.close()


def _last_words(log: Path) -> str:
    """What the log says went wrong: the first model that did not load, else the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    failed = [line.split('] "', 1)[-1].split(r"\n", 1)[0].rstrip('"') for line in lines if "failed to load '" in line]
    return f"{(failed or lines[-1:] or ['nothing'])[0]} (log: {log})"


def _is_port_trouble(log: Path) -> bool:
    return "already in use" in log.read_text(errors="replace")


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """End Triton through its guard: politely first, then not."""
    if guard.stdin is not None:
        guard.stdin.close()
    try:
        guard.wait(STOP_S)
    except subprocess.TimeoutExpired:
        guard.kill()  # Triton's parent-death signal does the rest
        guard.wait()


def _checked_address(url: str) -> str:
    """TRITON_URL without its scheme."""
    address = url.removeprefix("grpc://")
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdigit():
        raise ModelUnavailable(f"TRITON_URL must be host:port of Triton's gRPC door, got {url!r}")
    return address
