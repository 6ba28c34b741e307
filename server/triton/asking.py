"""Asks any model behind a Triton about rows of its tensors, whatever they are called: for export and for comparisons.

In: an address, a model, named arrays. Out: its answers by name, or a Problem in one sentence. The strategy's own models
are asked through client.py, which knows what they must answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.problems import ModelUnavailable
from server.triton.messages import arrays_of, channel_options, reason_of, request_of
from server.triton.process import started

MOST_ROWS = 256  # max_batch_size of every config.pbtxt that `stratagem export` writes

Arrays = Mapping[str, NDArray[np.generic]]


@contextmanager
def answering(
    triton: Path, repository: Path, models: Sequence[str]
) -> Iterator[Callable[[str, Arrays], dict[str, NDArray[np.generic]]]]:
    """Yield what asks a Triton of our own: one that somebody else runs does not serve what is being checked.

    triton      its own environment
    repository  model folders
    models      loaded
    """
    with started(repository, models, folder=triton) as running:
        yield lambda model, tensors: ask_now(running.address, model, tensors)


def ask_now(address: str, model: str, tensors: Arrays, within_s: float = 60.0) -> dict[str, NDArray[np.generic]]:
    """Return what a model says of some rows; more than MOST_ROWS become several calls.

    address   "host:port" of Triton's gRPC door
    tensors   (n, width) by name, n ≥ 1
    within_s  for each call
    raises    ModelUnavailable  if Triton does not answer
    """
    n_rows = next(iter(tensors.values())).shape[0]
    answers = []
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        stub = GRPCInferenceServiceStub(channel)
        try:
            for first in range(0, n_rows, MOST_ROWS):
                rows = {name: array[first : first + MOST_ROWS] for name, array in tensors.items()}
                answers.append(arrays_of(stub.ModelInfer(request_of(model, rows), timeout=within_s)))
        except grpc.RpcError as error:
            raise ModelUnavailable(f"Triton at {address} must answer {model}, got: {reason_of(error)}") from error
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
