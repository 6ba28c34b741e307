"""Asks Triton: the encoder about shoppers' last events, the heads about everything that the strategy needs to know.

In: event sequences, or features with what the encoder said. Out: Encodings and Predictions, checked to be finite, or a
Problem in one sentence. Called by server/decide.py, the doors and the planner.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from kernels.event_history import COLUMNS, LENGTH, EventHistory
from kernels.features import N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, N_TOP_ITEMS, columns
from kernels.future_tags import N_FUTURE_TAGS
from kernels.risk_features import N_REASONS_TOLD
from server.problems import InvalidRequest, ModelUnavailable, TooLate
from server.state.encodings import TENSORS, VECTOR_WIDTH, Encodings, no_encodings
from server.triton.keeper import Keeper
from server.triton.messages import channel_options, reason_of, request_of

ENCODER, HEADS, OUTLOOK = "encoder", "heads", "predictions"
SESSION, TRANSACTION, REVIEW = "session", "risk_transaction", "risk_review"
PATIENT_S = 60.0  # of bulk work
# max_batch_size of every config.pbtxt but that of the heads: bulk work asks them in fewer, larger messages.
MOST_ROWS, MOST_DECISIONS = 256, 1_024
# What is waited for no longer is left to end by itself; only a Triton that hangs is told, after so long. A call that
# its deadline or its client ends while Triton answers it can make Triton touch freed memory and die of it: callers with
# 1 ms did that in one run of six (tests/faults/test_client_faults.py).
LEFT_ALONE_S = 60.0
N_IN_FLIGHT = 4  # chunks of one large request: enough to keep the models busy, few enough to let others in

Outputs = Mapping[str, tuple[type[np.generic], int]]
Arrays = Mapping[str, NDArray[np.generic]]
Metadata = Sequence[tuple[str, str]]

# Spend is expected within 90 and within 365 days.
N_SPEND_HORIZONS = 2
HEAD_OUTPUTS: Outputs = {
    "category_prob": (np.float32, N_CATEGORIES),
    "redeem_prob": (np.float32, N_OFFER_GROUPS),
    "redeem_prob_se": (np.float32, N_OFFER_GROUPS),
    "spend_uplift": (np.float32, N_ARMS),
    "spend_uplift_se": (np.float32, N_ARMS),
}
OUTLOOK_OUTPUTS: Outputs = {
    **HEAD_OUTPUTS,
    "tag_prob": (np.float32, N_FUTURE_TAGS),
    "buy_prob": (np.float32, N_OFFER_GROUPS),
    "click_prob": (np.float32, N_OFFER_GROUPS),
    "response_spend": (np.float32, N_OFFER_GROUPS),
    "expected_spend": (np.float32, N_SPEND_HORIZONS),
    "buy_90d_prob": (np.float32, 1),
}
# Latest items of a session that its model reads.
N_SESSION = 20
# What those models answer that a release holds only where the shop's data were enough to learn them.
SOMETIMES: Mapping[str, Outputs] = {
    SESSION: {"item_index": (np.int32, N_TOP_ITEMS), "item_prob": (np.float32, N_TOP_ITEMS)},
    TRANSACTION: {
        "fraud_prob": (np.float32, 1),
        "reason_code": (np.int32, N_REASONS_TOLD),
        "reason_log_odds": (np.float32, N_REASONS_TOLD),
    },
    REVIEW: {"deceptive_prob": (np.float32, 1)},
}
DATATYPES: dict[type[np.generic], str] = {np.float32: "FP32", np.int32: "INT32"}


@dataclass(frozen=True)
class Predictions:
    """What a decision needs of a batch, read-only; the items are the encoder's.

    category_prob    (batch, N_CATEGORIES) float32    P(buys in the category within 7 days)
    redeem_prob      (batch, N_OFFER_GROUPS) float32  P(redeems an offer of the group within 28 days | it is sent)
    redeem_prob_se   (batch, N_OFFER_GROUPS) float32  its standard error
    spend_uplift     (batch, N_ARMS) float32          what being sent the arm adds to 28 days' spend, currency units
    spend_uplift_se  (batch, N_ARMS) float32          its standard error
    item_index       (batch, N_TOP_ITEMS) int32       vocabulary indexes, likeliest first; 0 pads
    item_prob        (batch, N_TOP_ITEMS) float32     P(buys the item within 7 days), descending
    """

    category_prob: NDArray[np.float32]
    redeem_prob: NDArray[np.float32]
    redeem_prob_se: NDArray[np.float32]
    spend_uplift: NDArray[np.float32]
    spend_uplift_se: NDArray[np.float32]
    item_index: NDArray[np.int32]
    item_prob: NDArray[np.float32]


class Asked:
    """A question on its way to Triton."""

    def __init__(
        self, models: "Models", model: str, calls: "Sequence[grpc.Future]", n_rows: int, deadline_s: float
    ) -> None:
        """Keep what is needed to read the answer; made by Models."""
        self._models = models
        self._model = model
        self._calls = calls
        self._n_rows = n_rows
        self._deadline_s = deadline_s

    def has_come(self, within_s: float) -> bool:
        """Wait for the answer, good or bad; False if it has not come within the time."""
        deadline_s = time.monotonic() + within_s
        try:
            for call in self._calls:
                call.exception(timeout=max(0.0, deadline_s - time.monotonic()))
        except grpc.FutureTimeoutError:
            return False
        return True

    def answer(self) -> Arrays:
        """Wait for the answer and return it by tensor name, read-only.

        raises  ModelUnavailable, TooLate
        """
        try:
            answers = [_answer_of(call, self._deadline_s) for call in self._calls]
            return _joined(self._model, answers, HEAD_OUTPUTS, self._n_rows)
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self._models.problem(self._model, error) from error

    def give_up(self) -> None:
        """Need the answer no more; Triton may finish it."""
        self._calls = ()


def _answer_of(call: "grpc.Future", deadline_s: float) -> service_pb2.ModelInferResponse:
    return call.result(timeout=max(0.0, deadline_s - time.monotonic()))


class Models:
    """The models behind one Triton address, for any thread. The channel opens at first use."""

    def __init__(self, address: str) -> None:
        """Remember where to ask.

        address  "host:port" of Triton's gRPC door
        """
        self.address = address
        self._keeper = Keeper()

    def encode(self, events: EventHistory, within_s: float = PATIENT_S) -> Encodings:
        """Encode the last events of a batch; more than MOST_ROWS rows become several calls.

        events    (batch, LENGTH)
        within_s  for all of it
        returns   (batch,) ENCODING; n_events and encoder are the caller's to fill
        raises    InvalidRequest, ModelUnavailable, TooLate
        """
        told = self._ask(ENCODER, _event_tensors(events), TENSORS, within_s)
        return _encodings(told, events.item.shape[0])

    def predict(self, features: NDArray[np.float32], encodings: Encodings, within_s: float = PATIENT_S) -> Predictions:
        """Predict what a decision needs of a batch; more than MOST_DECISIONS rows become several calls.

        features   (batch, N_FEATURES) float32  as kernels.features.columns names them; finite
        encodings  (batch,) ENCODING            of the same shoppers
        within_s   for all of it
        returns    one row per row
        raises     InvalidRequest, ModelUnavailable, TooLate
        """
        return predictions_of(self._ask(HEADS, _head_tensors(features, encodings), HEAD_OUTPUTS, within_s), encodings)

    def asked(
        self, features: NDArray[np.float32], encodings: Encodings, within_s: float, metadata: Metadata = ()
    ) -> Asked:
        """Send what `predict` asks and do not wait; `predictions_of` reads the answer.

        features   (batch, N_FEATURES) float32, batch at most MOST_DECISIONS
        encodings  (batch,) ENCODING
        within_s   after which Triton need not answer
        metadata   of the call, such as the trace that it belongs to
        raises     InvalidRequest
        """
        request = request_of(HEADS, _head_tensors(features, encodings))
        self._keeper.hold(self._stub)
        call = self._stub.ModelInfer.future(request, timeout=max(within_s, LEFT_ALONE_S), metadata=metadata)
        return Asked(self, HEADS, [call], features.shape[0], time.monotonic() + within_s)

    def foretell(self, features: NDArray[np.float32], encodings: Encodings, within_s: float = PATIENT_S) -> Arrays:
        """Foretell what a profile tells, by the full models.

        features   (batch, N_FEATURES) float32
        encodings  (batch,) ENCODING
        within_s   for all of it
        returns    (batch, width) by the names of OUTLOOK_OUTPUTS
        raises     InvalidRequest, ModelUnavailable, TooLate
        """
        return self._ask(OUTLOOK, _head_tensors(features, encodings), OUTLOOK_OUTPUTS, within_s)

    def ask(self, model: str, tensors: Arrays, within_s: float) -> Arrays:
        """Ask one of the models that not every release has.

        model     of SOMETIMES
        tensors   (batch, width) by name, as the model's config says
        within_s  for all of it
        returns   (batch, width) by name
        raises    ModelUnavailable, TooLate
        """
        return self._ask(model, tensors, SOMETIMES[model], within_s)

    def _ask(self, model: str, tensors: Arrays, outputs: Outputs, within_s: float) -> Arrays:
        deadline_s = time.monotonic() + within_s
        answers: list[service_pb2.ModelInferResponse] = []
        running: deque[grpc.Future] = deque()
        try:
            for request in _requests(model, tensors):
                if len(running) == N_IN_FLIGHT:
                    answers.append(_answer_of(running.popleft(), deadline_s))
                left_s = max(_left_s(deadline_s, within_s), LEFT_ALONE_S)
                running.append(self._stub.ModelInfer.future(request, timeout=left_s))
            while running:
                answers.append(_answer_of(running.popleft(), deadline_s))
            return _joined(model, answers, outputs, _n_rows(tensors))
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self.problem(model, error) from error

    def is_ready(self, within_s: float = 1.0) -> bool:
        """Whether Triton answers and encoder and heads are loaded."""
        try:
            return all(
                self._stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=within_s).ready
                for model in (ENCODER, HEADS)
            )
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """Close the channel if it was opened."""
        self._keeper.close()
        if "_channel" in self.__dict__:
            self._channel.close()

    @cached_property
    def _channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=channel_options(self.address))

    @cached_property
    def _stub(self) -> GRPCInferenceServiceStub:
        return GRPCInferenceServiceStub(self._channel)

    def problem(self, model: str, error: "grpc.RpcError | grpc.FutureTimeoutError") -> ModelUnavailable | TooLate:
        """What went wrong, in our words."""
        if isinstance(error, grpc.FutureTimeoutError) or error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooLate(f"{model} must answer in time, got nothing from {self.address}")
        return ModelUnavailable(f"Triton at {self.address} must answer {model}, got: {reason_of(error)}")


def _n_rows(tensors: Arrays) -> int:
    return int(next(iter(tensors.values())).shape[0])


def _requests(model: str, tensors: Arrays) -> Iterator[service_pb2.ModelInferRequest]:
    most_rows = most_rows_of(model)
    for first in range(0, _n_rows(tensors), most_rows):
        yield request_of(model, {name: array[first : first + most_rows] for name, array in tensors.items()})


def most_rows_of(model: str) -> int:
    """Rows of one request to a model."""
    return MOST_DECISIONS if model == HEADS else MOST_ROWS


def _left_s(deadline_s: float, within_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TooLate(f"the models must answer within {within_s * 1000:.0f} ms, and no time was left to ask")
    return left_s


def _event_tensors(events: EventHistory) -> Arrays:
    """The encoder's inputs; what would make Triton answer with an error, or worse, with a number, is refused."""
    tensors = {f"event_{name}": getattr(events, name) for name in COLUMNS}
    for (name, array), dtype in zip(tensors.items(), (np.int32, np.int8, np.int32, np.int8), strict=True):
        if array.dtype != dtype or array.ndim != 2 or array.shape[1] != LENGTH:
            raise InvalidRequest(
                f"{name} must be {np.dtype(dtype)} of shape (batch, {LENGTH}), got {array.dtype} of shape {array.shape}"
            )
        if array.shape[0] != events.item.shape[0]:
            raise InvalidRequest(f"{name} must have {events.item.shape[0]} rows, as event_item, got {array.shape[0]}")
        if array.min(initial=0) < 0:
            row, place = np.argwhere(array < 0)[0]
            raise InvalidRequest(f"{name} must be ≥ 0, got {array[row, place]} (row {row}, place {place})")
    return tensors


