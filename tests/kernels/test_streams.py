"""Per-event columns equal their definitions, and one event at a time gives the very same bits."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from kernels import decays, moments, streams, visits
from kernels.checks import InvalidInput
from kernels.ledger import EXPOSURE, ORDER, REFUND, VIEW, Ledger, empty_ledger
from kernels.powers import power_of_two
from kernels.reference import streams as twin
from tests.kernels.ledgers import EXAMPLES, START_S, ledger_from, ledgers, order_line

HALF_LIVES_S = st.sampled_from([1.0, 3_600.0, 7 * 86_400.0, 1e9])


def shoppers(ledger: Ledger) -> list[slice]:
    """The rows of each shopper."""
    return [slice(int(a), int(b)) for a, b in zip(ledger.offsets[:-1], ledger.offsets[1:], strict=True)]


def with_unknowns(ledger: Ledger, seed: int) -> NDArray[np.float64]:
    """The ledger's amounts, one in four of them unknown."""
    unknown = np.random.default_rng(seed).uniform(size=ledger.n_events) < 0.25
    return np.where(unknown, np.nan, ledger.paid_micros.astype(np.float64))


def same_bits(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether two arrays are equal bit for bit, NaN included."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


@EXAMPLES
@given(ledger=ledgers())
def test_gaps_and_counts_equal_their_definitions(ledger: Ledger) -> None:
    gap_s, counts = streams.gaps_s(ledger), streams.kind_counts(ledger)
    for rows in shoppers(ledger):
        assert np.array_equal(gap_s[rows], np.array(twin.gaps_s(ledger.time_s[rows].tolist()), np.float32), True)
        assert counts[rows].tolist() == twin.kind_counts(ledger.kind[rows].tolist())


@EXAMPLES
@given(ledger=ledgers(), seed=st.integers(0, 99))
def test_spend_and_its_moments_equal_their_definitions(ledger: Ledger, seed: int) -> None:
    amount = with_unknowns(ledger, seed)
    spend, (mean, std) = streams.running_spend(ledger, amount), moments.running_moments(ledger, amount)
    for rows in shoppers(ledger):
        kinds, amounts = ledger.kind[rows].tolist(), amount[rows].tolist()
        # Whole micros below 2^53 add up without rounding.
        assert np.array_equal(spend[rows], twin.running_spend(kinds, amounts), equal_nan=True)
        defined = np.array(twin.running_moments(kinds, amounts)).reshape(-1, 2)
        # 30 steps of at most three roundings each; the deviation of equal amounts is their rounding alone.
        assert_allclose(mean[rows], defined[:, 0], rtol=1e-14)
        assert_allclose(std[rows], defined[:, 1], rtol=1e-12, atol=1e-6)


@EXAMPLES
@given(ledger=ledgers(), seed=st.integers(0, 99), half_life_s=HALF_LIVES_S)
def test_decayed_sums_equal_their_definition(ledger: Ledger, seed: int, half_life_s: float) -> None:
    amount = with_unknowns(ledger, seed)
    count, spend = decays.decayed_sums(ledger, amount, half_life_s)
    for rows in shoppers(ledger):
        events = (ledger.time_s[rows].tolist(), ledger.kind[rows].tolist(), amount[rows].tolist())
        defined = np.array(twin.decayed_sums(*events, half_life_s)).reshape(-1, 2)
        # Kept as float32: half a unit in the last place is 6e-8. Orders less refunds may leave the rounding of 1e9.
        assert_allclose(count[rows], defined[:, 0], rtol=1e-7)
        assert_allclose(spend[rows], defined[:, 1], rtol=1e-7, atol=1e-4)


@EXAMPLES
@given(ledger=ledgers(), gap_s=st.sampled_from([0, 1, 1_799, 1_800, 86_400, 2**40]))
def test_sessions_of_events_equal_their_definition(ledger: Ledger, gap_s: int) -> None:
    columns = visits.session_columns(ledger, gap_s)
    for rows in shoppers(ledger):
        defined = twin.session_columns(ledger.time_s[rows].tolist(), ledger.kind[rows].tolist(), gap_s)
        assert columns[rows].tolist() == defined


@EXAMPLES
@given(ledger=ledgers(), seed=st.integers(0, 99), half_life_s=HALF_LIVES_S, gap_s=st.integers(0, 4_000))
def test_one_event_at_a_time_gives_the_very_same_rows(
    ledger: Ledger, seed: int, half_life_s: float, gap_s: int
) -> None:
    amount = with_unknowns(ledger, seed)
    batch = running(ledger, amount, half_life_s, gap_s)
    rows = []
    for shopper in shoppers(ledger):
        running_state, moments_state, decays_state = (kernel.empty_state() for kernel in (streams, moments, decays))
        visit_state = visits.empty_state()
        for row in range(shopper.start, shopper.stop):
            time_s, kind, paid = ledger.time_s[row].item(), ledger.kind[row].item(), amount[row].item()
            rows.append(
                np.concatenate(
                    [
                        streams.apply_event(running_state, time_s, kind, paid),
                        moments.apply_event(moments_state, kind, paid),
                        decays.apply_event(decays_state, time_s, kind, paid, half_life_s),
                        visits.apply_event(visit_state, time_s, kind, gap_s),
                    ]
                )
            )
    assert same_bits(np.array(rows).reshape(batch.shape) + 0.0, batch + 0.0)


def running(ledger: Ledger, amount: NDArray[np.float64], half_life_s: float, gap_s: int) -> NDArray[np.float64]:
    """Every per-event column side by side; float64 holds each value of each of them."""
    columns = [
        streams.gaps_s(ledger),
        *streams.kind_counts(ledger).T,
        streams.running_spend(ledger, amount),
        *moments.running_moments(ledger, amount),
        *decays.decayed_sums(ledger, amount, half_life_s),
        *visits.session_columns(ledger, gap_s).T,
    ]
    return np.stack([column.astype(np.float64) for column in columns], axis=1)


@EXAMPLES
@given(ledger=ledgers(), seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
def test_later_events_change_no_earlier_row(ledger: Ledger, seed: int, share: float) -> None:
    amount = with_unknowns(ledger, seed)
    n_known = [rows.start + int(share * (rows.stop - rows.start)) for rows in shoppers(ledger)]
    kept = np.concatenate([np.arange(rows.start, n) for rows, n in zip(shoppers(ledger), n_known, strict=True)])
    lengths = [n - rows.start for rows, n in zip(shoppers(ledger), n_known, strict=True)]
    columns = {name: column[kept] for name, column in vars(ledger).items() if name != "offsets"}
    past = Ledger(np.cumsum([0, *lengths]), **columns)
    whole = running(ledger, amount, 86_400.0, 1_800)
    assert same_bits(running(past, amount[kept], 86_400.0, 1_800), whole[kept])


def test_a_ledger_over_several_threads_gives_the_rows_of_its_shoppers() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([70_000, 0, 1, 40_000, 3, 0])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    lines = [order_line(START_S, kind=VIEW)]
    n_events = int(offsets[-1])
    small = ledger_from(lines)
    columns = {name: np.repeat(column, n_events) for name, column in vars(small).items() if name != "offsets"}
    columns["time_s"] = START_S + np.concatenate([np.cumsum(rng.integers(0, 4_000, size)) for size in sizes])
    columns["kind"] = rng.integers(1, 7, n_events).astype(np.int8)
    ledger = Ledger(offsets, **columns)
    whole = running(ledger, ledger.paid_micros, 3_600.0, 1_800)
    for rows in shoppers(ledger):
        own = {name: column[rows] for name, column in columns.items()}
        alone = Ledger(np.array([0, rows.stop - rows.start]), **own)
        assert same_bits(running(alone, alone.paid_micros, 3_600.0, 1_800), whole[rows])


@pytest.mark.parametrize("unit", [1, 10**5])
def test_moments_of_large_close_amounts_are_exact(unit: int) -> None:
    amounts = [10**9 + step for step in range(4)]
    ledger = ledger_from([order_line(START_S + at, amount * unit) for at, amount in enumerate(amounts)])
    mean, std = moments.running_moments(ledger, ledger.paid_micros)
    assert mean[-1] == (10**9 + 1.5) * unit
    assert std[-1] == math.sqrt(1.25 * unit * unit)


def test_a_long_sample_keeps_its_spread() -> None:
    values = np.tile([10**12 - 1, 10**12 + 1], 2_000)
    ledger = ledger_from([order_line(START_S + at, int(value)) for at, value in enumerate(values)])
    mean, std = moments.running_moments(ledger, ledger.paid_micros)
    # Each step rounds the mean to 2^-13 micros; over 4000 steps of 1 / n the spread of 1 moves in the seventh digit.
    assert mean[-1] == pytest.approx(1e12, abs=1e-3)
    assert std[-1] == pytest.approx(1.0, abs=1e-3)


def test_an_unknown_amount_is_told_and_left_out_later() -> None:
    ledger = ledger_from([order_line(START_S + at) for at in range(3)])
    amount = np.array([2.0, np.nan, 4.0])
    assert np.array_equal(streams.running_spend(ledger, amount), [2.0, np.nan, 6.0], equal_nan=True)
    mean, std = moments.running_moments(ledger, amount)
    assert np.array_equal(mean, [2.0, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(std, [0.0, np.nan, 1.0], equal_nan=True)


def test_a_view_shows_what_stood_before_it() -> None:
    ledger = ledger_from(
        [order_line(START_S + at, 5, kind=kind) for at, kind in enumerate([VIEW, ORDER, VIEW, REFUND])]
    )
    assert streams.running_spend(ledger, ledger.paid_micros).tolist() == [0.0, 5.0, 5.0, 0.0]
    assert np.array_equal(moments.running_moments(ledger, ledger.paid_micros)[0], [np.nan, 5, 5, 5], equal_nan=True)


def test_an_event_is_half_worth_after_a_half_life_and_nothing_after_ages() -> None:
    ledger = ledger_from([order_line(START_S + after_s, 8) for after_s in (0, 3_600, 2**51)])
    count, spend = decays.decayed_sums(ledger, ledger.paid_micros, 3_600.0)
    assert (count.tolist(), spend.tolist()) == ([1.0, 1.5, 1.0], [8.0, 12.0, 8.0])


def test_a_contact_stays_out_of_the_visit() -> None:
    ledger = ledger_from(
        [order_line(START_S + at, kind=kind) for at, kind in ((0, EXPOSURE), (1, VIEW), (9_000, EXPOSURE))]
    )
    assert visits.session_columns(ledger).tolist() == [[0] * 6, [1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 0, 0]]


@EXAMPLES
@given(powers=st.lists(st.floats(-1_100.0, 0.0) | st.floats(-2.0, 0.0), max_size=20))
def test_powers_of_two_are_within_a_unit_in_the_last_place(powers: list[float]) -> None:
    computed = power_of_two(np.array(powers, np.float64))
    for power, worth in zip(powers, computed.tolist(), strict=True):
        true = math.exp2(power)
        # Below the normal numbers there are fewer digits to be right in.
        assert abs(worth - true) <= (math.ulp(true) if power > -1_021.0 else 2.0**-1_021)


def test_powers_of_two_have_their_edges() -> None:
    computed = power_of_two(np.array([0.0, -1.0, -1_020.0, -5_000.0, -np.inf, np.nan]))
    assert computed[:3].tolist() == [1.0, 0.5, 2.0**-1_020]
    assert np.array_equal(computed[3:], [0.0, 0.0, np.nan], equal_nan=True)


def test_bands_of_unknown_items_are_unknown() -> None:
    item, bands = np.array([2, 0, 7, 1], np.int32), np.array([0, 3, 5], np.int8)
    assert streams.price_bands(item, bands).tolist() == twin.price_bands(item.tolist(), bands.tolist()) == [5, 0, 0, 3]


def test_a_ledger_without_events_has_no_rows() -> None:
    ledger = empty_ledger(3)
    assert running(ledger, np.zeros(0), 1.0, 1).shape == (0, 18)


def test_doors_name_what_is_wrong() -> None:
    ledger = ledger_from([order_line(START_S)])
    with pytest.raises(InvalidInput, match="amount must have n_events 1 values, got 2"):
        streams.running_spend(ledger, np.zeros(2))
    with pytest.raises(InvalidInput, match=r"amount must be NaN or in \[.*\], got inf"):
        moments.running_moments(ledger, np.array([np.inf]))
    with pytest.raises(InvalidInput, match="amount must be float64, got float32"):
        moments.running_moments(ledger, np.zeros(1, np.float32))  # type: ignore[arg-type]
    for half_life_s in (0.0, math.inf, math.nan):
        with pytest.raises(InvalidInput, match="half_life_s must be > 0 and finite"):
            decays.decayed_sums(ledger, ledger.paid_micros, half_life_s)
    with pytest.raises(InvalidInput, match="gap_s must be ≥ 0, got -1"):
        visits.session_columns(ledger, -1)
    with pytest.raises(InvalidInput, match=r"kind must be in \[1, 6\], got 9"):
        streams.apply_event(streams.empty_state(), START_S, 9, 0.0)
    with pytest.raises(InvalidInput, match="band_of_item must have a band for item 0"):
        streams.price_bands(np.zeros(1, np.int32), np.zeros(0, np.int8))
    assert replace(ledger).n_events == 1
