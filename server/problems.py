"""Everything that can go wrong and that we can name, with its gRPC status.

In: a sentence naming the field, the rule, the value and the subject. Out: one exception class per status and cause.
Raised all over server/; turned into a status by server/gateway/doors.py and into an exit code by `python -m server`.
"""

from grpc import StatusCode


class Problem(Exception):  # noqa: N818 - the names say what is wrong
    """Something we can name. One class, one gRPC status, one test.

    InvalidRequest     INVALID_ARGUMENT     the caller must change the request
    UnknownShopper     NOT_FOUND            the caller must record an event of the shopper first
    UnknownService     NOT_FOUND            the caller must name one of the gateway's services
    DecisionIdTaken    ALREADY_EXISTS       the caller must choose another decision_id
    ModelUnavailable   UNAVAILABLE          safe to retry with the same decision_id: nothing was decided
    TooLate            DEADLINE_EXCEEDED    safe to retry with more time: nothing was changed
    LogUnavailable     UNAVAILABLE          the disk does not take the log: nothing was acknowledged
    StateUnavailable   UNAVAILABLE          the disk does not take the shoppers' state: safe to send again
    NotInRelease       FAILED_PRECONDITION  the operator must train and export the model that is asked for
    WrongRepository    FAILED_PRECONDITION  the operator must export the models again or restore the file
    WrongState         FAILED_PRECONDITION  the operator must load the shoppers' state again
    WrongPlan          FAILED_PRECONDITION  the operator must make a plan with this release
    WrongSettings      FAILED_PRECONDITION  the operator must change a setting
    PortInUse          FAILED_PRECONDITION  the operator must stop the other server or choose another port
    WorkerEnded        FAILED_PRECONDITION  the operator must mend what the worker's last words name
    Unauthenticated    UNAUTHENTICATED      the caller must bring a valid token, key or certificate
    Forbidden          PERMISSION_DENIED    the operator must give the client the scope that is named
    Unforeseen         INTERNAL             the operator must read the log: this has no name yet
    RateExceeded       RESOURCE_EXHAUSTED   the client must wait retry_after_s: it asks faster than it may
    Overloaded         RESOURCE_EXHAUSTED   the caller must wait retry_after_s: the server's queue is full
    """

    status: StatusCode = StatusCode.UNKNOWN

    def __init__(self, sentence: str, retry_after_s: float | None = None) -> None:
        """Tell a problem in one sentence: field, rule, value, subject; and when to ask again, where waiting helps."""
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class InvalidRequest(Problem):
    """A field of the request breaks its rule."""

    status = StatusCode.INVALID_ARGUMENT


class UnknownShopper(Problem):
    """Nobody by this shopper_id has any state."""

    status = StatusCode.NOT_FOUND


class UnknownService(Problem):
    """The gateway has no service of this name."""

    status = StatusCode.NOT_FOUND


class DecisionIdTaken(Problem):
    """The decision_id was given to another shopper before."""

    status = StatusCode.ALREADY_EXISTS


class ModelUnavailable(Problem):
    """Triton is not ready or did not answer."""

    status = StatusCode.UNAVAILABLE


class TooLate(Problem):
    """The models' answer did not come within the time left."""

    status = StatusCode.DEADLINE_EXCEEDED


class LogUnavailable(Problem):
    """The durable log cannot be written."""

    status = StatusCode.UNAVAILABLE


class StateUnavailable(Problem):
    """The shoppers' state cannot be written."""

    status = StatusCode.UNAVAILABLE


class NotInRelease(Problem):
    """The release was exported without this model."""

    status = StatusCode.FAILED_PRECONDITION


class WrongRepository(Problem):
    """The model repository is missing, incomplete or altered."""

    status = StatusCode.FAILED_PRECONDITION


class WrongState(Problem):
    """The stored states belong to other features or another vocabulary."""

    status = StatusCode.FAILED_PRECONDITION


class WrongPlan(Problem):
    """The plan cannot be read or belongs to another release."""

    status = StatusCode.FAILED_PRECONDITION


class WrongSettings(Problem):
    """A setting breaks its rule."""

    status = StatusCode.FAILED_PRECONDITION


class PortInUse(Problem):
    """The address to listen on is taken."""

    status = StatusCode.FAILED_PRECONDITION


class WorkerEnded(Problem):
    """A worker process ends as soon as it is started."""

    status = StatusCode.FAILED_PRECONDITION


class Unauthenticated(Problem):
    """Nobody we know sent this; the sentence never repeats what was sent."""

    status = StatusCode.UNAUTHENTICATED


class Forbidden(Problem):
    """The client is known and lacks the scope of what it asks for."""

    status = StatusCode.PERMISSION_DENIED


class Unforeseen(Problem):
    """Something that has no name happened."""

    status = StatusCode.INTERNAL


class RateExceeded(Problem):
    """The client asks faster than it may."""

    status = StatusCode.RESOURCE_EXHAUSTED


class Overloaded(Problem):
    """The server is past its capacity."""

    status = StatusCode.RESOURCE_EXHAUSTED
