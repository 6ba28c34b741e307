"""A server that speaks KServe v2 over gRPC as Triton does, says that every model is ready, and answers nonsense.

In: a kind of nonsense. Out: an address. Called by stage.py; the gateway must find every kind out.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.state.encodings import TENSORS
from server.triton.client import DATATYPES, ENCODER, HEAD_OUTPUTS

Kind = Literal[
    "not_a_number", "infinite", "too_few_rows", "too_many_rows", "wrong_width", "wrong_type", "odd_bytes", "no_bytes",
    "one_more_tensor_than_contents", "no_tensors", "other_names", "empty", "no_message", "an_error", "unknown_error",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


class Garbage(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One listening server.

    kind       of the answers from now on
    n_answers  given so far
    """

    def __init__(self) -> None:
        self.kind: Kind = "not_a_number"
        self.n_answers = 0
        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                self._infer, service_pb2.ModelInferRequest.FromString, lambda message: message
            ),
            "ModelReady": grpc.unary_unary_rpc_method_handler(
                self._ready,
                service_pb2.ModelReadyRequest.FromString,
                service_pb2.ModelReadyResponse.SerializeToString,
            ),
        }
        service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.stop(None).wait()

    def _ready(self, _request: object, _context: object) -> service_pb2.ModelReadyResponse:
        return service_pb2.ModelReadyResponse(ready=True)

    def _infer(self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        self.n_answers += 1
        if self.kind == "an_error":
            context.abort(grpc.StatusCode.INTERNAL, "told to fail")
        if self.kind == "unknown_error":
            context.abort(grpc.StatusCode.UNKNOWN, "")
        if self.kind == "no_message":
            return b"\xff" * 40
        outputs = TENSORS if request.model_name == ENCODER else HEAD_OUTPUTS
        message: bytes = nonsense(self.kind, outputs, request.inputs[0].shape[0]).SerializeToString()
        return message


def nonsense(
    kind: Kind, outputs: dict[str, tuple[type[np.generic], int]], n_rows: int
) -> service_pb2.ModelInferResponse:
    """An answer that is wrong in one way and otherwise as the contract says."""
    rows = {"too_few_rows": n_rows - 1, "too_many_rows": n_rows + 1}.get(kind, n_rows)
    response = service_pb2.ModelInferResponse()
    for name, (dtype, width) in outputs.items() if kind not in ("no_tensors", "empty") else ():
        columns = width + 1 if kind == "wrong_width" else width
        values = np.full((rows, columns), 0.5).astype(dtype)
        if np.dtype(dtype).kind == "f" and kind in ("not_a_number", "infinite"):
            values[-1, -1] = {"not_a_number": np.nan, "infinite": -np.inf}[kind]
        told = DATATYPES[dtype] if kind != "wrong_type" else "FP64"
        response.outputs.add(name=f"{name}_" if kind == "other_names" else name, datatype=told, shape=values.shape)
        content = values.tobytes() + (b"!" if kind == "odd_bytes" else b"")
        response.raw_output_contents.append(b"" if kind == "no_bytes" else content)
    if kind == "one_more_tensor_than_contents":
        del response.raw_output_contents[-1]
    if kind == "no_tensors":
        response.raw_output_contents.append(b"some bytes that are nobody's")
    return response
