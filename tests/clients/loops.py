"""Tests that await: each in an event loop of its own, for a bounded time."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec

Given = ParamSpec("Given")
PATIENT_S = 30.0  # far more than any test needs: this machine is shared
GLANCE_S = 0.01


def in_a_loop(test: Callable[Given, Coroutine[object, object, None]]) -> Callable[Given, None]:
    """Run a coroutine as a test.

    test  the coroutine function; its parameters are fixtures as usual
    """

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENT_S))

    return run


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own bound ends the wait."""
    while not is_so():
        await asyncio.sleep(GLANCE_S)
