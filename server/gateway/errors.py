"""Problem -> one gRPC status, once, for every door.

In: whatever a servicer raises. Out: an aborted call with the problem's sentence; anything unnamed becomes INTERNAL with
a traceback in the log and none in the answer.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from server.problems import Problem

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")
Method = Callable[[Servicer, Request, grpc.aio.ServicerContext], Awaitable[Response]]

_logger = logging.getLogger(__name__)


def names_its_problems(method: Method[Servicer, Request, Response]) -> Method[Servicer, Request, Response]:
    """Wrap a servicer's method so that a Problem becomes its status and anything else INTERNAL."""

    @functools.wraps(method)
    async def named(servicer: Servicer, request: Request, context: grpc.aio.ServicerContext) -> Response:
        try:
            return await method(servicer, request, context)
        except Problem as problem:
            code, words = problem.status, str(problem)
        except Exception:  # the one place: the caller gets a status, the log gets the traceback
            _logger.exception("%s failed", method.__qualname__)
            code, words = grpc.StatusCode.INTERNAL, "the server failed in a way it has no name for; its log says more"
        await context.abort(code, words)
        raise AssertionError("abort raises")

    return named
