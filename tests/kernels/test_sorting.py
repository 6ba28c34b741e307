"""Events are sorted as numpy's own sort would, whichever way they come and however many threads do it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import features, parallel, sorting
from kernels.features import features_at, states_of
from kernels.ledger import COLUMNS, Ledger, ledger_of
from tests.kernels.ledgers import EXAMPLES

N_SHOPPERS = 5
TIMES_S = st.sampled_from([-5, 0, 1, 2, 2**33]) | st.integers(-(2**52), 2**52)
EVENTS = st.lists(
    st.tuples(st.integers(0, N_SHOPPERS - 1), TIMES_S, st.integers(1, 6), st.integers(0, 3)), max_size=200
)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of any size, on two threads; back to what it was afterwards."""
    monkeypatch.setattr(parallel, "LEAST_EVENTS", 1)
    monkeypatch.setattr(features, "LEAST_EVENTS", 1)
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 2)


def random_ledger(n_events: int, n_shoppers: int, n_seconds: int) -> Ledger:
    """Events in no order, many of them in the same second."""
    draw = np.random.default_rng(3)
    columns = {name: draw.integers(0, 4, n_events).astype(dtype) for name, dtype in COLUMNS.items()}
    columns["time_s"], columns["kind"] = draw.integers(0, n_seconds, n_events), columns["kind"] + np.int8(1)
    return ledger_of(draw.integers(0, n_shoppers, n_events), n_shoppers, columns)


@EXAMPLES
@given(events=EVENTS)
def test_places_are_those_of_lexsort(events: list[tuple[int, int, int, int]]) -> None:
    shopper, time_s, kind, order = np.array(events, np.int64).reshape(-1, 4).T.copy()
    offsets = sorting.offsets_of(shopper, N_SHOPPERS)
    places = sorting.sorted_places(shopper, offsets, time_s, kind.astype(np.int8), order)
    assert places.tolist() == np.lexsort((order, kind, time_s, shopper)).tolist()
    keys = shopper[places], time_s[places], kind.astype(np.int8)[places], order[places]
    assert sorting.is_sorted(*keys)
    assert sorting.is_sorted(shopper, time_s, kind.astype(np.int8), order) == (events == sorted(events))


def test_a_thousand_lines_of_one_second_are_sorted_by_order() -> None:
    order = np.random.default_rng(1).integers(0, 50, 1_000)
    zeros = np.zeros(1_000, np.int64)
    places = sorting.sorted_places(zeros, np.array([0, 1_000]), zeros, np.ones(1_000, np.int8), order)
    assert places.tolist() == np.argsort(order, kind="stable").tolist()


def test_blocks_do_every_owner_once(two_threads: None) -> None:
    offsets = np.concatenate(([0], np.cumsum([0, 5, 0, 100, 1, 1, 50, 43, 0])))
    done = np.zeros(9, np.int64)

    def work(first: int, end: int) -> None:
        done[first:end] += 1

    parallel.in_blocks(offsets, work)
    assert done.tolist() == [1] * 9


def test_no_owners_need_no_work(two_threads: None) -> None:
    runs: list[tuple[int, int]] = []
    parallel.in_blocks(np.zeros(1, np.int64), lambda first, end: runs.append((first, end)))
    assert sum(end - first for first, end in runs) == 0


def test_threads_change_no_bit(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = random_ledger(3_000, 40, 10_000)
    shopper = np.repeat(np.arange(40), 3)
    at_s = np.tile(np.array([2_000, 2_000, 9_000]), 40)
    together, states = features_at(ledger, shopper, at_s), states_of(ledger)
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 1)
    alone = features_at(ledger, shopper, at_s)
    assert [part.tobytes() for part in together] == [part.tobytes() for part in alone]
    assert states.tobytes() == states_of(ledger).tobytes()


def test_a_fault_in_a_block_reaches_the_caller(two_threads: None) -> None:
    def work(first: int, end: int) -> None:
        raise ZeroDivisionError(f"{first} to {end}")

    with pytest.raises(ZeroDivisionError):
        parallel.in_blocks(np.arange(10), work)
