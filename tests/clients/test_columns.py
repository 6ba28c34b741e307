"""Columns are rows: out of a message, through numpy, put behind each other and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem.v1 import strategy_pb2
from stratagem_client import Decisions, Refused, Row, WrongUse
from stratagem_client.batches import Batch, batch_of, packed
from stratagem_client.columns import columns_of, joined, unanswered

from tests.clients.shop_rows import DECIDED, UNKNOWN, ShopRow, action_message, columns_message

MICROS = st.integers(-(2**62), 2**62)
names = st.text(min_size=1, max_size=12)
actions = st.one_of(st.just(("nothing", "")), st.tuples(st.just("offer"), st.sampled_from(["o1", "o2", "ö3"])))


@st.composite
def shop_rows(draw: st.DrawFn) -> ShopRow:
    """One row as a gateway may answer it; only recommendations show items."""
    items = tuple(draw(st.lists(st.sampled_from(["milk", "bread", "Käse", "tea"]), max_size=3)))
    return ShopRow(
        shopper_id=draw(names),
        is_known=draw(st.booleans()),
        action=("recommendations", "") if items else draw(actions),
        item_ids=items,
        value_micros=draw(MICROS),
        cost_micros=draw(st.integers(0, 2**62)),
        score_micros=draw(MICROS),
        propensity=draw(st.floats(0, 1, exclude_min=True)),
        runner_up=draw(actions),
        runner_up_score_micros=draw(MICROS),
        rung=draw(st.sampled_from([strategy_pb2.RUNG_FULL, strategy_pb2.RUNG_CACHED, strategy_pb2.RUNG_SAFE_DEFAULT])),
        state_age_s=draw(st.integers(0, 2**40)),
    )


def expected(row: ShopRow, decision_id: str) -> Row:
    """What the client must make of a row; of an unknown shopper's only the id and the status count."""
    if not row.is_known:
        nothing = strategy_pb2.Action()
        return Row(row.shopper_id, decision_id, UNKNOWN, nothing, 0, 0, 0, 0.0, nothing, 0, 0, 0, "EUR")
    action = action_message(row.action)
    action.item_ids.extend(row.item_ids)
    economics = (row.value_micros, row.cost_micros, row.score_micros, row.propensity)
    runner_up = (action_message(row.runner_up), row.runner_up_score_micros)
    return Row(row.shopper_id, decision_id, DECIDED, action, *economics, *runner_up, row.rung, row.state_age_s, "EUR")


@settings(deadline=None)  # this machine is shared
@given(rows=st.lists(shop_rows(), min_size=1, max_size=12), rows_per_message=st.integers(1, 13))
def test_rows_come_back_out_of_columns_however_they_were_split(rows: list[ShopRow], rows_per_message: int) -> None:
    batch = batch_of([row.shopper_id for row in rows], rows_per_message, None, "b")
    parts = []
    for first in range(0, len(rows), rows_per_message):
        part = rows[first : first + rows_per_message]
        parts.append(columns_of(columns_message(part, "b", shadow_price=first % 2), len(part)))
    decisions = Decisions(batch, joined(parts), ())
    wanted = [expected(row, batch.decision_id(place)) for place, row in enumerate(rows)]
    assert list(decisions) == wanted
    prices = [decisions.columns.terms[index].shadow_price for index in decisions.columns.terms_index]
    assert prices == [(place // rows_per_message * rows_per_message) % 2 for place in range(len(rows))]
    pieces = [decisions.columns[first : first + 2] for first in range(0, len(rows), 2)]
    assert list(Decisions(batch, joined(pieces), ())) == wanted


@settings(deadline=None)  # this machine is shared
@given(shopper_ids=st.lists(names, min_size=1, max_size=30))
def test_packed_ids_come_back_out(shopper_ids: list[str]) -> None:
    keys, ends = packed(shopper_ids)
    assert [keys[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)] == shopper_ids
    assert ends.dtype == np.uint32


def test_rows_without_an_answer_stand_between_the_others() -> None:
    row = ShopRow("s", action=("offer", "o1"), value_micros=5, propensity=0.5)
    parts = [unanswered(2), columns_of(columns_message([row], "b.1"), 1), unanswered(1)]
    decisions = Decisions(Batch(["a", "b", "s", "d"], "b", 2), joined(parts), ())
    assert [found.status for found in decisions] == [0, 0, DECIDED, 0]
    assert [found.in_words() for found in decisions] == [
        "a: no answer yet",
        "b: no answer yet",
        "s: send the offer o1 (0.0000 EUR more margin expected for 0.00 EUR)",
        "d: no answer yet",
    ]


@pytest.mark.parametrize(
    ("spoilt", "complaint"),
    [
        ({"value_micros": [1]}, "value_micros must have 2 entries, got 1"),
        ({"action_index": [0, 7]}, "action_index must point into actions"),
        ({"item_offsets": [0, 1]}, "item_offsets must have 3 entries, got 2"),
        ({"item_offsets": [0, 2, 1]}, "item_offsets must ascend"),
        ({"item_index": [9]}, "item_index must point into item_ids"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_an_answer_that_breaks_its_contract_is_refused(spoilt: dict[str, list[int]], complaint: str) -> None:
    rows = [ShopRow("a"), ShopRow("b", action=("recommendations", ""), item_ids=("milk",))]
    answer = columns_message(rows, "b")
    for name, numbers in spoilt.items():
        del getattr(answer, name)[:]
        getattr(answer, name).extend(numbers)
    with pytest.raises(Refused, match=complaint):
        columns_of(answer, 2)


@pytest.mark.parametrize(
    ("shopper_ids", "time_s", "batch_id", "complaint"),
    [
        ([], None, None, "shopper_ids must have at least one row"),
        (["a"], None, "", "batch_id must be 1 to 170 bytes, got 0"),
        (["a"], [1, 2], None, "time_s must be one moment or one per row, got 2 for 1 rows"),
    ],
)
def test_a_batch_out_of_range_is_refused(shopper_ids: list[str], time_s: object, batch_id: str, complaint: str) -> None:
    with pytest.raises(WrongUse, match=complaint):
        batch_of(shopper_ids, 10, time_s, batch_id)


def test_an_id_out_of_range_is_named_by_its_row() -> None:
    with pytest.raises(WrongUse, match=r"shopper_ids must be 1 to 200 bytes each, got 201 \(row 11\)"):
        packed(["a", "ä" * 100 + "b"], first_row=10)
