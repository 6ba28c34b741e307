"""Running quantities that families keep in their state: decay between two times, mean and spread of a sample."""

import math

from numba import njit

DAY_S = 86_400.0


@njit(nogil=True)
def decay(gap_s, half_life_days):
    """Return what one event is worth `gap_s` later: half as much after every half-life, 1 when no time has passed.

    gap_s           seconds; below 0 counts as 0
    half_life_days  days, > 0
    returns         in [0, 1]; 0 once the power underflows
    """
    # Most lines share their order's second: no power for them. Below 0 only before the first event: all is 0 then.
    if gap_s <= 0.0:
        return 1.0
    return 0.5 ** (gap_s / (half_life_days * DAY_S))


@njit(nogil=True)
def pushed(count, mean, squares, value):
    """Return a sample, kept as count, mean and sum of squared deviations, with one value more (Welford).

    count    values so far
    mean     of them; 0 if none
    squares  sum of their squared deviations from the mean
    value    finite
    returns  the same three, one value later
    """
    away = value - mean
    mean += away / (count + 1.0)
    return count + 1.0, mean, squares + away * (value - mean)


@njit(nogil=True)
def spread(count, squares):
    """Return a sample's population standard deviation; 0 for fewer than two values.

    count    values in the sample
    squares  sum of their squared deviations from the mean
    returns  ≥ 0
    """
    if count < 2.0:
        return 0.0
    return math.sqrt(squares / count)


@njit(nogil=True)
def days_since(at_s, then_s, has_happened, cap_days):
    """Return days between two times, capped; the cap when it never happened.

    at_s          seconds
    then_s        seconds, ≤ at_s; not read when it never happened
    has_happened  whether then_s means anything
    cap_days      days
    returns       in [0, cap_days]
    """
    if not has_happened:
        return cap_days
    return min((at_s - then_s) / DAY_S, cap_days)
