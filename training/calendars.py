"""A shop's days, as its settings name them, become the plain arrays that kernels.calendar_days reads.

In: training.sources.tables.Days and the times of the events. Out: a kernels Calendar or the DayTable of those times.
The feature assembly calls it once for a shop.
"""

import datetime
from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
import numpy as np
from numpy.typing import NDArray

from kernels.calendar_days import DAY_S, Calendar, DayTable, day_table
from kernels.checks import InvalidInput, check
from training.sources.tables import Days

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# The years that the standard library's dates can tell, less one at each end for the zone's own shift.
_EARLIEST_YEAR, _LATEST_YEAR = 2, 9998


def shop_calendar(days: Days, first_year: int, last_year: int) -> Calendar:
    """Return the shop's clock and special days over whole years.

    days        as the shop's settings have them
    first_year  of local time
    last_year   of local time, ≥ first_year
    raises      InvalidInput  if the zone or country is unknown, a holiday is no date, a payday no day of a month, or a
                              year is beyond the calendar
    """
    for year in (first_year, last_year):
        check(
            _EARLIEST_YEAR <= year <= _LATEST_YEAR,
            f"events must be in the years {_EARLIEST_YEAR} to {_LATEST_YEAR}, got one in {year}",
        )
    changes = list(_changes(_zone(days.time_zone), first_year, last_year))
    return Calendar(
        np.array([change_s for change_s, _ in changes[1:]], np.int64),
        np.array([offset_s for _, offset_s in changes], np.int64),
        _days_off(days, first_year, last_year),
        np.array(sorted(set(days.paydays)), np.int64),
    )


def shop_days(days: Days, time_s: NDArray[np.int64]) -> DayTable:
    """Return the shop's calendar spread out over the days of some events; later events need a table of their own.

    days    as the shop's settings have them
    time_s  (n_events,) int64  seconds since 1970 UTC, in any order; none at all gives the table of 1970-01-01
    raises  InvalidInput       as shop_calendar does
    """
    earliest_s, latest_s = (int(time_s.min()), int(time_s.max())) if time_s.size else (0, 0)
    calendar = shop_calendar(days, _year(earliest_s - DAY_S), _year(latest_s + DAY_S))
    return day_table(calendar, earliest_s, latest_s)


def _year(time_s: int) -> int:
    return int(np.datetime64(time_s, "s").astype("datetime64[Y]").astype(np.int64)) + 1970


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise InvalidInput(f"time_zone must be an IANA name such as Europe/London, got {name!r}") from unknown


def _offset_s(zone: ZoneInfo, time_s: int) -> int:
    offset = (_EPOCH + datetime.timedelta(seconds=time_s)).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _changes(zone: ZoneInfo, first_year: int, last_year: int) -> Iterator[tuple[int, int]]:
    """Seconds from which an offset holds, and the offset; the first is the one that held before any change."""
    start = int(datetime.datetime(first_year - 1, 12, 31, tzinfo=datetime.UTC).timestamp())
    end = int(datetime.datetime(last_year + 1, 1, 2, tzinfo=datetime.UTC).timestamp())
    offset_s = _offset_s(zone, start)
    yield start, offset_s
    for day_s in range(start, end, DAY_S):
        after_s = _offset_s(zone, day_s + DAY_S)
        if after_s == offset_s:
            continue
        # zoneinfo says what holds at a time, not when it changes: halve the day until the second is found.
        before, change_s = day_s, day_s + DAY_S
        while change_s - before > 1:
            middle = (before + change_s) // 2
            if _offset_s(zone, middle) == offset_s:
                before = middle
            else:
                change_s = middle
        yield change_s, after_s
        offset_s = after_s


def _days_off(days: Days, first_year: int, last_year: int) -> NDArray[np.int64]:
    dates = {_date(text) for text in days.holidays}
    if days.country:
        known = holidays.list_supported_countries()
        check(days.country in known, f"country must be an ISO 3166 code with known holidays, got {days.country!r}")
        dates |= set(holidays.country_holidays(days.country, years=range(first_year - 1, last_year + 2)))
    return np.array(sorted(dates), "datetime64[D]").astype(np.int64)


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as no_date:
        raise InvalidInput(f"holidays must be ISO 8601 dates such as 2024-11-29, got {text!r}") from no_date
