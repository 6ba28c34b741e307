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
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.problems import ModelUnavailable
from server.triton.messages import arrays_of, channel_options, reason_of, request_of

# Another build of ONNX Runtime, or a GPU, sums in another order: float32 with a few hundred terms moves by 1e-5.
RTOL, ATOL = 1e-3, 1e-4
PATIENCE_S = 10.0
_ADVICE = "export the models again, or see that Triton's Python environment has numpy < 2"


def not_ready(address: str, models: Sequence[str]) -> str:
    """Return what is not ready yet, in words; empty when everything is.

    address  "host:port" of Triton's gRPC door
    models   asked for one by one
    """
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        stub = GRPCInferenceServiceStub(channel)
        try:
            if not stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=PATIENCE_S).ready:
                return "the server is not ready"
            questions = {model: service_pb2.ModelReadyRequest(name=model) for model in models}
            waiting = [
                name for name, asked in questions.items() if not stub.ModelReady(asked, timeout=PATIENCE_S).ready
            ]
            return f"not ready: {', '.join(waiting)}" if waiting else ""
        except grpc.RpcError as error:
            return reason_of(error)


def check_known_tensors(address: str, repository: Path, models: Sequence[str]) -> None:
    """Compare every model that has a 1/self_test.npz with it: in_<tensor> goes in, out_<tensor> must come out.

    raises  ModelUnavailable  naming model, tensor and the worst difference
    """
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for model in models:
            file = repository / model / "1" / "self_test.npz"
            if file.exists():
                with np.load(file) as known:
                    _check(stub, model, {name: known[name] for name in known.files})


def _check(stub: GRPCInferenceServiceStub, model: str, known: dict[str, NDArray[np.generic]]) -> None:
    inputs = {name.removeprefix("in_"): array for name, array in known.items() if name.startswith("in_")}
    try:
        answers = arrays_of(stub.ModelInfer(request_of(model, inputs), timeout=PATIENCE_S))
    except grpc.RpcError as error:
        raise ModelUnavailable(f"{model} must answer its self_test.npz, but Triton said: {reason_of(error)}") from error
    except ModelUnavailable as problem:
        raise ModelUnavailable(f"{problem} ({model}); {_ADVICE}") from problem
    for name, expected in known.items():
        if name.startswith("out_"):
            tensor = name.removeprefix("out_")
            _compare(f"{tensor} of {model} must equal its self_test.npz", answers.get(tensor), expected)


def _compare(rule: str, found: NDArray[np.generic] | None, expected: NDArray[np.generic]) -> None:
    if found is None or found.shape != expected.shape:
        got = "no such tensor" if found is None else f"shape {found.shape}"
        raise ModelUnavailable(f"{rule}, shape {expected.shape}, got {got}; {_ADVICE}")
    exact = expected.astype(np.float64)
    far = np.abs(found.astype(np.float64) - exact)
    if not bool((far <= ATOL + RTOL * np.abs(exact)).all()):  # not >: NaN fails too
        raise ModelUnavailable(f"{rule} within {ATOL}, got a difference of {far.max():.3g}; {_ADVICE}")
