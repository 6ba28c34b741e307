"""The one composed path: state -> features, shopper vector -> one Triton call -> strategy -> durable log -> answer.

In: who asks, for when, and how much time is left. Out: answers, each on disk before it is given.
Every door calls it: server/gateway/, and the model `decide` behind Triton's own front end.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from kernels.features import read_states
from server.batch import Ask, Batch, Draws, Seen, batch_of, safe_decision, without_budget
from server.budget import Budget, StandingPlan
from server.decision_block import block_of, safe_block_of
from server.encoding import Encoder
from server.feedback import FeedbackLog, framed
from server.problems import ModelUnavailable, Problem, TooLate, UnknownShopper
from server.remembered import RememberedPredictions
from server.repository import Repository
from server.settings import Settings
from server.state.store import States
from server.strategy.catalogue import Bools, Floats, Ints
from server.strategy.decision import Decision, RungName, Terms
from server.strategy.reasons import safe_default_reason
from server.telemetry.laps import Laps
from server.telemetry.telling import Telling
from server.telemetry.traces import Traced
from server.triton.client import Arrays, Models, Predictions, predictions_of
from server.triton.watch import Watch

# Share of its time that an ask keeps back for the log and the answer, up to so long; settings.reserve_s is the least. A
# disk that syncs in 3 ms let answers at the last moment come too late (tests/faults/test_triton_faults.py).
RESERVED_SHARE, MOST_RESERVED_S = 0.1, 0.05
# An answer that does not come in less time than this says little about Triton, and much about who asks.
ENOUGH_S = 0.1

# Words one row of a batch, or a decision that stands alone, as bytes that a door can send.
Wording = Callable[[Batch | Decision, int], bytes]


class Pending:
    """An ask on its way.

    deadline_s  moment of time.monotonic by which it must be answered
    reply       takes the worded answer or the problem, once, from any thread
    method      by which it came
    traced      of its call; None for most
    """

    __slots__ = ("arrived_s", "ask", "deadline_s", "is_settled", "method", "reply", "traced")

    def __init__(
        self, ask: Ask, deadline_s: float, reply: Callable[[bytes | Problem], None], method: str = "Decide"
    ) -> None:
        """Take an ask in."""
        self.ask, self.deadline_s, self.reply, self.method = ask, deadline_s, reply, method
        self.arrived_s = time.monotonic()
        self.traced: Traced | None = None
        self.is_settled = False

    def settle(self, answer: bytes | Problem) -> None:
        """Reply, unless that was done before."""
        if not self.is_settled:
            self.is_settled = True
            self.reply(answer)

    def due_s(self, reserve_s: float) -> float:
        """The moment from which on the models are waited for no longer."""
        share_s = RESERVED_SHARE * (self.deadline_s - self.arrived_s)
        return self.deadline_s - max(reserve_s, min(share_s, MOST_RESERVED_S))

    @property
    def decision_id(self) -> str:
        """Of the ask."""
        return self.ask.decision_id


@dataclass(frozen=True)
class Run:
    """A micro-batch on its way: who waits, how answers are worded, and the moments that it passed."""

    pendings: Sequence[Pending]
    word: Wording
    laps: Laps

    def of(self, rows: Ints) -> list[Pending]:
        """Who waits for some of the rows."""
        return [self.pendings[row] for row in rows.tolist()]


class Outcome(NamedTuple):
    """What is told of rows that are answered.

    cost_micros  what the budget gets back if the disk does not take them
    """

    rung: RungName
    vector_age_s: Floats
    laps: Laps
    cost_micros: int = 0


@dataclass(frozen=True)
class Rows:
    """A piece of a columnar request; who is known and in no part got the safe default.

    known  (n_known,) int64  positions in the piece of the shoppers who are known, ascending
    ages   (n_known,) int64  seconds since the last event of each
    parts  batches, each with the positions in the piece that its rows answer
    """

    n_rows: int
    known: Ints
    ages: Ints
    parts: Sequence[tuple[Batch, Ints]]


@dataclass
class Decider:
    """The composed path over one store, one log, one Triton and one plan; for any number of threads."""

    repository: Repository
    models: Models
    states: States
    log: FeedbackLog
    plan: StandingPlan
    settings: Settings
    telling: Telling = field(default_factory=Telling)
    rungs: Counter[RungName] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.budget = Budget(self.states, self.plan)
        self.encoder = Encoder(self.models, self.states, self.repository.encoder)
        self.watch = Watch(self.models)
        self.remembered = RememberedPredictions(self.settings.remembered_predictions)
        self.terms = Terms(
            shadow_price=self.plan.shadow_price,
            explore_share=self.settings.explore_share,
            release=self.repository.release,
            plan_id=self.plan.plan_id,
            currency_code=self.repository.catalogue.currency_code,
        )
        self._economics = self.settings.economics
        self._key = self.settings.explore_key.get_secret_value()
        self._counting = threading.Lock()
        self.encoder.start()

    def decide(self, pendings: Sequence[Pending], word: Wording, with_models: bool = True) -> None:
        """Answer a micro-batch; a row that cannot wait for the models gets what can be had without them.

        with_models  False: nobody here has the time to ask them
        """
        laps = Laps()
        seen, known = self._seen([pending.ask for pending in pendings], laps)
        if known.size < len(pendings):
            for row in sorted(set(range(len(pendings))) - set(known.tolist())):
                pendings[row].settle(UnknownShopper(_unknown(pendings[row].ask)))
            pendings = [pendings[row] for row in known.tolist()]
        if seen is None:
            return
        run, rows = Run(pendings, word, laps), np.arange(len(pendings))
        if with_models:
            rows = self._decide_fully(seen, run)
        if rows.size:
            self._fall_back(seen, rows, run)

    def _decide_fully(self, seen: Seen, run: Run) -> Ints:
        """Answer what the models answer in time for; returns the rows that are left without."""
        deadlines = np.array([pending.due_s(self.settings.reserve_s) for pending in run.pendings])
        is_open, began_s = np.ones(len(run.pendings), np.bool_), time.monotonic()
        try:
            seen = self._freshened(seen, run, deadlines, is_open)
            run.laps.lap("encode")
            arrays = self._answered(seen, run, deadlines, is_open)
            if arrays is None:
                return np.flatnonzero(is_open)
            predicted = predictions_of(arrays, seen.snapshot.encodings)
        except ModelUnavailable as problem:
            self.watch.trouble(problem)
            return np.flatnonzero(is_open)
        except TooLate as problem:
            self._too_late(problem, time.monotonic() - began_s)
            return np.flatnonzero(is_open)
        run.laps.lap("models")
        # Bulk is not remembered: one audience would push out everybody who is there now.
        self.remembered.keep([ask.shopper_id for ask in seen.asks], predicted, time.monotonic())
        batch = self._batch(seen, predicted)
        rows = np.flatnonzero(is_open)
        self._finish(batch, rows, run.of(rows), run)
        return rows[:0]

    def _freshened(self, seen: Seen, run: Run, deadlines: Floats, is_open: Bools) -> Seen:
        """The batch with fresh vectors; rows that are due before them fall back and are closed, the others ask on.

        raises  ModelUnavailable, TooLate  for every row that is open
        """
        began_s = time.monotonic()
        while True:
            asked_s, first_s = time.monotonic(), float(deadlines[is_open].min())
            try:
                return self._fresh(seen, first_s - asked_s)
            except TooLate as problem:
                due = is_open & (deadlines <= max(first_s, time.monotonic()))
                if first_s - asked_s > self.settings.models_within_s or (due == is_open).all():
                    raise
                is_open[due] = False
                self._too_late(problem, time.monotonic() - began_s)
                self._fall_back(seen, np.flatnonzero(due), run)

    def _answered(self, seen: Seen, run: Run, deadlines: Floats, is_open: Bools) -> Arrays | None:
        """What the heads say; a row that is due before falls back and is closed, and without rows nobody waits."""
        traces = self.telling.traces
        metadata = () if traces is None else traces.triton_metadata([pending.traced for pending in run.pendings])
        began_s = time.monotonic()
        most_s = min(self.settings.models_within_s, float(deadlines.max()) - began_s)
        if most_s <= 0:
            raise TooLate("the heads must be asked in time, and no time was left to ask")
        asked = self.models.asked(seen.features, seen.snapshot.encodings, most_s, metadata)
        while not asked.has_come(float(deadlines[is_open].min()) - time.monotonic()):
            due = np.flatnonzero(is_open & (deadlines <= time.monotonic()))
            is_open[due] = False
            self._too_late(TooLate("the heads must answer in time, got nothing"), time.monotonic() - began_s)
            self._fall_back(seen, due, run)
            if not is_open.any():
                asked.give_up()
                return None
        return asked.answer()

    def _too_late(self, problem: TooLate, waited_s: float) -> None:
        """Whoever gives the models no time must not take them from everybody else."""
        if waited_s >= ENOUGH_S:
            self.watch.trouble(problem)
        else:
            self.watch.doubt()

    def _seen(self, asks: Sequence[Ask], laps: Laps) -> tuple[Seen | None, Ints]:
        """The known shoppers of a batch with their features, and their positions."""
        snapshot = self.states.read([ask.shopper_id for ask in asks])
        laps.lap("read")
        known = np.flatnonzero(snapshot.is_known)
        if not known.size:
            return None, known
        if known.size < len(asks):
            asks, snapshot = [asks[row] for row in known.tolist()], snapshot.of(known)
        at_s = np.array([ask.at_s for ask in asks], np.int64)
        features, _ = read_states(snapshot.states, at_s)
        laps.lap("features")
        return Seen(asks, snapshot, at_s, features, self.encoder.vector_age_s(snapshot)), known

    def _fresh(self, seen: Seen, within_s: float) -> Seen:
        """The batch with vectors that know every event older than the bound.

        raises  ModelUnavailable, TooLate  if Triton does not answer, or did not lately
        """
        if not self.watch.is_up:
            raise ModelUnavailable(f"Triton at {self.models.address} must answer, got nothing lately")
        shopper_ids = [ask.shopper_id for ask in seen.asks]
        bound_s, within_s = self.settings.vector_bound_s, min(within_s, self.settings.models_within_s)
        snapshot = self.encoder.freshened(shopper_ids, seen.snapshot, within_s, bound_s)
        if snapshot is seen.snapshot:
            return seen
        return replace(seen, snapshot=snapshot, vector_age_s=self.encoder.vector_age_s(snapshot))

    def _batch(self, seen: Seen, predicted: Predictions) -> Batch:
        draws = Draws(self.budget.left_micros, self._key)
        return batch_of(seen, predicted, self.repository.catalogue, self._economics, self.terms, draws)

    def _cached(self, seen: Seen, rows: Ints) -> tuple[Batch | None, Ints]:
        """A batch of those among some rows whose predictions are remembered, and which they are."""
        shopper_ids = [seen.asks[row].shopper_id for row in rows.tolist()]
        places, predicted, ages_s = self.remembered.of(shopper_ids, time.monotonic())
        if predicted is None:
            return None, rows[:0]
        draws = Draws(self.budget.left_micros, self._key)
        seen = seen.of(rows[places])
        batch = batch_of(seen, predicted, self.repository.catalogue, self._economics, self.terms, draws)
        return replace(batch, rung="cached", predictions_age_s=ages_s), rows[places]

    def _fall_back(self, seen: Seen, rows: Ints, run: Run) -> None:
        """Answer rows without the models: from what is remembered, else with the safe default."""
        batch, cached = self._cached(seen, rows)
        if batch is not None:
            self._finish(batch, np.arange(cached.size), run.of(cached), run)
        rest = np.setdiff1d(rows, cached, assume_unique=True)
        if not rest.size:
            return
        asks = [seen.asks[row] for row in rest.tolist()]
        written = self.log.append_block(framed(safe_block_of(asks, self.terms)))
        answers = [run.word(self._safe(seen, row, run.pendings[row].deadline_s), 0) for row in rest.tolist()]
        self._answer(run.of(rest), answers, written, Outcome("safe_default", np.zeros(0), run.laps))

    def _safe(self, seen: Seen, row: int, deadline_s: float) -> Decision:
        reason = safe_default_reason(deadline_s - time.monotonic())
        return safe_decision(seen.asks[row], int(seen.state_age_s[row]), self.terms, reason)

    def _spent(self, batch: Batch, rows: Ints) -> Batch:
        """The batch after the budget has spoken: a row whose cost it refuses chooses among the free actions."""
        cost_micros = np.zeros(batch.choice.chosen.size, np.int64)
        cost_micros[rows] = batch.cost_micros[rows]
        carried = self.budget.reserve(cost_micros)
        return batch if carried.all() else without_budget(batch, ~carried, self._key)

    def _finish(self, batch: Batch, rows: Ints, pendings: Sequence[Pending], run: Run) -> None:
        """Spend, log and answer some rows of a batch, each of one pending."""
        batch = self._spent(batch, rows)
        written = self.log.append_block(framed(block_of(batch, rows)))
        answers = [run.word(batch, row) for row in rows.tolist()]  # while the disk works
        run.laps.lap("choose")
        cost_micros = int(batch.cost_micros[rows].sum())
        told = Outcome(batch.rung, batch.seen.vector_age_s[rows], run.laps, cost_micros)
        self._answer(pendings, answers, written, told)

    def _answer(
        self, pendings: Sequence[Pending], answers: Sequence[bytes], written: "Future[None]", outcome: Outcome
    ) -> None:
        try:
            written.result()
        except Problem as problem:
            self.budget.give_back(outcome.cost_micros)
            for pending in pendings:
                pending.settle(problem)
            return
        outcome.laps.lap("log")
        self._count(outcome.rung, len(pendings))
        for pending, answer in zip(pendings, answers, strict=True):
            pending.settle(answer)
        outcome.laps.lap("answer")
        self.telling.answered(pendings, outcome.laps, outcome.rung, outcome.vector_age_s)

    def _count(self, rung: RungName, n_rows: int) -> None:
        with self._counting:
            self.rungs[rung] += n_rows

    def decide_rows(self, asks: Sequence[Ask], deadline_s: float) -> Rows:
        """Decide one piece of a columnar request, at most MOST_ROWS of the models long.

        raises  LogUnavailable  if the disk refuses: then nothing was decided
        """
        seen, known = self._seen(asks, Laps())
        if seen is None:
            return Rows(len(asks), known, known, ())
        parts: list[tuple[Batch, Ints]] = []
        rows = np.arange(known.size)
        began_s = time.monotonic()
        left_s = deadline_s - self.settings.reserve_s - began_s
        try:
            if left_s <= 0:
                raise TooLate("a piece must be begun in time, and no time was left")
            seen = self._fresh(seen, left_s)
            within_s = min(self.settings.models_within_s, left_s)
            arrays = self.models.asked(seen.features, seen.snapshot.encodings, within_s).answer()
            parts.append((self._batch(seen, predictions_of(arrays, seen.snapshot.encodings)), rows))
            rows = rows[:0]
        except (ModelUnavailable, TooLate) as problem:
            if isinstance(problem, ModelUnavailable):
                self.watch.trouble(problem)
            elif left_s > 0:
                self._too_late(problem, time.monotonic() - began_s)
            batch, cached = self._cached(seen, rows)
            if batch is not None:
                parts.append((batch, cached))
            rows = np.setdiff1d(rows, cached, assume_unique=True)
        return self._written(seen, known, parts, rows, len(asks))

    def _written(self, seen: Seen, known: Ints, parts: list[tuple[Batch, Ints]], safe: Ints, n_rows: int) -> Rows:
        """Spend and log a piece, and wait for the disk."""
        parts = [(self._spent(batch, np.arange(rows.size)), rows) for batch, rows in parts]
        blocks = [framed(block_of(batch, np.arange(rows.size))) for batch, rows in parts]
        if safe.size:
            blocks.append(framed(safe_block_of([seen.asks[row] for row in safe.tolist()], self.terms)))
        try:
            self.log.append_block(b"".join(blocks)).result()
        except Problem:
            self.budget.give_back(sum(int(batch.cost_micros.sum()) for batch, _ in parts))
            raise
        for rung, size in [(batch.rung, rows.size) for batch, rows in parts] + [("safe_default", safe.size)]:
            self._count(rung, size)
            self.telling.metrics.decided(rung, size)
        return Rows(n_rows, known, seen.state_age_s, [(batch, known[rows]) for batch, rows in parts])

    def close(self) -> None:
        """Stop what runs behind decisions and give back what is leased of the budget."""
        self.watch.close()
        self.encoder.close()
        self.budget.close()


def _unknown(ask: Ask) -> str:
    return f"shopper_id must be known, got {ask.shopper_id!r}; record an event of the shopper first"
