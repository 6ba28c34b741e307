"""Starting, testing and ending a real Triton; nothing outlives its parent."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.problems import ModelUnavailable, PortInUse
from server.triton.client import Models
from server.triton.environment import Environment
from server.triton.process import Running, serving, started
from tests.server.triton.processes import descendants, ends_within, shared_memory
from tests.tiny_repository import tiny_encodings, tiny_features

ROOT = Path(__file__).resolve().parents[3]
END_S = 20.0
PARENT = """
import sys
from pathlib import Path
from server.triton.process import started
with started(Path(sys.argv[1]), ["predictions"]) as running:
    print(running.guard.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def running(triton_environment: Environment, tiny_repository: Path) -> Iterator[Running]:
    """A Triton that the test may kill."""
    with started(tiny_repository) as running:
        yield running


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    """A model repository that the test may break."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "model_repository"))


def test_every_door_is_on_loopback_and_the_metrics_are_one(running: Running) -> None:
    server = descendants(running.guard.pid)[0]
    sockets = {str(file.readlink()) for file in Path(f"/proc/{server}/fd").glob("*")}
    tables = [Path(f"/proc/{server}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]  # local address, ..., state at 3, inode at 9
    listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    assert len(listening) >= 3
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, plain and in IPv6 clothes
    with urllib.request.urlopen(running.metrics, timeout=5) as page:
        assert b"nv_inference_request_success" in page.read()


def test_a_killed_server_is_unavailable_in_one_sentence(running: Running) -> None:
    models = Models(running.address)
    models.predict(tiny_features(1), tiny_encodings(1))
    family = descendants(running.guard.pid)
    os.kill(family[0], signal.SIGKILL)
    assert ends_within(family, END_S)
    with pytest.raises(ModelUnavailable, match=f"^Triton at {running.address} must answer heads, got: .+$"):
        models.predict(tiny_features(1), tiny_encodings(1))
    models.close()


def test_the_server_ends_with_the_block_and_leaves_no_process_and_no_shared_memory(
    triton_environment: Environment, tiny_repository: Path
) -> None:
    with started(tiny_repository, ["predictions"]) as running:
        family = [running.guard.pid, *descendants(running.guard.pid)]
        regions = {region for pid in family for region in shared_memory(pid)}
        assert regions
    assert len(family) >= 3  # guard, server, at least one Python stub
    assert ends_within(family, END_S)
    assert [region for region in regions if region.exists()] == []


def test_the_server_ends_when_its_parent_is_killed(triton_environment: Environment, tiny_repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tiny_repository)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        guard = int(parent.stdout.readline())
        family = [guard, *descendants(guard)]
        parent.kill()
        assert ends_within(family, END_S)


def test_the_server_ends_when_its_guard_is_killed(running: Running) -> None:
    family = descendants(running.guard.pid)
    running.guard.kill()
    assert ends_within(family, END_S)


def test_a_port_in_use_is_named(triton_environment: Environment, tiny_repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(PortInUse, match=f"port must be free for Triton, got {port}: address already in use"),
            started(tiny_repository, ["predictions"], port=port),
        ):
            pass


def test_a_port_asked_for_is_the_port_given(triton_environment: Environment, tiny_repository: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tiny_repository, ["predictions"], port=port) as address:
        assert address == f"127.0.0.1:{port}"


def test_triton_url_is_used_and_nothing_is_started(
    tiny_triton: str, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = descendants(os.getpid())
    monkeypatch.setenv("TRITON_URL", f"grpc://{tiny_triton}")
    with serving(tiny_repository, folder=tmp_path / "never") as address:
        assert address == tiny_triton
        assert descendants(os.getpid()) == before
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v2", "127.0.0.1", ":8001", "triton:grpc"])
def test_a_triton_url_without_host_and_port_is_refused(
    url: str, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_URL", url)
    with pytest.raises(ModelUnavailable, match="TRITON_URL must be host:port"), serving(tiny_repository):
        pass


def test_a_triton_url_where_nobody_answers_is_one_sentence(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("TRITON_URL", address)
        with (
            pytest.raises(ModelUnavailable, match=f"Triton at {address} must become ready in time, got: .*onnect"),
            serving(tiny_repository, within_s=0.2),
        ):
            pass


def test_the_self_test_refuses_a_model_that_answers_otherwise(
    triton_environment: Environment, repository: Path
) -> None:
    file = repository / "predictions/1/self_test.npz"
    with np.load(file) as known:
        arrays = {name: known[name] for name in known.files}
    arrays["out_redeem_prob"] = arrays["out_redeem_prob"] + np.float32(0.01)
    np.savez(file, **arrays)
    sentence = (
        r"redeem_prob of predictions must equal its self_test.npz within .*, got a difference of 0.01; .*numpy < 2"
    )
    with pytest.raises(ModelUnavailable, match=sentence), serving(repository, ["predictions"]):
        pass


def test_the_self_test_refuses_a_tensor_that_is_not_there(triton_environment: Environment, repository: Path) -> None:
    file = repository / "encoder/1/self_test.npz"
    with np.load(file) as known:
        np.savez(file, **{name: known[name] for name in known.files}, out_fame=np.zeros((3, 1), np.float32))
    with pytest.raises(ModelUnavailable, match="got no such tensor"), serving(repository, ["encoder"]):
        pass


def test_a_graph_that_cannot_be_read_is_one_sentence(triton_environment: Environment, repository: Path) -> None:
    (repository / "predictions/1/model.onnx").write_bytes(b"not a graph")
    with (
        pytest.raises(ModelUnavailable, match=r"it ended: failed to load 'predictions' .*log: .*\.log\)$") as told,
        started(repository),
    ):
        pass
    assert "\n" not in str(told.value)


def test_a_model_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    sentence = r"encoder/config.pbtxt must exist; `stratagem export` writes it"
    with pytest.raises(ModelUnavailable, match=sentence), started(tmp_path):
        pass
