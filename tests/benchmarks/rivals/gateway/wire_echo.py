"""The echo of echo_server.py over our own server/wire: the fastest grpcio server we know of.

In: an answer, tokens and credentials. Out: a listening WireServer. Started by echo_server.py as kind `wire`.
"""

import grpc
from stratagem.v1 import strategy_pb2

from server.wire.calls import StreamCall, UnaryCall
from server.wire.server import Stream, Unary, WireServer
from tests.benchmarks.rivals.gateway.messages import DECIDE, DECIDE_STREAM
from tests.benchmarks.rivals.gateway.tokens import Tokens

WORDS = "authorization must be a token with the scope"


class WireEcho:
    """Answers on the polling thread itself; as a Listener, to every stream too."""

    def __init__(self, answer: strategy_pb2.DecideResponse, tokens: Tokens) -> None:
        """Answer every ask by `answer`."""
        self._answer, self._tokens = answer, tokens
        self._on_stream = strategy_pb2.DecideStreamResponse(decision=answer.decision)

    def server(self) -> WireServer:
        """A server of this echo that does not listen yet."""
        methods: dict[str, Unary | Stream] = {DECIDE: Unary(self._decide), DECIDE_STREAM: Stream(self._opened)}
        return WireServer(methods, (), self._let_in)

    def _let_in(self, call: UnaryCall | StreamCall) -> bool:
        """Refuses unary calls; a stream ends once it is listened to."""
        if isinstance(call, StreamCall) or self._tokens.let_in(call):
            return True
        call.refuse(grpc.StatusCode.UNAUTHENTICATED, WORDS)
        return False

    def _opened(self, stream: StreamCall) -> None:
        stream.listen(self)
        if not self._tokens.let_in(stream):
            stream.end(grpc.StatusCode.UNAUTHENTICATED, WORDS)

    def _decide(self, call: UnaryCall, message: bytes) -> None:
        strategy_pb2.DecideRequest.FromString(message)
        call.answer(self._answer.SerializeToString())

    def received(self, stream: StreamCall, message: bytes) -> None:
        """One answer per ask, in order."""
        self._on_stream.call_id = strategy_pb2.DecideStreamRequest.FromString(message).call_id
        stream.send(self._on_stream.SerializeToString())

    def half_closed(self, stream: StreamCall) -> None:
        """Everything is answered already."""
        stream.end()

    def gone(self, stream: StreamCall) -> None:
        """Nothing is kept of a stream."""
