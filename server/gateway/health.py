"""grpc.health.v1: which services can do their work now, asked or watched.

In: what Triton's watch says. Out: statuses. A balancer sends its calls to a gateway that says SERVING.
"""

import threading
from collections.abc import Sequence

from grpc import StatusCode
from grpc_health.v1 import health_pb2

from server.gateway.doors import Context, request_of
from server.problems import InvalidRequest, UnknownService
from server.wire.calls import StreamCall

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The statuses of all services; the empty name is the whole gateway."""

    def __init__(self, services: Sequence[str]) -> None:
        """Say NOT_SERVING of every service until told otherwise."""
        self._statuses = dict.fromkeys(("", *services), NOT_SERVING)
        self._watchers: dict[StreamCall, str] = {}
        self._lock = threading.Lock()
        self._is_leaving = False

    def set(self, service: str, is_serving: bool) -> None:
        """Change what is said of a service, and tell who watches it; from any thread."""
        with self._lock:
            status = SERVING if is_serving and not self._is_leaving else NOT_SERVING
            if self._statuses[service] == status:
                return
            self._statuses[service] = status
            # Under the lock: what a watcher hears last must be what holds.
            for stream, watched in self._watchers.items():
                if watched == service:
                    stream.send(_told(status), 0)

    def is_serving(self, service: str) -> bool:
        """What is said of a service."""
        return bool(self._statuses[service] == SERVING)

    def leave(self) -> None:
        """Say NOT_SERVING from now on: the gateway drains."""
        self._is_leaving = True
        for service in self._statuses:
            self.set(service, False)

    def check(self, request: health_pb2.HealthCheckRequest, _context: Context) -> health_pb2.HealthCheckResponse:
        """One status.

        raises  UnknownService
        """
        if request.service not in self._statuses:
            raise UnknownService(f"service must be one of the gateway's, got {request.service!r}")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    def opened(self, stream: StreamCall) -> None:
        """Begin to watch."""
        stream.listen(self)

    def received(self, stream: StreamCall, message: bytes) -> None:
        """Tell the status now and whenever it changes."""
        try:
            service = request_of(health_pb2.HealthCheckRequest, message).service
        except InvalidRequest as problem:
            stream.end(problem.status, str(problem))
            return
        with self._lock:
            status = self._statuses.get(service, UNKNOWN)
            self._watchers[stream] = service
            stream.send(_told(status))

    def half_closed(self, stream: StreamCall) -> None:
        """The one request is in; the answers go on."""

    def gone(self, stream: StreamCall) -> None:
        """Nobody watches any more."""
        with self._lock:
            self._watchers.pop(stream, None)

    def end(self) -> None:
        """End every watch."""
        for stream in list(self._watchers):
            stream.end(StatusCode.UNAVAILABLE, "the gateway drains")


def _told(status: int) -> bytes:
    return bytes(health_pb2.HealthCheckResponse(status=status).SerializeToString())
