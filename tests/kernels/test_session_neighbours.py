"""Neighbour sessions vote as their definition says, and one table of pairs holds what they know."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.checks import InvalidInput
from kernels.reference import neighbours
from kernels.session_neighbours import Kinship, SessionIndex, next_items, pair_table, session_index
from tests.kernels.ledgers import EXAMPLES

N_ITEMS = 7
SESSION = st.lists(st.integers(0, N_ITEMS - 1), max_size=6)
SESSIONS = st.lists(SESSION, max_size=8)
# Powers of a half and powers 0 and 1 are exact in any order, so that ties are ties in both.
KINSHIPS = st.builds(
    Kinship,
    n_neighbours=st.integers(1, 9),
    step_decay=st.sampled_from([0.5, 1.0]),
    rarity_power=st.just(0.0),
    age_sessions=st.just(1.0),
    length_power=st.just(0.0),
    distance_decay=st.sampled_from([0.5, 1.0]),
    before=st.sampled_from([0.0, 0.5, 1.0]),
    same=st.sampled_from([0.0, 1.5]),
)


def flat(sessions: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Plain lists as the door wants them."""
    items = np.array([item for session in sessions for item in session], np.int32)
    return items, np.cumsum([0, *(len(session) for session in sessions)])


def index_of(sessions: list[list[int]], n_recent: int = 0) -> SessionIndex:
    return session_index(*flat(sessions), N_ITEMS, n_recent)


@EXAMPLES
@given(sessions=SESSIONS, prefix=SESSION, kinship=KINSHIPS)
def test_votes_equal_their_definition(sessions: list[list[int]], prefix: list[int], kinship: Kinship) -> None:
    item, score = next_items(index_of(sessions), *flat([prefix]), kinship, N_ITEMS)
    defined = neighbours.next_item_votes(sessions, prefix, kinship)
    ranked = sorted(defined.items(), key=lambda pair: (-pair[1], pair[0]))
    assert item[0, : len(ranked)].tolist() == [found for found, _ in ranked]
    assert not item[0, len(ranked) :].any()
    assert score[0, : len(ranked)].tolist() == pytest.approx([vote for _, vote in ranked])


@EXAMPLES
@given(sessions=SESSIONS, prefix=SESSION)
def test_the_default_weights_equal_their_definition(sessions: list[list[int]], prefix: list[int]) -> None:
    item, score = next_items(index_of(sessions), *flat([prefix]), Kinship(), N_ITEMS)
    found = {int(i): s for i, s in zip(item[0], score[0], strict=True) if i}
    # The same terms in another order; with all sessions voting no tie decides.
    assert found == pytest.approx(neighbours.next_item_votes(sessions, prefix, Kinship()), rel=1e-12)


@EXAMPLES
@given(sessions=SESSIONS)
def test_pairs_equal_their_definition(sessions: list[list[int]]) -> None:
    table = pair_table(index_of(sessions), Kinship(), N_ITEMS)
    rows = np.repeat(np.arange(N_ITEMS), np.diff(table.offsets))
    found = dict(zip(zip(rows.tolist(), table.successor.tolist(), strict=True), table.weight.tolist(), strict=True))
    assert found == pytest.approx(neighbours.pair_weights(sessions, Kinship()), rel=1e-12)  # sums in another order


@EXAMPLES
@given(sessions=SESSIONS, item=st.integers(1, N_ITEMS - 1))
def test_a_prefix_of_one_item_scores_as_its_row_of_pairs(sessions: list[list[int]], item: int) -> None:
    index = index_of(sessions)
    table = pair_table(index, Kinship(), N_ITEMS)
    row = slice(table.offsets[item], table.offsets[item + 1])
    found, score = next_items(index, *flat([[item]]), Kinship(), N_ITEMS)
    others = (found[0] > 0) & (found[0] != item)
    assert dict(zip(found[0][others].tolist(), score[0][others].tolist(), strict=True)) == pytest.approx(
        dict(zip(table.successor[row].tolist(), table.weight[row].tolist(), strict=True)), rel=1e-12
    )


def test_the_most_recent_sessions_of_an_item_are_kept() -> None:
    index = index_of([[1, 2], [1, 3], [2, 1, 1]], n_recent=2)
    mine = slice(index.posting_offsets[1], index.posting_offsets[2])
    assert index.session[mine].tolist() == [2, 1]
    assert index.place[mine].tolist() == [2, 0]


def test_the_nearest_session_alone_votes() -> None:
    kinship = replace(Kinship(), n_neighbours=1)
    item, _ = next_items(index_of([[1, 2, 4], [2, 5]]), *flat([[1, 2]]), kinship, 5)
    assert item[0].tolist() == [2, 4, 1, 0, 0]


def test_what_nobody_knows_gets_no_votes() -> None:
    item, score = next_items(index_of([[1, 2]]), *flat([[], [0], [6], [1]]), Kinship(), 2)
    assert item.tolist() == [[0, 0], [0, 0], [0, 0], [1, 2]]
    assert not score[:3].any()
    empty, _ = next_items(index_of([]), *flat([[1, 2]]), Kinship(), 2)
    assert not empty.any()


def test_bad_weights_and_items_are_refused_by_name() -> None:
    index = index_of([[1, 2]])
    with pytest.raises(InvalidInput, match=r"step_decay must be in \(0, 1\], got 0"):
        next_items(index, *flat([[1]]), replace(Kinship(), step_decay=0.0))
    with pytest.raises(InvalidInput, match="n_neighbours must be ≥ 1, got 0"):
        pair_table(index, replace(Kinship(), n_neighbours=0), 3)
    with pytest.raises(InvalidInput, match=r"items must be in \[0, 7\), got 7"):
        next_items(index, *flat([[7]]), Kinship())
    with pytest.raises(InvalidInput, match="offsets must end with n_events 1, got 2"):
        session_index(np.array([1], np.int32), np.array([0, 2]), N_ITEMS)
