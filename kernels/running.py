"""Running quantities that families keep in their state: mean and spread of a sample, days since."""

import math

from kernels.compiled import inlined

DAY_S = 86_400.0
DAYS_PER_S = 1.0 / DAY_S


@inlined
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


@inlined
def spread(count, squares):
    """Return a sample's population standard deviation; 0 for fewer than two values.

    count    values in the sample
    squares  sum of their squared deviations from the mean
    returns  ≥ 0
    """
    if count < 2.0:
        return 0.0
    return math.sqrt(squares / count)


@inlined
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
