"""A small HTTP server for whoever watches: `/metrics`, `/livez`, `/readyz` and `/readyz/SERVICE`.

In: a Metrics and one readiness callback per service. Out: text for Prometheus, 200 or 503 for a load balancer.
Started by the assembly, once per worker; a thread of its own, so a busy core answers late but answers.
"""

import logging
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

import orjson

from server.problems import PortInUse, WrongSettings
from server.telemetry.metrics import Metrics

PATIENCE_S = 5.0  # for a scraper that sends or reads slowly
LARGEST_PORT = 65_535

Readiness = Mapping[str, Callable[[], bool]]
logger = logging.getLogger(__name__)


class MetricsPage:
    """A page that is being served until `close`."""

    def __init__(self, server: "_Server") -> None:
        """Begin to answer; the socket listens already."""
        self._server = server
        self.host, self.port = server.server_address[:2]
        self._thread = Thread(target=server.serve_forever, args=(0.1,), name="metrics page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; once it returns the port is free."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def worker_port(metrics_port: int | None, worker: int) -> int | None:
    """The port of one worker's page.

    metrics_port  of the first worker; None: no page; 0: any free port, for every worker
    worker        its index from 0
    returns       None: no page
    raises        WrongSettings  beyond the last port
    """
    if not metrics_port:
        return metrics_port
    if metrics_port + worker > LARGEST_PORT:
        raise WrongSettings(
            f"STRATAGEM_METRICS_PORT must leave every worker a port ≤ {LARGEST_PORT}, got {metrics_port} "
            f"(worker {worker})"
        )
    return metrics_port + worker


def serve_metrics(
    metrics: Metrics, host: str = "127.0.0.1", port: int = 0, ready: Readiness | None = None
) -> MetricsPage:
    """Serve the page from a thread.

    metrics  what `/metrics` tells
    host     address to listen on
    port     0 takes a free one
    ready    by gRPC service name, asked at each `/readyz`; as last seen, without asking anybody
    raises   PortInUse  naming host and port
    """
    try:
        return MetricsPage(_Server(metrics, (host, port), ready or {}))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PortInUse(f"metrics_port must be free to listen on, got {port}: {reason} ({host}:{port})") from error


class _Server(ThreadingHTTPServer):
    """A connection has a thread and may take its time; none outlives the process."""

    daemon_threads = True
    block_on_close = False  # a scraper that reads slowly must not hold up SIGTERM
    request_queue_size = 16

    def __init__(self, metrics: Metrics, address: tuple[str, int], ready: Readiness) -> None:
        self.metrics, self.ready = metrics, ready
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's own look at the name server, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        logger.exception("the metrics page must answer, but failed for %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server
    server_version, sys_version = "stratagem", ""  # what runs below is nobody's business

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            page, content_type = self.server.metrics.page(self.headers.get("Accept", ""))
            self._say(HTTPStatus.OK, page, content_type)
        elif path == "/livez":
            self._say(HTTPStatus.OK, b"ok\n", "text/plain; charset=utf-8")
        elif path == "/readyz" or path.removeprefix("/readyz/") in self.server.ready:
            self._say_ready(path.removeprefix("/readyz").removeprefix("/"))
        else:
            self._say(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def _say_ready(self, service: str) -> None:
        asked = [service] if service else list(self.server.ready)
        states = {name: bool(self.server.ready[name]()) for name in asked}
        status = HTTPStatus.OK if all(states.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        self._say(status, orjson.dumps(states, option=orjson.OPT_APPEND_NEWLINE), "application/json")

    def _say(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Scrapes are not news."""

    def log_message(self, format: str, *arguments: Any) -> None:
        logger.debug(format, *arguments)
