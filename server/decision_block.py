"""A micro-batch of decisions as one record of the log: columns, not rows.

In: a Batch, or asks that got the safe default. Out: one payload; and from a payload the rows that readers want.
Format: b"D", the length of a JSON header as uint32, the header, then the columns that it names, one behind the other.
At 100,000 decisions a second a JSON object for each would cost more than deciding: `tests.benchmarks gateway`.
"""

import struct
from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from server.batch import Ask, Batch
from server.strategy.actions import Action
from server.strategy.decision import SAFE_DEFAULT, Terms

MAGIC = b"D"
LENGTH = struct.Struct("<I")
ENCODED = ("shopper_vector", "item_index", "item_prob")

Record = dict[str, object]
Columns = dict[str, NDArray[np.generic]]


def block_of(batch: Batch, rows: NDArray[np.int64]) -> bytes:
    """Some rows of a batch: what was known, every eligible action with its propensity, and the choice.

    rows  (n,) int64  at least one
    """
    seen, menu, choice = batch.seen, batch.menu, batch.choice
    asks = [seen.asks[row] for row in rows.tolist()]
    panel = menu.panel[rows]
    shown, panel_item = np.unique(panel, return_inverse=True)
    columns: Columns = {
        "chosen": choice.chosen[rows].astype(np.int32),
        "is_exploration": choice.is_exploration[rows],
        "state_age_s": seen.state_age_s[rows],
        "vector_age_s": seen.vector_age_s[rows],
        "predictions_age_s": batch.predictions_age_s[rows],
        "eligible": menu.eligible[rows],
        "value_micros": menu.value_micros[rows],
        "cost_micros": menu.cost_micros[rows],
        "score_micros": choice.score_micros[rows],
        "propensity": choice.propensity[rows],
        "ad_category": menu.ad_category[rows].astype(np.int32),
        "panel_item": panel_item.reshape(panel.shape).astype(np.int32),
        "features": seen.features[rows],
        # The encoder's answer is all that the heads and the menu saw of the last events.
        **{name: seen.snapshot.encodings[name][rows] for name in ENCODED},
    }
    items = menu.catalogue.items.item_id
    header = _common(asks, batch.terms, batch.rung) | {
        "actions": [described(menu.action(0, column)) for column in range(1, menu.ad)],
        "categories": menu.catalogue.categories,
        "items": ["" if row < 0 else items[row] for row in shown.tolist()],
    }
    return _packed(header, columns)


def safe_block_of(asks: Sequence[Ask], terms: Terms) -> bytes:
    """Asks for which nothing is done, because there was no time for more."""
    return _packed(_common(asks, terms, "safe_default"), {})


def _common(asks: Sequence[Ask], terms: Terms, rung: str) -> Record:
    return {
        "decision_id": [ask.decision_id for ask in asks],
        "shopper_id": [ask.shopper_id for ask in asks],
        "decided_at_s": [ask.at_s for ask in asks],
        "shadow_price": terms.shadow_price,
        "explore_share": terms.explore_share,
        "release": terms.release,
        "plan_id": terms.plan_id,
        "rung": rung,
    }


def _packed(header: Record, columns: Columns) -> bytes:
    told = [(name, column.dtype.str, column.shape) for name, column in columns.items()]
    text = orjson.dumps(header | {"columns": told})
    return b"".join([MAGIC, LENGTH.pack(len(text)), text, *(column.tobytes() for column in columns.values())])


