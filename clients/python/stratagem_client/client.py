"""The client: one object for every call to a gateway.

In: addresses, how to prove who we are, how long to wait. Out: messages of stratagem.v1, columns, or Refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from stratagem.v1 import event_pb2, feedback_pb2, profile_pb2, recommendation_pb2, strategy_pb2

from stratagem_client import batches, feedback
from stratagem_client.access import Access, Tokens
from stratagem_client.calls import Caller
from stratagem_client.columns import Array
from stratagem_client.pool import Pool
from stratagem_client.refusals import WrongUse
from stratagem_client.requests import DecideAsk, Named, ProfileAsk, RecommendAsk, decide_request
from stratagem_client.retries import Clock, RetryBudget, RetryPolicy
from stratagem_client.streams import DecideStream


@dataclass(frozen=True)
class Deadlines:
    """Time for a call, its retries included, where the call itself says nothing; seconds, > 0."""

    decide_s: float = 1.0
    batch_message_s: float = 60.0
    record_message_s: float = 10.0
    look_up_s: float = 5.0


@dataclass(frozen=True)
class Sizes:
    """How much at once.

    n_connections   channels in all, each a connection of its own, ≥ 1
    batch_rows      rows of one DecideBatch message, ≥ 1 and at most the gateway's own limit
    batch_messages  DecideBatch messages on their way at one time, ≥ 1
    record_rows     rows of one Record message, ≥ 1 and at most the gateway's own limit
    """

    n_connections: int = 4
    batch_rows: int = 10_000
    batch_messages: int = 4
    record_rows: int = 1_000

    def __post_init__(self) -> None:
        """Check every field's range."""
        for name, size in vars(self).items():
            if size < 1:
                raise WrongUse(f"{name} must be ≥ 1, got {size}")


@dataclass
class Client:
    """Calls to the gateways at `addresses`; an asynchronous context.

    addresses  host:port of one gateway, or of several that serve the same shop
    """

    addresses: str | Sequence[str]
    access: Access = field(default_factory=Access)
    deadlines: Deadlines = field(default_factory=Deadlines)
    sizes: Sizes = field(default_factory=Sizes)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Clock = field(default_factory=Clock, repr=False)
    _caller: Caller | None = field(default=None, init=False, repr=False)

    async def __aenter__(self) -> "Client":
        """Make the connections; each connects when it is first used."""
        addresses = (self.addresses,) if isinstance(self.addresses, str) else tuple(self.addresses)
        budget = RetryBudget(self.retry.retry_share, self.retry.retry_burst)
        pool = Pool(addresses, self.sizes.n_connections, self.access)
        self._caller = Caller(pool, Tokens(self.access), self.retry, budget, self.clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections; calls that are still open are cancelled."""
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.pool.close()

    async def decide(self, ask: DecideAsk, within_s: float | None = None) -> strategy_pb2.Decision:
        """One decision.

        ask     a shopper_id, or a whole request; without a decision_id it gets one, so that retries are safe
        raises  Refused
        """
        allowed_s = self.deadlines.decide_s if within_s is None else within_s
        answer: strategy_pb2.DecideResponse = await self._open_caller().call(
            lambda connection: connection.strategy.Decide, decide_request(ask), allowed_s
        )
        return answer.decision

    async def decide_many(
        self,
        shopper_ids: Sequence[str],
        time_s: int | Sequence[int] | Array | None = None,
        batch_id: str | None = None,
        within_s: float | None = None,
    ) -> batches.Decisions:
        """Decisions in columns; what got no answer is told in `failures` and spoils nothing else.

        time_s    the moment to decide for, or one per row, seconds since 1970 UTC; None: the gateway's clock
        batch_id  chosen by the caller so that asking again gets the same decisions; None: a new one
        within_s  time for one message, not for all
        """
        batch = batches.batch_of(shopper_ids, self.sizes.batch_rows, time_s, batch_id)
        allowed_s = self.deadlines.batch_message_s if within_s is None else within_s
        return await batches.decide_batch(self._open_caller(), batch, self.sizes.batch_messages, allowed_s)

    async def decide_rest(self, decisions: batches.Decisions, within_s: float | None = None) -> batches.Decisions:
        """Ask again for the rows that got no answer, under the same ids."""
        allowed_s = self.deadlines.batch_message_s if within_s is None else within_s
        return await batches.decide_rest(self._open_caller(), decisions, self.sizes.batch_messages, allowed_s)

    def stream(self, most_open: int = 256, within_s: float | None = None) -> DecideStream:
        """A stream of asks: `async with client.stream() as stream: await stream.submit(shopper_id)`.

        most_open  asks without an answer at one time
        within_s   time for one ask
        """
        return DecideStream(self._open_caller(), most_open, self.deadlines.decide_s if within_s is None else within_s)

    async def record_events(self, events: Sequence[event_pb2.Event]) -> feedback.Recorded[event_pb2.Event]:
        """Tell what shoppers did; an event without an event_id gets one, so that retries count once."""
        return await self._record("events", events)

    async def record_exposures(
        self, exposures: Sequence[feedback_pb2.Exposure]
    ) -> feedback.Recorded[feedback_pb2.Exposure]:
        """Tell who was reached."""
        return await self._record("exposures", exposures)

    async def record_outcomes(
        self, outcomes: Sequence[feedback_pb2.Outcome]
    ) -> feedback.Recorded[feedback_pb2.Outcome]:
        """Tell what came of it."""
        return await self._record("outcomes", outcomes)

    async def profile(self, ask: ProfileAsk, within_s: float | None = None) -> profile_pb2.GetResponse:
        """What is known about a shopper.

        ask  a shopper_id, or a whole request
        """
        request = profile_pb2.GetRequest(shopper_id=ask) if isinstance(ask, str) else ask
        answer: profile_pb2.GetResponse = await self._open_caller().call(
            lambda connection: connection.profile.Get, request, within_s or self.deadlines.look_up_s
        )
        return answer

    async def recommend(self, ask: RecommendAsk, within_s: float | None = None) -> recommendation_pb2.RecommendResponse:
        """The likeliest items of a shopper.

        ask  a shopper_id, or a whole request
        """
        request = recommendation_pb2.RecommendRequest(shopper_id=ask) if isinstance(ask, str) else ask
        answer: recommendation_pb2.RecommendResponse = await self._open_caller().call(
            lambda connection: connection.recommendation.Recommend, request, within_s or self.deadlines.look_up_s
        )
        return answer

    async def _record(self, name: str, rows: Sequence[Named]) -> feedback.Recorded[Named]:
        within_s = self.deadlines.record_message_s
        return await feedback.record(self._open_caller(), name, rows, self.sizes.record_rows, within_s)

    def _open_caller(self) -> Caller:
        if self._caller is None:
            raise WrongUse("a client must be open: use `async with Client(...) as client`")
        return self._caller
