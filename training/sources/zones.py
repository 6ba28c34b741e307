"""Local clock times in, seconds UTC out, a whole column at a time; columns.py calls it."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from training.sources.tables import DAY_S

# Beyond these years no zone's rules are known, and a day as a datetime may not exist.
FIRST_DAY, LAST_DAY = -25_567, 47_481
EPOCH = datetime.datetime(1970, 1, 1)


def utc_seconds(local_s: pl.Series, zone: str) -> pl.Series:
    """Return when a zone's clocks showed these times.

    local_s  Int64  seconds since 1970 as if the clock were UTC's
    zone     IANA name
    returns  Int64  seconds UTC; of an hour that came twice the first; null for an hour that a change of clocks left out
    """
    if zone == "UTC" or not local_s.len():
        return local_s
    days = local_s.fill_null(0).to_numpy() // DAY_S
    first, last = max(int(days.min()), FIRST_DAY), min(int(days.max()), LAST_DAY)
    if first > last:
        return local_s
    ahead_s = _ahead_by_day(zone, first, last + 1)
    place = np.clip(days, first, last) - first
    # Zones change their clocks on a few days of a year; on any other, one offset holds from midnight to midnight.
    is_steady = ahead_s[place] == ahead_s[place + 1]
    seconds = local_s - pl.Series(ahead_s[place])
    if is_steady.all():
        return seconds
    rows = pl.Series(np.flatnonzero(~is_steady))
    exact = pl.from_epoch(local_s[rows], "s").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return seconds.scatter(rows, exact.dt.epoch("s"))


def _ahead_by_day(zone: str, first: int, last: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Seconds that a zone is ahead of UTC at each midnight."""
    place = ZoneInfo(zone)
    midnights = ((EPOCH + datetime.timedelta(days=day)).replace(tzinfo=place) for day in range(first, last + 1))
    return np.array([int(midnight.utcoffset().total_seconds()) for midnight in midnights], np.int64)  # type: ignore[union-attr]
