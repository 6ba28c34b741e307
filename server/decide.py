"""The one composed path: state -> features, shopper vector -> one Triton call -> strategy -> durable log -> answer.

In: who asks, for when, and how much time is left. Out: decisions, each on disk before it is returned.
Every door calls it: server/gateway/strategy.py today.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kernels.features import read_states
from server.batch import (
    Ask,
    Batch,
    Draws,
    Seen,
    batch_of,
    decision_of,
    record_of,
    safe_decision,
    safe_record,
    state_age_s,
    without_budget,
)
from server.budget import Budget, StandingPlan
from server.encoding import Encoder
from server.feedback import FeedbackLog
from server.problems import DecisionIdTaken, Problem, TooLate, UnknownShopper
from server.repository import Repository
from server.settings import Settings
from server.state.store import States
from server.strategy.decision import SAFE_DEFAULT, Decision, RungName, Terms
from server.strategy.reasons import safe_default_reason
from server.triton.batching import Gatherer
from server.triton.client import Models


@dataclass
class Pending:
    """An ask on its way through a micro-batch. Whoever claims it first answers it, and only that answer is logged."""

    ask: Ask
    deadline_s: float
    claimed: RungName | None = None

    def claim(self, rung: RungName) -> bool:
        """Take the ask for one rung; False if another has it."""
        if self.claimed is None:
            self.claimed = rung
        return self.claimed == rung


@dataclass(frozen=True)
class Rows:
    """A piece of a columnar request: the batch of its known shoppers, or none if there was no time for the models.

    known  positions in the piece of the batch's rows, ascending
    ages   seconds since the last event, for each known row
    """

    asks: Sequence[Ask]
    known: list[int]
    ages: list[int]
    batch: Batch | None


@dataclass
class Decider:
    """The composed path over one store, one log, one Triton and one plan."""

    repository: Repository
    models: Models
    states: States
    log: FeedbackLog
    plan: StandingPlan
    settings: Settings
    rungs: Counter[RungName] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.budget = Budget(self.states, self.plan)
        self.encoder = Encoder(self.models, self.states, self.repository.encoder)
        self.terms = Terms(
            shadow_price=self.plan.shadow_price,
            explore_share=self.settings.explore_share,
            release=self.repository.release,
            plan_id=self.plan.plan_id,
            currency_code=self.repository.catalogue.currency_code,
        )
        self._economics = self.settings.economics
        self._key = self.settings.explore_key.get_secret_value()
        self._gatherer: Gatherer[Pending, Decision | Problem] = Gatherer(
            self._answer, self.settings.batch_rows, self.settings.gather_s
        )
        self._remembered: OrderedDict[str, tuple[str, asyncio.Task[Decision]]] = OrderedDict()

    async def decide(self, ask: Ask, within_s: float) -> Decision:
        """Decide for one shopper; the same decision_id gets the same decision for as long as it is remembered.

        raises  DecisionIdTaken  if the id was given to another shopper
        raises  UnknownShopper   if nobody has this shopper_id
        """
        if ask.decision_id not in self._remembered:
            # A task of its own: a caller who hangs up must not tear a decision between the budget and the log.
            task = asyncio.get_running_loop().create_task(self._decide(ask, within_s))
            self._remember(ask, task)
        shopper_id, task = self._remembered[ask.decision_id]
        if shopper_id != ask.shopper_id:
            raise DecisionIdTaken(
                f"decision_id must be new for another shopper, got {ask.decision_id!r} of {shopper_id!r} "
                f"(shopper {ask.shopper_id!r})"
            )
        return await asyncio.shield(task)

    def _remember(self, ask: Ask, task: asyncio.Task[Decision]) -> None:
        self._remembered[ask.decision_id] = (ask.shopper_id, task)
        task.add_done_callback(lambda done: self._forget_failure(ask.decision_id, done))
        while len(self._remembered) > max(1, self.settings.remembered_decisions):
            self._remembered.popitem(last=False)

    def _forget_failure(self, decision_id: str, done: asyncio.Task[Decision]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._remembered.pop(decision_id, None)

    async def _decide(self, ask: Ask, within_s: float) -> Decision:
        budget_s = within_s - self.settings.reserve_s
        if budget_s <= 0:
            return await self._safe_default(ask, within_s)
        loop = asyncio.get_running_loop()
        pending = Pending(ask, loop.time() + budget_s)
        gathered = loop.create_task(self._gatherer.submit(pending))
        done, _ = await asyncio.wait({gathered}, timeout=budget_s)
        if not done and pending.claim("safe_default"):
            gathered.cancel()
            return await self._safe_default(ask, within_s)
        try:
            answer = await gathered
        except TooLate:
            return await self._safe_default(ask, within_s)
        if isinstance(answer, Problem):
            raise answer
        return answer

    async def _answer(self, pendings: Sequence[Pending]) -> list[Decision | Problem]:
        """Decide a micro-batch; a row that fails alone gets its problem."""
        asks = [pending.ask for pending in pendings]
        answers: list[Decision | Problem] = [UnknownShopper(_unknown(ask)) for ask in asks]
        seen, known, _ = self._seen(asks)
        if seen is None:
            return answers
        within_s = max(pending.deadline_s for pending in pendings) - asyncio.get_running_loop().time()
        batch = await self._priced(seen, within_s)
        is_open = np.array([pendings[row].claim("full") for row in known])
        batch = await self._spent(batch, is_open)
        open_rows = np.flatnonzero(is_open).tolist()
        await asyncio.wrap_future(self.log.append("decision", [record_of(batch, row) for row in open_rows]))
        self.rungs["full"] += len(open_rows)
        for row in open_rows:
            answers[known[row]] = decision_of(batch, row)
        return answers

    async def decide_rows(self, asks: Sequence[Ask], within_s: float) -> Rows:
        """Decide one piece of a columnar request, at most a micro-batch long."""
        seen, known, ages = self._seen(asks)
        if seen is None:
            return Rows(asks, known, ages, None)
        try:
            if within_s <= self.settings.reserve_s:
                raise TooLate(f"{within_s * 1000:.0f} ms were left")
            batch = await self._priced(seen, within_s - self.settings.reserve_s)
        except TooLate:
            records = [safe_record(ask, SAFE_DEFAULT, self.terms) for ask in seen.asks]
            await asyncio.wrap_future(self.log.append("decision", records))
            self.rungs["safe_default"] += len(known)
            return Rows(asks, known, ages, None)
        batch = await self._spent(batch, np.ones(len(known), np.bool_))
        records = [record_of(batch, row) for row in range(len(known))]
        await asyncio.wrap_future(self.log.append("decision", records))
        self.rungs["full"] += len(known)
        return Rows(asks, known, ages, batch)

    def _seen(self, asks: Sequence[Ask]) -> tuple[Seen | None, list[int], list[int]]:
        """The known shoppers of a batch with their features, their positions and the age of their states."""
        snapshot = self.states.read([ask.shopper_id for ask in asks])
        known = np.flatnonzero(snapshot.is_known).tolist()
        ages = [state_age_s(snapshot, row, asks[row].at_s) for row in known]
        if not known:
            return None, [], []
        if len(known) < len(asks):
            asks = [asks[row] for row in known]
            snapshot = self.states.read([ask.shopper_id for ask in asks])
        at_s = np.array([ask.at_s for ask in asks], np.int64)
        features, _ = read_states(snapshot.states, at_s)
        return Seen(asks, snapshot, at_s, features), known, ages

    async def _priced(self, seen: Seen, within_s: float) -> Batch:
        deadline_s = asyncio.get_running_loop().time() + within_s
        shopper_ids = [ask.shopper_id for ask in seen.asks]
        seen = replace(seen, snapshot=await self.encoder.freshened(shopper_ids, seen.snapshot, within_s))
        left_s = deadline_s - asyncio.get_running_loop().time()
        predicted = await self.models.predict(seen.features, seen.snapshot.encodings, left_s)
        draws = Draws(self.budget.left_micros, self._key)
        return batch_of(seen, predicted, self.repository.catalogue, self._economics, self.terms, draws)

    async def _spent(self, batch: Batch, is_open: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Batch:
        """The batch after the budget has spoken: a row whose cost it refuses chooses among the free actions."""
        carried = await self.budget.reserve(np.where(is_open, batch.cost_micros, 0))
        if carried.all():
            return batch
        return without_budget(batch, ~carried, self._key)

    async def close(self) -> None:
        """Finish what callers left behind and give back what is leased of the budget."""
        running = [task for _, task in self._remembered.values() if not task.done()]
        await asyncio.gather(*running, return_exceptions=True)
        await self.budget.close()

    async def _safe_default(self, ask: Ask, within_s: float) -> Decision:
        snapshot = self.states.read([ask.shopper_id])
        if not snapshot.is_known[0]:
            raise UnknownShopper(_unknown(ask))
        decision = safe_decision(ask, state_age_s(snapshot, 0, ask.at_s), self.terms, safe_default_reason(within_s))
        await asyncio.wrap_future(self.log.append("decision", [safe_record(ask, SAFE_DEFAULT, self.terms)]))
        self.rungs["safe_default"] += 1
        return decision


def _unknown(ask: Ask) -> str:
    return f"shopper_id must be known, got {ask.shopper_id!r}; record an event of the shopper first"
