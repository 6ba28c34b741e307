"""Which order lines a shopper's refunds give back, line by line in time. training/cleaning matches returns with it.

In: order and refund lines sorted by shopper and item, then time. Out: for each refund the line it is booked on, and how
many of its units were found.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry

# Units are counted down in binary: three times a third of a kilogram must still be the whole of it.
SMALLEST_UNITS = 1e-9


def matched_returns(
    group: NDArray[np.int64], is_refund: NDArray[np.bool_], order: NDArray[np.int64], quantity: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Book every refund on earlier order lines of its group that still have units to give back.

    A refund that names an order with such a line may only use lines of that order. Of the lines it may use it takes the
    latest that has enough units left; where none has enough, it takes what each has, the latest first.

    group      (n_lines,) int64    one number for each shopper and item, ascending; lines in time order within it
    is_refund  (n_lines,) bool     whether the line gives back; all others are order lines
    order      (n_lines,) int64    number of the order that the line belongs to or names; -1 for none
    quantity   (n_lines,) float64  units, finite and ≥ 0
    returns    (n_lines,) int64    row of the latest order line it took from; -1 for order lines and unmatched refunds
               (n_lines,) float64  units taken, at most its quantity; 0 for order lines
    raises     InvalidInput        if lengths differ, groups descend or a quantity is not finite and ≥ 0
    source     reference.returns.matched_returns
    """
    check_array("group", group, np.int64)
    check_array("is_refund", is_refund, np.bool_)
    check_array("order", order, np.int64)
    check_array("quantity", quantity, np.float64)
    for name, column in (("is_refund", is_refund), ("order", order), ("quantity", quantity)):
        check(column.size == group.size, f"{name} must have n_lines {group.size} values, got {column.size}")
    check(is_ascending(group), "group must ascend; sort the lines by shopper and item, then time")
    check_each("quantity", quantity, np.isfinite(quantity) & (quantity >= 0), "finite and ≥ 0")
    line = np.full(group.size, -1, np.int64)
    units = np.zeros(group.size)
    _match(plain(group), plain(is_refund), plain(order), plain(quantity), line, units)
    return line, units


@entry
def _match(group, is_refund, order, quantity, line, units):
    left = quantity.copy()
    opened = np.empty(group.size, np.int64)  # rows of the group's lines with units left, the earliest first
    n_open = 0
    most = 0.0  # no open line has more left; lets a large refund skip a long search that must fail
    for row in range(group.size):
        if row > 0 and group[row] != group[row - 1]:
            n_open = 0
            most = 0.0
        if not is_refund[row]:
            if quantity[row] > SMALLEST_UNITS:
                opened[n_open] = row
                n_open += 1
                most = max(most, quantity[row])
            continue
        named = _named(order, order[row], opened, n_open)
        enough = -1
        if quantity[row] <= most + SMALLEST_UNITS:
            enough = _latest_with(quantity[row], order, named, opened, n_open, left)
            if enough < 0 and named < 0:
                most = quantity[row]
        first = enough if enough >= 0 else n_open - 1
        last = enough if enough >= 0 else 0
        n_open = _take(row, first, last, named, order, quantity, opened, n_open, left, line, units)


@entry
def _named(order, wanted, opened, n_open):
    """The order that a refund must use: the one it names if that has an open line, else -1, any."""
    if wanted >= 0:
        for place in range(n_open - 1, -1, -1):
            if order[opened[place]] == wanted:
                return wanted
    return -1


@entry
def _latest_with(wanted, order, named, opened, n_open, left):
    for place in range(n_open - 1, -1, -1):
        row = opened[place]
        if (named < 0 or order[row] == named) and left[row] >= wanted - SMALLEST_UNITS:
            return place
    return -1


@entry
def _take(refund, first, last, named, order, quantity, opened, n_open, left, line, units):
    """Take units from the open lines at places first down to last; return how many lines stay open."""
    wanted = quantity[refund]
    place = first
    while place >= last and place >= 0:
        row = opened[place]
        if named < 0 or order[row] == named:
            if line[refund] < 0:
                line[refund] = row
            taken = min(left[row], wanted - units[refund])
            left[row] -= taken
            units[refund] += taken
            if left[row] <= SMALLEST_UNITS:
                opened[place] = -1
            if units[refund] >= wanted - SMALLEST_UNITS:
                break
        place -= 1
    start = max(place, 0)
    kept = start
    for at in range(start, n_open):
        if opened[at] >= 0:
            opened[kept] = opened[at]
            kept += 1
    return kept
