"""Everything that can go wrong and that we can name, with its gRPC status.

In: a sentence naming the field, the rule, the value and the subject. Out: one exception class per status and cause.
Raised all over server/; turned into a status by server/gateway/errors.py and into an exit code by `python -m server`.
"""

from grpc import StatusCode


class Problem(Exception):  # noqa: N818 - the names say what is wrong
    """Something we can name. One class, one gRPC status, one test.

    InvalidRequest     INVALID_ARGUMENT     the caller must change the request
    UnknownShopper     NOT_FOUND            the caller must record an event of the shopper first
    DecisionIdTaken    ALREADY_EXISTS       the caller must choose another decision_id
    ModelUnavailable   UNAVAILABLE          safe to retry with the same decision_id: nothing was decided
    TooLate            DEADLINE_EXCEEDED    safe to retry with more time: nothing was changed
    LogUnavailable     UNAVAILABLE          the disk does not take the log: nothing was acknowledged
    NotInRelease       FAILED_PRECONDITION  the operator must train and export the model that is asked for
    WrongRepository    FAILED_PRECONDITION  the operator must export the models again or restore the file
    WrongState         FAILED_PRECONDITION  the operator must load the shoppers' state again
    WrongPlan          FAILED_PRECONDITION  the operator must make a plan with this release
    WrongSettings      FAILED_PRECONDITION  the operator must change a setting
    PortInUse          FAILED_PRECONDITION  the operator must stop the other server or choose another port
    """

    status: StatusCode = StatusCode.UNKNOWN


class InvalidRequest(Problem):
    """A field of the request breaks its rule."""

    status = StatusCode.INVALID_ARGUMENT


class UnknownShopper(Problem):
    """Nobody by this shopper_id has any state."""

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
