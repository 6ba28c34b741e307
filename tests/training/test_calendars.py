"""A shop's settings become the calendar that the standard library and the list of public holidays know."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.calendar_days import calendar_days
from kernels.checks import InvalidInput
from kernels.reference.calendar_days import calendar_day
from tests.kernels.ledgers import EXAMPLES
from training.calendars import shop_calendar, shop_days
from training.sources.tables import Days

# A zone on each side of UTC, one of half an hour's change, one that skipped a day, one with seconds before 1937.
ZONES = ["UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
TIMES = st.one_of(
    st.integers(-4 * 10**9, 4 * 10**9),
    st.sampled_from([0, -1, 951_782_399, 951_782_400, 1_325_200_000, 1_459_036_799, 1_459_036_800, 2**31 - 1, 2**31]),
)


@EXAMPLES
@given(zone=st.sampled_from(ZONES), time_s=TIMES, near_s=st.integers(-90_000, 90_000))
def test_every_event_stands_where_the_zone_puts_it(zone: str, time_s: int, near_s: int) -> None:
    days = Days(zone, holidays=("2000-02-29", "2011-12-31"), paydays=(15, 31))
    times = np.array([time_s, time_s + near_s])
    told = calendar_days(shop_days(days, times), times)
    dates = [datetime.date.fromisoformat(text) for text in days.holidays]
    for row, at_s in enumerate(times.tolist()):
        columns = (told.hour, told.weekday, told.is_weekend, told.is_holiday, told.days_since_payday)
        assert tuple(column[row].item() for column in columns) == calendar_day(at_s, zone, dates, days.paydays)


def test_later_events_change_no_earlier_day() -> None:
    days = Days("Europe/London", "GB", paydays=(25,))
    times = np.arange(1_262_304_000, 1_325_376_000, 40_003)
    whole, past = calendar_days(shop_days(days, times), times), calendar_days(shop_days(days, times[:300]), times[:300])
    for name, column in vars(past).items():
        assert np.array_equal(column, vars(whole)[name][:300])


def test_a_country_has_its_public_holidays() -> None:
    times = np.array([np.datetime64(day, "s").astype(np.int64) for day in ("2024-07-04T16", "2024-07-05T16")])
    told = calendar_days(shop_days(Days("America/New_York", "US"), times), times)
    assert told.is_holiday.tolist() == [True, False]


def test_a_payday_beyond_the_end_of_a_month_is_its_last_day() -> None:
    times = np.array([np.datetime64(day, "s").astype(np.int64) for day in ("2023-02-28", "2024-02-28", "2024-02-29")])
    told = calendar_days(shop_days(Days(paydays=(31,)), times), times)
    assert told.days_since_payday.tolist() == [0, 28, 0]


def test_a_shop_without_events_has_a_calendar() -> None:
    assert shop_days(Days(), np.zeros(0, np.int64)).slots.shape == (24,)


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (Days("Europe/Londn"), "time_zone must be an IANA name such as Europe/London, got 'Europe/Londn'"),
        (Days(""), "time_zone must be an IANA name"),
        (Days("../../etc/passwd"), "time_zone must be an IANA name"),
        (Days(country="XX"), "country must be an ISO 3166 code with known holidays, got 'XX'"),
        (Days(holidays=("29.11.2024",)), "holidays must be ISO 8601 dates such as 2024-11-29, got '29.11.2024'"),
        (Days(paydays=(0,)), r"paydays must be in \[1, 31\], got 0"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(days: Days, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        shop_calendar(days, 2020, 2021)


def test_events_beyond_the_calendar_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"events must be in the years 2 to 9998, got one in \d+"):
        shop_days(Days(), np.array([0, 2**52]))
