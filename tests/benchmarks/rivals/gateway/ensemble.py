"""A model repository with a bare ensemble: a trivial Python step that knows one shopper, then the heads.

In: a repository that `stratagem export` wrote. Out: a folder that Triton serves as model `ensemble`: shopper_key in,
every output of the heads out. It is the least that Triton's own front end does when Python and a model stand behind it.
"""

import shutil
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

ENSEMBLE, STEP = "ensemble", "shopper_row"
MOST_ROWS = 256
HEADS = ("heads", "predictions")
TENSORS = ("features", "shopper_vector")
# Runs in Triton's Python stub, which imports nothing of ours.
STEP_CODE = '''"""Passes one fixed row for each shopper key, however many come."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        """Read the row."""
        with np.load(Path(args["model_repository"]) / args["model_version"] / "row.npz") as row:
            self.row = {name: row[name] for name in row.files}

    def execute(self, requests):
        """One row per key."""
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "shopper_key")) for request in requests]

    def answer(self, keys):
        """The row, as often as there are keys."""
        rows, n_rows = self.row, keys.shape()[0]
        if n_rows > 1:
            rows = {name: np.repeat(array, n_rows, axis=0) for name, array in rows.items()}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in rows.items()])
'''


def heads_of(repository: Path) -> str:
    """The model that a decision asks: `heads` where the release holds it.

    raises  FileNotFoundError  if neither was exported
    """
    for model in HEADS:
        if (repository / model / "1" / "model.onnx").exists():
            return model
    raise FileNotFoundError(f"{repository / HEADS[-1] / '1' / 'model.onnx'} must exist")


def write_ensemble(repository: Path, folder: Path) -> tuple[str, ...]:
    """Write the ensemble and its two steps.

    repository  holds the heads
    folder      receives three model folders
    returns     the models to load
    """
    heads = heads_of(repository)
    config = text_format.Parse((repository / heads / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    shutil.copytree(repository / heads, folder / heads)
    version = folder / STEP / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(STEP_CODE)
    with np.load(repository / heads / "1" / "self_test.npz") as known:
        np.savez(version / "row.npz", **{name: known[f"in_{name}"][:1] for name in TENSORS})
    _write(folder, _step_config(config))
    _write(folder, _ensemble_config(config))
    (folder / ENSEMBLE / "1").mkdir()  # Triton wants a version, even of what has no files
    return (ENSEMBLE, STEP, heads)


def _step_config(heads: model_config_pb2.ModelConfig) -> model_config_pb2.ModelConfig:
    config = model_config_pb2.ModelConfig(name=STEP, backend="python", max_batch_size=MOST_ROWS)
    config.input.add(name="shopper_key", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    for tensor in heads.input:
        config.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    config.dynamic_batching.max_queue_delay_microseconds = 0
    return config


def _ensemble_config(heads: model_config_pb2.ModelConfig) -> model_config_pb2.ModelConfig:
    config = model_config_pb2.ModelConfig(name=ENSEMBLE, platform="ensemble", max_batch_size=MOST_ROWS)
    config.input.add(name="shopper_key", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    first = config.ensemble_scheduling.step.add(model_name=STEP, model_version=-1)
    first.input_map["shopper_key"] = "shopper_key"
    second = config.ensemble_scheduling.step.add(model_name=heads.name, model_version=-1)
    for tensor in heads.input:
        first.output_map[tensor.name] = second.input_map[tensor.name] = tensor.name
    for tensor in heads.output:
        config.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        second.output_map[tensor.name] = tensor.name
    return config


def _write(folder: Path, config: model_config_pb2.ModelConfig) -> None:
    (folder / config.name).mkdir(exist_ok=True)
    (folder / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))
