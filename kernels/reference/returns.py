"""Twin of returns: which lines a refund gives back. tests/kernels compares it with the kernel."""

from collections.abc import Sequence

from kernels.returns import SMALLEST_UNITS


def matched_returns(
    group: Sequence[int], is_refund: Sequence[bool], order: Sequence[int], quantity: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Define returns.matched_returns, one refund at a time over all earlier lines.

    group      of each line, ascending
    is_refund  of each line
    order      of each line; -1 for none
    quantity   of each line
    returns    row of the latest line taken from or -1, and units taken, for each line
    """
    left = [0.0 if refund else units for refund, units in zip(is_refund, quantity, strict=True)]
    lines, taken = [-1] * len(group), [0.0] * len(group)
    for row in range(len(group)):
        if not is_refund[row]:
            continue
        usable = [line for line in range(row) if group[line] == group[row] and left[line] > SMALLEST_UNITS]
        named = [line for line in usable if order[row] >= 0 and order[line] == order[row]]
        latest_first = (named or usable)[::-1]
        enough = [line for line in latest_first if left[line] >= quantity[row] - SMALLEST_UNITS]
        for line in enough[:1] or latest_first:
            units = min(left[line], quantity[row] - taken[row])
            if units <= SMALLEST_UNITS and taken[row] > 0:
                break
            lines[row] = line if lines[row] < 0 else lines[row]
            left[line] -= units
            taken[row] += units
    return lines, taken
