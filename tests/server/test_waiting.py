"""Asks become micro-batches over a real Decider: bounded, in time, repeated alike, and nobody is forgotten."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from stratagem.v1.strategy_pb2 import RUNG_FULL, RUNG_SAFE_DEFAULT
from stratagem.v1.strategy_pb2 import Decision as DecisionMessage

from server.batch import Ask, Batch
from server.decide import Decider, Pending
from server.gateway.assembly import opened
from server.gateway.words import decision_bytes
from server.problems import DecisionIdTaken, Overloaded, Problem, TooLate, Unforeseen
from server.settings import Settings
from server.strategy.decision import Decision
from server.waiting import AT_HAND_S, Waiting
from tests.faults.relay import Relay
from tests.faults.stage import within
from tests.tiny_repository import AS_OF_S

ANSWERED_WITHIN_S = 30.0
LONG_S = 60.0
SECOND = 1.0


@dataclass
class Asked:
    """Asks that were submitted and what came back, in the order in which it came."""

    waiting: Waiting
    answers: list[tuple[str, bytes | Problem]] = field(default_factory=list)

    def ask(
        self,
        decision_id: str,
        shopper_id: str = "shopper-1",
        within_s: float = LONG_S,
        is_named: bool = False,
        is_last: bool = True,
    ) -> None:
        """Submit one ask, and say whether no more are at hand."""
        ask = Ask(decision_id, shopper_id, AS_OF_S)
        reply = lambda answer: self.answers.append((decision_id, answer))  # noqa: E731
        self.waiting.submit(Pending(ask, time.monotonic() + within_s, reply), is_named)
        if is_last:
            self.waiting.drained()

    def await_(self, n_answers: int) -> list[bytes | Problem]:
        """The answers once there are as many, and no more than that."""
        assert within(ANSWERED_WITHIN_S, lambda: len(self.answers) >= n_answers), f"{len(self.answers)} answers came"
        assert len(self.answers) == n_answers
        return [answer for _, answer in self.answers]


class Batches:
    """Words rows, and remembers how they came in batches; may hold a batch back, or fail."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails = False

    def __call__(self, batch: Batch | Decision, row: int) -> bytes:
        """One row's words."""
        self.go_on.wait(ANSWERED_WITHIN_S)
        if self.fails:
            raise ZeroDivisionError("not a problem that has a name")
        if isinstance(batch, Batch):
            self.sizes[id(batch)] = len(batch.seen.asks)
            self.kept.append(batch)
        return decision_bytes(batch, row)

    @property
    def kept(self) -> list[Batch]:
        """Every batch, so that no other one gets its id."""
        return self.__dict__.setdefault("_kept", [])


@contextmanager
def deciding(settings: Settings, triton: str) -> Iterator[Decider]:
    """A Decider over the settings' shop."""
    with ExitStack() as stack:
        yield opened(settings, triton, stack)


@contextmanager
def waiting_over(
    settings: Settings, triton: str, word: Callable[[Batch | Decision, int], bytes] = decision_bytes, **changes: object
) -> Iterator[Asked]:
    """A queue before a Decider, closed at the end."""
    # A first batch is slow, and would have a queue of small batches kept short.
    settings = settings.model_copy(update={"queue_s": LONG_S} | changes)
    with deciding(settings, triton) as decider:
        waiting = Waiting(decider, word, settings)
        try:
            yield Asked(waiting)
        finally:
            waiting.close()


