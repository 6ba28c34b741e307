"""Serves `backend: "onnxruntime"` by ONNX Runtime inside Triton's Python stub, where the C++ backend is not at hand.

In: a model folder with config.pbtxt and 1/model.onnx. Out: the graph's outputs, one session.run per batch of requests.
Loaded by Triton in its own environment; imports nothing of ours, so that the same repository runs on NVIDIA's image.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_UINT16": "tensor(uint16)",
    "TYPE_UINT32": "tensor(uint32)",
    "TYPE_UINT64": "tensor(uint64)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT16": "tensor(int16)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
}
# Triton itself acts on these before a request reaches us.
BY_TRITON = {
    "name", "platform", "backend", "runtime", "version_policy", "max_batch_size", "dynamic_batching", "model_warmup",
    "response_cache", "model_repository_agents",
}  # fmt: skip
HERE = {"input", "output", "instance_group", "default_model_filename", "parameters", "optimization"}
# Values that Triton fills in by itself; any other value of these keys is a wish that nobody would fulfil.
FILLED_IN = {
    "input": {"format": "FORMAT_NONE", "is_shape_tensor": False, "allow_ragged_batch": False, "optional": False,
              "is_non_linear_format_io": False},
    "output": {"label_filename": "", "is_shape_tensor": False, "is_non_linear_format_io": False},
    "instance_group": {"passive": False, "profile": [], "secondary_devices": [], "host_policy": "", "rate_limiter": {}},
}  # fmt: skip
HONOURED = {
    "input": {"name", "data_type", "dims"},
    "output": {"name", "data_type", "dims"},
    "instance_group": {"name", "kind", "count", "gpus"},
}
PARAMETERS = {"intra_op_thread_count", "inter_op_thread_count", "execution_mode"}
LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class TritonPythonModel:
    """One instance of one model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        """Fill in inputs, outputs and batching that config.pbtxt leaves out, from the graph.

        auto_complete_model_config  what config.pbtxt said
        returns                     the same, completed
        """
        config = auto_complete_model_config.as_dict()
        if config["input"] and config["output"]:
            return auto_complete_model_config
        session = onnxruntime.InferenceSession(_graph(config), providers=["CPUExecutionProvider"])
        is_batched = config["max_batch_size"] > 0
        for known, add, tensors in (
            (config["input"], auto_complete_model_config.add_input, session.get_inputs()),
            (config["output"], auto_complete_model_config.add_output, session.get_outputs()),
        ):
            for tensor in [] if known else tensors:
                add(_described(tensor, is_batched))
        return auto_complete_model_config

    def initialize(self, args):
        """Open the session; a config that asks for what we do not honour is refused here, in one sentence.

        args  Triton's strings: model_config (JSON), model_version, model_instance_kind, model_instance_device_id
        """
        config = json.loads(args["model_config"])
        refuse_what_is_not_honoured(config)
        self.session = onnxruntime.InferenceSession(_graph(config), _options(config), providers=_providers(args))
        _refuse_other_tensors(config, self.session)
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.is_batched = config["max_batch_size"] > 0

    def execute(self, requests):
        """Answer every request, those whose shapes agree by one run.

        requests  what Triton's dynamic batcher put together
        returns   one response per request, in order
        """
        responses = [None] * len(requests)
        arrays = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]
            for request in requests
        ]
        for rows in self._runs(arrays):
            try:
                answered = self._answers([arrays[row] for row in rows])
                for row, answer in zip(rows, answered):  # noqa: B905 - Triton's Python may be 3.8
                    responses[row] = self._response(requests[row], answer)
            except Exception as error:  # noqa: BLE001 - Triton wants every failure as a response of its own
                failed = pb_utils.TritonError(
                    f"onnxruntime could not run {self.session.get_modelmeta().graph_name}: {error}"
                )
                for row in rows:
                    responses[row] = pb_utils.InferenceResponse(error=failed)
        return responses

    def _runs(self, arrays):
        """Rows that can share one run: all of a batch in nearly every case."""
        if not self.is_batched:
            return [[row] for row in range(len(arrays))]
        runs = {}
        for row, tensors in enumerate(arrays):
            runs.setdefault(tuple(tensor.shape[1:] for tensor in tensors), []).append(row)
        return list(runs.values())

    def _answers(self, arrays):
        """One list of outputs per request."""
        if len(arrays) == 1:
            return [self.session.run(self.outputs, dict(zip(self.inputs, arrays[0])))]  # noqa: B905
        joined = [np.concatenate(parts) for parts in zip(*arrays)]  # noqa: B905
        ran = self.session.run(self.outputs, dict(zip(self.inputs, joined)))  # noqa: B905
        ends = np.cumsum([tensors[0].shape[0] for tensors in arrays])[:-1]
        return list(zip(*(np.split(output, ends) for output in ran)))  # noqa: B905

    def _response(self, request, answer):
        wanted = set(request.requested_output_names())
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, answer) if name in wanted]  # noqa: B905
        )


