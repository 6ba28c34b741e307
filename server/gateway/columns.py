"""The columns of a DecideBatchResponse, built piece by piece.

In: the Rows of one piece after another. Out: one message with packed arrays. Called by server/gateway/strategy.py.
"""

from dataclasses import dataclass, field

import numpy as np
from stratagem.v1 import strategy_pb2

from server.batch import Batch
from server.decide import Rows
from server.gateway.words import action_message
from server.strategy.actions import Action
from server.strategy.policy import NO_RUNNER_UP


@dataclass
class Columns:
    """A response in the making. An action or an item gets its place in the message when it is first used."""

    message: strategy_pb2.DecideBatchResponse
    _actions: dict[Action, int] = field(default_factory=dict)
    _items: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.message.item_offsets.append(0)
        self._action_index(Action("nothing"))  # what the columns of an unknown shopper point at

    def add(self, rows: Rows) -> None:
        """Append one piece; the rows of unknown shoppers hold zeros."""
        first, message = len(self.message.statuses), self.message
        n_rows, known = len(rows.asks), rows.known
        statuses = np.full(n_rows, strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER)
        statuses[known] = strategy_pb2.ROW_STATUS_DECIDED
        message.statuses.extend(statuses.tolist())
        rungs = np.zeros(n_rows, np.int64)
        rungs[known] = strategy_pb2.RUNG_SAFE_DEFAULT if rows.batch is None else strategy_pb2.RUNG_FULL
        message.rungs.extend(rungs.tolist())
        ages = np.zeros(n_rows, np.int64)
        ages[known] = rows.ages
        message.state_age_s.extend(ages.tolist())
        for column in _NUMBERS:
            getattr(message, column).extend([0] * n_rows)
        if rows.batch is None:
            for row in known:
                message.propensity[first + row] = 1.0
            message.item_offsets.extend([len(message.item_index)] * n_rows)
        else:
            self._add_batch(rows.batch, [first + row for row in known])
            self._add_items(rows.batch, known, n_rows)

    def _add_batch(self, batch: Batch, places: list[int]) -> None:
        choice, menu, message = batch.choice, batch.menu, self.message
        for row, place in enumerate(places):
            chosen, runner_up = int(choice.chosen[row]), int(choice.runner_up[row])
            message.action_index[place] = self._action_index(menu.action(row, chosen))
            message.value_micros[place] = int(menu.value_micros[row, chosen])
            message.cost_micros[place] = int(menu.cost_micros[row, chosen])
            message.score_micros[place] = round(float(choice.score_micros[row, chosen]))
            message.propensity[place] = float(choice.propensity[row, chosen])
            if runner_up != NO_RUNNER_UP:
                message.runner_up_index[place] = self._action_index(menu.action(row, runner_up))
                message.runner_up_score_micros[place] = round(float(choice.score_micros[row, runner_up]))

    def _add_items(self, batch: Batch, known: list[int], n_rows: int) -> None:
        shown = {
            place: batch.menu.action(row, int(batch.choice.chosen[row])).item_ids for row, place in enumerate(known)
        }
        for place in range(n_rows):
            for item_id in shown.get(place, ()):
                index = self._items.setdefault(item_id, len(self._items))
                if index == len(self.message.item_ids):
                    self.message.item_ids.append(item_id)
                self.message.item_index.append(index)
            self.message.item_offsets.append(len(self.message.item_index))

    def _action_index(self, action: Action) -> int:
        shared = Action("recommendations", "content") if action.kind == "recommendations" else action
        index = self._actions.setdefault(shared, len(self._actions))
        if index == len(self.message.actions):
            self.message.actions.append(action_message(shared))
        return index


_NUMBERS = (
    "action_index",
    "value_micros",
    "cost_micros",
    "score_micros",
    "propensity",
    "runner_up_index",
    "runner_up_score_micros",
)
