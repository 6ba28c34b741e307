"""Drives a gateway with h2load, which is no Python: how many requests it answers when somebody always asks.

In: a target, a method, bodies of one length. Out: requests a second and every latency. Called by curve.py, by
`stratagem bench load` and by the benchmarks. h2load (Debian package nghttp2-client) sees HTTP, not gRPC: a refusal is a
200 without a message to it, so answers are sampled before and their bytes are weighed after.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from server.load.latencies import Times, latency_figures
from server.load.target import LoadFailed, Target, messages_in

DEALER = Path(__file__).with_name("bodies.c")
STREAMING = ("DecideStream",)
N_SAMPLED = 64
# h2load sends a longer body in several frames, between which it may begin another request and be dealt its body.
DEALT_BYTES = 16_384
# Answers differ in length by shopper; below this share of the sampled mean, some had none.
LEAST_ANSWER_SHARE = 0.85
ANSWERS_WITHIN_S = 60.0
STARTS_WITHIN_S = 30.0


@dataclass(frozen=True)
class ClosedLoop:
    """Callers who ask again as soon as they are answered.

    n_connections  connections
    n_open         requests that each keeps open
    seconds        measured, after warm_s that are not
    deadline_s     time that each request gives the gateway; None: as long as the gateway takes by itself
    cpus           cores that h2load may use; none: all
    """

    n_connections: int = 4
    n_open: int = 16
    seconds: float = 5.0
    warm_s: float = 1.0
    deadline_s: float | None = None
    cpus: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Answered:
    """What h2load saw.

    n_failed      requests that ended without a whole HTTP answer or with another status than 200
    latency_s     (n,) float64  of every request that ended within the measured time
    answer_bytes  mean length of an answer's body
    usual_bytes   mean length of the answers that were sampled before the load
    """

    n_failed: int
    rate_per_s: float
    latency_s: Times
    answer_bytes: float
    usual_bytes: float

    @property
    def is_whole(self) -> bool:
        """Whether the answers are as long as usual; if not, some were refused or came from a lesser rung."""
        return self.answer_bytes >= LEAST_ANSWER_SHARE * self.usual_bytes

    @property
    def figures(self) -> dict[str, float]:
        """Rate and latencies by name."""
        return {"rate_per_s": self.rate_per_s, "n_failed": self.n_failed} | latency_figures(self.latency_s)


def driven(target: Target, method: str, bodies: Sequence[bytes], loop: ClosedLoop) -> Answered:
    """Do what `put_on` does, and report whole answers only.

    raises  LoadFailed  also if some requests were refused or got less than usual
    """
    answered = put_on(target, method, bodies, loop)
    if not answered.is_whole:
        raise LoadFailed(
            f"answers must have about {answered.usual_bytes:.0f} bytes, as sampled before the load, got "
            f"{answered.answer_bytes:.0f} on average: some requests to {target.address}{method} were refused, or "
            "answered from a lesser rung"
        )
    return answered


def put_on(target: Target, method: str, bodies: Sequence[bytes], loop: ClosedLoop) -> Answered:
    """Ask as fast as the gateway answers, each request with the next body.

    method  "/package.Service/Method"
    bodies  framed messages, all of one length; a stream's body holds many
    raises  LoadFailed  if h2load or a C compiler is missing, or a sampled request fails
    """
    _check(bodies)
    usual_bytes = sampled_bytes(target, method, bodies[:: max(1, len(bodies) // N_SAMPLED)][:N_SAMPLED])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = _run(target, method, bodies, loop, folder)
        return _answered(said, folder / "requests.tsv", loop, usual_bytes)


def _check(bodies: Sequence[bytes]) -> None:
    if len({len(body) for body in bodies}) != 1:
        raise LoadFailed(f"bodies must be of one length, got {len(bodies)} of {len(set(map(len, bodies)))} lengths")
    if len(bodies) > 1 and len(bodies[0]) > DEALT_BYTES:
        raise LoadFailed(f"one of several bodies must have at most {DEALT_BYTES} bytes, got {len(bodies[0])}")
    for program, package in (("h2load", "nghttp2-client"), ("cc", "gcc")):
        if shutil.which(program) is None:
            raise LoadFailed(f"{program} must be installed (Debian package {package})")


def sampled_bytes(target: Target, method: str, bodies: Sequence[bytes]) -> float:
    """Ask some of the bodies with a gRPC client, which sees the status, and return the mean length of an answer.

    raises  LoadFailed  with the gateway's own words
    """
    sizes = []
    with target.channel() as channel:
        for body in bodies:
            try:
                answers = _answers(channel, method, body, target)
            except grpc.RpcError as error:
                raise LoadFailed(f"{target.address}{method} answers {error.code().name}: {error.details()}") from None
            sizes.append(sum(5 + len(answer) for answer in answers))
    return float(np.mean(sizes))


def _answers(channel: grpc.Channel, method: str, body: bytes, target: Target) -> list[bytes]:
    timing = {"timeout": ANSWERS_WITHIN_S, "metadata": target.metadata}
    if method.endswith(STREAMING):
        return list(channel.stream_stream(method)(messages_in(body), **timing))
    return [channel.unary_unary(method)(next(messages_in(body)), **timing)]


def _run(target: Target, method: str, bodies: Sequence[bytes], loop: ClosedLoop, folder: Path) -> str:
    """What h2load says; its rows are in requests.tsv."""
    first, every, dealer = folder / "body", folder / "bodies", folder / "bodies.so"
    first.write_bytes(bodies[0])
    every.write_bytes(b"".join(bodies))
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(dealer), str(DEALER)], check=True)
    scheme = "http" if target.root is None else "https"
    # h2load takes headers on its command line alone: for as long as it runs, whoever lists processes reads the token.
    headers = [("content-type", "application/grpc"), ("te", "trailers"), *target.metadata]
    if loop.deadline_s is not None:
        headers.append(("grpc-timeout", f"{max(1, round(1e6 * loop.deadline_s))}u"))
    command = [
        "h2load", f"--duration={round(1e3 * (loop.warm_s + loop.seconds))}ms", f"--clients={loop.n_connections}",
        f"--max-concurrent-streams={loop.n_open}", f"--data={first}", f"--log-file={folder / 'requests.tsv'}",
        *(f"--header={name}: {value}" for name, value in headers),
        f"{scheme}://{target.address}{method}",
    ]  # fmt: skip
    variables = {
        "LD_PRELOAD": str(dealer),
        "STRATAGEM_BODIES": str(every),
        "STRATAGEM_BODY_BYTES": str(len(bodies[0])),
    }
    with subprocess.Popen(
        command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        if loop.cpus:
            os.sched_setaffinity(process.pid, loop.cpus)
        try:
            said, _ = process.communicate(timeout=loop.warm_s + loop.seconds + STARTS_WITHIN_S)
        finally:
            process.kill()
    if process.returncode != 0:
        raise LoadFailed(f"h2load must end with status 0, got {process.returncode}: {said.strip()[-200:]}")
    return said


def _answered(said: str, rows: Path, loop: ClosedLoop, usual_bytes: float) -> Answered:
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    if requests is None or data is None:
        raise LoadFailed(f"h2load must tell requests and traffic, got {said.strip()[-200:]!r}")
    done, succeeded, failed, _, _ = map(int, requests.groups())
    # Microseconds since 1970, HTTP status, microseconds taken: one row for each request that ended.
    logged = np.loadtxt(rows, np.int64, ndmin=2).reshape(-1, 3)
    if not logged.size:
        raise LoadFailed("h2load must end requests in the given time, got none")
    ended_us = logged[:, 0] + logged[:, 2]
    first_us = int(logged[:, 0].min()) + int(1e6 * loop.warm_s)
    measured = (ended_us >= first_us) & (ended_us < first_us + 1e6 * loop.seconds) & (logged[:, 1] == 200)
    return Answered(
        n_failed=failed + done - succeeded,
        rate_per_s=float(measured.sum() / loop.seconds),
        latency_s=logged[measured, 2] / 1e6,
        answer_bytes=int(data[1]) / max(done, 1),
        usual_bytes=usual_bytes,
    )
