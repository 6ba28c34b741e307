"""Where in the shop's own day, week and month each event stands: hour, weekday, weekend, holiday, days since payday.

In: times and a Calendar of plain arrays, which training.calendars makes of a shop's zone and country. Out: five
columns. A DayTable holds what is the same for a whole day, so that an event costs two look-ups and no search; made
once, it serves batches and single events alike.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, plain
from kernels.parallel import row_edges, spread

DAY_S = 86_400
# Ten thousand years; an event further off is a fault of its source.
MOST_DAYS = 3_652_425
NO_PAYDAY = -1
_SATURDAY = 5


@dataclass(frozen=True)
class Calendar:
    """A shop's clock and special days as plain arrays.

    transitions_s  (n_transitions,) int64      UTC seconds from which the next offset holds, ascending, one a UTC day
    offsets_s      (n_transitions + 1,) int64  local time less UTC: before the first transition, then from each on
    holidays       (n_holidays,) int64         local days since 1970-01-01, ascending
    paydays        (n_paydays,) int64          days of the month, 1 to 31, ascending; beyond its end is its last day
    raises         InvalidInput                if an array has another type, order or range
    """

    transitions_s: NDArray[np.int64]
    offsets_s: NDArray[np.int64]
    holidays: NDArray[np.int64]
    paydays: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check every array once; the loops behind it trust them."""
        for name in ("transitions_s", "offsets_s", "holidays", "paydays"):
            check_array(name, getattr(self, name), np.int64)
        for name in ("holidays", "paydays"):
            check(bool((np.diff(getattr(self, name)) >= 0).all()), f"{name} must ascend")
        check(
            bool((np.diff(self.transitions_s // DAY_S) > 0).all()),
            "transitions_s must ascend and stand on different UTC days",
        )
        n_offsets = self.transitions_s.size + 1
        check(self.offsets_s.size == n_offsets, f"offsets_s must have {n_offsets} values, got {self.offsets_s.size}")
        check_each("offsets_s", self.offsets_s, np.abs(self.offsets_s) < DAY_S, "within a day")
        check_each("paydays", self.paydays, (self.paydays >= 1) & (self.paydays <= 31), "in [1, 31]")


@dataclass(frozen=True)
class DayTable:
    """A Calendar spread out over a range of days.

    first_day  the first UTC day it answers for, since 1970-01-01
    clock      (n_days, 3) int32     of each UTC day: offset at its start, offset at its end, second of the change
    about      (n_days + 2,) int32   of each local day from the one before first_day on: days since payday × 64,
                                     + 32 at a weekend, + 16 on a holiday, + weekday
    """

    first_day: int
    clock: NDArray[np.int32]
    about: NDArray[np.int32]


@dataclass(frozen=True)
class DayColumns:
    """Where each event stands, in local time.

    hour                (n_events,) int8   0 to 23
    weekday             (n_events,) int8   0 is Monday
    is_weekend          (n_events,) bool   Saturday or Sunday
    is_holiday          (n_events,) bool
    days_since_payday   (n_events,) int8   0 on a payday; NO_PAYDAY where there are none
    """

    hour: NDArray[np.int8]
    weekday: NDArray[np.int8]
    is_weekend: NDArray[np.bool_]
    is_holiday: NDArray[np.bool_]
    days_since_payday: NDArray[np.int8]


def day_table(calendar: Calendar, earliest_s: int, latest_s: int) -> DayTable:
    """Return the calendar spread out over all days from one time to another.

    calendar    of the shop
    earliest_s  seconds since 1970 UTC
    latest_s    seconds since 1970 UTC, ≥ earliest_s
    returns     a DayTable for times in between
    raises      InvalidInput  if the times descend or are more than MOST_DAYS apart
    """
    check(earliest_s <= latest_s, f"latest_s must be ≥ earliest_s {earliest_s}, got {latest_s}")
    first_day, n_days = earliest_s // DAY_S, latest_s // DAY_S - earliest_s // DAY_S + 1
    check(n_days <= MOST_DAYS, f"latest_s must be within {MOST_DAYS} days of earliest_s {earliest_s}, got {latest_s}")
    starts = (first_day + np.arange(n_days, dtype=np.int64)) * DAY_S
    place = np.searchsorted(calendar.transitions_s, starts, side="right")
    change = np.append(calendar.transitions_s, np.iinfo(np.int64).max)[place]
    is_today = change - starts < DAY_S
    after = np.where(is_today, calendar.offsets_s[np.minimum(place + 1, calendar.offsets_s.size - 1)], 0)
    clock = np.zeros((n_days, 3), np.int32)
    clock[:, 0] = calendar.offsets_s[place]
    clock[:, 1] = np.where(is_today, after, clock[:, 0])
    clock[:, 2] = np.where(is_today, change - starts, DAY_S)
    return DayTable(first_day, clock, _about(calendar, first_day - 1, n_days + 2))


def calendar_days(table: DayTable, time_s: NDArray[np.int64]) -> DayColumns:
    """Return where each time stands in the shop's day, week and month.

    table    of the shop's calendar
    time_s   (n_events,) int64  seconds since 1970 UTC, in any order
    returns  DayColumns
    raises   InvalidInput       if a time is outside the table's days
    source   reference.calendar_days
    """
    check_array("time_s", time_s, np.int64)
    numbers = np.empty((3, time_s.size), np.int8)
    claims = np.empty((2, time_s.size), np.bool_)
    edges = row_edges(time_s.size)
    outside = np.zeros(edges.size - 1, np.int64)
    _place(edges, plain(time_s), table.first_day * DAY_S, table.clock, table.about, numbers, claims, outside)
    if outside.any():
        last_day = table.first_day + table.clock.shape[0]
        inside = (time_s >= table.first_day * DAY_S) & (time_s < last_day * DAY_S)
        check_each("time_s", time_s, inside, f"in [{table.first_day * DAY_S}, {last_day * DAY_S}), the table's days")
    return DayColumns(numbers[0], numbers[1], claims[0], claims[1], numbers[2])


def _about(calendar: Calendar, first_day: int, n_days: int) -> NDArray[np.int32]:
    day = first_day + np.arange(n_days, dtype=np.int64)
    date = day.astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    # A month's own length is the day before the next one's first, counted from its first.
    start, next_start = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]")
    length = (next_start - start).astype(np.int64)
    length_before = (start - (month - 1).astype("datetime64[D]")).astype(np.int64)
    day_of_month = (date - start).astype(np.int64) + 1
    since = np.full(n_days, NO_PAYDAY)
    for payday in calendar.paydays.tolist():
        this = day_of_month - np.minimum(payday, length)
        last = day_of_month + length_before - np.minimum(payday, length_before)
        nearer = np.where(this >= 0, this, last)
        since = np.where(since == NO_PAYDAY, nearer, np.minimum(since, nearer))
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    is_holiday = np.isin(day, calendar.holidays)
    about: NDArray[np.int32] = (since * 64 + (weekday >= _SATURDAY) * 32 + is_holiday * 16 + weekday).astype(np.int32)
    return about


@njit(nogil=True)
def _place_rows(begin, end, time_s, first_s, clock, about, numbers, claims):
    n_days = clock.shape[0]
    n_outside = 0
    for row in range(begin, end):
        since_s = time_s[row] - first_s
        # A float's product instead of a division of whole numbers, which is one of the slowest instructions there is;
        # it may be a day off at midnight, and the remainder says so.
        day = np.int64(since_s * (1.0 / DAY_S))
        second = since_s - day * DAY_S
        day += (second >= DAY_S) - (second < 0)
        second = since_s - day * DAY_S
        is_inside = (day >= 0) & (day < n_days)
        n_outside += not is_inside
        at = np.uint64(day) if is_inside else np.uint64(0)
        local_s = second + (clock[at, 0] if second < clock[at, 2] else clock[at, 1])
        # The table of local days begins a day early: local time may be up to a day before UTC.
        today = about[at + np.uint64(1 + (local_s >= DAY_S) - (local_s < 0))]
        local_s += DAY_S * ((local_s < 0) - (local_s >= DAY_S))
        # Exact for every second of a day: 37283 / 2^27 is above 1 / 3600 by less than one part in 86,400 × 3,600.
        numbers[0, row] = (local_s * 37_283) >> 27
        numbers[1, row] = today & 15
        numbers[2, row] = today >> 6
        claims[0, row] = (today & 32) != 0
        claims[1, row] = (today & 16) != 0
    return n_outside


@spread
def _place(edges, time_s, first_s, clock, about, numbers, claims, outside):
    for block in prange(edges.size - 1):
        outside[block] = _place_rows(edges[block], edges[block + 1], time_s, first_s, clock, about, numbers, claims)
