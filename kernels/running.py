"""Running quantities that families keep in their state: mean and spread of a sample, days since."""

import math

import numpy as np

from kernels.compiled import inlined

DAY_S = 86_400.0
DAYS_PER_S = 1.0 / DAY_S
# The Taylor series of 2^f: to ±1/2 its first term left out is below 2e-17.
_TERMS = tuple(math.log(2.0) ** power / math.factorial(power) for power in range(14))


@inlined
def exp2(power):
    """Return 2 to a power; three times as fast as the C library's, which is a call for each value.

    power    in [-1e15, 1023]
    returns  relative error below 5e-16; 0 below the smallest normal number
    source   math.exp2
    """
    whole = math.floor(power + 0.5)
    if whole < -1022.0:
        return 0.0
    rest = power - whole
    square = rest * rest
    fourth = square * square
    # Terms in pairs, then pairs of pairs (Estrin): half the waiting of one term after the other.
    low = (_TERMS[0] + _TERMS[1] * rest) + (_TERMS[2] + _TERMS[3] * rest) * square
    middle = (_TERMS[4] + _TERMS[5] * rest) + (_TERMS[6] + _TERMS[7] * rest) * square
    high = (_TERMS[8] + _TERMS[9] * rest) + (_TERMS[10] + _TERMS[11] * rest) * square
    last = _TERMS[12] + _TERMS[13] * rest
    series = low + fourth * (middle + fourth * (high + fourth * last))
    # The exponent of a float64 stands in bits 52 to 62, counted from 1023.
    return series * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)


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
