"""The transition table equals its definition, and so do the scores it gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kernels import reference
from kernels.checks import InvalidInput
from kernels.transitions import Transitions, heaviest, scores, transitions, without
from tests.kernels.ledgers import EXAMPLES

N_ITEMS = 7
SEQUENCES = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=15), max_size=5)


def flat(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Plain lists as items and offsets."""
    items = np.array([item for sequence in sequences for item in sequence], np.int32)
    return items, np.cumsum([0, *(len(sequence) for sequence in sequences)])


def table_of(sequences: list[list[int]], window: int = 8, n_kept: int = 0) -> Transitions:
    """The table of plain lists."""
    return transitions(*flat(sequences), N_ITEMS, window, n_kept)


def pairs_of(table: Transitions) -> dict[tuple[int, int], float]:
    """A table as its twin writes it."""
    rows = np.repeat(np.arange(table.n_items), np.diff(table.offsets))
    return dict(zip(zip(rows.tolist(), table.successor.tolist(), strict=True), table.weight.tolist(), strict=True))


@EXAMPLES
@given(sequences=SEQUENCES, window=st.integers(1, 9))
def test_table_equals_its_definition(sequences: list[list[int]], window: int) -> None:
    counted, defined = pairs_of(table_of(sequences, window)), reference.transitions(sequences, window)
    assert counted.keys() == defined.keys()
    for pair, weight in defined.items():
        assert counted[pair] == pytest.approx(weight, rel=1e-12)  # the same few terms, added in another order


@EXAMPLES
@given(sequences=SEQUENCES, n_kept=st.integers(1, 4))
def test_a_row_keeps_its_heaviest_successors_first(sequences: list[list[int]], n_kept: int) -> None:
    whole, kept = table_of(sequences), table_of(sequences, n_kept=n_kept)
    for item in range(N_ITEMS):
        row = slice(whole.offsets[item], whole.offsets[item + 1])
        ranked = sorted(zip(-whole.weight[row], whole.successor[row], strict=True))
        assert list(zip(-whole.weight[row], whole.successor[row], strict=True)) == ranked
        of_kept = slice(kept.offsets[item], kept.offsets[item + 1])
        assert kept.successor[of_kept].tolist() == [successor for _, successor in ranked[:n_kept]]


@EXAMPLES
@given(
    sequences=SEQUENCES,
    history=st.lists(st.integers(0, N_ITEMS - 1), max_size=6),
    decay=st.sampled_from([0.7, 1.0]),
    row_power=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_scores_equal_their_definition(
    sequences: list[list[int]], history: list[int], decay: float, row_power: float
) -> None:
    scored = scores(table_of(sequences), np.array([history], np.int32), decay, row_power)
    weight = reference.transitions(sequences, 8)
    defined = reference.next_item_scores(weight, history, N_ITEMS, decay, row_power)
    assert_allclose(scored[0], defined, rtol=1e-6)  # float32 keeps 6e-8; up to six of them are added


@EXAMPLES
@given(sequences=SEQUENCES, erased=SEQUENCES, window=st.integers(1, 22))
def test_a_table_without_sequences_is_the_table_of_the_others(
    sequences: list[list[int]], erased: list[list[int]], window: int
) -> None:
    left = without(table_of([*sequences, *erased], window), *flat(erased), window)
    rest = table_of(sequences, window)
    # Bit for bit: a remainder of 1e-17 would still say that somebody made the pair.
    assert left.offsets.tolist() == rest.offsets.tolist()
    assert left.successor.tolist() == rest.successor.tolist()
    assert left.weight.tolist() == rest.weight.tolist()
    assert pairs_of(left).keys() == reference.transitions(sequences, window).keys()


@EXAMPLES
@given(sequences=SEQUENCES, n_kept=st.integers(1, 4))
def test_a_whole_table_is_cut_as_one_that_was_counted_so(sequences: list[list[int]], n_kept: int) -> None:
    cut, counted = heaviest(table_of(sequences), n_kept), table_of(sequences, n_kept=n_kept)
    assert cut.offsets.tolist() == counted.offsets.tolist()
    assert cut.successor.tolist() == counted.successor.tolist()
    assert cut.weight.tolist() == counted.weight.tolist()


def test_what_a_table_does_not_hold_cannot_be_taken_out() -> None:
    with pytest.raises(InvalidInput, match="got one that it lacks"):
        without(table_of([[1, 2]]), *flat([[2, 1]]))
    with pytest.raises(InvalidInput, match="got one that it counts less often"):
        without(table_of([[1, 2]]), *flat([[1, 2], [1, 2]]))


def test_no_sequences_make_an_empty_table() -> None:
    assert table_of([]).successor.size == 0
    assert not scores(table_of([]), np.array([[1, 2]], np.int32)).any()


def test_a_sequence_does_not_lead_into_the_next() -> None:
    assert pairs_of(table_of([[1], [2]])) == {}


def test_an_item_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"items must be in \[0, 7\), got 7"):
        table_of([[1, 7]])
    with pytest.raises(InvalidInput, match=r"item_history must be in \[0, 7\), got -1"):
        scores(table_of([]), np.array([[-1]], np.int32))