def described(action: Action) -> dict[str, object]:
    """An action in the log's words: the fields that belong to its kind."""
    named = {
        "kind": action.kind,
        "channel": action.channel,
        "offer_id": action.offer_id,
        "campaign_id": action.campaign_id,
        "category": action.category,
        "item_ids": list(action.item_ids),
    }
    return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Block:
    """A payload taken apart.

    header   what `block_of` wrote as JSON: ids and moments by row, what all rows share, the menu's names
    columns  (n_rows, ...)  by name; none for safe defaults
    """

    header: dict[str, Any]
    columns: dict[str, NDArray[Any]]

    def action(self, row: int, column: int) -> dict[str, Any]:
        """One column of the menu for one row, in the order of server.strategy.actions.Menu."""
        kind = self._kind(column)
        if kind == "offer":
            offer: dict[str, Any] = self.header["actions"][column - 1]
            return offer
        if kind == "ad":
            slot = int(self.columns["ad_category"][row])
            categories = self.header["categories"]
            return described(Action("ad", "ads", category=categories[slot] if slot < len(categories) else ""))
        if kind == "recommendations":
            items = [self.header["items"][item] for item in self.columns["panel_item"][row].tolist()]
            return described(Action("recommendations", "content", item_ids=tuple(item for item in items if item)))
        return described(Action("social", "social")) if kind == "social" else {"kind": "nothing"}

    def short_name(self, column: int) -> str:
        """What a column of the menu is called in a list of eligible actions: an offer's id, else its kind."""
        kind = self._kind(column)
        if kind != "offer":
            return kind
        offer = self.header["actions"][column - 1]
        return str(offer.get("offer_id", offer["kind"]))

    def _kind(self, column: int) -> str:
        n_offers = len(self.header["actions"])
        if column == 0:
            return "nothing"
        return "offer" if column <= n_offers else ("ad", "recommendations", "social")[column - 1 - n_offers]


def block_from(payload: bytes) -> Block:
    """A payload's columns, without a copy.

    payload  as `block_of` or `safe_block_of` wrote it
    """
    (n_text,) = LENGTH.unpack_from(payload, len(MAGIC))
    at = len(MAGIC) + LENGTH.size
    header = orjson.loads(payload[at : at + n_text])
    columns, at = dict[str, NDArray[Any]](), at + n_text
    for name, dtype, shape in header.pop("columns"):
        n_values = int(np.prod(shape))
        columns[name] = np.frombuffer(payload, dtype, n_values, at).reshape(shape)
        at += n_values * np.dtype(dtype).itemsize
    return Block(header, columns)


def rows_of(payload: bytes) -> Iterator[Record]:
    """The decisions in a payload, one record each.

    payload  as `block_of` or `safe_block_of` wrote it
    """
    block = block_from(payload)
    header = block.header
    named = zip(header["decision_id"], header["shopper_id"], header["decided_at_s"], strict=True)
    shared = {name: header[name] for name in ("shadow_price", "explore_share", "release", "plan_id", "rung")}
    for row, (decision_id, shopper_id, decided_at_s) in enumerate(named):
        record = {"decision_id": decision_id, "shopper_id": shopper_id, "decided_at_s": decided_at_s}
        yield record | shared | (_row(block, row) if block.columns else SAFE)


SAFE: Record = {
    "action": described(SAFE_DEFAULT.action),
    "value_micros": 0,
    "cost_micros": 0,
    "score_micros": 0,
    "propensity": 1.0,
    "is_exploration": False,
}


def _row(block: Block, row: int) -> Record:
    columns = block.columns
    chosen = int(columns["chosen"][row])
    open_columns = np.flatnonzero(columns["eligible"][row])
    return {
        "action": block.action(row, chosen),
        "value_micros": int(columns["value_micros"][row, chosen]),
        "cost_micros": int(columns["cost_micros"][row, chosen]),
        "score_micros": round(float(columns["score_micros"][row, chosen])),
        "propensity": float(columns["propensity"][row, chosen]),
        "is_exploration": bool(columns["is_exploration"][row]),
        "state_age_s": int(columns["state_age_s"][row]),
        "vector_age_s": float(columns["vector_age_s"][row]),
        "predictions_age_s": float(columns["predictions_age_s"][row]),
        "eligible": {
            "action": [block.short_name(column) for column in open_columns.tolist()],
            "value_micros": columns["value_micros"][row, open_columns].tolist(),
            "cost_micros": columns["cost_micros"][row, open_columns].tolist(),
            "propensity": columns["propensity"][row, open_columns].tolist(),
        },
        "features": _text(columns["features"][row]),
        "encoding": {name: _text(columns[name][row]) for name in ENCODED},
    }


def _text(values: NDArray[np.generic]) -> str:
    return b2a_base64(values.tobytes(), newline=False).decode()
