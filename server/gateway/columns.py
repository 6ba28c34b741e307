"""The columns of a DecideBatchResponse, built piece by piece.

In: the Rows of one piece after another. Out: one message with packed arrays. Called by server/gateway/strategy.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stratagem.v1 import strategy_pb2

from kernels.features import N_CATEGORIES
from server.batch import Batch
from server.decide import Rows
from server.gateway.words import RUNGS, action_message
from server.strategy.actions import Action, Menu
from server.strategy.catalogue import Ints
from server.strategy.economics import N_PANEL_ITEMS
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
        n_rows, known = rows.n_rows, rows.known
        piece = {name: np.zeros(n_rows, dtype) for name, dtype in _COLUMNS.items()}
        piece["statuses"][:] = strategy_pb2.ROW_STATUS_UNKNOWN_SHOPPER
        piece["statuses"][known] = strategy_pb2.ROW_STATUS_DECIDED
        piece["rungs"][known] = strategy_pb2.RUNG_SAFE_DEFAULT
        piece["propensity"][known] = 1.0
        piece["state_age_s"][known] = rows.ages
        panel = np.full((n_rows, N_PANEL_ITEMS), -1, np.int64)
        for batch, places in rows.parts:
            self._add_batch(batch, places, piece)
            shows = batch.choice.chosen == batch.menu.ad + 1
            panel[places[shows]] = batch.menu.panel[shows]
        for name, column in piece.items():
            getattr(self.message, name).extend(column.tolist())
        self._add_items(panel, rows.parts)

    def _add_batch(self, batch: Batch, places: Ints, piece: dict[str, np.ndarray[Any, Any]]) -> None:
        choice, menu = batch.choice, batch.menu
        rows, chosen, runner_up = np.arange(places.size), choice.chosen, choice.runner_up
        piece["rungs"][places] = RUNGS[batch.rung]
        piece["action_index"][places] = self._action_indexes(menu, rows, chosen)
        piece["value_micros"][places] = menu.value_micros[rows, chosen]
        piece["cost_micros"][places] = menu.cost_micros[rows, chosen]
        piece["score_micros"][places] = np.rint(choice.score_micros[rows, chosen])
        piece["propensity"][places] = choice.propensity[rows, chosen]
        piece["vector_age_s"][places] = batch.seen.vector_age_s
        piece["predictions_age_s"][places] = batch.predictions_age_s
        second = np.flatnonzero(runner_up != NO_RUNNER_UP)
        piece["runner_up_index"][places[second]] = self._action_indexes(menu, second, runner_up[second])
        piece["runner_up_score_micros"][places[second]] = np.rint(choice.score_micros[second, runner_up[second]])

    def _action_indexes(self, menu: Menu, rows: Ints, actions: Ints) -> Ints:
        """Where each row's action stands in the message; what is shown in a panel is told apart from it."""
        # Rows with the same column, and for the ad the same category, do the same.
        keys = actions * N_CATEGORIES + np.where(actions == menu.ad, menu.ad_category[rows], 0)
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        told = [self._action_index(menu.action(int(rows[row]), int(actions[row]))) for row in first.tolist()]
        return np.array(told, np.int64)[place]

    def _add_items(self, panel: Ints, parts: Sequence[tuple[Batch, Ints]]) -> None:
        """Which items each row shows, (n_rows, N_PANEL_ITEMS) rows of the catalogue, -1 for none."""
        is_shown = panel >= 0
        begins = len(self.message.item_index)
        self.message.item_offsets.extend((begins + is_shown.sum(axis=1).cumsum()).tolist())
        shown, place = np.unique(panel[is_shown], return_inverse=True)
        if not shown.size:
            return
        names = parts[0][0].menu.catalogue.items.item_id
        index = [self._item_index(names[row]) for row in shown.tolist()]
        self.message.item_index.extend(np.array(index, np.int64)[place].tolist())

    def _item_index(self, item_id: str) -> int:
        index = self._items.setdefault(item_id, len(self._items))
        if index == len(self.message.item_ids):
            self.message.item_ids.append(item_id)
        return index

    def _action_index(self, action: Action) -> int:
        shared = Action("recommendations", "content") if action.kind == "recommendations" else action
        index = self._actions.setdefault(shared, len(self._actions))
        if index == len(self.message.actions):
            self.message.actions.append(action_message(shared))
        return index


_COLUMNS = {
    "statuses": np.int64,
    "rungs": np.int64,
    "action_index": np.int64,
    "value_micros": np.int64,
    "cost_micros": np.int64,
    "score_micros": np.int64,
    "propensity": np.float64,
    "runner_up_index": np.int64,
    "runner_up_score_micros": np.int64,
    "state_age_s": np.int64,
    "vector_age_s": np.float64,
    "predictions_age_s": np.float64,
}
