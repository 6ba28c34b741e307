"""Asks a Triton whether its models are ready, and compares what they answer with known tensors.

In: an address and model folders. Out: nothing, or the sentence that says what is wrong.
Called by server/triton/process.py before anybody is served. It catches a numpy 2 in Triton's environment, under which
every model loads and answers garbage.
"""

from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from server.problems import ModelUnavailable

# Another build of ONNX Runtime, or a GPU, sums in another order: float32 with a few hundred terms moves by 1e-5.
RTOL, ATOL = 1e-3, 1e-4
PATIENCE_S = 10.0


def is_ready(address: str, models: Sequence[str]) -> str:
    """Return what is not ready yet, in words; empty when everything is.

    address  "host:port" of Triton's gRPC door
    models   asked for one by one
    """
    with InferenceServerClient(address) as client:
        try:
            if not client.is_server_ready(client_timeout=PATIENCE_S):
                return "server not ready"
            waiting = [model for model in models if not client.is_model_ready(model, client_timeout=PATIENCE_S)]
            return f"not ready: {', '.join(waiting)}" if waiting else ""
        except (InferenceServerException, grpc.RpcError) as error:
            return f"no answer at {address}: {_reason(error)}"


def check_known_tensors(address: str, repository: Path, models: Sequence[str]) -> None:
    """Compare every model that has a 1/self_test.npz with it: in_<tensor> goes in, out_<tensor> must come out.

    raises  ModelUnavailable  naming model, tensor and the worst difference
    """
    with InferenceServerClient(address) as client:
        for model in models:
            file = repository / model / "1" / "self_test.npz"
            if file.exists():
                with np.load(file) as known:
                    _check(client, model, {name: known[name] for name in known.files})


def _check(client: InferenceServerClient, model: str, known: dict[str, NDArray[np.generic]]) -> None:
    inputs = []
    for name, array in known.items():
        if name.startswith("in_"):
            tensor = InferInput(name.removeprefix("in_"), list(array.shape), np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
    try:
        answer = client.infer(model, inputs, client_timeout=PATIENCE_S)
    except InferenceServerException as error:
        raise ModelUnavailable(f"{model} must answer its self-test, but Triton said: {_reason(error)}") from error
    for name, expected in known.items():
        if name.startswith("out_"):
            _compare(model, name.removeprefix("out_"), answer.as_numpy(name.removeprefix("out_")), expected)


def _compare(model: str, tensor: str, found: NDArray[np.generic] | None, expected: NDArray[np.generic]) -> None:
    rule = f"{tensor} of {model} must equal its self_test.npz"
    if found is None or found.shape != expected.shape:
        shape = "nothing" if found is None else f"shape {found.shape}"
        raise ModelUnavailable(f"{rule}, shape {expected.shape}, got {shape}; {_ADVICE}")
    exact = expected.astype(np.float64)
    far = np.abs(found.astype(np.float64) - exact) - RTOL * np.abs(exact)
    if not far.max(initial=0.0) <= ATOL:  # not >: NaN fails too
        raise ModelUnavailable(f"{rule} within {ATOL}, got a difference of {far.max():.3g}; {_ADVICE}")


_ADVICE = "export the models again, or see that Triton's Python environment has numpy < 2"


def _reason(error: Exception) -> str:
    """The first line of what gRPC or Triton said."""
    message = error.message() if isinstance(error, InferenceServerException) else str(error)
    return str(message).strip().splitlines()[0]
