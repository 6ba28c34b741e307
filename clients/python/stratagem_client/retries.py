"""When to ask again: only what is safe, never past the deadline, never more than the budget.

In: an attempt that may be Refused. Out: its answer, or the last refusal. Every call of this client is safe to repeat,
because it reads only or carries an id that its caller made: decision_id, batch_id, event_id.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from stratagem_client.refusals import Refused, WrongUse, too_late

Answer = TypeVar("Answer")
# CANCELLED is what a gateway that stops says of the calls it still had; a call that this client itself cancels is never
# Refused: test_a_gateway_that_stops_under_load_costs_nobody_a_decision.
GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to ask again.

    most_attempts   of one call, the first included, ≥ 1
    first_wait_s    upper end of the wait before the second attempt; it doubles from attempt to attempt, > 0
    longest_wait_s  where doubling stops; the gateway's own retry information may be longer
    retry_share     retries that one call earns, in [0, 1]: the most by which retries raise the load in the long run
    retry_burst     retries that may be made before any is earned, ≥ 0: more than the calls open when a gateway dies
    """

    most_attempts: int = 6
    first_wait_s: float = 0.05
    longest_wait_s: float = 2.0
    retry_share: float = 0.1
    retry_burst: float = 100.0

    def __post_init__(self) -> None:
        """Check every field's range."""
        if self.most_attempts < 1:
            raise WrongUse(f"most_attempts must be ≥ 1, got {self.most_attempts}")
        if not 0 < self.first_wait_s <= self.longest_wait_s:
            raise WrongUse(f"first_wait_s must be in (0, longest_wait_s], got {self.first_wait_s}")
        if not 0 <= self.retry_share <= 1:
            raise WrongUse(f"retry_share must be in [0, 1], got {self.retry_share}")
        if self.retry_burst < 0:
            raise WrongUse(f"retry_burst must be ≥ 0, got {self.retry_burst}")

    def wait_s(self, n_failed: int, refused: Refused, chance: Callable[[], float]) -> float | None:
        """How long to wait after the n-th failure; None: asking again is not safe or does not help.

        n_failed  attempts of this call that failed, ≥ 1
        refused   how the last one failed
        chance    draws from [0, 1)
        returns   the gateway's own wish plus a share, drawn at random, of the doubled wait: "full jitter", so that
                  callers who failed together do not come back together
        """
        is_refused_for_now = refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED and refused.retry_after_s is not None
        if refused.is_final or not (refused.code in GONE or is_refused_for_now):
            return None
        doubled_s = self.first_wait_s * 2.0 ** min(n_failed - 1, 60)
        return (refused.retry_after_s or 0.0) + chance() * min(self.longest_wait_s, doubled_s)


class RetryBudget:
    """Tokens for retries: each call earns a share of one, each retry costs a whole one."""

    def __init__(self, share: float, burst: float) -> None:
        """Begin with a full bucket."""
        self._share = share
        self._burst = burst
        self._tokens = burst

    def earn(self) -> None:
        """Count one call; the bucket holds no more than its burst."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def take(self) -> bool:
        """Pay for one retry; False if the bucket does not hold a whole token."""
        # A bucket of ten tenths must hold one retry; their float sum is a little less.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True)
class Clock:
    """Time and chance, as a test may set them."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


async def retried(
    attempt: Callable[[float], Awaitable[Answer]],
    within_s: float,
    policy: RetryPolicy,
    budget: RetryBudget,
    clock: Clock,
) -> Answer:
    """The answer of the first attempt that is not refused.

    attempt   gets the moment, on the clock, at which the whole call must be over
    within_s  time for all attempts and the waits between them together
    raises    Refused  the last refusal, at once where waiting would outlast the deadline
    """
    ends_s = clock.now_s() + within_s
    budget.earn()
    n_failed = 0
    while True:
        try:
            return await attempt(ends_s)
        except Refused as refused:
            n_failed += 1
            wait_s = policy.wait_s(n_failed, refused, clock.chance)
            if wait_s is None or n_failed >= policy.most_attempts:
                raise
            if clock.now_s() + wait_s >= ends_s or not budget.take():
                raise
        await clock.sleep(wait_s)
        if clock.now_s() >= ends_s:
            raise too_late(within_s)
