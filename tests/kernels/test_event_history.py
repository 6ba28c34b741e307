"""What the encoder reads equals its definition, and rings hold bit for bit what ledgers tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.checks import InvalidInput
from kernels.event_history import (
    COLUMNS,
    LENGTH,
    RING,
    apply_event,
    history_at,
    price_steps,
    read_rings,
    rings_of,
)
from kernels.ledger import EXPOSURE, ORDER, VIEW, Ledger, empty_ledger
from kernels.reference.event_history import event_history
from tests.kernels.ledgers import EXAMPLES, START_S, Case, cases, ledger_from, ledgers, order_line


def rows_of(deeds: Ledger, shopper: np.ndarray, at_s: np.ndarray) -> list[list[tuple[int, ...]]]:
    """Events of each row, padding left out."""
    told = history_at(deeds, shopper, at_s)
    columns = [getattr(told, name) for name in COLUMNS]
    return [
        [tuple(int(column[row, place]) for column in columns) for place in np.flatnonzero(told.kind[row])]
        for row in range(shopper.size)
    ]


@EXAMPLES
@given(case=cases())
def test_history_equals_its_definition(case: Case) -> None:
    found = rows_of(case.ledger.deeds, case.shopper, case.at_s)
    defined = [
        event_history(case.ledger, int(who), int(at_s), LENGTH)
        for who, at_s in zip(case.shopper, case.at_s, strict=True)
    ]
    assert found == defined


@EXAMPLES
@given(ledger=ledgers())
def test_a_ring_filled_event_by_event_is_that_of_the_ledger(ledger: Ledger) -> None:
    deeds = ledger.deeds
    loaded = rings_of(deeds)
    for shopper in range(deeds.n_shoppers):
        ring = np.zeros(1, RING)
        for event in range(int(deeds.offsets[shopper]), int(deeds.offsets[shopper + 1])):
            listed = sum(
                int(getattr(deeds, name)[event]) for name in ("paid_micros", "discount_micros", "coupon_micros")
            )
            apply_event(
                ring, int(deeds.time_s[event]), int(deeds.kind[event]), int(deeds.item[event]),
                float(deeds.quantity[event]), listed,
            )  # fmt: skip
        assert ring.tobytes() == loaded[shopper : shopper + 1].tobytes()


def test_the_oldest_event_makes_room_and_the_latest_stands_last() -> None:
    lines = [order_line(START_S + 60 * at, item=at + 1, kind=VIEW, paid_micros=0) for at in range(LENGTH + 7)]
    told = read_rings(rings_of(ledger_from(lines).deeds)[:1])
    assert told.item[0].tolist() == list(range(8, LENGTH + 8))
    # Not the first event of the shopper, so its gap is known though the event before it is gone.
    assert set(told.gap_s[0].tolist()) == {60}


def test_a_late_event_counts_as_if_it_came_with_the_last_one() -> None:
    ring = np.zeros(1, RING)
    apply_event(ring, 1_000, ORDER, 5, 1.0, 2_000_000)
    apply_event(ring, 400, VIEW, 6, 0.0, 0)
    told = read_rings(ring)
    assert told.item[0, -2:].tolist() == [5, 6]
    assert told.gap_s[0, -2:].tolist() == [0, 0]
    assert ring["clock"].tolist() == [[2, 1_000]]


@pytest.mark.parametrize(
    ("listed_micros", "quantity", "step"),
    [(0, 1, 0), (1, 1, 1), (250_000, 1, 2), (353_000, 1, 2), (354_000, 1, 3), (500_000, 2, 2), (10**15, 1, 15)],
)
def test_prices_are_half_octaves_from_a_quarter_on(listed_micros: int, quantity: float, step: int) -> None:
    ledger = ledger_from([order_line(START_S, listed_micros, quantity=quantity)])
    assert price_steps(ledger).tolist() == [step]


def test_gaps_too_long_for_their_type_are_the_longest() -> None:
    ledger = ledger_from([order_line(-(2**52)), order_line(2**52)])
    assert history_at(ledger, np.zeros(1, np.int64), np.array([2**52])).gap_s[0, -1] == 2**31 - 1


def test_nobody_did_nothing() -> None:
    deeds = empty_ledger(2).deeds
    assert not history_at(deeds, np.array([1]), np.array([START_S])).kind.any()
    assert rings_of(deeds).tobytes() == np.zeros(2, RING).tobytes()
    assert read_rings(np.zeros(0, RING)).item.shape == (0, LENGTH)


@given(kind=st.sampled_from([0, EXPOSURE, 7]))
def test_what_is_no_deed_is_refused(kind: int) -> None:
    with pytest.raises(InvalidInput, match=r"kind must be in \[1, 4\]"):
        apply_event(np.zeros(1, RING), 0, kind, 0, 0.0, 0)


def test_an_unknown_shopper_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"shopper must be in \[0, 2\), got 2"):
        history_at(empty_ledger(2), np.array([2]), np.array([START_S]))
