"""Returns are booked on lines exactly as their definition says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kernels.checks import InvalidInput
from kernels.reference import returns as reference
from kernels.returns import matched_returns
from tests.kernels.ledgers import EXAMPLES

Line = tuple[int, bool, int, float]
# Tenths do not add up in binary, which is what scales at a counter give.
UNITS = st.one_of(st.integers(0, 6).map(float), st.integers(0, 30).map(lambda tenths: tenths / 10))
LINES = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(-1, 3), UNITS), max_size=25)


def matched(lines: list[Line]) -> tuple[list[int], list[float]]:
    """What the kernel says of plain lines (group, is it a refund, order, quantity)."""
    line, units = matched_returns(
        np.array([line[0] for line in lines], np.int64),
        np.array([line[1] for line in lines], np.bool_),
        np.array([line[2] for line in lines], np.int64),
        np.array([line[3] for line in lines], np.float64),
    )
    return line.tolist(), units.tolist()


@EXAMPLES
@given(lines=LINES)
def test_returns_equal_their_definition(lines: list[Line]) -> None:
    lines = sorted(lines, key=lambda line: line[0])
    line, units = matched(lines)
    defined_line, defined_units = reference.matched_returns(*zip(*lines, strict=True)) if lines else ([], [])
    assert line == defined_line
    # The same differences in the same order; a line emptied to within 1e-9 may be closed with that left.
    assert_allclose(units, defined_units, rtol=0, atol=2e-9)


@EXAMPLES
@given(lines=LINES)
def test_no_line_gives_back_more_than_it_sold(lines: list[Line]) -> None:
    lines = sorted(lines, key=lambda line: line[0])
    _, units = matched(lines)
    for group in range(3):
        sold = sum(quantity for of, is_refund, _, quantity in lines if of == group and not is_refund)
        back = sum(taken for taken, (of, *_) in zip(units, lines, strict=True) if of == group)
        assert back <= sold + 1e-7  # at most 25 lines, each closed with no more than 1e-9 left


def test_no_lines_are_no_returns() -> None:
    assert matched([]) == ([], [])


def test_a_return_takes_the_latest_line_with_enough_units() -> None:
    assert matched([(0, False, 1, 5.0), (0, False, 2, 2.0), (0, True, -1, 3.0)]) == ([-1, -1, 0], [0.0, 0.0, 3.0])


def test_a_return_takes_several_lines_where_none_has_enough() -> None:
    assert matched([(0, False, 1, 2.0), (0, False, 2, 2.0), (0, True, -1, 3.0)]) == ([-1, -1, 1], [0.0, 0.0, 3.0])


def test_a_return_that_names_its_order_takes_that_order() -> None:
    assert matched([(0, False, 1, 2.0), (0, False, 2, 2.0), (0, True, 1, 1.0)]) == ([-1, -1, 0], [0.0, 0.0, 1.0])


def test_what_was_returned_cannot_be_returned_again() -> None:
    lines = [(0, False, 1, 1.0), (0, True, -1, 1.0), (0, True, -1, 1.0)]
    assert matched(lines) == ([-1, 0, -1], [0.0, 1.0, 0.0])


def test_a_return_before_the_order_or_of_another_group_is_unmatched() -> None:
    lines = [(0, True, -1, 1.0), (0, False, 1, 1.0), (1, True, -1, 1.0)]
    assert matched(lines) == ([-1, -1, -1], [0.0, 0.0, 0.0])


def test_a_return_of_money_alone_is_booked_on_the_latest_line() -> None:
    assert matched([(0, False, 1, 1.0), (0, False, 2, 1.0), (0, True, -1, 0.0)])[0] == [-1, -1, 1]


def test_three_thirds_give_back_the_whole() -> None:
    lines = [(0, False, 1, 1.0), *[(0, True, -1, 1 / 3)] * 3, (0, True, -1, 0.1)]
    assert matched(lines)[0] == [-1, 0, 0, 0, -1]


def test_descending_groups_and_unknown_quantities_are_refused() -> None:
    with pytest.raises(InvalidInput, match="group must ascend"):
        matched([(1, False, 1, 1.0), (0, False, 1, 1.0)])
    with pytest.raises(InvalidInput, match="quantity must be finite and ≥ 0, got nan"):
        matched([(0, False, 1, float("nan"))])
