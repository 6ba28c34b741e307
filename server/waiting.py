"""Asks that wait become micro-batches: a bounded queue, threads that empty it, and one that minds the deadlines.

In: asks, one by one. Out: calls of Decider.decide with all that waited. Called by the doors' threads; the queue refuses
at once what it could only keep waiting.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial

from server.decide import Decider, Pending, Wording
from server.problems import DecisionIdTaken, Overloaded, Problem, TooLate
from server.settings import Settings
from server.survival import survived

# The minder looks this often at least while anybody waits.
MINDS_EVERY_S = 0.002
# Of a running batch's time, until the next one begins beside it.
OVERLAP = 0.5
# Longest wait of an ask for those that are at hand behind it; the wire takes in a quarter of the largest batch in 4 ms.
AT_HAND_S = 0.05
# Share of the newest batch in the running mean of what a row takes.
NEWEST = 0.1


class Waiting:
    """The queue before one Decider.

    batch_s  how long a micro-batch takes, a running mean
    row_s    what one decision takes of this process when it is busy, a running mean; 0 before the first
    most_rows  how long the queue may be now
    """

    def __init__(self, decider: Decider, word: Wording, settings: Settings) -> None:
        """Start the threads."""
        self._decider, self._word, self._settings = decider, word, settings
        self._queue: deque[Pending] = deque()
        lock = threading.Lock()
        self._changed, self._all_busy = threading.Condition(lock), threading.Condition(lock)
        self._n_running = 0
        self._is_minding = False
        self._is_drained, self._n_gathering = True, 0
        # No ask in the queue must be answered without the models before this moment.
        self._soonest_s = math.inf
        self._is_closed = False
        self.batch_s = self.row_s = 0.0
        self.most_rows = settings.queue_rows
        self._fill = max(1, settings.batch_rows // 4)
        self.repeats = Repeats(settings.remembered_decisions)
        self._threads = [
            threading.Thread(target=self._work, name=f"decider-{number}", daemon=True)
            for number in range(settings.deciders)
        ]
        self._threads.append(threading.Thread(target=self._mind, name="minder", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def n_waiting(self) -> int:
        """Asks in the queue."""
        return len(self._queue)

    def _bounded(self) -> int:
        """What can be decided in `queue_s`, and never more than `queue_rows`."""
        if not self.row_s:
            return self._settings.queue_rows
        return min(self._settings.queue_rows, max(self._settings.batch_rows, int(self._settings.queue_s / self.row_s)))

    def submit(self, pending: Pending, is_named: bool) -> None:
        """Queue an ask, or answer it at once where the same was answered before.

        is_named  whether the caller chose the decision_id: only then can it come again
        raises    DecisionIdTaken  if the id was given to another shopper
        """
        if is_named and not self.repeats.is_new(pending):
            return
        with self._changed:
            if len(self._queue) < self.most_rows and not self._is_closed:
                self._queue.append(pending)
                self._soonest_s = min(self._soonest_s, pending.due_s(self._settings.reserve_s))
                self._is_drained = False
                if self._n_running == self._settings.deciders:
                    if not self._is_minding:
                        self._all_busy.notify()
                elif len(self._queue) == self._fill or self._is_late():
                    self._changed.notify()
                return
            problem = Overloaded(
                f"the queue must hold fewer than {self.most_rows} asks, got as many", self._drained_s()
            )
        pending.settle(problem)

    def drained(self) -> None:
        """Whoever submits has nothing more at hand: what waits may begin.

        Deciders who began with the first ask took the interpreter from the thread that had the next ones, and decided
        five rows at a time under a load at which fifty waited to be polled.
        """
        if self._is_drained:
            return
        with self._changed:
            self._is_drained = True
            # Beside a running batch, whoever gathers looks by itself.
            if self._queue and not (self._n_running and self._n_gathering):
                self._changed.notify()

    def _is_late(self) -> bool:
        """Whether the first ask has waited as long as any may, and nobody was told."""
        return not self._n_gathering and time.monotonic() - self._queue[0].arrived_s > AT_HAND_S

    def _drained_s(self) -> float:
        """About when the queue of now is decided."""
        return max(0.005, len(self._queue) * self.row_s)

    def _work(self) -> None:
        while taken := self._taken():
            began_s = time.monotonic()
            decide = partial(decide_in_time, self._decider, taken, self._word, began_s)
            survived(decide, partial(_fail, taken), "a micro-batch")
            self._note(time.monotonic() - began_s, len(taken))

    def _taken(self) -> list[Pending]:
        """Wait for a micro-batch; empty when there will be none any more."""
        with self._changed:
            while not self._queue or (wait_s := self._gathers_s()) > 0:
                if self._is_closed and not self._queue:
                    return []
                if self._queue:
                    self._n_gathering += 1
                    self._changed.wait(wait_s)
                    self._n_gathering -= 1
                else:
                    self._changed.wait()
            self._n_running += 1
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), self._settings.batch_rows))]
            if self._queue:  # nobody else was woken for what does not fit; the last one to be busy wakes the minder
                (self._all_busy if self._n_running == self._settings.deciders else self._changed).notify()
            else:
                self._soonest_s = math.inf
            return taken

    def _gathers_s(self) -> float:
        """How long the asks in the queue wait for company yet.

        While nothing runs they wait for those at hand alone. Beside a running batch the next one begins half its time
        later: then two are always on their way, and a busier server gathers longer. A quarter of the largest batch is
        company enough.
        """
        if len(self._queue) >= self._fill or self._is_closed or (self._is_drained and not self._n_running):
            return 0.0
        window_s = min(self._settings.gather_s, self.batch_s * OVERLAP) if self._is_drained else AT_HAND_S
        return window_s - (time.monotonic() - self._queue[0].arrived_s)

    def _note(self, took_s: float, n_rows: int) -> None:
        """Remember how long a batch took."""
        with self._changed:
            self._n_running -= 1
            self.batch_s += NEWEST * (took_s - self.batch_s)
            if n_rows >= self._fill:
                # Two batches overlap, so a busy second decides about two batches a batch's time.
                row_s = took_s / n_rows / max(1, min(2, self._n_running + 1))
                self.row_s += NEWEST * (row_s - self.row_s) if self.row_s else row_s
                self.most_rows = self._bounded()
            if self._queue:
                self._changed.notify()

    def _is_crowded(self) -> bool:
        return (bool(self._queue) and self._n_running == self._settings.deciders) or self._is_closed

    def _mind(self) -> None:
        """Answer those whose time runs out while every decider waits for the models."""
        while True:
            with self._all_busy:
                self._is_minding = False
                self._all_busy.wait_for(self._is_crowded)
                # From here on it looks by itself: a switch of threads for each ask cost a fifth of a busy core.
                self._is_minding = True
                self._all_busy.wait_for(lambda: self._is_closed, MINDS_EVERY_S)
                if self._is_closed:
                    return
                due = self._due(time.monotonic())
            if due:
                hurry = partial(_decide, self._decider, due, self._word, False)
                survived(hurry, partial(_fail, due), "a micro-batch in a hurry")

    def _due(self, now_s: float) -> list[Pending]:
        """Take those out of the queue who can wait for the models no longer."""
        if now_s < self._soonest_s:
            return []
        reserve_s = self._settings.reserve_s
        moments = [pending.due_s(reserve_s) for pending in self._queue]
        due = [pending for pending, due_s in zip(self._queue, moments, strict=True) if due_s <= now_s]
        if due:
            kept = zip(self._queue, moments, strict=True)
            self._queue = deque(pending for pending, due_s in kept if due_s > now_s)
        self._soonest_s = min((due_s for due_s in moments if due_s > now_s), default=math.inf)
        return due

    def close(self) -> None:
        """Decide what waits, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._all_busy.notify_all()
        for thread in self._threads:
            thread.join()


