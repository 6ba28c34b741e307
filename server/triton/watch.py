"""Knows whether Triton answers: a question that would only wait is not asked.

In: what became of questions, and questions of its own. Out: yes or no. Read by server/decide.py and by the health.
"""

import logging
import threading
from collections.abc import Callable

import numpy as np

from kernels.features import N_FEATURES
from server.problems import Problem
from server.state.encodings import no_encodings
from server.triton.client import Models

DOWN_PERIOD_S, UP_PERIOD_S = 0.1, 1.0
WITHIN_S = 1.0
_logger = logging.getLogger(__name__)


class Watch:
    """Asks now and then; while Triton is down it asks often, so that decisions are full again soon after its return."""

    def __init__(self, models: Models) -> None:
        """Ask once, then begin: until the first answer Triton counts as down."""
        self._models = models
        self.is_up = self._answers()
        self._changed = threading.Condition()
        self._is_closed = self._is_in_doubt = False
        # Deciders and the watch turn it: what listeners heard last must be what holds.
        self._turning = threading.Lock()
        self.listeners: list[Callable[[bool], None]] = []
        self._thread = threading.Thread(target=self._ask_on, name="triton-watch", daemon=True)
        self._thread.start()

    def trouble(self, problem: Problem) -> None:
        """A question got no answer: nobody else asks until Triton answers the watch again."""
        if self.is_up and self._turn(False):
            _logger.warning("decisions do without the models: %s", problem)
            self.doubt()

    def doubt(self) -> None:
        """A question with little time got no answer in it, which may mean nothing: look now and not a second later."""
        with self._changed:
            self._is_in_doubt = True
            self._changed.notify()

    def _turn(self, is_up: bool) -> bool:
        with self._turning:
            if self.is_up == is_up:
                return False
            self.is_up = is_up
            for listener in self.listeners:
                listener(is_up)
            return True

    def _ask_on(self) -> None:
        while True:
            with self._changed:
                # Whoever doubts all the time must not have Triton asked all the time.
                self._changed.wait_for(lambda: self._is_closed, DOWN_PERIOD_S)
                if self.is_up:
                    self._changed.wait_for(lambda: self._is_closed or self._is_in_doubt, UP_PERIOD_S - DOWN_PERIOD_S)
                if self._is_closed:
                    return
                self._is_in_doubt = False
            is_up = self._answers()
            if self._turn(is_up):
                _logger.warning("Triton at %s %s", self._models.address, "answers" if is_up else "does not answer")

    def _answers(self) -> bool:
        """Whether everything is loaded and a row gets a sane answer: a server may be ready and talk nonsense."""
        if not self._models.is_ready(WITHIN_S):
            return False
        try:
            self._models.predict(np.zeros((1, N_FEATURES), np.float32), no_encodings(1), WITHIN_S)
        except Problem:
            return False
        return True

    def close(self) -> None:
        """Ask no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
