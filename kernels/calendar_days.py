"""Where in the shop's own day, week and month each event stands: hour, weekday, weekend, holiday, days since payday.

In: times and a Calendar of plain arrays, which training.calendars makes of a shop's zone and country. Out: five
columns. A DayTable holds what is the same throughout an hour or a quarter of one, so that an event costs one look-up
and no search; made once, it serves batches and single events alike.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.amounts import N_ROWS
from kernels.checks import check, check_array, check_each, plain
from kernels.parallel import row_edges, spread

DAY_S = 86_400
# Two hundred years: a table of them still fits in 16 MB.
MOST_DAYS = 73_050
NO_PAYDAY = -1
_SATURDAY = 5
# Every zone's clock now stands at a whole quarter of an hour; a table of whole hours is smaller where it will do.
_SLOTS_S = (3_600, 900)
# In bits: hour 5, weekday 3, holiday 1, days since payday + 1 5. No slot has all 16 set, so that says "look closer".
_WEEKDAY, _HOLIDAY, _SINCE, _MIXED = 5, 8, 9, 0xFFFF


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

    calendar  which it spreads out
    first_s   UTC second at which the first slot begins
    slot_s    seconds in a slot
    slots     (n_slots,) uint16  hour, weekday, holiday and days since payday throughout a slot, packed; all
                                 bits set where they change within it, as in zones that once followed the sun
    """

    calendar: Calendar
    first_s: int
    slot_s: int
    slots: NDArray[np.uint16]


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
    first_s, n_days = earliest_s // DAY_S * DAY_S, latest_s // DAY_S - earliest_s // DAY_S + 1
    check(n_days <= MOST_DAYS, f"latest_s must be within {MOST_DAYS} days of earliest_s {earliest_s}, got {latest_s}")
    for slot_s in _SLOTS_S:
        slots = _slots(calendar, first_s, n_days * DAY_S // slot_s, slot_s)
        if not (slots == _MIXED).any():
            break
    return DayTable(calendar, first_s, slot_s, slots)


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
    n_outside = np.zeros(edges.size - 1, np.int64)
    place = np.empty((edges.size - 1, N_ROWS), np.int32)
    _place(edges, plain(time_s), (table.first_s, table.slot_s), table.slots, place, (numbers, claims), n_outside)
    if n_outside.any():
        end_s = table.first_s + table.slot_s * table.slots.size
        inside = (time_s >= table.first_s) & (time_s < end_s)
        check_each("time_s", time_s, inside, f"in [{table.first_s}, {end_s}), the table's days")
    hour, weekday, since = numbers
    mixed = np.flatnonzero(hour == (_MIXED & 31))
    if mixed.size:
        exact = _packed(table.calendar, time_s[mixed])
        told = (np.empty((3, mixed.size), np.int8), np.empty((2, mixed.size), np.bool_))
        _unpack(np.arange(mixed.size, dtype=np.int32), exact, *told)
        numbers[:, mixed], claims[:, mixed] = told
    return DayColumns(hour, weekday, claims[0], claims[1], since)


def _slots(calendar: Calendar, first_s: int, n_slots: int, slot_s: int) -> NDArray[np.uint16]:
    start_s = first_s + np.arange(n_slots, dtype=np.int64) * slot_s
    slots = _packed(calendar, start_s)
    slots[slots != _packed(calendar, start_s + slot_s - 1)] = _MIXED
    since_s = calendar.transitions_s - first_s
    within = since_s[(since_s >= 0) & (since_s < n_slots * slot_s) & (since_s % slot_s != 0)]
    slots[within // slot_s] = _MIXED
    return slots


def _packed(calendar: Calendar, time_s: NDArray[np.int64]) -> NDArray[np.uint16]:
    local_s = time_s + calendar.offsets_s[np.searchsorted(calendar.transitions_s, time_s, side="right")]
    day = local_s // DAY_S
    first_day = int(day.min())
    about = _about(calendar, first_day, int(day.max()) - first_day + 1)
    packed: NDArray[np.uint16] = about[day - first_day] + (local_s % DAY_S // 3_600).astype(np.uint16)
    return packed


def _about(calendar: Calendar, first_day: int, n_days: int) -> NDArray[np.uint16]:
    """Weekday, holiday and days since payday of each local day, packed."""
    day = first_day + np.arange(n_days, dtype=np.int64)
    date = day.astype("datetime64[D]")
    month = date.astype("datetime64[M]")
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
    about: NDArray[np.uint16] = ((weekday << _WEEKDAY) | (is_holiday << _HOLIDAY) | ((since + 1) << _SINCE)).astype(
        np.uint16
    )
    return about


@njit(nogil=True)
def _find(time_s, first_s, slot_s, n_slots, place):
    """Write the slot of each time; return how many times have none."""
    n_outside = 0
    for row in range(place.size):
        since_s = time_s[row] - first_s
        # A float's product instead of a division of whole numbers, which is one of the slowest instructions there is;
        # it may be a slot off at an edge, and the remainder says so.
        slot = np.int64(np.float64(since_s) * (1.0 / slot_s))
        rest_s = since_s - slot * slot_s
        slot += np.int64(rest_s >= slot_s) - np.int64(rest_s < 0)
        is_inside = (slot >= 0) & (slot < n_slots)
        n_outside += np.int64(not is_inside)
        place[row] = slot if is_inside else 0
    return n_outside


@njit(nogil=True)
def _unpack(place, slots, numbers, claims):
    hour, weekday, since = numbers[0], numbers[1], numbers[2]
    is_weekend, is_holiday = claims[0], claims[1]
    for row in range(place.size):
        slot = slots[np.uint32(place[row])]
        hour[row] = slot & 31
        weekday[row] = (slot >> _WEEKDAY) & 7
        is_weekend[row] = ((slot >> _WEEKDAY) & 7) >= _SATURDAY
        is_holiday[row] = ((slot >> _HOLIDAY) & 1) != 0
        since[row] = np.int32(slot >> _SINCE) - 1


@spread
def _place(edges, time_s, slot, slots, place, told, n_outside):
    for block in prange(edges.size - 1):
        for begin in range(edges[block], edges[block + 1], N_ROWS):
            rows = slice(begin, min(begin + N_ROWS, edges[block + 1]))
            found = place[block, : rows.stop - begin]
            n_outside[block] += _find(time_s[rows], slot[0], slot[1], slots.size, found)
            _unpack(found, slots, told[0][:, rows], told[1][:, rows])
