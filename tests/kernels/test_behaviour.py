"""Behaviour sequences equal their definition, and the future stays out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import behaviour
from kernels.behaviour import Sequences, sequences_at
from kernels.checks import InvalidInput
from kernels.ledger import empty_ledger
from kernels.reference.behaviour import sequence_at
from tests.kernels.ledgers import EXAMPLES, START_S, Case, cases, ledger_from, order_line

BANDS = np.array([0, 1, 2, 3, 4], np.int8)


def rows(told: Sequences, row: int) -> tuple[list[int], ...]:
    """One row of every column."""
    return tuple(column[row].tolist() for column in (told.item, told.kind, told.gap, told.band))


@EXAMPLES
@given(case=cases(), length=st.sampled_from([1, 2, 5, 200]))
def test_sequences_equal_their_definition(case: Case, length: int) -> None:
    ledger = case.ledger
    told = sequences_at(ledger, BANDS, case.shopper, case.at_s, length)
    for row, (who, at_s) in enumerate(zip(case.shopper, case.at_s, strict=True)):
        own = slice(ledger.offsets[who], ledger.offsets[who + 1])
        columns = (ledger.time_s[own].tolist(), ledger.item[own].tolist(), ledger.kind[own].tolist())
        defined = sequence_at(list(zip(*columns, strict=True)), BANDS.tolist(), int(at_s), length)
        assert rows(told, row) == defined


def test_queries_may_come_in_any_order() -> None:
    ledger = ledger_from([order_line(START_S + at, item=at) for at in range(9)])
    at_s = START_S + np.array([7, 2, 5])
    told = sequences_at(ledger, BANDS, np.zeros(3, np.int64), at_s, 2)
    assert told.item.tolist() == [[6, 7], [1, 2], [4, 5]]


def test_many_queries_over_several_threads_give_each_its_own_row() -> None:
    ledger = ledger_from([order_line(START_S + at, item=at) for at in range(50)])
    at_s = START_S + np.arange(40_000) % 50
    told = sequences_at(ledger, BANDS, np.zeros(at_s.size, np.int64), at_s, 3)
    assert np.array_equal(told.item[:, -1], at_s - START_S)


@pytest.mark.parametrize(("gap_s", "bucket"), [(0, 1), (1, 2), (2, 3), (3, 3), (4, 4), (7, 4), (8, 5), (2**52, 54)])
def test_gaps_fall_into_buckets_that_double(gap_s: int, bucket: int) -> None:
    ledger = ledger_from([order_line(START_S - 2**51), order_line(START_S - 2**51 + gap_s)])
    told = sequences_at(ledger, BANDS, np.zeros(1, np.int64), np.array([2**52]), 3)
    assert told.gap.tolist() == [[0, 0, bucket]]
    assert bucket < behaviour.N_GAP_BUCKETS


def test_the_longest_gap_of_a_ledger_has_a_bucket() -> None:
    ledger = ledger_from([order_line(-(2**52)), order_line(2**52)])
    told = sequences_at(ledger, BANDS, np.zeros(1, np.int64), np.array([2**52]), 1)
    assert told.gap[0, 0] == behaviour.N_GAP_BUCKETS - 1


def test_a_shopper_without_events_has_zeros() -> None:
    told = sequences_at(empty_ledger(1), BANDS, np.zeros(1, np.int64), np.array([START_S]))
    assert told.item.shape == (1, behaviour.LENGTH)
    assert rows(told, 0) == ([0] * behaviour.LENGTH,) * 4


def test_doors_name_what_is_wrong() -> None:
    ledger, nobody = empty_ledger(1), np.ones(1, np.int64)
    with pytest.raises(InvalidInput, match=r"shopper must be in \[0, 1\), got 1"):
        sequences_at(ledger, BANDS, nobody, nobody)
    with pytest.raises(InvalidInput, match="length must be > 0, got 0"):
        sequences_at(ledger, BANDS, nobody - 1, nobody, 0)
    with pytest.raises(InvalidInput, match="band_of_item must have a band"):
        sequences_at(ledger, BANDS[:0], nobody - 1, nobody)