def refuse_what_is_not_honoured(config):
    """Stop at the first key whose wish nobody here would fulfil: a silently ignored key is a wrong promise.

    config  the model's configuration as Triton completed it
    """
    for key, value in config.items():
        if key not in BY_TRITON | HERE and not _is_empty(value):
            _refuse(config, key, value)
    for key, honoured in HONOURED.items():
        for entry in config.get(key, []):
            for field, value in entry.items():
                if field not in honoured and not _is_empty(value) and value != FILLED_IN[key].get(field):
                    _refuse(config, f"{key}.{field}", value)
    for tensor in [*config["input"], *config["output"]]:
        if tensor["data_type"] not in TYPES:
            _refuse(config, f"data_type of {tensor['name']}", tensor["data_type"])
    for group in config.get("instance_group", []):
        if group["kind"] == "KIND_MODEL":
            _refuse(config, "instance_group.kind", group["kind"])
    for name, value in config.get("parameters", {}).items():
        if name not in PARAMETERS:
            _refuse(config, f"parameters.{name}", value.get("string_value"))
    _refuse_optimization(config)


def _refuse_optimization(config):
    pinned = {"input_pinned_memory": {"enable": True}, "output_pinned_memory": {"enable": True}}
    for key, value in config.get("optimization", {}).items():
        if key == "graph":
            if value.get("level", 0) not in LEVELS:
                _refuse(config, "optimization.graph.level", value["level"])
        elif key == "priority":
            if value not in ("PRIORITY_DEFAULT", 0):
                _refuse(config, "optimization.priority", value)
        elif not _is_empty(value) and value != pinned.get(key):
            _refuse(config, f"optimization.{key}", value)


def _refuse(config, key, value):
    raise pb_utils.TritonModelException(
        f"{key} must be unset: this onnxruntime backend does not honour it, got {json.dumps(value)}"
        f" (model '{config['name']}')"
    )


def _is_empty(value):
    """Whether Triton merely spelt out that nothing is asked for."""
    if isinstance(value, dict):
        return all(_is_empty(inner) for inner in value.values())
    return value in (None, False, 0, "", "0", [])


def _refuse_other_tensors(config, session):
    """The graph must have the tensors that config.pbtxt promises, by name and type."""
    for key, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        found = {tensor.name: tensor.type for tensor in tensors}
        for tensor in config[key]:
            expected = TYPES[tensor["data_type"]]
            if found.get(tensor["name"]) != expected:
                raise pb_utils.TritonModelException(
                    f"{key} {tensor['name']} must be {expected} in the graph, got {found.get(tensor['name'], 'none')}"
                    f" (model '{config['name']}')"
                )


def _options(config):
    options = onnxruntime.SessionOptions()
    parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    # One thread: graphs of this size lose more to hand-over than a second core gives; tests.benchmarks triton.
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
    if parameters.get("execution_mode", "0") == "1":
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = LEVELS[config.get("optimization", {}).get("graph", {}).get("level", 0)]
    return options


def _providers(args):
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise pb_utils.TritonModelException(
            "instance_group.kind must be KIND_CPU or KIND_AUTO without onnxruntime-gpu, got KIND_GPU"
        )
    return [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}), "CPUExecutionProvider"]


def _graph(config):
    """The file to serve, in the folder of the version being loaded."""
    return str(Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx"))


def _described(tensor, is_batched):
    """Name, type and shape of a graph's tensor as config.pbtxt says them; a symbolic axis is -1."""
    types = {onnx: triton for triton, onnx in TYPES.items()}
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape]
    return {"name": tensor.name, "data_type": types[tensor.type], "dims": dims[1:] if is_batched else dims}
