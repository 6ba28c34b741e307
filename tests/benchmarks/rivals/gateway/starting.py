"""Starts a rival as a process on its own cores and ends it with the block.

In: what to serve, and the door to serve it behind. Out: a Server that answers on 127.0.0.1. Called by
tests.benchmarks gateway, by `python -m tests.benchmarks.rivals.gateway` and by tests/rivals.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stratagem.v1 import strategy_pb2

from server.triton import guard
from server.triton.process import started
from tests.benchmarks.rivals.gateway import ray_environment
from tests.benchmarks.rivals.gateway.doors import SCOPE, Door, Server
from tests.benchmarks.rivals.gateway.ensemble import heads_of, write_ensemble
from tests.benchmarks.rivals.gateway.messages import typical_answer

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = "tests.benchmarks.rivals.gateway"
# The fastest grpcio server of any kind is the one to be measured against, so our own server/wire is one of them.
ECHOES = ("aio", "aio_uvloop", "threads_1", "threads_2", "threads_4", "wire")
STREAM_ECHOES = ("aio_uvloop", "threads_1", "threads_2", "wire")
PATIENCE_S, RAY_PATIENCE_S, STOP_S = 60.0, 180.0, 20.0


class RivalFailed(Exception):  # noqa: N818 - the name says what is wrong
    """A rival did not come up; the sentence ends with the last lines that it wrote."""


@contextmanager
def echo(
    kind: str,
    door: Door | None = None,
    *,
    cores: Collection[int] = (),
    answer: strategy_pb2.DecideResponse | None = None,
) -> Iterator[Server]:
    """Run a bare echo of Decide and DecideStream.

    kind    one of ECHOES
    door    TLS and tokens; None: neither
    cores   it keeps to these; none: to no particular ones
    answer  a real answer of the gateway, so that sizes are the same; None takes a typical one
    """
    with tempfile.TemporaryDirectory(prefix="echo-") as folder:
        file = Path(folder) / "answer.bin"
        file.write_bytes((answer or typical_answer()).SerializeToString())
        told: dict[str, object] = {"kind": kind, "answer": str(file), "scope": SCOPE}
        told |= {"scopes": door.scopes() if door else {}, "key": str(door.key) if door else ""}
        told |= {"certificate": str(door.certificate) if door else ""}
        with _process(f"{PACKAGE}.echo_server", told, cores) as (address, pid):
            yield Server(address, pid, door)


@contextmanager
def naive(triton: str, repository: Path, *, cores: Collection[int] = ()) -> Iterator[Server]:
    """Run the naive server.

    triton      address of a Triton that serves the heads of `repository`
    repository  what `stratagem export` wrote
    cores       it keeps to these; none: to no particular ones
    """
    model = heads_of(repository)
    told = {"triton": triton, "model": model, "known": str((repository / model / "1/self_test.npz").absolute())}
    with _process(f"{PACKAGE}.naive_server", told, cores) as (address, pid):
        yield Server(address, pid)


@contextmanager
def ray_serve(repository: Path, is_direct: bool = False, *, cores: Collection[int] = ()) -> Iterator[Server]:
    """Run Ray Serve in its own environment, which is installed first where it is missing (some 600 MB).

    Ray binds every address that there is, whatever it is told: so it gets a network namespace with only loopback.

    repository  what `stratagem export` wrote; the heads run inside Ray's own worker
    is_direct   callers reach the replica itself, past Ray's proxy: the fastest that Ray Serve has
    cores       it keeps to these; none: to no particular ones, as Ray runs a handful of processes
    """
    model = heads_of(repository)
    graph, known = ((repository / model / "1" / name).absolute() for name in ("model.onnx", "self_test.npz"))
    command = ["unshare", "--user", "--map-root-user", "--net", str(ray_environment.prepared())]
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a long path here breaks Ray's sockets
        told: dict[str, object] = {"graph": str(graph), "known": str(known), "folder": folder}
        told |= {"port": ray_environment.DIRECT_PORT} if is_direct else {}
        variables = ray_environment.variables(is_direct)
        with _process(f"{PACKAGE}.ray_server", told, cores, command, variables) as (address, pid):
            yield Server(address, pid, is_shut=True)


@contextmanager
def triton_ensemble(repository: Path, *, cores: Collection[int] = ()) -> Iterator[Server]:
    """Run a Triton with the bare ensemble of ensemble.py.

    repository  what `stratagem export` wrote
    cores       Triton and its Python stubs keep to these; none: to no particular ones
    """
    with tempfile.TemporaryDirectory(prefix="ensemble-") as folder:
        models = write_ensemble(repository, Path(folder))
        with started(Path(folder), models) as running:
            pin(running.guard.pid, cores)
            yield Server(running.address, running.guard.pid)


def pin(pid: int, cores: Collection[int]) -> None:
    """Keep every thread of a process, and of all its descendants, to `cores`; none changes nothing."""
    if not cores:
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
        for child in (thread / "children").read_text().split():
            pin(int(child), cores)


@contextmanager
def _process(
    module: str,
    told: Mapping[str, object],
    cores: Collection[int],
    python: Sequence[str] = (sys.executable,),
    variables: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, int]]:
    """Address and pid of a child that has said it is ready; the guard ends it when its pipe closes, however that is."""
    with tempfile.TemporaryDirectory(prefix="rival-") as folder:
        ready, log = Path(folder) / "ready", Path(folder) / "log"
        os.mkfifo(ready)
        message = json.dumps({**told, "cores": sorted(cores), "ready": str(ready)})
        command = [sys.executable, "-I", "-S", str(Path(guard.__file__)), *python, "-m", module, message]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output,
                cwd=ROOT, env=os.environ | dict(variables or {}), start_new_session=True,
            )  # fmt: skip
        try:
            yield _said(process, ready, log, RAY_PATIENCE_S if variables else PATIENCE_S)
        finally:
            _end(process)


def _said(process: subprocess.Popen[bytes], ready: Path, log: Path, within_s: float) -> tuple[str, int]:
    """What the child writes into the named pipe."""
    until_s = time.monotonic() + within_s
    ended, said = os.pidfd_open(process.pid), os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    try:
        line = b""
        while not line.endswith(b"\n"):
            heard, _, _ = select.select([ended, said], [], [], max(0.0, until_s - time.monotonic()))
            if said not in heard:
                last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
                raise RivalFailed(f"a rival must become ready within {within_s:g} s, but said: {last or 'nothing'}")
            line += os.read(said, 256)
    finally:
        os.close(ended)
        os.close(said)
    pid, address = line.decode().split()
    return address, int(pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the guard's pipe: it ends its child and whatever the child left."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
