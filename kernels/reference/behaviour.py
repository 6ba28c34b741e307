"""Twin of behaviour: the last events of one shopper from plain lists."""

from collections.abc import Sequence


def sequence_at(
    events: Sequence[tuple[int, int, int]], band_of_item: Sequence[int], at_s: int, length: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Define one row of behaviour.sequences_at.

    events        (time_s, item, kind) of one shopper, earliest first
    band_of_item  by vocabulary index
    at_s          seconds; events at that very second count
    length        values in a row
    returns       items, kinds, gap buckets, price bands; newest last, zeros on the left
    """
    past = [event for event in events if event[0] <= at_s]
    items = [item for _, item, _ in past]
    kinds = [kind for _, _, kind in past]
    gaps = [0 if at == 0 else 1 + (past[at][0] - past[at - 1][0]).bit_length() for at in range(len(past))]
    bands = [band_of_item[item] if item < len(band_of_item) else 0 for item in items]
    items, kinds, gaps, bands = (([0] * length + column)[-length:] for column in (items, kinds, gaps, bands))
    return items, kinds, gaps, bands
