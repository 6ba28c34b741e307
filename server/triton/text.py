"""Asks Triton for the embeddings of texts whose token ids are at hand.

In: a model's name and token ids. Out: vectors, checked to be finite, or a Problem in one sentence. Called by cli.py,
which hands `ask` to training/text/embedding.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.problems import InvalidRequest, ModelUnavailable
from server.triton.messages import arrays_of, channel_options, reason_of, request_of
from server.triton.process import started

# One batch of 64 texts of 128 word pieces takes some 2 s on two cores; a busy machine takes its time.
PATIENCE_S = 120.0


Ask = Callable[[str, NDArray[np.int32]], NDArray[np.float32]]


@contextmanager
def asking(triton: Path, repository: Path, models: Sequence[str]) -> Iterator[Ask]:
    """A Triton of our own for texts: one that somebody else runs does not hold a shop's sentence models.

    triton      its own environment
    repository  model folders
    models      of texts, loaded
    """
    with started(repository, models, folder=triton) as running:
        asked = TextModels(running.address)
        try:
            yield asked.ask
        finally:
            asked.close()


class TextModels:
    """The sentence models behind one Triton address."""

    def __init__(self, address: str) -> None:
        """Open a channel.

        address  "host:port" of Triton's gRPC door
        """
        self._address = address
        self._channel = grpc.insecure_channel(address, options=channel_options(address))
        self._stub = GRPCInferenceServiceStub(self._channel)

    def ask(self, model: str, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one vector per text.

        model      such as text_embedding
        token_ids  (batch, length) int32  ≥ 0; 0 pads
        returns    (batch, width) float32
        raises     InvalidRequest, ModelUnavailable
        """
        if token_ids.dtype != np.int32 or token_ids.ndim != 2 or token_ids.size == 0 or token_ids.min() < 0:
            raise InvalidRequest(
                "token_ids must be int32 of shape (batch, length), neither empty, each ≥ 0,"
                f" got {token_ids.dtype} of shape {token_ids.shape}"
            )
        try:
            response = self._stub.ModelInfer(request_of(model, {"token_ids": token_ids}), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise ModelUnavailable(f"Triton at {self._address} must answer {model}, got: {reason_of(error)}") from error
        vectors = arrays_of(response).get("embedding")
        if vectors is None or vectors.ndim != 2 or vectors.shape[0] != token_ids.shape[0]:
            found = "none" if vectors is None else f"shape {vectors.shape}"
            raise ModelUnavailable(f"embedding of {model} must have {token_ids.shape[0]} rows, got {found}")
        answers = vectors.astype(np.float32)
        if not np.isfinite(answers).all():
            raise ModelUnavailable(f"embedding of {model} must be finite, got a value that is not")
        return answers

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
