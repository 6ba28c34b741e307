"""Arrays as Triton's gRPC messages and back.

In: named arrays. Out: KServe v2 requests, named arrays, and what gRPC or Triton said when there were none.
Used by client.py and self_test.py. Raw bytes in the generated stub's messages instead of tritonclient's InferInput and
InferResult: at 256 rows a call costs this process 0.9 ms of CPU instead of 1.4; at one row there is no difference.
"""

import math
from collections.abc import Mapping

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from server.problems import ModelUnavailable


def channel_options(address: str) -> list[tuple[str, int]]:
    """Channel arguments for a Triton at `address`."""
    host = address.rpartition(":")[0]
    return [
        # A restarted Triton is found again within a second; gRPC's own back-off grows to two minutes.
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A proxy for the world cannot reach our own machine.
        ("grpc.enable_http_proxy", 0 if host in ("127.0.0.1", "localhost", "[::1]") else 1),
    ]


def request_of(model: str, tensors: Mapping[str, NDArray[np.generic]]) -> service_pb2.ModelInferRequest:
    """The request that asks `model` about `tensors`."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in tensors.items():
        request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def arrays_of(response: service_pb2.ModelInferResponse) -> dict[str, NDArray[np.generic]]:
    """Every output by name, read-only: a view of the message's bytes.

    raises  ModelUnavailable  if a tensor does not fill its shape, as under a numpy 2 in Triton's environment
    """
    arrays = {}
    for tensor, content in zip(response.outputs, response.raw_output_contents, strict=True):
        dtype = np.dtype(triton_to_np_dtype(tensor.datatype))
        if len(content) != math.prod(tensor.shape) * dtype.itemsize:
            raise ModelUnavailable(
                f"{tensor.name} from Triton must fill shape {tuple(tensor.shape)}, got {len(content)} bytes of {dtype}"
            )
        arrays[tensor.name] = np.frombuffer(content, dtype).reshape(tensor.shape)
    return arrays


def reason_of(error: grpc.RpcError) -> str:
    """The first line of what gRPC or Triton said."""
    details = error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else str(error)
    lines = (details or "no reason given").strip().splitlines()
    return str(lines[0])
