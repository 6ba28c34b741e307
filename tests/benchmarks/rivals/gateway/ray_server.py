"""Ray Serve over gRPC: the heads in the replica by ONNX Runtime, requests gathered by @serve.batch.

In: DecideRequests. Out: DecideResponses by an argmax over ten actions. Runs in the environment of ray_environment.py;
in a network
namespace of its own. Like the naive server it keeps no state, no log, no budget and no tokens.
"""

import fcntl
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import ray
from ray import serve
from ray.serve.config import gRPCOptions
from stratagem.v1 import strategy_pb2

from tests.benchmarks.rivals.gateway.child import HOST, say_ready, told
from tests.benchmarks.rivals.gateway.ten_actions import OUTPUTS, KnownRows, responses

MOST_ROWS, GATHER_S = 64, 0.001
# Of ioctl on network devices, from linux/sockios.h and linux/if.h.
SET_FLAGS, IS_UP = 0x8914, 1
STORE_BYTES = 100 << 20
SERVICER = "stratagem.v1.strategy_pb2_grpc.add_StrategyServiceServicer_to_server"


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Decider:
    """One replica."""

    def __init__(self, graph: str, known: str) -> None:
        """Open the graph, one thread as Triton runs it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._known = KnownRows(Path(known))

    async def Decide(self, request: strategy_pb2.DecideRequest) -> strategy_pb2.DecideResponse:  # noqa: N802
        """Wait for the batch that this request falls into."""
        return await self._decide(request)

    @serve.batch(max_batch_size=MOST_ROWS, batch_wait_timeout_s=GATHER_S)
    async def _decide(self, requests: list[strategy_pb2.DecideRequest]) -> list[strategy_pb2.DecideResponse]:
        heads = self._session.run(OUTPUTS, self._known.of(requests))
        return responses(requests, dict(zip(OUTPUTS, heads, strict=True)))


def main() -> None:
    """Serve until the parent ends this process."""
    message: dict[str, Any] = told()
    _raise_loopback()
    port = _free_port()
    ray.init(
        include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES,
        _node_ip_address=HOST, _temp_dir=message["folder"],
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        serve.start(
            grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[SERVICER]),
            http_options={"host": HOST, "port": _free_port()},
        )
        serve.run(Decider.bind(message["graph"], message["known"]))
        say_ready(message, message.get("port", port))
        signal.pause()
    finally:
        ray.shutdown()


def _raise_loopback() -> None:
    """A new network namespace has a loopback that is down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", IS_UP))


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])


if __name__ == "__main__":
    main()
