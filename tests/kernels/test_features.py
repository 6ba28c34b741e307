"""All features together: offline equals online bit for bit, the future stays out, and the doors speak."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import features
from kernels.checks import InvalidInput
from kernels.features import (
    FEATURES,
    N_FEATURES,
    N_STATE,
    apply_event,
    empty_state,
    features_at,
    read_states,
    states_of,
)
from kernels.ledger import COLUMNS, ORDER, Ledger, empty_ledger, ledger_of
from tests.kernels.ledgers import EXAMPLES, START_S, Case, cases, ledger_from, ledgers, order_line

LINE = (START_S, ORDER, 3, 5, 77, 1.0, 2_000_000, 0, 0)


def replayed(ledger: Ledger, shopper: int, until_s: int) -> np.ndarray:
    """The state that serving would hold after a shopper's events up to a time."""
    state = empty_state()
    for row in range(ledger.offsets[shopper], ledger.offsets[shopper + 1]):
        if ledger.time_s[row] <= until_s:
            apply_event(state, *(getattr(ledger, name)[row].item() for name in COLUMNS))
    return state


@EXAMPLES
@given(case=cases())
def test_offline_and_online_features_are_equal_bit_for_bit(case: Case) -> None:
    offline, offline_history = features_at(case.ledger, case.shopper, case.at_s)
    states = [replayed(case.ledger, who, at_s) for who, at_s in zip(case.shopper, case.at_s, strict=True)]
    online, online_history = read_states(np.array(states).reshape(-1, N_STATE), case.at_s)
    assert offline.tobytes() == online.tobytes()
    assert np.array_equal(offline_history, online_history)


@EXAMPLES
@given(ledger=ledgers())
def test_states_of_a_ledger_are_those_of_its_events_one_by_one(ledger: Ledger) -> None:
    one_by_one = [replayed(ledger, who, 2**52) for who in range(ledger.n_shoppers)]
    assert states_of(ledger).tobytes() == np.array(one_by_one).tobytes()


@EXAMPLES
@given(case=cases())
def test_later_events_change_no_earlier_feature(case: Case) -> None:
    whole, _ = features_at(case.ledger, case.shopper, case.at_s)
    owner = np.repeat(np.arange(case.ledger.n_shoppers), np.diff(case.ledger.offsets))
    for row, at_s in enumerate(case.at_s):
        past = case.ledger.time_s <= at_s
        known = {name: getattr(case.ledger, name)[past] for name in COLUMNS}
        ledger = ledger_of(owner[past], case.ledger.n_shoppers, known)
        alone, _ = features_at(ledger, case.shopper[row : row + 1], case.at_s[row : row + 1])
        assert np.array_equal(whole[row], alone[0])


@EXAMPLES
@given(ledger=ledgers(max_events=10), late_s=st.integers(0, 10**7))
def test_a_late_event_counts_as_if_it_came_with_the_last_one(ledger: Ledger, late_s: int) -> None:
    late, with_last = replayed(ledger, 0, 2**52), replayed(ledger, 0, 2**52)
    last_s = int(ledger.time_s[ledger.offsets[1] - 1]) if ledger.offsets[1] else START_S
    apply_event(with_last, last_s, *LINE[1:])
    apply_event(late, last_s - late_s if ledger.offsets[1] else last_s, *LINE[1:])
    assert np.array_equal(late, with_last)


def test_a_state_read_before_its_last_event_is_read_at_it() -> None:
    state = empty_state()
    apply_event(state, *LINE)
    early, at_it = (read_states(state[None, :], np.array([START_S - gap_s]))[0] for gap_s in (10**6, 0))
    assert np.array_equal(early, at_it)


def test_a_state_survives_its_bytes() -> None:
    state = replayed(ledger_from([order_line(START_S + day * 86_400, order=day) for day in range(9)]), 0, 2**52)
    read_only = np.frombuffer(state.tobytes()).reshape(1, -1)
    at_s = np.array([START_S + 10**6])
    assert np.array_equal(read_states(read_only, at_s)[0], read_states(state[None, :], at_s)[0])


def test_without_events_every_feature_has_its_neutral_value() -> None:
    computed, history = features_at(empty_ledger(1), np.zeros(1, np.int64), np.array([START_S]))
    neutral = [f.neutral for f in FEATURES if f.dtype == "float32" for _ in range(f.width)]
    assert computed[0].tolist() == neutral
    assert not history.any()


def test_a_read_of_no_states_returns_no_rows() -> None:
    computed, history = read_states(np.zeros((0, N_STATE)), np.zeros(0, np.int64))
    assert (computed.shape, history.shape) == ((0, N_FEATURES), (0, features.HISTORY))


def test_columns_are_named_once_each() -> None:
    names = features.columns()
    assert len(names) == len(set(names)) == N_FEATURES
    assert "category_recency_days[12]" in names
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (5, float("nan"), "quantity must be in"),
        (1, 9, r"kind must be in \[1, 6\], got 9"),
        (3, 64, r"category must be in \[-1, 63\], got 64"),
        (6, -3, "paid_micros must be in .*, got -3"),
        (4, 2**60, "order must be in"),
    ],
)
def test_an_event_out_of_range_is_refused_and_changes_nothing(place: int, value: float, sentence: str) -> None:
    state = replayed(ledger_from([order_line(START_S)]), 0, 2**52)
    before = state.copy()
    line = [value if at == place else given for at, given in enumerate(LINE)]
    with pytest.raises(InvalidInput, match=sentence):
        apply_event(state, *line)
    assert np.array_equal(state, before)


def test_a_state_of_another_release_is_refused() -> None:
    with pytest.raises(InvalidInput, match=f"state must have N_STATE {N_STATE} slots, got 7"):
        apply_event(np.zeros(7), *LINE)
    with pytest.raises(InvalidInput, match=f"states must have N_STATE {N_STATE} slots, got 7"):
        read_states(np.zeros((1, 7)), np.zeros(1, np.int64))


def test_a_state_that_may_not_be_written_is_refused() -> None:
    with pytest.raises(InvalidInput, match="state must be writable"):
        apply_event(np.frombuffer(empty_state().tobytes()), *LINE)


def test_a_state_with_nan_is_refused() -> None:
    with pytest.raises(InvalidInput, match="states must be finite"):
        read_states(np.full((1, N_STATE), np.nan), np.zeros(1, np.int64))
