"""Percentiles are what they are called, and no wait hides behind a generator that waited too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.load.arrivals import Phase, drawn_shoppers, poisson_arrivals
from server.load.latencies import Timeline, joined, latency_figures, percentile

seconds = st.floats(0.0, 100.0, width=32)


@given(arrays(np.float64, st.integers(1, 300), elements=seconds), st.sampled_from([0.001, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: np.ndarray, share: float) -> None:
    found = percentile(np.sort(values), share)
    covered = [value for value in values.tolist() if np.count_nonzero(values <= value) >= round(share * values.size, 9)]
    assert found == min(covered)


def test_figures_of_a_hundred_calls() -> None:
    figures = latency_figures(np.arange(100, 0, -1) / 1e3)
    assert figures["min_ms"] == pytest.approx(1.0)
    assert figures["p50_ms"] == pytest.approx(50.0)
    assert figures["p99_ms"] == pytest.approx(99.0)
    assert figures["p999_ms"] == figures["max_ms"] == pytest.approx(100.0)
    assert np.isnan(latency_figures(np.zeros(0))["p99_ms"])


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=100))
def test_a_generator_that_waits_for_answers_reports_what_one_that_does_not_would(
    calls: list[tuple[float, float]],
) -> None:
    """One server, one call at a time: when a call ends is the same whoever queues, and so is the wait."""
    intended = np.cumsum([gap for gap, _ in calls])
    ended, sent, free = [], [], 0.0
    for arrives, (_, takes) in zip(intended.tolist(), calls, strict=True):
        sent.append(max(arrives, free))
        free = sent[-1] + takes
        ended.append(free)
    patient = Timeline(intended, np.array(sent), np.array(ended))
    eager = Timeline(intended, intended, np.array(ended))
    np.testing.assert_array_equal(patient.latency_s, eager.latency_s)
    assert (patient.service_s <= patient.latency_s).all()


def test_a_stall_is_in_the_latency_of_every_call_that_should_have_gone_out_during_it() -> None:
    intended = np.arange(100) / 100  # a hundred a second; the server stalls for the first second
    waited = Timeline(intended, np.maximum(intended, 1.0), np.maximum(intended, 1.0) + 0.001)
    assert latency_figures(waited.latency_s)["p50_ms"] == pytest.approx(501)
    assert latency_figures(waited.service_s)["p50_ms"] == pytest.approx(1.0)
    assert waited.is_generator_bound


def test_a_punctual_generator_is_not_the_bottleneck() -> None:
    intended = np.arange(1_000) / 100
    sent = intended + 0.001
    sent[:5] += 1.0  # fewer than one in a hundred
    assert not Timeline(intended, sent, sent + 0.01).is_generator_bound


def test_generators_are_joined_in_the_order_of_their_calls() -> None:
    one = Timeline(np.array([0.0, 2.0]), np.array([0.0, 2.0]), np.array([5.0, 6.0]))
    other = Timeline(np.array([1.0]), np.array([1.5]), np.array([1.75]))
    both = joined([one, other])
    assert both.intended_s.tolist() == [0.0, 1.0, 2.0]
    assert both.ended_s.tolist() == [5.0, 1.75, 6.0]


def test_arrivals_are_poisson() -> None:
    moments = poisson_arrivals([Phase(1_000.0, 50.0)], np.random.default_rng(3))
    gaps = np.diff(moments)
    assert (gaps >= 0).all()
    assert moments.size == pytest.approx(50_000, abs=4 * 50_000**0.5)  # four standard deviations
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # an exponential's deviation is its mean


def test_phases_follow_each_other() -> None:
    moments = poisson_arrivals([Phase(100.0, 10.0), Phase(500.0, 10.0)], np.random.default_rng(3))
    first, second = np.count_nonzero(moments < 10), np.count_nonzero(moments >= 10)
    assert first == pytest.approx(1_000, abs=130)
    assert second == pytest.approx(5_000, abs=290)
    assert moments.max() < 20


def test_shoppers_are_drawn_evenly_or_by_rank() -> None:
    rng = np.random.default_rng(4)
    even = np.bincount(drawn_shoppers(100_000, 10, 0.0, rng), minlength=10)
    assert even.min() > 9_500
    crowded = np.sort(np.bincount(drawn_shoppers(100_000, 10, 1.0, rng), minlength=10))[::-1]
    assert crowded[0] / crowded[1] == pytest.approx(2.0, rel=0.05)
    assert crowded[0] / crowded[9] == pytest.approx(10.0, rel=0.1)