def _head_tensors(features: NDArray[np.float32], encodings: Encodings) -> Arrays:
    """The heads' inputs, checked as the encoder's are."""
    vectors = np.ascontiguousarray(encodings["shopper_vector"])
    for name, array, width in (("features", features, N_FEATURES), ("shopper_vector", vectors, VECTOR_WIDTH)):
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != width:
            raise InvalidRequest(
                f"{name} must be float32 of shape (batch, {width}), got {array.dtype} of shape {array.shape}"
            )
    if features.shape[0] != vectors.shape[0]:
        raise InvalidRequest(
            f"shopper_vector must have one row per row of features, {features.shape[0]}, got {vectors.shape[0]}"
        )
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise InvalidRequest(f"{columns()[column]} must be finite, got {features[row, column]} (row {row} of features)")
    return {"features": features, "shopper_vector": vectors}


def _encodings(arrays: Arrays, n_rows: int) -> Encodings:
    encodings = no_encodings(n_rows)
    for name, array in arrays.items():
        encodings[name] = array
    return encodings


def predictions_of(arrays: Arrays, encodings: Encodings) -> Predictions:
    """What the heads answered, beside what the encoder had said."""
    return Predictions(**arrays, item_index=encodings["item_index"], item_prob=encodings["item_prob"])  # type: ignore[arg-type]  # the datatypes were compared


