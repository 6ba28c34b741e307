"""A Triton that tests may kill, stop and start again on its port.

In: a model repository. Out: its address, the same for as long as it is used. Called by stage.py and triton_scenes.py.
"""

import os
import select
import signal
from contextlib import ExitStack
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.triton.process import started
from tests.server.triton.processes import descendants
from tests.servers.ports import free_port

ENDS_WITHIN_S = 10.0
MODELS = ("encoder", "heads", "predictions", "session")


class OwnTriton:
    """One port, and a server on it that comes and goes."""

    def __init__(self, repository: Path) -> None:
        self._repository, self._port = repository, free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._running = ExitStack()
        self._pid = 0
        self.start()

    def start(self) -> None:
        """Return once it is ready."""
        running = self._running.enter_context(started(self._repository, MODELS, port=self._port))
        self._pid = next(pid for pid in descendants(running.guard.pid) if is_triton(pid))

    def kill(self) -> None:
        """End the server by SIGKILL, and see that it is gone."""
        ended = os.pidfd_open(self._pid)
        try:
            os.kill(self._pid, signal.SIGKILL)
            assert select.select([ended], [], [], ENDS_WITHIN_S)[0], "a killed process ends"
        finally:
            os.close(ended)
        self._running.close()

    def stop(self) -> None:
        """Leave it its connections and take its time away."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Give a stopped server its time back."""
        os.kill(self._pid, signal.SIGCONT)

    def unload(self, model: str) -> None:
        """Have a model forgotten."""
        with grpc.insecure_channel(self.address) as channel:
            request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
            GRPCInferenceServiceStub(channel).RepositoryModelUnload(request, timeout=ENDS_WITHIN_S)

    def load(self, model: str) -> None:
        """Have a model read again; returns once it is ready."""
        with grpc.insecure_channel(self.address) as channel:
            request = service_pb2.RepositoryModelLoadRequest(model_name=model)
            GRPCInferenceServiceStub(channel).RepositoryModelLoad(request, timeout=ENDS_WITHIN_S)

    def close(self) -> None:
        """End it in order."""
        self._running.close()


def is_triton(pid: int) -> bool:
    """Whether a process is Triton itself and no stub of it."""
    return Path(f"/proc/{pid}/comm").read_text().strip() == "tritonserver"
