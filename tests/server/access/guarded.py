"""A real gRPC server behind the gate, whose every method answers who called."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from server.access.gate import Access
from server.access.tls import credentials
from server.problems import Problem
from server.settings import Settings
from tests.server.access.certificates import Pair

DECIDE = "/stratagem.v1.StrategyService/Decide"
PATIENT_S = 10.0


class Guarded(grpc.GenericRpcHandler):
    """Admits a call and answers with its caller's name; a refusal becomes its status."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.n_answered = 0

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The same answer for every method."""

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                identities = tuple(context.peer_identities() or ())
                principal = self.access.admit(call.method, context.invocation_metadata(), identities)
                principal.take(len(request))
            except Problem as problem:
                context.abort(problem.status, str(problem))
            self.n_answered += 1
            return principal.name.encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class Listening:
    """The server's port and what it answered so far."""

    port: int
    guarded: Guarded
    _channels: list[grpc.Channel] = field(default_factory=list)

    def insecure(self) -> Callable[..., str]:
        """Callers without TLS."""
        return self._caller(grpc.insecure_channel(f"127.0.0.1:{self.port}"))

    def secure(self, authority: bytes, own: Pair | None = None) -> Callable[..., str]:
        """Callers that trust an authority and may show a certificate."""
        keys = (own.key, own.certificate) if own else (None, None)
        options = (
            ("grpc.ssl_target_name_override", "gateway.example"),
            ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new handshake
        )
        trusted = grpc.ssl_channel_credentials(authority, *keys)
        return self._caller(grpc.secure_channel(f"127.0.0.1:{self.port}", trusted, options))

    def _caller(self, channel: grpc.Channel) -> Callable[..., str]:
        self._channels.append(channel)

        def call(token: str | None = None, method: str = DECIDE, n_rows: int = 1) -> str:
            metadata = [("authorization", f"Bearer {token}")] if token is not None else []
            answered: bytes = channel.unary_unary(method)(b"." * n_rows, timeout=PATIENT_S, metadata=metadata)
            return answered.decode()

        return call

    def close(self) -> None:
        """Close every caller's channel."""
        for channel in self._channels:
            channel.close()


@contextmanager
def listening(settings: Settings) -> Iterator[Listening]:
    """Serve on a free port with the settings' own certificates and rules."""
    guarded = Guarded(Access(settings))
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[guarded], options=[("grpc.so_reuseport", 0)])
        secret = credentials(settings)
        address = "127.0.0.1:0"
        port = server.add_secure_port(address, secret) if secret else server.add_insecure_port(address)
        server.start()
        opened = Listening(port, guarded)
        try:
            yield opened
        finally:
            opened.close()
            server.stop(0).wait()
