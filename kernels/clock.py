"""The head of every state: when the last event was, which order is open, and what an event is worth by now.

Sums that halve after every so many days are kept forward (Cormode et al., Forward Decay, ICDE 2009, part 3): an event
adds its weight 2^((time − landmark) / half-life), and reading divides by the weight of the moment. So an event touches
only the sums it adds to, and one power of two serves all half-lives: 91 = 364/4, 28 = 364/13, 14 = 364/26, 7 = 364/52.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.compiled import inlined
from kernels.ledger import ORDER
from kernels.powers import exp2
from kernels.running import DAY_S

N_STATE = 10
_N_EVENTS, _LAST_S, _N_LINES, _ORDER_KEY, _ORDER_S, _LANDMARK_S = range(6)
_WORTH_91, _WORTH_28, _WORTH_14, _WORTH_7 = range(6, N_STATE)
_YEARS_PER_S = 1.0 / (364.0 * DAY_S)
_SINES = tuple(math.sin(math.tau * hour / 24.0) for hour in range(24))
_COSINES = tuple(math.cos(math.tau * hour / 24.0) for hour in range(24))
# Ten years make a weight of 2^520 at the shortest half-life: sums stay finite, and rescaling is all but free.
_FURTHEST_YEARS = 10.0


class Worth(NamedTuple):
    """One factor for each half-life, in days."""

    of_7: float
    of_14: float
    of_28: float
    of_91: float


class Moment(NamedTuple):
    """When an event came or a state is read.

    now_s  seconds, never before the last event
    worth  Worth of one unit added now; when reading, what to multiply each sum by
    """

    now_s: float
    worth: Worth


class Event(NamedTuple):
    """One event as every family's update takes it; a named tuple because numba reads no dataclass.

    now_s         the time that counts, float64 seconds
    kind          event kind of kernels.ledger
    item          vocabulary index; 0 is unknown or none
    category      slot; -1 is none
    begins_order  whether this is the first line of an order
    quantity      units on the line
    paid          micros, float64
    discount      micros, float64
    coupon        micros, float64
    worth         Worth of this moment: what a sum of each half-life grows by for one unit
    """

    now_s: float
    kind: int
    item: int
    category: int
    begins_order: bool
    quantity: float
    paid: float
    discount: float
    coupon: float
    worth: Worth


@inlined
def advance(clock, time_s):
    """Move the clock to an event.

    clock    (N_STATE,) float64  changed in place
    time_s   seconds; a time before the last event's counts as the last event's
    returns  Moment with the worth that an event now adds to sums; then the years by which the landmark has moved: 0 but
             once in ten years, when every sum that halves must be rescaled before the event is added
    """
    now_s = float(time_s)
    moved_years = 0.0
    if clock[_N_EVENTS] == 0.0:
        clock[_LANDMARK_S] = now_s
        clock[_WORTH_91:] = 1.0
    else:
        now_s = max(now_s, clock[_LAST_S])
        # Most lines share their order's second: no power for them.
        if now_s != clock[_LAST_S]:
            moved_years = _weigh(clock, now_s)
    clock[_N_EVENTS] += 1.0
    clock[_LAST_S] = now_s
    worth = Worth(clock[_WORTH_7], clock[_WORTH_14], clock[_WORTH_28], clock[_WORTH_91])
    return Moment(now_s, worth), moved_years


@inlined
def event_of(clock, moment, line):
    """Return an event with all its columns, and note the order that it belongs to.

    clock    (N_STATE,) float64  changed in place
    moment   Moment from `advance`
    line     tuple of one value from each column of the ledger
    returns  Event; a line continues the order of the line before it if it has its key or, without a key, its second
    """
    _, kind, item, category, order, quantity, paid, discount, coupon = line
    begins = False
    if kind == ORDER:
        key = float(order)
        is_same = clock[_ORDER_KEY] == key and (order != 0 or clock[_ORDER_S] == moment.now_s)
        begins = clock[_N_LINES] == 0.0 or not is_same
        clock[_N_LINES] += 1.0
        clock[_ORDER_KEY] = key
        clock[_ORDER_S] = moment.now_s
    return Event(
        moment.now_s, np.int64(kind), np.int64(item), np.int64(category), begins,
        float(quantity), float(paid), float(discount), float(coupon), moment.worth,
    )  # fmt: skip


@inlined
def _weigh(clock, now_s):
    """Set the weights of a moment; move the landmark here if they would grow too large, and say by how many years."""
    years = (now_s - clock[_LANDMARK_S]) * _YEARS_PER_S
    moved_years = 0.0
    if years > _FURTHEST_YEARS:
        clock[_LANDMARK_S] = now_s
        moved_years, years = years, 0.0
    worth = worth_of(years)
    clock[_WORTH_7] = worth.of_7
    clock[_WORTH_14] = worth.of_14
    clock[_WORTH_28] = worth.of_28
    clock[_WORTH_91] = worth.of_91
    return moved_years


@inlined
def worth_of(years):
    """Return 2 to the number of half-lives in a time, for each half-life.

    years    of 364 days; below 0 for a factor that shrinks
    returns  Worth; relative error below 1e-13
    """
    of_364 = exp2(years)
    of_182 = of_364 * of_364
    of_91 = of_182 * of_182
    of_28 = of_91 * of_91 * of_91 * of_364
    of_14 = of_28 * of_28
    return Worth(of_14 * of_14, of_14, of_28, of_91)


@inlined
def rescale(state, half_lives, worth):
    """Bring every sum that halves to a later landmark.

    state       (n_state,) float64  changed in place
    half_lives  (n_state,) int8     days; 0 for a slot that does not halve
    worth       Worth, ≤ 1
    """
    for slot in range(half_lives.size):
        if half_lives[slot] == 7:
            state[slot] *= worth.of_7
        elif half_lives[slot] == 14:
            state[slot] *= worth.of_14
        elif half_lives[slot] == 28:
            state[slot] *= worth.of_28
        elif half_lives[slot] == 91:
            state[slot] *= worth.of_91


@inlined
def moment_of(clock, at_s):
    """Return the moment as of which a state is read: never before its last event.

    clock    (N_STATE,) float64
    at_s     seconds
    returns  Moment
    """
    now_s = float(at_s)
    years = 0.0
    if clock[_N_EVENTS] > 0.0:
        now_s = max(now_s, clock[_LAST_S])
        years = (now_s - clock[_LANDMARK_S]) * _YEARS_PER_S
    return Moment(now_s, worth_of(-years))


@inlined
def second_of_day(time_s):
    """Return the seconds since midnight, UTC.

    time_s   whole seconds since the epoch
    returns  int64 in [0, 86400)
    """
    # Whole numbers: the compiler turns their division by a constant into a multiplication, and midnight stays midnight.
    return np.int64(time_s) % 86_400


@inlined
def weekday_of(time_s):
    """Return the day of the week, UTC: 0 is Monday.

    time_s   whole seconds since the epoch, which began on a Thursday
    returns  int64 in [0, 6]
    """
    return (np.int64(time_s) // 86_400 + 3) % 7


@inlined
def round_the_clock(second):
    """Return sine and cosine of the hand of a 24-hour clock; faster than two calls of the C library.

    second   whole seconds since midnight, in [0, 86400)
    returns  two values in [-1, 1], within 4e-16 of math.sin and math.cos
    """
    hour = second // 3_600
    angle = (second - hour * 3_600) * (math.tau / DAY_S)
    square = angle * angle
    # Taylor series; within an hour's angle of 0.26 the first terms left out are below 1e-16.
    sine = angle * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))))
    cosine = 1.0 - square / 2.0 * (
        1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0 * (1.0 - square / 90.0)))
    )
    return _SINES[hour] * cosine + _COSINES[hour] * sine, _COSINES[hour] * cosine - _SINES[hour] * sine
