"""A thread that serves many must outlive what one of them provokes.

In: work, and what to do for whoever it was for. Out: nothing raised; the log has the traceback. Used where threads
begin: the wire's polling, the doors' pools, the deciders.
"""

import logging
from collections.abc import Callable

from server.problems import Unforeseen

_logger = logging.getLogger(__name__)


def survived(work: Callable[[], None], failed: Callable[[Unforeseen], None], what: str) -> None:
    """Do the work; what has no name is logged and told as a problem that says nothing of the inside.

    failed  called with the problem if the work raised
    what    was done, for the log
    """
    try:
        work()
    except Exception:  # the one place: the caller gets a status, the log gets the traceback
        _logger.exception("%s failed", what)
        failed(Unforeseen("the server failed in a way it has no name for; its log says more"))
