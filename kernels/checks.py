"""What kernels say at their doors: one sentence with field, rule and value. Every public function calls them."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Element = TypeVar("Element", bound=np.generic)


class InvalidInput(ValueError):  # noqa: N818 - a name of the house, said by every door
    """An argument broke a rule; the message is a sentence that names the field, the rule and the value."""


def check(holds: bool | np.bool_, message: str) -> None:
    """Pass when the rule holds.

    holds    the rule, already evaluated
    message  field, rule, value and subject in one sentence
    raises   InvalidInput  with the message, if the rule does not hold
    """
    if not holds:
        raise InvalidInput(message)


def is_ascending(values: NDArray[np.int64] | NDArray[np.float64]) -> bool:
    """Say whether no value is below the one before it; empty and single arrays ascend.

    values   (n,) integer or float
    returns  False as soon as a NaN stands between two values
    """
    return bool(np.all(values[1:] >= values[:-1]))


def check_array(name: str, values: Array, dtype: type[np.generic], n_dims: int = 1) -> None:
    """Pass when an argument is a numpy array of this element type and number of axes.

    name    as the caller knows the argument
    values  the argument
    dtype   exact element type; nothing is converted silently
    n_dims  number of axes
    raises  InvalidInput
    """
    # The rules come before the sentences: this door stands in front of microsecond reads.
    if not isinstance(values, np.ndarray):
        raise InvalidInput(f"{name} must be a numpy array, got {type(values).__name__}")
    if values.dtype != dtype:
        raise InvalidInput(f"{name} must be {np.dtype(dtype).name}, got {values.dtype}")
    if values.ndim != n_dims:
        raise InvalidInput(f"{name} must have {n_dims} axes, got {values.ndim}")


def check_each(name: str, values: Array, holds: NDArray[np.bool_], rule: str) -> None:
    """Pass when a rule holds for every element.

    name    as the caller knows the argument
    values  the argument
    holds   the rule element by element, same shape; a comparison with NaN is False, so NaN is refused
    rule    the words after "must be"
    raises  InvalidInput  with the first offending value and its place
    """
    if holds.all():
        return
    place = np.unravel_index(int(np.argmin(holds)), holds.shape)
    where = ", ".join(str(int(axis)) for axis in place)
    raise InvalidInput(f"{name} must be {rule}, got {values[place]} (at [{where}])")


def plain(values: NDArray[Element]) -> NDArray[Element]:
    """Return the array contiguous and writable, copied only if it is not.

    values   any array; a read-only or strided one would make numba compile every kernel once more
    returns  same shape and values
    """
    flags = values.flags
    return values if flags.c_contiguous and flags.writeable else values.copy(order="C")
