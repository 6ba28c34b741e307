"""Twin of calendar_days: the standard library's own calendar and time zones."""

import calendar
import datetime
from collections.abc import Sequence
from zoneinfo import ZoneInfo

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def calendar_day(
    time_s: int, zone: str, holidays: Sequence[datetime.date], paydays: Sequence[int]
) -> tuple[int, int, bool, bool, int]:
    """Define one row of calendar_days.calendar_days.

    time_s    seconds since 1970 UTC
    zone      IANA name
    holidays  local dates
    paydays   days of the month, 1 to 31; beyond its end means its last day
    returns   hour, weekday (0 is Monday), weekend, holiday, days since the last payday (-1: there are none)
    """
    local = (_EPOCH + datetime.timedelta(seconds=time_s)).astimezone(ZoneInfo(zone))
    today = local.date()
    since = -1
    for days in range(62 if paydays else 0):
        day = today - datetime.timedelta(days=days)
        last = calendar.monthrange(day.year, day.month)[1]
        if day.day in [min(payday, last) for payday in paydays]:
            since = days
            break
    return local.hour, today.weekday(), today.weekday() >= 5, today in holidays, since