@contextmanager
def stuck(settings: Settings, triton: str, **changes: object) -> Iterator[tuple[Asked, Relay]]:
    """A queue whose Triton has answered once, and then no more."""
    relay = Relay(triton)
    patient = {"models_within_s": 10.0, "reserve_s": 0.2} | changes
    try:
        with waiting_over(settings, relay.address, **patient) as asked:
            asked.ask("warm")
            asked.await_(1)
            relay.delay_s = LONG_S
            yield asked, relay
            relay.close()  # whoever still waits is told that nobody answers
    finally:
        relay.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """No other thread of Python gets its turn until this one waits."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(ANSWERED_WITHIN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


def test_a_lone_ask_does_not_wait_for_company(filled: Settings, tiny_triton: str) -> None:
    with waiting_over(filled, tiny_triton, gather_s=5.0) as asked:
        asked.ask("warm")
        asked.await_(1)
        began_s = time.monotonic()
        asked.ask("d")
        asked.await_(2)
        # The window is five seconds; a decision takes milliseconds, on a busy machine some hundred of them.
        assert time.monotonic() - began_s < 2.0


def test_what_is_at_hand_is_decided_together(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word) as asked:
        for number in range(10):
            asked.ask(f"d-{number}", is_last=number == 9)
        asked.await_(10)
    assert list(word.sizes.values()) == [10]


def test_an_ask_begins_although_others_are_at_hand_all_the_time(filled: Settings, tiny_triton: str) -> None:
    with waiting_over(filled, tiny_triton) as asked:
        asked.ask("first", is_last=False)
        time.sleep(1.1 * AT_HAND_S)
        asked.ask("next", is_last=False)
        asked.await_(2)
        for number in range(asked.waiting._fill):
            asked.ask(f"d-{number}", is_last=False)
        asked.await_(2 + asked.waiting._fill)


def test_who_waits_no_longer_is_not_decided_and_no_log_says_so(filled: Settings, tiny_triton: str) -> None:
    with waiting_over(filled, tiny_triton) as asked:
        n_bytes = asked.waiting._decider.log.n_bytes
        asked.ask("late", within_s=-0.001)
        (told,) = asked.await_(1)
        assert isinstance(told, TooLate)
        assert asked.waiting._decider.log.n_bytes == n_bytes
        asked.ask("in time")
        assert isinstance(asked.await_(2)[-1], bytes)


def test_asks_beside_a_running_batch_gather_and_no_batch_is_larger_than_allowed(
    filled: Settings, tiny_triton: str
) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, batch_rows=8, deciders=2, gather_s=0.05) as asked:
        word.go_on.clear()
        asked.ask("first")
        assert within(ANSWERED_WITHIN_S, lambda: asked.waiting.n_waiting == 0)
        for number in range(41):
            asked.ask(f"d-{number}")
        word.go_on.set()
        asked.await_(42)
    assert max(word.sizes.values()) == 8
    assert sum(word.sizes.values()) == 42
    assert len(word.sizes) < 20  # forty-two asks were not forty-two batches


def test_an_ask_waits_beside_a_running_batch_no_longer_than_it_may(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, deciders=2, gather_s=0.05) as asked:
        word.go_on.clear()
        asked.ask("holds")
        assert within(ANSWERED_WITHIN_S, lambda: asked.waiting.n_waiting == 0)
        asked.ask("gathers")
        # Its decider takes it although nobody else comes and the first batch does not end.
        assert within(SECOND, lambda: asked.waiting.n_waiting == 0)
        word.go_on.set()
        asked.await_(2)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, queue_rows=5, deciders=1, batch_rows=1) as asked:
        word.go_on.clear()
        asked.ask("runs")
        assert within(ANSWERED_WITHIN_S, lambda: asked.waiting.n_waiting == 0)
        for number in range(6):
            asked.ask(f"d-{number}", is_named=True)
        (refused,) = asked.await_(1)
        assert isinstance(refused, Overloaded)
        assert refused.retry_after_s is not None
        assert refused.retry_after_s > 0
        word.go_on.set()
        asked.await_(7)
        asked.ask("d-5", is_named=True)  # a refusal is not remembered
        assert isinstance(asked.await_(8)[-1], bytes)


def test_the_minder_answers_the_hurried_while_every_decider_is_stuck(filled: Settings, tiny_triton: str) -> None:
    with stuck(filled, tiny_triton, deciders=2, batch_rows=2) as (asked, _):
        for number in range(4):
            asked.ask(f"holds-{number}", within_s=9.0)
        assert within(SECOND, lambda: asked.waiting.n_waiting == 0)
        began_s = time.monotonic()
        for number in range(3):
            asked.ask(f"hurried-{number}", within_s=0.7)
        asked.await_(4)
        assert time.monotonic() - began_s < 4.0  # the stuck batches last for nine
        assert {name for name, _ in asked.answers[1:]} == {"hurried-0", "hurried-1", "hurried-2"}


def test_what_a_burst_leaves_in_the_queue_is_minded_although_nobody_asks_any_more(
    filled: Settings, tiny_triton: str
) -> None:
    with stuck(filled, tiny_triton, deciders=1, batch_rows=2) as (asked, _):
        began_s = time.monotonic()
        with undisturbed():
            for place in range(6):
                asked.ask(f"d-{place}", within_s=9.0 if place < 2 else 0.6)
        asked.await_(5)
        assert time.monotonic() - began_s < 4.0


def test_the_same_id_gets_the_same_bytes_and_another_shopper_is_refused(filled: Settings, tiny_triton: str) -> None:
    with waiting_over(filled, tiny_triton) as asked:
        asked.ask("d", is_named=True)
        first = asked.await_(1)
        asked.ask("d", is_named=True)
        assert asked.await_(2) == first * 2
        with pytest.raises(DecisionIdTaken, match="'d' of 'shopper-1'"):
            asked.ask("d", "shopper-2", is_named=True)
        asked.ask("d", "shopper-2")  # an id of the server's own is nobody's to repeat
        asked.await_(3)


def test_the_same_id_asked_at_once_is_decided_once(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word) as asked:
        word.go_on.clear()
        threads = [threading.Thread(target=asked.ask, args=("d",), kwargs={"is_named": True}) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        word.go_on.set()
        answers = asked.await_(16)
    assert len(set(answers)) == 1
    assert sum(word.sizes.values()) == 1


def test_eviction_never_loses_an_ask_that_is_open(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, remembered_decisions=2, batch_rows=1, deciders=1) as asked:
        word.go_on.clear()
        for number in range(10):
            asked.ask(f"d-{number}", is_named=True)
            asked.ask(f"d-{number}", is_named=True)
        assert asked.answers == []
        word.go_on.set()
        answers = asked.await_(20)
        assert all(isinstance(answer, bytes) for answer in answers)
        assert len(asked.waiting.repeats._known) == 2
        asked.ask("d-0", "shopper-2", is_named=True)  # forgotten: free for anybody
        asked.await_(21)


def test_nothing_is_remembered_where_the_settings_say_so(filled: Settings, tiny_triton: str) -> None:
    with waiting_over(filled, tiny_triton, remembered_decisions=0) as asked:
        asked.ask("d", is_named=True)
        asked.await_(1)
        asked.ask("d", "shopper-2", is_named=True)
        asked.await_(2)
        assert not asked.waiting.repeats._known


def test_closing_answers_everything_that_is_queued(filled: Settings, tiny_triton: str) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, batch_rows=4, deciders=2) as asked:
        word.go_on.clear()
        for number in range(30):
            asked.ask(f"d-{number}")
        closing = threading.Thread(target=asked.waiting.close)
        closing.start()
        assert within(SECOND, lambda: asked.waiting._is_closed)
        asked.ask("late")
        assert isinstance(asked.await_(1)[0], Overloaded)
        word.go_on.set()
        closing.join(ANSWERED_WITHIN_S)
        assert not closing.is_alive()
        assert sum(isinstance(answer, bytes) for answer in asked.await_(31)) == 30
        assert not any(thread.is_alive() for thread in asked.waiting._threads)


def test_a_batch_that_fails_without_a_name_is_answered_and_its_thread_goes_on(
    filled: Settings, tiny_triton: str, caplog: pytest.LogCaptureFixture
) -> None:
    word = Batches()
    with waiting_over(filled, tiny_triton, word, deciders=1) as asked:
        word.fails = True
        for number in range(3):
            asked.ask(f"d-{number}", is_named=True)
        assert all(isinstance(answer, Unforeseen) for answer in asked.await_(3))
        word.fails = False
        asked.ask("d-0", is_named=True)
        assert isinstance(asked.await_(4)[-1], bytes)
    assert "ZeroDivisionError" in caplog.text


def test_one_in_a_hurry_takes_the_vectors_from_nobody(filled: Settings, tiny_triton: str) -> None:
    relay = Relay(tiny_triton)
    with waiting_over(filled, relay.address, deciders=1) as asked:
        relay.delay_s = 0.15
        with undisturbed():  # both in one batch, of shoppers whose vectors must be made
            asked.ask("hurried", "shopper-1", within_s=0.1)
            asked.ask("patient", "shopper-2")
        asked.await_(2)
        rungs = {name: DecisionMessage.FromString(answer).rung for name, answer in asked.answers}
        assert rungs == {"hurried": RUNG_SAFE_DEFAULT, "patient": RUNG_FULL}
    relay.close()
