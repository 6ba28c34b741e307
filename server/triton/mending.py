"""Loads the door anew when an instance of it has died: this Triton starts none, and answers for the dead one for ever.

In: the address of a Triton of our own that hosts the door. Out: nothing; a thread that asks once a second.
Started by server/triton/process.py. The wheel's 2.51 says "is not healthy" and leaves it at that.
"""

import logging
import threading
from types import TracebackType

import grpc
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.triton.messages import channel_options, reason_of

PERIOD_S, WITHIN_S, LOADED_S = 1.0, 5.0, 120.0
DEAD = "is not healthy"
_logger = logging.getLogger(__name__)


class Mending:
    """Asks for nobody, which every living instance refuses in its own words; runs from `with` to its end."""

    def __init__(self, address: str, model: str) -> None:
        """Begin at `with`."""
        self._address, self._model = address, model
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._mind, name="door-mending", daemon=True)

    def __enter__(self) -> None:
        """Start."""
        self._thread.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Stop; a load that is on its way is given up."""
        self._is_over.set()
        self._thread.join()

    def _mind(self) -> None:
        with grpc.insecure_channel(self._address, options=channel_options(self._address)) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._is_over.wait(PERIOD_S):
                try:
                    stub.ModelInfer(self._question(), timeout=WITHIN_S)
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.INTERNAL and DEAD in reason_of(error):
                        self._load_anew(stub)

    def _question(self) -> service_pb2.ModelInferRequest:
        request = service_pb2.ModelInferRequest(model_name=self._model)
        request.inputs.add(name="shopper_id", datatype="BYTES", shape=[1, 1])
        request.raw_input_contents.append(bytes(4))  # a text of no bytes
        request.outputs.add(name="rung")
        return request

    def _load_anew(self, stub: GRPCInferenceServiceStub) -> None:
        _logger.warning("an instance of %s at %s has died: all are started anew", self._model, self._address)
        try:
            stub.RepositoryModelUnload(
                service_pb2.RepositoryModelUnloadRequest(model_name=self._model), timeout=LOADED_S
            )
            self._awaited(
                stub.RepositoryModelLoad.future(
                    service_pb2.RepositoryModelLoadRequest(model_name=self._model), timeout=LOADED_S
                )
            )
        except grpc.RpcError as error:
            _logger.error("%s must load again, got: %s", self._model, reason_of(error))

    def _awaited(self, call: "grpc.Future") -> None:
        while not self._is_over.wait(0.05):
            if call.done():
                call.result()
                return
        call.cancel()
