"""What is read at start: settings, the model repository, plans; and the process that reads them."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import orjson
import polars as pl
import pytest
from stratagem.v1 import strategy_pb2, strategy_pb2_grpc

from server.budget import NO_PLAN
from server.planner import audience_of, planned, standing_plan, write_plan
from server.problems import InvalidRequest, Problem, WrongPlan, WrongRepository, WrongSettings
from server.repository import open_repository
from server.settings import Settings, load_settings
from server.state.embedded import EmbeddedStates
from server.triton.client import Models
from tests.tiny_repository import AS_OF_S


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "99999", "STRATAGEM_PORT: input should be less than or equal to 65535, got '99999'"),
        ("MARGIN_SHARE", "0", "STRATAGEM_MARGIN_SHARE: input should be greater than 0, got '0'"),
        ("CONTACT_COST_MICROS", '{"ads": 1}', "STRATAGEM_CONTACT_COST_MICROS must have a cost for content, got none"),
        (
            "CONTACT_COST_MICROS",
            '{"ads": -1, "content": 0, "promotions": 0, "social": 0}',
            "STRATAGEM_CONTACT_COST_MICROS must be ≥ 0, got -1 (ads)",
        ),
    ],
)
def test_a_broken_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(f"STRATAGEM_{name}", value)
    with pytest.raises(WrongSettings) as raised:
        load_settings()
    assert str(raised.value) == sentence


def test_the_gateway_listens_on_this_machine_only_unless_told() -> None:
    assert load_settings().host == "127.0.0.1"


def rewritten(folder: Path, change: Callable[[dict[str, object]], object], file: str = "catalogue.json") -> None:
    """Change a JSON file of a repository and put its new hash into the manifest."""
    content = orjson.loads((folder / file).read_bytes())
    change(content)
    (folder / file).write_bytes(orjson.dumps(content))
    if file != "manifest.json":
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        rewritten(folder, lambda manifest: manifest["files"].update({file: digest}), "manifest.json")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json must exist; `stratagem export` writes it"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json must be JSON, got: "),
        (lambda folder: (folder / "items.parquet").unlink(), "items.parquet must be as in manifest.json, got: No such"),
        (
            lambda folder: (folder / "items.parquet").write_text(""),
            "items.parquet must be [0-9a-f]{64}, as in manifest",
        ),
        (
            lambda folder: rewritten(folder, lambda read: read.pop("release"), "manifest.json"),
            "release in .*: field req",
        ),
        (lambda folder: rewritten(folder, lambda read: read.update(files={}), "manifest.json"), "must name catalogue"),
        (
            lambda folder: rewritten(folder, lambda read: read["offers"][0].update(arm="Z")),
            "arm must be one of A, B, C",
        ),
        (
            lambda folder: rewritten(folder, lambda read: read["offers"][0].pop("ends_s")),
            "offers.0.ends_s in .*: field",
        ),
    ],
)
def test_a_spoilt_repository_is_refused_in_one_sentence(
    tmp_path: Path, tiny_repository: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(tiny_repository, folder)
    assert open_repository(folder).catalogue.currency_code == "USD"
    spoil(folder)
    with pytest.raises(WrongRepository, match=sentence) as raised:
        open_repository(folder)
    assert "\n" not in str(raised.value)


def test_a_plan_is_within_its_budget_and_what_the_gateway_uses(filled: Settings, tiny_triton: str) -> None:
    repository = open_repository(filled.repository)
    states = EmbeddedStates(filled.state, repository.vocabulary, 64)
    seen: list[int] = []
    try:
        audience = audience_of(repository, Models(tiny_triton), states, filled, AS_OF_S, seen.append)
    finally:
        states.close()
    assert seen == [20]
    made = planned(repository, filled, audience, AS_OF_S, 40_000)
    write_plan(made, filled.plan)
    standing = standing_plan(filled.plan, repository.release)
    assert (standing.plan_id, standing.budget_micros) == (made.plan_id, 40_000)
    assert standing.shadow_price == made.plan.shadow_price > 0
    assignments = pl.read_parquet(filled.plan / "assignments.parquet")
    assert assignments.height == 20
    assert assignments["cost_micros"].sum() == made.plan.spend_micros <= 40_000
    assert assignments["value_micros"].sum() == made.plan.value_micros <= made.plan.dual_bound_micros
    written = orjson.loads((filled.plan / "plan.json").read_bytes())
    digest = hashlib.sha256((filled.plan / "assignments.parquet").read_bytes()).hexdigest()
    assert written["assignments_sha256"] == digest
    assert planned(repository, filled, audience, AS_OF_S, 40_000).plan_id == made.plan_id
    assert planned(repository, filled, audience, AS_OF_S, 40_001).plan_id != made.plan_id
    with pytest.raises(InvalidRequest, match="budget_micros must be ≥ 0, got -1"):
        planned(repository, filled, audience, AS_OF_S, -1)


def test_an_empty_store_cannot_be_planned_for(filled: Settings, tmp_path: Path, tiny_triton: str) -> None:
    repository = open_repository(filled.repository)
    states = EmbeddedStates(tmp_path / "empty", repository.vocabulary, 64)
    try:
        with pytest.raises(InvalidRequest, match="must hold at least one shopper, got none"):
            audience_of(repository, Models(tiny_triton), states, filled, AS_OF_S, print)
    finally:
        states.close()


def test_no_plan_is_no_budget_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert standing_plan(tmp_path, "r") == NO_PLAN
    whole = {"plan_id": "p", "release": "r", "shadow_price": 1.0, "budget_micros": 5}
    for broken in ({"plan_id": ""}, {"shadow_price": -1.0}, {"budget_micros": -1}, {"release": "q"}):
        (tmp_path / "plan.json").write_bytes(orjson.dumps(whole | broken))
        with pytest.raises(WrongPlan):
            standing_plan(tmp_path, "r")


def server_of(settings: Settings, triton: str, port: int) -> "subprocess.Popen[str]":
    """`python -m server` as an operator starts it."""
    names = {name: str(getattr(settings, name)) for name in ("repository", "state", "log", "plan", "state_mib")}
    chosen = {f"STRATAGEM_{name.upper()}": value for name, value in names.items()}
    environment = os.environ | chosen | {"TRITON_URL": triton, "STRATAGEM_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "server"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_process_serves_until_it_is_told_to_stop(filled: Settings, tiny_triton: str) -> None:
    with server_of(filled, tiny_triton, 0) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with grpc.insecure_channel(address) as channel:
            request = strategy_pb2.DecideRequest(shopper_id="shopper-1", time_s=AS_OF_S)
            decision = strategy_pb2_grpc.StrategyServiceStub(channel).Decide(request, timeout=30).decision
        assert decision.rung == strategy_pb2.RUNG_FULL
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "Traceback" not in said


def test_the_process_ends_with_one_sentence_where_the_port_is_taken(filled: Settings, tiny_triton: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server_of(filled, tiny_triton, port) as server:
            _, said = server.communicate(timeout=60)
    assert server.returncode == 1
    assert said.splitlines()[-1] == (
        f"STRATAGEM_PORT must be free, got {port}: something else listens on 127.0.0.1:{port}"
    )
    assert "Traceback" not in said


def test_every_problem_is_named_with_its_status() -> None:
    rows = [line.split() for line in (Problem.__doc__ or "").splitlines()[2:] if line.strip()]
    named = [kind for kind in Problem.__subclasses__() if kind.__module__ == Problem.__module__]
    assert {row[0]: row[1] for row in rows} == {kind.__name__: kind.status.name for kind in named}
