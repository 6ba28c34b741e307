"""Our onnxruntime backend inside a real Triton: what it honours, and what it refuses in one sentence."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import InferenceServerClient, InferInput, model_config_pb2
from tritonclient.utils import InferenceServerException

from server.triton.client import OUTLOOK_OUTPUTS
from server.triton.environment import Environment
from server.triton.process import started
from tests.tiny_repository import local_answers, tiny_inputs

Config = dict[str, object]


@pytest.fixture(scope="module")
def client(triton_environment: Environment, tiny_repository: Path) -> Iterator[InferenceServerClient]:
    """A Triton into which tests load `predictions` under configs of their own."""
    with started(tiny_repository, ["encoder"]) as running, InferenceServerClient(running.address) as client:
        yield client


@pytest.fixture
def config(tiny_repository: Path) -> Config:
    """The config of `predictions`, as Triton's JSON."""
    parsed = text_format.Parse(
        (tiny_repository / "predictions/config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    return dict(json_format.MessageToDict(parsed, preserving_proto_field_name=True))


def answer(client: InferenceServerClient, batch: int) -> np.ndarray:
    """What `predictions` says of the first rows."""
    tensors = [
        InferInput(name, array.shape, "FP32").set_data_from_numpy(array)
        for name, array in tiny_inputs("predictions", batch).items()
    ]
    return client.infer("predictions", tensors).as_numpy("category_prob")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("sequence_batching", {"sequence_batching": {"max_sequence_idle_microseconds": 5000}}),
        ("model_transaction_policy", {"model_transaction_policy": {"decoupled": True}}),
        ("parameters.enable_mem_arena", {"parameters": {"enable_mem_arena": {"string_value": "0"}}}),
        (
            "optimization.execution_accelerators",
            {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}}},
        ),
        ("cc_model_filenames", {"cc_model_filenames": {"7.5": "model_75.onnx"}}),
        ("instance_group.rate_limiter", {"instance_group": [{"kind": "KIND_CPU", "rate_limiter": {"priority": 2}}]}),
    ],
)
def test_a_key_that_is_not_honoured_is_refused_by_name(
    client: InferenceServerClient, config: Config, key: str, change: Config
) -> None:
    if key == "sequence_batching":  # Triton itself allows only one of the two
        del config["dynamic_batching"]
    with pytest.raises(InferenceServerException, match=f"{key} must be unset: this onnxruntime backend") as refused:
        client.load_model("predictions", config=json.dumps(config | change))
    assert "(model 'predictions')" in str(refused.value)


def test_an_input_key_that_is_not_honoured_is_refused_by_name(client: InferenceServerClient, config: Config) -> None:
    config["input"][0]["allow_ragged_batch"] = True
    with pytest.raises(InferenceServerException, match=r"input.allow_ragged_batch must be unset"):
        client.load_model("predictions", config=json.dumps(config))


def test_a_tensor_of_another_type_than_the_graph_is_refused(client: InferenceServerClient, config: Config) -> None:
    config["input"][0]["data_type"] = "TYPE_FP64"
    with pytest.raises(
        InferenceServerException, match=r"input features must be tensor\(double\) in the graph, got tensor\(float\)"
    ):
        client.load_model("predictions", config=json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        {"instance_group": [{"kind": "KIND_CPU", "count": 2}]},
        {"parameters": {"intra_op_thread_count": {"string_value": "2"}, "execution_mode": {"string_value": "1"}}},
        {"optimization": {"graph": {"level": -1}}},
        {"dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 200}},
        {"model_warmup": [{"name": "one", "batch_size": 1, "inputs": {}}]},
    ],
    ids=["two instances", "threads", "graph level", "batching", "warm-up"],
)
def test_an_honoured_key_loads_and_answers_the_same(
    client: InferenceServerClient, config: Config, tiny_repository: Path, change: Config
) -> None:
    for sample in change.get("model_warmup", []):
        sample["inputs"] = {
            tensor["name"]: {"data_type": "TYPE_FP32", "dims": tensor["dims"], "zero_data": True}
            for tensor in config["input"]
        }
    client.load_model("predictions", config=json.dumps(config | change))
    expected = local_answers(tiny_repository, "predictions", tiny_inputs("predictions", 5))["category_prob"]
    # Another optimisation level fuses other operations: a few units in the last place of a probability.
    np.testing.assert_allclose(answer(client, 5), expected, rtol=0, atol=1e-6)


def test_tensors_left_out_of_the_config_are_taken_from_the_graph(client: InferenceServerClient, config: Config) -> None:
    bare = {key: value for key, value in config.items() if key not in ("input", "output")}
    client.load_model("predictions", config=json.dumps(bare))
    served = client.get_model_config("predictions", as_json=True)["config"]
    assert [(tensor["name"], tensor["dims"]) for tensor in served["output"]] == [
        (name, [str(width)]) for name, (_, width) in OUTLOOK_OUTPUTS.items()
    ]


def test_a_batch_larger_than_max_batch_size_is_refused(client: InferenceServerClient, config: Config) -> None:
    client.load_model("predictions", config=json.dumps(config | {"max_batch_size": 4}))
    with pytest.raises(InferenceServerException, match="batch-size must be <= 4"):
        answer(client, 5)


def test_waiting_requests_are_answered_by_one_run(
    client: InferenceServerClient, config: Config, tiny_repository: Path
) -> None:
    delay = {"dynamic_batching": {"preferred_batch_size": [64], "max_queue_delay_microseconds": 100_000}}
    client.load_model("predictions", config=json.dumps(config | delay))
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda _: answer(client, 3), range(4)))
    expected = local_answers(tiny_repository, "predictions", tiny_inputs("predictions", 3))["category_prob"]
    np.testing.assert_allclose(found, [expected] * 4, rtol=0, atol=1e-6)
    statistics = client.get_inference_statistics("predictions", as_json=True)["model_stats"][0]
    assert int(statistics["inference_count"]) == 12
    assert int(statistics["execution_count"]) < 4
