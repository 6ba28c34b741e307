"""What a gateway refuses, and when to ask again.

In: a failed call, or a StreamProblem. Out: one Refused with the gateway's status, its sentence and its retry
information. Raised by every call of the client.
"""

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.protobuf.unknown_fields import UnknownFieldSet
from stratagem.v1 import strategy_pb2

PUSHBACK = "grpc-retry-pushback-ms"
DETAILS = "grpc-status-details-bin"
RETRY_INFO = "google.rpc.RetryInfo"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class WrongUse(ValueError):  # noqa: N818 - like every problem, it says what happened
    """An argument breaks its rule; nothing was sent."""


class Refused(Exception):  # noqa: N818 - like every problem, it says what happened
    """The gateway does not answer, or answers that it will not.

    code           the gRPC status the call ended with
    words          the gateway's own sentence
    retry_after_s  when the gateway wants to be asked again, ≥ 0; None: it did not say
    is_final       whether the gateway said that it does not want to be asked again
    """

    def __init__(
        self, code: grpc.StatusCode, words: str, retry_after_s: float | None = None, is_final: bool = False
    ) -> None:
        """Say what was refused."""
        super().__init__(f"{code.name}: {words}")
        self.code = code
        self.words = words
        self.retry_after_s = retry_after_s
        self.is_final = is_final

    def copy(self) -> "Refused":
        """The same refusal for another caller: an exception raised twice drags the first caller's frames along."""
        return Refused(self.code, self.words, self.retry_after_s, self.is_final)


@dataclass(frozen=True)
class Failure:
    """Rows first to end - 1 of a call of many rows got no answer, and why."""

    first: int
    end: int
    refused: Refused


def refusal_from(error: grpc.aio.AioRpcError) -> Refused:
    """The refusal that a failed call tells."""
    metadata = {str(key): value for key, value in error.trailing_metadata() or ()}
    retry_after_s, is_final = None, False
    if PUSHBACK in metadata:
        retry_after_s = _pushback_s(str(metadata[PUSHBACK]))
        is_final = retry_after_s is None
    elif isinstance(details := metadata.get(DETAILS), bytes):
        retry_after_s = _retry_delay_s(details)
    return Refused(error.code(), error.details() or "", retry_after_s, is_final)


def refusal_of(problem: strategy_pb2.StreamProblem) -> Refused:
    """The refusal of one ask on a stream."""
    retry_after_s = problem.retry_after_ms / 1000 if problem.HasField("retry_after_ms") else None
    return Refused(_CODES.get(problem.code, grpc.StatusCode.UNKNOWN), problem.words, retry_after_s)


def too_late(within_s: float) -> Refused:
    """The refusal of a call that the client itself gave up."""
    return Refused(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer must take longer than {within_s:g} s, and none came")


def _pushback_s(text: str) -> float | None:
    """Seconds to wait; None where gRPC's rule says not to ask again: a negative number, or none at all."""
    try:
        milliseconds = int(text)
    except ValueError:
        return None
    return milliseconds / 1000 if milliseconds >= 0 else None


def _retry_delay_s(details: bytes) -> float | None:
    """The delay in the RetryInfo of a google.rpc.Status: field 3 holds details, field 1 of a RetryInfo the delay."""
    for part in _fields(details, 3):
        detail = any_pb2.Any.FromString(part)
        if detail.TypeName() == RETRY_INFO:
            for delay in _fields(detail.value, 1):
                duration = duration_pb2.Duration.FromString(delay)
                return max(0.0, float(duration.seconds) + float(duration.nanos) / 1e9)
    return None


def _fields(message: bytes, number: int) -> list[bytes]:
    """The length-delimited fields of one number. Saves the dependency on googleapis' own stubs for two messages."""
    found = UnknownFieldSet(empty_pb2.Empty.FromString(message))
    return [field.data for field in found if field.field_number == number and isinstance(field.data, bytes)]
