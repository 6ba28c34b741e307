"""Asks Triton for everything that the strategy needs to know of a batch of shoppers, in one call.

In: features and item histories. Out: Predictions, checked to be finite, or a Problem in one sentence.
Called by server/decide.py (`predict`) and by the planner (`predict_now`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from kernels.features import HISTORY, N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, N_TOP_ITEMS, columns
from server.problems import InvalidRequest, ModelUnavailable, TooLate
from server.triton.messages import channel_options, reason_of, request_of

MOST_ROWS = 256  # max_batch_size of every config.pbtxt
N_IN_FLIGHT = 4  # chunks of one large request: enough to keep the three models busy, few enough to let others in
# Tensor -> its type as Triton and as numpy say it, and its width.
OUTPUTS: dict[str, tuple[str, type[np.generic], int]] = {
    "category_prob": ("FP32", np.float32, N_CATEGORIES),
    "redeem_prob": ("FP32", np.float32, N_OFFER_GROUPS),
    "spend_uplift": ("FP32", np.float32, N_ARMS),
    "spend_uplift_se": ("FP32", np.float32, N_ARMS),
    "item_index": ("INT32", np.int32, N_TOP_ITEMS),
    "item_prob": ("FP32", np.float32, N_TOP_ITEMS),
}


@dataclass(frozen=True)
class Predictions:
    """What the models say of a batch, read-only.

    category_prob    (batch, N_CATEGORIES) float32    P(buys in the category within 7 days)
    redeem_prob      (batch, N_OFFER_GROUPS) float32  P(redeems an offer of the group within 28 days | it is sent)
    spend_uplift     (batch, N_ARMS) float32          what being sent the arm adds to 28 days' spend, currency units
    spend_uplift_se  (batch, N_ARMS) float32          its standard error
    item_index       (batch, N_TOP_ITEMS) int32       vocabulary indexes, likeliest first; 0 pads
    item_prob        (batch, N_TOP_ITEMS) float32     P(buys the item within 7 days), descending
    """

    category_prob: NDArray[np.float32]
    redeem_prob: NDArray[np.float32]
    spend_uplift: NDArray[np.float32]
    spend_uplift_se: NDArray[np.float32]
    item_index: NDArray[np.int32]
    item_prob: NDArray[np.float32]


class Models:
    """The models behind one Triton address. Channels open at first use; `predict` stays with its first event loop."""

    def __init__(self, address: str, name: str = "predictions") -> None:
        """Remember where to ask.

        address  "host:port" of Triton's gRPC door
        name     the model that joins all others
        """
        self.address = address
        self.name = name

    async def predict(
        self, features: NDArray[np.float32], item_history: NDArray[np.int32], within_s: float
    ) -> Predictions:
        """Predict for a batch; more than MOST_ROWS rows become several calls.

        features      (batch, N_FEATURES) float32  as kernels.features.columns names them; finite
        item_history  (batch, HISTORY) int32       vocabulary indexes, ≥ 0
        within_s      for all of it
        returns       one row per row
        raises        InvalidRequest, ModelUnavailable, TooLate
        """
        _check_inputs(features, item_history)
        deadline_s = time.monotonic() + within_s
        gate = asyncio.Semaphore(N_IN_FLIGHT)

        async def answer(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
            async with gate:
                return await self._stub.ModelInfer(request, timeout=_left_s(deadline_s, within_s))

        requests = list(self._requests(features, item_history))
        try:
            if len(requests) == 1:  # the usual case needs no task
                return _predictions([await answer(requests[0])], features.shape[0])
            return _predictions(await asyncio.gather(*map(answer, requests)), features.shape[0])
        except grpc.RpcError as error:
            raise self._problem(error, within_s) from error

    def predict_now(
        self, features: NDArray[np.float32], item_history: NDArray[np.int32], within_s: float = 60.0
    ) -> Predictions:
        """Do what `predict` does from a thread without an event loop: for bulk work.

        features      (batch, N_FEATURES) float32
        item_history  (batch, HISTORY) int32
        within_s      for all of it
        returns       one row per row
        raises        InvalidRequest, ModelUnavailable, TooLate
        """
        _check_inputs(features, item_history)
        deadline_s = time.monotonic() + within_s
        answers: list[service_pb2.ModelInferResponse] = []
        running: deque[grpc.Future] = deque()
        try:
            for request in self._requests(features, item_history):
                if len(running) == N_IN_FLIGHT:
                    answers.append(running.popleft().result())
                running.append(self._blocking_stub.ModelInfer.future(request, timeout=_left_s(deadline_s, within_s)))
            while running:
                answers.append(running.popleft().result())
            return _predictions(answers, features.shape[0])
        except grpc.RpcError as error:
            raise self._problem(error, within_s) from error
        finally:
            for call in running:
                call.cancel()

    async def is_ready(self, within_s: float = 1.0) -> bool:
        """Whether Triton answers and the joined model is loaded."""
        asked = service_pb2.ModelReadyRequest(name=self.name)
        try:
            return bool((await self._stub.ModelReady(asked, timeout=within_s)).ready)
        except grpc.RpcError:
            return False

    async def close(self) -> None:
        """Close the channels that were opened."""
        if "_channel" in self.__dict__:
            await self._channel.close()
        if "_blocking_channel" in self.__dict__:
            self._blocking_channel.close()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=channel_options(self.address))

    @cached_property
    def _stub(self) -> GRPCInferenceServiceStub:
        return GRPCInferenceServiceStub(self._channel)

    @cached_property
    def _blocking_channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=channel_options(self.address))

    @cached_property
    def _blocking_stub(self) -> GRPCInferenceServiceStub:
        return GRPCInferenceServiceStub(self._blocking_channel)

    def _requests(
        self, features: NDArray[np.float32], item_history: NDArray[np.int32]
    ) -> Iterator[service_pb2.ModelInferRequest]:
        for first in range(0, features.shape[0], MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            yield request_of(self.name, {"features": features[rows], "item_history": item_history[rows]})

    def _problem(self, error: grpc.RpcError, within_s: float) -> ModelUnavailable | TooLate:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLate(f"{self.name} must answer within {within_s * 1000:.0f} ms, got nothing from {self.address}")
        return ModelUnavailable(f"Triton at {self.address} must answer {self.name}, got: {reason_of(error)}")


def _left_s(deadline_s: float, within_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TooLate(f"the models must answer within {within_s * 1000:.0f} ms, and no time was left to ask")
    return left_s


def _check_inputs(features: NDArray[np.float32], item_history: NDArray[np.int32]) -> None:
    """Refuse what would make Triton answer with an error, or worse, with a number."""
    for name, array, dtype, width in (
        ("features", features, np.float32, N_FEATURES),
        ("item_history", item_history, np.int32, HISTORY),
    ):
        if array.dtype != dtype or array.ndim != 2 or array.shape[1] != width:
            raise InvalidRequest(
                f"{name} must be {np.dtype(dtype)} of shape (batch, {width}), got {array.dtype} of shape {array.shape}"
            )
    if features.shape[0] != item_history.shape[0]:
        raise InvalidRequest(
            f"item_history must have one row per row of features, {features.shape[0]}, got {item_history.shape[0]}"
        )
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise InvalidRequest(f"{columns()[column]} must be finite, got {features[row, column]} (row {row} of features)")
    if item_history.min(initial=0) < 0:
        row, place = np.argwhere(item_history < 0)[0]
        raise InvalidRequest(f"item_history must be ≥ 0, got {item_history[row, place]} (row {row}, place {place})")


def _predictions(responses: Sequence[service_pb2.ModelInferResponse], n_rows: int) -> Predictions:
    """Join the answers of all chunks, refusing what the contract does not allow."""
    joined: dict[str, list[NDArray[np.generic]]] = {name: [] for name in OUTPUTS}
    for first, response in zip(range(0, n_rows, MOST_ROWS), responses, strict=True):
        contents = dict(zip([tensor.name for tensor in response.outputs], response.raw_output_contents, strict=True))
        datatypes = {tensor.name: tensor.datatype for tensor in response.outputs}
        for name, (datatype, dtype, width) in OUTPUTS.items():
            if datatypes.get(name) != datatype:
                raise ModelUnavailable(f"{name} of predictions must be {datatype}, got {datatypes.get(name, 'none')}")
            array = np.frombuffer(contents[name], dtype)
            rows = min(MOST_ROWS, n_rows - first)
            if array.size != rows * width:
                raise ModelUnavailable(f"{name} must have shape ({rows}, {width}), got {array.size} values from Triton")
            joined[name].append(array.reshape(rows, width))
    arrays = {name: parts[0] if len(parts) == 1 else _stacked(name, parts) for name, parts in joined.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ModelUnavailable(
                f"{name} must be finite, got {array[row, column]} from Triton (row {row}, column {column})"
            )
    return Predictions(**arrays)  # type: ignore[arg-type]  # the datatypes were compared


def _stacked(name: str, parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    _, dtype, width = OUTPUTS[name]
    return np.concatenate([np.empty((0, width), dtype), *parts])  # no parts are no rows
