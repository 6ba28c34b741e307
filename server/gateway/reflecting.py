"""Server reflection: what the gateway serves, for tools that have no protos; off unless the settings ask for it.

In: names of services. Out: the door of a stream. grpcio-reflection knows the answers; here they meet the wire.
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection, reflection_pb2

from server.wire.calls import StreamCall
from server.wire.server import Stream

METHOD = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"


class Reflecting:
    """Answers questions about services, each on its own."""

    def __init__(self, services: Sequence[str]) -> None:
        """Know the services by their full names."""
        self._servicer = reflection.ReflectionServicer((*services, reflection.SERVICE_NAME))

    def door(self) -> Stream:
        """The method for a WireServer."""
        return Stream(lambda stream: stream.listen(self))

    def received(self, stream: StreamCall, message: bytes) -> None:
        """Answer one question."""
        try:
            question = reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            stream.end(StatusCode.INVALID_ARGUMENT, "message must be a ServerReflectionRequest, got something else")
            return
        for answer in self._servicer.ServerReflectionInfo(iter((question,)), None):
            stream.send(answer.SerializeToString())

    def half_closed(self, stream: StreamCall) -> None:
        """Everything asked is answered."""
        stream.end()

    def gone(self, stream: StreamCall) -> None:
        """There is nothing to let go of."""
