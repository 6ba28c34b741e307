"""Velocity equals its definition, one event at a time gives the same rows, and the future stays out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.checks import InvalidInput
from kernels.reference import velocity as twin
from kernels.velocity import MOST_SHOPPERS, RING, KeyedEvents, Velocity, apply_event, empty_state, velocity
from tests.kernels.ledgers import EXAMPLES, START_S

HOUR_S, DAY_S = 3_600, 86_400
GAPS_S = st.sampled_from([0, 0, 1, HOUR_S - 1, HOUR_S, DAY_S - 1, DAY_S, 7 * DAY_S, 30 * DAY_S]) | st.integers(0, 2**40)
EVENTS = st.lists(st.tuples(GAPS_S, st.integers(0, 3), st.integers(0, 10**9)), max_size=25)


def keyed(keys: list[list[tuple[int, int, int]]]) -> KeyedEvents:
    """Events (gap, shopper, spend) of each key."""
    lines = [
        (START_S + sum(gap_s for gap_s, _, _ in key[: at + 1]), shopper, spend)
        for key in keys
        for at, (_, shopper, spend) in enumerate(key)
    ]
    columns = np.array(lines, np.int64).reshape(-1, 3)
    return KeyedEvents(np.cumsum([0, *map(len, keys)]), *np.ascontiguousarray(columns.T))


def rows_of(told: Velocity, rows: slice) -> list[tuple[list[int], list[int], int, str]]:
    """Rows as the twin writes them; NaN as text, which equals itself."""
    columns = (told.n_events, told.spend_micros, told.n_shoppers, told.since_previous_s)
    return [
        (*told_row, str(np.float32(since)))
        for *told_row, since in zip(*(c[rows].tolist() for c in columns), strict=True)
    ]


def defined_rows(events: KeyedEvents, rows: slice) -> list[tuple[list[int], list[int], int, str]]:
    """The same from the definition."""
    columns = (events.time_s[rows].tolist(), events.shopper[rows].tolist(), events.spend_micros[rows].tolist())
    return [(counts, spends, n, str(np.float32(since))) for counts, spends, n, since in twin.velocity(*columns)]


def one_by_one(events: KeyedEvents, rows: slice) -> list[tuple[list[int], list[int], int, str]]:
    """The same from one key's state."""
    state, told = empty_state(), []
    for row in range(rows.start, rows.stop):
        line = (column[row].item() for column in (events.time_s, events.shopper, events.spend_micros))
        told += rows_of(apply_event(state, *line), slice(0, 1))
    return told


@EXAMPLES
@given(keys=st.lists(EVENTS, max_size=3))
def test_velocity_equals_its_definition_and_the_state(keys: list[list[tuple[int, int, int]]]) -> None:
    events = keyed(keys)
    told = velocity(events)
    for first, end in zip(events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True):
        rows = slice(first, end)
        assert rows_of(told, rows) == defined_rows(events, rows) == one_by_one(events, rows)


@EXAMPLES
@given(key=EVENTS, n_known=st.integers(0, 25))
def test_later_events_change_no_earlier_row(key: list[tuple[int, int, int]], n_known: int) -> None:
    known = key[:n_known]
    assert rows_of(velocity(keyed([known])), slice(0, len(known))) == rows_of(
        velocity(keyed([key])), slice(0, len(known))
    )


def test_a_busy_key_saturates_alike_in_batch_and_state() -> None:
    key = [(1 if at % 7 else 0, at % (MOST_SHOPPERS + 9), at) for at in range(RING + 300)]
    events, rows = keyed([key]), slice(0, RING + 300)
    told = velocity(events)
    assert told.n_events[-1].tolist() == [RING] * 4
    assert told.n_shoppers[-1] == MOST_SHOPPERS
    assert rows_of(told, rows) == one_by_one(events, rows)
    last = events.spend_micros[-1 - RING : -1].sum()
    assert told.spend_micros[-1].tolist() == [last] * 4


def test_a_window_opens_after_its_length() -> None:
    told = velocity(keyed([[(0, 0, 5), (HOUR_S - 1, 0, 7), (1, 1, 0)]]))
    assert told.n_events[:, 0].tolist() == [0, 1, 1]
    assert told.spend_micros[:, 0].tolist() == [0, 5, 7]
    assert told.n_shoppers.tolist() == [0, 1, 1]


def test_many_keys_over_several_threads_give_each_its_own_rows() -> None:
    keys = [[(at % 50, at % 3, at) for at in range(n_events)] for n_events in (9, 0, 4, 17) * 1_500]
    events = keyed(keys)
    told = velocity(events)
    for key in (0, 2, 3, 2_999, 5_998, 5_999):
        rows = slice(*events.offsets[key : key + 2].tolist())
        assert rows_of(told, rows) == defined_rows(events, rows)


@pytest.mark.parametrize(
    ("offsets", "time_s", "spend", "sentence"),
    [
        ([0, 2], [5, 4], [0, 0], "time_s must ascend within a key"),
        ([0, 1], [5, 4], [0, 0], "offsets must end with n_events 2, got 1"),
        ([0, 2], [4, 5], [0], "spend_micros must have n_events 2 values, got 1"),
        ([0, 2], [4, 5], [0, -3], "spend_micros must be ≥ 0, got -3"),
        ([0, 2], [4, 5], [0, 10**16], "spend_micros must be ≤"),
    ],
)
def test_a_broken_column_is_refused(offsets: list[int], time_s: list[int], spend: list[int], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        KeyedEvents(np.array(offsets), np.array(time_s), np.zeros(2, np.int64), np.array(spend))


def test_a_state_refuses_impossible_spend() -> None:
    with pytest.raises(InvalidInput, match="spend_micros must be in"):
        apply_event(empty_state(), START_S, 0, -1)