def _joined(
    model: str, responses: Sequence[service_pb2.ModelInferResponse], outputs: Outputs, n_rows: int
) -> dict[str, NDArray[np.generic]]:
    """The answers of all chunks, refusing what the contract does not allow."""
    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in outputs}
    most_rows = most_rows_of(model)
    for first, response in zip(range(0, n_rows, most_rows), responses, strict=True):
        if len(response.outputs) != len(response.raw_output_contents):
            told = f"{len(response.outputs)} and {len(response.raw_output_contents)}"
            raise ModelUnavailable(f"{model} must answer as many tensors as contents, got {told} from Triton")
        contents = dict(zip([tensor.name for tensor in response.outputs], response.raw_output_contents, strict=True))
        datatypes = {tensor.name: tensor.datatype for tensor in response.outputs}
        for name, (dtype, width) in outputs.items():
            if datatypes.get(name) != DATATYPES[dtype]:
                got = datatypes.get(name, "none")
                raise ModelUnavailable(f"{name} of {model} must be {DATATYPES[dtype]}, got {got}")
            content, rows = contents[name], min(most_rows, n_rows - first)
            if len(content) != rows * width * np.dtype(dtype).itemsize:
                raise ModelUnavailable(
                    f"{name} must have shape ({rows}, {width}), got {len(content)} bytes from Triton"
                )
            parts[name].append(np.frombuffer(content, dtype).reshape(rows, width))
    arrays = {
        # No parts are no rows.
        name: found[0]
        if len(found) == 1
        else np.concatenate([np.empty((0, outputs[name][1]), outputs[name][0]), *found])
        for name, found in parts.items()
    }
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ModelUnavailable(
                f"{name} must be finite, got {array[row, column]} from Triton (row {row}, column {column})"
            )
    return arrays
