"""Powers of two and products with a sum: what halving after every half-life is computed with.

In: numbers. Out: numbers, or a column of them. clock.py and the streaming kernels call them.
"""

import math

import numpy as np
from numba import config, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.checks import check, check_array, plain
from kernels.compiled import entry, inlined

# Taylor's coefficients of 2^f: for |f| ≤ 1/2 the first one left out is below 2^-56 of the sum.
_TERMS = tuple(math.log(2.0) ** power / math.factorial(power) for power in range(14))
# Adding this to a number below 2^51 leaves its nearest whole number in the low bits of the sum.
_TO_WHOLE = 1.5 * 2.0**52
_LEAST_POWER = -1021.0


def power_of_two(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2 to each power.

    power    (n,) float64  ≤ 1023; NaN is kept
    returns  (n,) float64  within one unit in the last place of the true value; 0 below 2^-1021.5
    raises   InvalidInput  if a power is larger
    source   math.exp2
    """
    check_array("power", power, np.float64)
    check(not bool((power > 1023.0).any()), "power must be ≤ 1023")
    worth = np.empty(power.size)
    _powers(plain(power), worth)
    return worth


if config.DISABLE_JIT:

    def multiply_add(factor, other, addend):
        """Return factor × other + addend.

        factor, other, addend  float64
        returns                float64; compiled, the sum alone is rounded
        """
        return factor * other + addend

else:

    @intrinsic
    def multiply_add(typing_context, factor, other, addend):  # noqa: ARG001 - as numba calls it
        """Return factor × other + addend, rounded once.

        typing_context         numba's
        factor, other, addend  float64
        returns                float64
        """

        def generate(context, builder, signature, arguments):  # noqa: ARG001 - as numba calls it
            return builder.fma(*arguments)

        # A sum that waits for its own last value waits 4 cycles for this and 7 for a product and a sum.
        return types.float64(types.float64, types.float64, types.float64), generate


@inlined
def exp2(power):
    """Return 2 to a power, in the line of the caller: the C library's is a call for each value.

    power    in (-infinity, 1023]; NaN is kept
    returns  within one unit in the last place; 0 below 2^-1021.5
    source   math.exp2
    """
    bounded = power if power >= _LEAST_POWER else _LEAST_POWER  # NaN too: it has no whole part
    shifted = bounded + _TO_WHOLE
    rest = bounded - (shifted - _TO_WHOLE)
    square = rest * rest
    # Pairs of terms, then pairs of pairs (Estrin); the constant 1 comes last, so that it rounds only once.
    low = multiply_add(_pair(4, rest), square, _pair(2, rest))
    middle = multiply_add(_pair(8, rest), square, _pair(6, rest))
    high = multiply_add(_pair(12, rest), square, _pair(10, rest))
    fourth = square * square
    tail = multiply_add(fourth, multiply_add(fourth, high, middle), low)
    series = 1.0 + multiply_add(square, tail, _TERMS[1] * rest)
    # The exponent of a float64 stands in bits 52 to 62, counted from 1023.
    scaled = series * np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return scaled if power >= _LEAST_POWER - 0.5 else (0.0 if power < 0.0 else power)


@inlined
def _pair(term, rest):
    return multiply_add(_TERMS[term + 1], rest, _TERMS[term])


@entry
def _powers(power, worth):
    for i in range(power.size):
        worth[i] = exp2(power[i])
