"""A collector of traces: OTLP over HTTP on loopback, as protobuf or JSON, keeping every span it is sent."""

import gzip
import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Collected:
    """A span with the service that sent it."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, object]:
        """The span's attributes as Python values."""
        return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in self.span.attributes}


class Collector(ThreadingHTTPServer):
    """Answers `status` to everything and keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.paths: set[str] = set()
        self.n_requests = 0
        self._spans: list[Collected] = []
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Collected]:
        with self._changed:
            return list(self._spans)

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one request."""
        with self._changed:
            self.paths.add(path)
            self.n_requests += 1
            for resource in request.resource_spans:
                names = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._spans += [Collected(names.get("service.name", ""), span) for span in scope.spans]
            self._changed.notify_all()

    def wait(self, is_enough: Callable[[list[Collected]], bool], within_s: float = 15.0) -> list[Collected]:
        """The spans, once they are enough; what is there when time is up is the caller's to judge."""
        with self._changed:
            self._changed.wait_for(lambda: is_enough(self._spans), within_s)
            return list(self._spans)

    def wait_for_requests(self, n: int, within_s: float = 15.0) -> int:
        """How many requests came, once there are `n` or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self.n_requests >= n, within_s)
            return self.n_requests


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status = self.server.status
        is_json = self.headers["Content-Type"] == "application/json"
        request = from_json(body) if is_json else ExportTraceServiceRequest.FromString(body)
        self.server.take(self.path, request if status == 200 else ExportTraceServiceRequest())
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def from_json(body: bytes) -> ExportTraceServiceRequest:
    """OTLP's JSON writes identities as hexadecimal digits where protobuf's own JSON has base64."""

    def based(fields: dict[str, object]) -> dict[str, object]:
        hexadecimal = {name: value for name, value in fields.items() if name in ("traceId", "spanId", "parentSpanId")}
        return fields | {name: b64encode(bytes.fromhex(str(value))).decode() for name, value in hexadecimal.items()}

    return json_format.ParseDict(json.loads(body, object_hook=based), ExportTraceServiceRequest())


@contextmanager
def collecting() -> Iterator[Collector]:
    """Yield a collector that listens."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        collector.server_close()
        thread.join()
