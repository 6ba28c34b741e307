"""A shop's own CSV files become a served strategy by the command line alone, on a real Triton and a real channel."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import polars as pl
import pytest
from stratagem.v1 import (
    event_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    profile_pb2,
    profile_pb2_grpc,
    strategy_pb2,
    strategy_pb2_grpc,
)

from kernels import features
from tests.shops.generate import write_little_shop
from training.dataset import Dataset, dataset_of
from training.sources.shop import read_shop

ROOT = Path(__file__).resolve().parents[2]
# The whole chain on 120 shoppers takes well under a minute on two cores; a hang must still end the test run.
PATIENCE_S = 240
# Columns of the table events that an Event carries under the same name.
SENT = ("shopper_id", "time_s", "item_id", "quantity", "paid_micros", "discount_micros", "coupon_micros", "order_id")


class Workplace:
    """A folder with everything one shop builds, and the command line pointed at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        places = {name: str(folder / name) for name in ("repository", "state", "log", "plan")}
        self.environment = os.environ | {f"STRATAGEM_{name.upper()}": place for name, place in places.items()}
        self.environment |= {
            "STRATAGEM_TRITON": str(ROOT / "build" / "triton"),
            "STRATAGEM_PORT": "0",
            "COLUMNS": "200",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One verb of `stratagem`, with its output captured."""
        return subprocess.run(self.command(*words), cwd=ROOT, env=self.environment, capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False)  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """The words as an argument list for this Python."""
        return [sys.executable, "-m", "cli", *words]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, triton_environment: Path) -> Workplace:
    """A shop taken from CSV to a plan."""
    place = Workplace(tmp_path_factory.mktemp("workplace"))
    write_little_shop(place.folder / "files", format="csv", seed=0)
    shop, models = str(place.folder / "shop"), str(place.folder / "models")
    steps = (
        ("ingest", str(place.folder / "files"), "--into", shop),
        ("train", "--shop", shop, "--into", models, "--quick"),
        ("export", "--shop", shop, "--models", models),
        ("plan", "--shop", shop, "--budget", "20"),
    )
    for step in steps:
        done = place.run(*step)
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    return place


@pytest.fixture(scope="module")
def address(workplace: Workplace) -> Iterator[str]:
    """The address of `stratagem serve` for that shop."""
    command = workplace.command("serve", "--shop", str(workplace.folder / "shop"))
    with subprocess.Popen(command, cwd=ROOT, env=workplace.environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            found = re.search(r"127\.0\.0\.1:\d+", line)
            if "ready" in line and found:
                break
        else:
            pytest.fail(f"serve ended with {server.wait()}")
        yield found[0]
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0


def test_plan_keeps_its_budget_and_says_its_price(workplace: Workplace) -> None:
    plan = json.loads((workplace.folder / "plan" / "plan.json").read_text())
    assert 0 < plan["spend_micros"] <= plan["budget_micros"] == 20_000_000
    assert plan["shadow_price"] >= 0
    assert plan["value_micros"] <= plan["dual_bound_micros"]


def test_every_known_shopper_gets_a_decision_with_economics_and_reasons(workplace: Workplace, address: str) -> None:
    catalogue = json.loads((workplace.folder / "repository" / "catalogue.json").read_text())
    with grpc.insecure_channel(address) as channel:
        stub = strategy_pb2_grpc.StrategyServiceStub(channel)
        for shopper in range(1, 6):
            request = strategy_pb2.DecideRequest(
                shopper_id=f"s{shopper}", time_s=catalogue["as_of_s"], max_candidates=100
            )
            decision = stub.Decide(request, timeout=10).decision
            assert decision.rung == strategy_pb2.RUNG_FULL
            assert 0 < decision.propensity <= 1
            assert (
                abs(sum(candidate.propensity for candidate in decision.candidates) - 1) < 1e-9
            )  # sums of ≤ 100 floats
            assert decision.reasons
            assert decision.cost_micros >= 0


def served_features(channel: grpc.Channel, shopper_id: str, at_s: int) -> list[float]:
    """Every feature of a shopper as the gateway serves it, in the order of FEATURES."""
    request = profile_pb2.GetRequest(shopper_id=shopper_id, time_s=at_s)
    profile = profile_pb2_grpc.ProfileServiceStub(channel).Get(request, timeout=10).features
    values = [getattr(profile, feature.name) for feature in features.FEATURES]
    return [number for value in values for number in (value if hasattr(value, "__len__") else [value])]


def offline_features(dataset: Dataset, shopper: int, at_s: int) -> list[float]:
    """The same from the ledger that training uses."""
    columns, history = features.features_at(dataset.ledger, np.array([shopper]), np.array([at_s]))
    by_name, column = {}, 0
    for feature in features.FEATURES:
        if feature.dtype == "float32":
            by_name[feature.name] = columns[0, column : column + feature.width].tolist()
            column += feature.width
        else:
            by_name[feature.name] = history[0].tolist()
    return [number for feature in features.FEATURES for number in by_name[feature.name]]


def test_features_are_equal_offline_and_online_bit_for_bit(workplace: Workplace, address: str) -> None:
    dataset = dataset_of(read_shop(workplace.folder / "shop"))
    at_s = dataset.splits.last_s + 12_345
    with grpc.insecure_channel(address) as channel:
        for shopper, shopper_id in enumerate(dataset.vocabulary.shopper_ids):
            assert served_features(channel, shopper_id, at_s) == offline_features(dataset, shopper, at_s), shopper_id


def test_recorded_orders_move_features_as_training_would_see_them(workplace: Workplace, address: str) -> None:
    shop = read_shop(workplace.folder / "shop")
    first_s, shopper_id = dataset_of(shop).splits.last_s + 100, "s7"
    lines = shop.events.filter(pl.col("kind") == "order").head(6)
    lines = lines.with_columns(
        pl.lit(shopper_id).alias("shopper_id"),
        pl.Series("time_s", [first_s + 60 * (line // 2) for line in range(6)]),
        pl.Series("order_id", [f"new-{line // 2}" for line in range(6)]),
    )
    events = [
        event_pb2.Event(event_id=f"e{line}", kind=event_pb2.EVENT_KIND_ORDER, **{name: row[name] for name in SENT})
        for line, row in enumerate(lines.iter_rows(named=True))
    ]
    later = dataset_of(dataclasses.replace(shop, events=pl.concat([shop.events, lines])))
    shopper = later.vocabulary.shopper_ids.index(shopper_id)
    with grpc.insecure_channel(address) as channel:
        stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
        for _ in range(2):  # what is sent twice counts once
            stub.Record(feedback_pb2.RecordRequest(events=events), timeout=10)
        served = served_features(channel, shopper_id, first_s + 1_000)
    assert served == offline_features(later, shopper, first_s + 1_000)


def test_an_unknown_shopper_is_not_found(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            profile_pb2_grpc.ProfileServiceStub(channel).Get(profile_pb2.GetRequest(shopper_id="nobody"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "nobody" in caught.value.details()


def test_decide_says_in_words_why(workplace: Workplace, address: str) -> None:
    said = workplace.run("decide", "s1", "--address", address)
    assert said.returncode == 0, said.stderr
    assert "s1" in said.stdout
    assert "margin" in said.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ingest", "/nowhere/at/all"), "/nowhere/at/all"),
        (("train", "--shop", "/nowhere/at/all"), "/nowhere/at/all"),
        (("decide", "nobody", "--address", "{address}"), "nobody"),
        (("decide", "s1", "--address", "127.0.0.1:9"), "127.0.0.1:9"),
        (("plan", "--budget", "-3"), "-3"),
        (("serve", "--port", "{port}"), "{port}"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    workplace: Workplace, address: str, words: tuple[str, ...], sentence: str
) -> None:
    known = {"address": address, "port": address.split(":")[1]}
    ended = workplace.run(*(word.format(**known) for word in words))
    assert ended.returncode != 0
    assert sentence.format(**known) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_without_a_required_column_leaves_nothing_behind(workplace: Workplace) -> None:
    files, into = workplace.folder / "lacking", workplace.folder / "never"
    write_little_shop(files, format="csv", seed=1)
    events = pl.read_csv(files / "events.csv", infer_schema=False)
    events.drop("item_id").write_csv(files / "events.csv")
    ended = workplace.run("ingest", str(files), "--into", str(into))
    assert ended.returncode == 1
    assert "events.csv" in ended.stderr
    assert "item_id" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not into.exists()


def test_a_tampered_model_is_refused_by_name(workplace: Workplace) -> None:
    model = workplace.folder / "repository" / "uplift" / "1" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        refused = workplace.run("serve")
        assert refused.returncode != 0
        assert "uplift/1/model.onnx" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        model.write_bytes(whole)


def test_exporting_again_changes_nothing(workplace: Workplace) -> None:
    manifest = workplace.folder / "repository" / "manifest.json"
    before = manifest.read_bytes()
    again = workplace.run(
        "export", "--shop", str(workplace.folder / "shop"), "--models", str(workplace.folder / "models")
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(manifest.read_bytes())["files"] == json.loads(before)["files"]
