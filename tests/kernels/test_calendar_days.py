"""Local hours, days and paydays equal those of the standard library, and nothing outside the table is answered."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.calendar_days import DAY_S, NO_PAYDAY, Calendar, calendar_days, day_table
from kernels.checks import InvalidInput
from kernels.reference.calendar_days import calendar_day
from tests.kernels.ledgers import EXAMPLES

# The changes of two zones around one spring, written out so that kernels need no zoneinfo.
SPRING_S = int(datetime.datetime(2016, 3, 27, 1, tzinfo=datetime.UTC).timestamp())
AUTUMN_S = int(datetime.datetime(2016, 10, 30, 1, tzinfo=datetime.UTC).timestamp())
LORD_HOWE_S = int(datetime.datetime(2016, 4, 2, 15, tzinfo=datetime.UTC).timestamp())
LONDON = (np.array([SPRING_S, AUTUMN_S]), np.array([0, 3_600, 0]))
LORD_HOWE = (np.array([LORD_HOWE_S]), np.array([39_600, 37_800]))
CLOCKS = {"Europe/London": LONDON, "Australia/Lord_Howe": LORD_HOWE}
HOLIDAYS = [datetime.date(2016, 2, 29), datetime.date(2016, 3, 27), datetime.date(2016, 4, 3)]
EPOCH = datetime.date(1970, 1, 1)
# From January 2016 up to the second change of the clock on Lord Howe Island, in October.
FIRST_S, LAST_S = 1_451_606_400, 1_475_000_000
EDGES = [FIRST_S, LAST_S, *(at + step for at in (SPRING_S, LORD_HOWE_S) for step in (-DAY_S, -1, 0, 1, 3_600))]
PAYDAYS = st.sampled_from([(), (1,), (25,), (31,), (15, 31), (1, 15, 30)])


def calendar_of(zone: str, paydays: tuple[int, ...] = (1,)) -> Calendar:
    """A calendar of 2016 with the holidays above."""
    days_off = np.array([(day - EPOCH).days for day in HOLIDAYS])
    return Calendar(*CLOCKS[zone], days_off, np.array(paydays, np.int64))


@EXAMPLES
@given(
    zone=st.sampled_from(sorted(CLOCKS)),
    times=st.lists(st.sampled_from(EDGES) | st.integers(FIRST_S, LAST_S), min_size=1, max_size=20),
    paydays=PAYDAYS,
)
def test_local_days_equal_those_of_the_standard_library(zone: str, times: list[int], paydays: tuple[int, ...]) -> None:
    table = day_table(calendar_of(zone, paydays), min(times), max(times))
    told = calendar_days(table, np.array(times))
    columns = (told.hour, told.weekday, told.is_weekend, told.is_holiday, told.days_since_payday)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    assert rows == [calendar_day(time_s, zone, HOLIDAYS, paydays) for time_s in times]


@EXAMPLES
@given(time_s=st.integers(-(10**10), 10**10), offset_s=st.integers(-DAY_S + 1, DAY_S - 1))
def test_any_fixed_offset_and_any_age_has_its_hour_and_weekday(time_s: int, offset_s: int) -> None:
    nothing = np.zeros(0, np.int64)
    calendar = Calendar(nothing, np.array([offset_s]), nothing, nothing)
    told = calendar_days(day_table(calendar, time_s, time_s), np.array([time_s]))
    local = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=time_s + offset_s)
    assert (told.hour[0], told.weekday[0], told.days_since_payday[0]) == (local.hour, local.weekday(), NO_PAYDAY)


def test_each_event_alone_has_the_row_it_has_among_all() -> None:
    times = np.random.default_rng(0).integers(FIRST_S, LAST_S, 40_000)
    table = day_table(calendar_of("Europe/London", (15, 31)), FIRST_S, LAST_S)
    every = vars(calendar_days(table, times))
    for row in (0, 19_999, 20_000, 39_999):
        alone = vars(calendar_days(table, times[row : row + 1]))
        assert {name: column[0] for name, column in alone.items()} == {name: every[name][row] for name in every}


def test_every_second_around_midnight_is_on_its_own_day() -> None:
    nothing = np.zeros(0, np.int64)
    calendar = Calendar(nothing, np.zeros(1, np.int64), nothing, np.array([1]))
    midnights = np.arange(-400, 400) * DAY_S
    times = (midnights[:, None] + np.array([-1, 0, 1])).ravel()
    told = calendar_days(day_table(calendar, int(times.min()), int(times.max())), times)
    assert np.array_equal(told.hour, (times % DAY_S // 3_600).astype(np.int8))
    assert np.array_equal(told.weekday, ((times // DAY_S + 3) % 7).astype(np.int8))


def test_the_zones_written_out_here_are_those_of_the_database() -> None:
    for zone, (changes_s, _) in CLOCKS.items():
        for at in changes_s.tolist():
            offsets = [datetime.datetime.fromtimestamp(each, ZoneInfo(zone)).utcoffset() for each in (at - 1, at)]
            assert offsets[0] != offsets[1]


def test_a_time_outside_the_table_is_refused() -> None:
    table = day_table(calendar_of("Europe/London"), FIRST_S, LAST_S)
    for outside in (FIRST_S - 1, LAST_S + DAY_S, 2**52, -(2**52)):
        with pytest.raises(InvalidInput, match=r"time_s must be in .*, the table's days, got .* \(at \[1\]\)"):
            calendar_days(table, np.array([FIRST_S, outside]))


def test_no_events_have_no_rows() -> None:
    told = calendar_days(day_table(calendar_of("Europe/London"), 0, 0), np.zeros(0, np.int64))
    assert told.hour.size == 0


@pytest.mark.parametrize(
    ("transitions", "offsets", "paydays", "sentence"),
    [
        ([5, 5], [0, 1, 0], [1], "transitions_s must ascend"),
        ([5], [0], [1], "offsets_s must have 2 values, got 1"),
        ([], [DAY_S], [1], "offsets_s must be within a day, got 86400"),
        ([], [0], [32], r"paydays must be in \[1, 31\], got 32"),
        ([], [0], [2, 1], "paydays must ascend"),
    ],
)
def test_a_broken_calendar_is_refused(
    transitions: list[int], offsets: list[int], paydays: list[int], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Calendar(
            *(np.array(values, np.int64) for values in (transitions, offsets, [], paydays)),
        )


def test_a_table_of_too_many_days_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"latest_s must be within .* days"):
        day_table(calendar_of("Europe/London"), -(2**52), 2**52)
    with pytest.raises(InvalidInput, match="latest_s must be ≥ earliest_s 1, got 0"):
        day_table(calendar_of("Europe/London"), 1, 0)