def decide_in_time(decider: Decider, taken: Sequence[Pending], word: Wording, now_s: float) -> None:
    """Decide a micro-batch, those apart who have no time for the models; whose time is over is told so.

    now_s  moment of time.monotonic
    """
    reserve_s = decider.settings.reserve_s
    hurried: list[Pending] = []
    patient: list[Pending] = []
    for pending in taken:
        if pending.deadline_s <= now_s:  # nobody waits for it any more, and no log shall say it was answered
            pending.settle(TooLate("a decision must begin before its deadline, and that was past"))
        else:
            (hurried if pending.due_s(reserve_s) <= now_s else patient).append(pending)
    for asks, with_models in ((hurried, False), (patient, True)):
        if asks:
            _decide(decider, asks, word, with_models)


def _decide(decider: Decider, asks: Sequence[Pending], word: Wording, with_models: bool) -> None:
    try:
        decider.decide(asks, word, with_models)
    except Problem as problem:  # of the state or the budget: it has a name, and who waits is told it
        _fail(asks, problem)


def _fail(pendings: Sequence[Pending], problem: Problem) -> None:
    for pending in pendings:
        pending.settle(problem)


class Repeats:
    """Answers by decision_id, so that a retry gets the same one; the oldest are forgotten."""

    def __init__(self, most: int) -> None:
        """Remember nothing yet."""
        self._most = most
        self._lock = threading.Lock()
        # decision_id -> the shopper, and the answer or who waits for it.
        self._known: OrderedDict[str, tuple[str, bytes | list[Callable[[bytes | Problem], None]]]] = OrderedDict()

    def is_new(self, pending: Pending) -> bool:
        """Whether the ask must be decided; if not, it is answered here, now or with the first of its id.

        raises  DecisionIdTaken
        """
        decision_id, shopper_id = pending.ask.decision_id, pending.ask.shopper_id
        with self._lock:
            first_id, answer = self._known.setdefault(decision_id, (shopper_id, []))
            if first_id == shopper_id and isinstance(answer, list):
                answer.append(pending.reply)
                if len(answer) > 1:
                    return False
                self._forget()
                pending.reply = lambda answer: self.settle(decision_id, answer)
                return True
        if first_id != shopper_id or isinstance(answer, list):
            raise DecisionIdTaken(
                f"decision_id must be new for another shopper, got {decision_id!r} of {first_id!r} "
                f"(shopper {shopper_id!r})"
            )
        pending.reply(answer)
        return False

    def _forget(self) -> None:
        """Drop the oldest answers; an ask that is still open stays, and so does what is younger."""
        while len(self._known) > self._most and isinstance(next(iter(self._known.values()))[1], bytes):
            self._known.popitem(last=False)

    def settle(self, decision_id: str, answer: bytes | Problem) -> None:
        """Give the answer to everybody who asked under an id; a problem is not remembered."""
        with self._lock:
            shopper_id, waiting = self._known.pop(decision_id, ("", []))
            if isinstance(answer, bytes):
                self._known[decision_id] = (shopper_id, answer)
                self._forget()
        if isinstance(waiting, list):
            for reply in waiting:
                reply(answer)
