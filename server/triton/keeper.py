"""Keeps the thread of a channel alive between two questions, by a call that asks nothing.

In: a Triton's stub. Out: an open stream. Used by client.py: grpcio ends a channel's thread with the last open call and
starts another for the next one, which made a question of four rows take 2.8 ms and 0.50 ms of CPU instead of 0.8 and
0.26 (`python -m tests.benchmarks gateway` sees it in p50_ms_half_load).
"""

import threading
from queue import SimpleQueue

import grpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub


class Keeper:
    """At most one open stream; it ends with its server, and the next `hold` opens another."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._stream: grpc.Call | None = None
        self._end: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.Lock()

    def hold(self, stub: GRPCInferenceServiceStub) -> None:
        """See to it that a stream is open."""
        stream = self._stream
        if stream is None or not stream.is_active():
            with self._lock:
                if self._stream is None or not self._stream.is_active():
                    self._end.put(None)
                    self._end = SimpleQueue()
                    self._stream = stub.ModelStreamInfer(iter(self._end.get, None))

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            self._end.put(None)
            if self._stream is not None:
                self._stream.cancel()
