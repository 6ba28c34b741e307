"""A client's bucket against its definition, and what is remembered against its bounds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.access.gate import Principal
from server.access.rates import DEBT_S, Bucket
from server.access.recent import Recent
from server.problems import InvalidRequest, RateExceeded

# Quarters of a second and whole rates: sums of floats are then exact, so twin and bucket must agree to the bit.
QUARTERS = st.integers(0, 400).map(lambda quarters: quarters / 4)
TAKES = st.lists(st.tuples(QUARTERS, st.integers(0, 500)), max_size=60)
RATES = st.sampled_from([1, 2, 8, 64])
BURSTS = st.integers(1, 300)


@dataclass
class Twin:
    """The definition: a level recounted from the very first take, every time."""

    rate_per_s: int
    burst: int
    paid: list[tuple[Fraction, int]] = field(default_factory=list)

    def level(self, now_s: Fraction) -> Fraction:
        level, at_s = Fraction(self.burst), Fraction(0)
        for time_s, n in self.paid:
            level = min(Fraction(self.burst), level + (time_s - at_s) * self.rate_per_s) - n
            at_s = time_s
        return min(Fraction(self.burst), level + (now_s - at_s) * self.rate_per_s)

    def take(self, n: int, now_s: Fraction) -> Fraction:
        lacking = min(n, self.burst) - self.level(now_s)
        if lacking <= 0:
            self.paid.append((now_s, n))
        return max(Fraction(0), lacking / self.rate_per_s)


@settings(deadline=None)  # this machine is shared
@given(rate_per_s=RATES, burst=BURSTS, takes=TAKES)
def test_a_bucket_equals_its_definition(rate_per_s: int, burst: int, takes: list[tuple[float, int]]) -> None:
    bucket, twin, now_s = Bucket(rate_per_s, burst, 0.0), Twin(rate_per_s, burst), 0.0
    for passed_s, n in takes:
        now_s += passed_s
        expected = float(twin.take(n, Fraction(now_s)))
        assert bucket.take(n, now_s) == expected


@settings(deadline=None)  # this machine is shared
@given(rate_per_s=RATES, burst=BURSTS, takes=TAKES)
def test_nobody_gets_more_than_burst_and_rate_and_one_batch(
    rate_per_s: int, burst: int, takes: list[tuple[float, int]]
) -> None:
    bucket, now_s, paid = Bucket(rate_per_s, burst, 0.0), 0.0, []
    for passed_s, n in takes:
        now_s += passed_s
        if bucket.take(n, now_s) == 0:
            paid.append((now_s, n))
    for first, (start_s, _) in enumerate(paid):
        # The window's last batch may be ahead of the rate: all before it may not.
        before_last = sum(n for _, n in paid[first:-1])
        if paid[first:-1]:
            assert before_last <= burst + rate_per_s * (paid[-1][0] - start_s)


@settings(deadline=None)  # this machine is shared
@given(rate_per_s=RATES, burst=BURSTS, takes=TAKES)
def test_rows_fit_after_the_wait_that_was_told_and_not_before(
    rate_per_s: int, burst: int, takes: list[tuple[float, int]]
) -> None:
    bucket, now_s = Bucket(rate_per_s, burst, 0.0), 0.0
    for passed_s, n in takes:
        now_s += passed_s
        wait_s = bucket.take(n, now_s)
        if wait_s > 0:
            assert bucket.take(n, now_s + wait_s / 2) > 0
            now_s += wait_s
            assert bucket.take(n, now_s) == 0


def test_part_of_a_row_is_no_row() -> None:
    bucket = Bucket(1.0, 1.0, 0.0)
    assert [bucket.take(1, now_s) for now_s in (0.0, 0.75, 0.875, 1.0)] == [0.0, 0.25, 0.125, 0.0]


def test_asking_how_long_takes_nothing() -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    assert [bucket.wait_s(5, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(5, 0.0) == 0.0
    assert bucket.wait_s(1, 0.0) == pytest.approx(0.1)


def test_an_earlier_time_neither_fills_nor_empties() -> None:
    bucket = Bucket(10.0, 10.0, 100.0)
    assert bucket.take(10, 100.0) == 0.0
    assert bucket.take(1, 40.0) == pytest.approx(0.1)
    assert bucket.take(1, 100.1) == 0.0


def test_a_batch_larger_than_the_burst_goes_into_a_debt_that_is_waited_off() -> None:
    caller = Principal("bidder", "key", frozenset(), Bucket(100.0, 50.0, 0.0))
    caller.take(1050, 0.0)  # 50 + 100 x DEBT_S: the most there is
    with pytest.raises(RateExceeded) as raised:
        caller.take(1, 0.0)
    assert raised.value.retry_after_s == pytest.approx(DEBT_S + 0.01)
    assert str(raised.value) == "a client must ask for ≤ 100 rows/s, got 1 more too early (client 'bidder')"


def test_a_batch_that_would_never_fit_is_the_callers_to_change() -> None:
    caller = Principal("bidder", "key", frozenset(), Bucket(100.0, 50.0, 0.0))
    with pytest.raises(InvalidRequest, match=r"must have ≤ 1050 rows .* got 1051 \(client 'bidder'\)"):
        caller.take(1051, 0.0)
    caller.take(1050, 0.0)


def test_without_a_rate_there_is_no_limit() -> None:
    Principal("bidder", "key", frozenset()).take(10**9)


def test_threads_together_get_what_there_is_and_no_more() -> None:
    bucket = Bucket(1.0, 5000.0, 0.0)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: bucket.take(1, 0.0) == 0, range(8000)))
    assert sum(taken) == 5000


@settings(deadline=None)  # this machine is shared
@given(keys=st.lists(st.integers(0, 40), max_size=300), most=st.integers(2, 30))
def test_what_is_remembered_is_recent_bounded_and_right(keys: list[int], most: int) -> None:
    recent: Recent[int, str] = Recent(most)
    for row, key in enumerate(keys):
        found = recent.get(key)
        assert found in (None, str(key))
        last = max((before for before in range(row) if keys[before] == key), default=None)
        if last is None:
            assert found is None
        elif len(set(keys[last + 1 : row])) < most // 2:
            assert found == str(key)
        if found is None:
            recent.put(key, str(key))
        assert len(recent) <= most


def test_who_is_used_again_and_again_is_never_forgotten() -> None:
    recent: Recent[str, int] = Recent(10)
    recent.put("hot", 1)
    for number in range(100):
        recent.put(f"cold-{number}", number)
        assert recent.get("hot") == 1
    assert recent.get("cold-0") is None
