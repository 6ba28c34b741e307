"""Twin of velocity: what stood before each event on one key, from plain lists."""

import math
from collections.abc import Sequence

from kernels.velocity import MOST_SHOPPERS, RING, WINDOWS_S


def velocity(
    times_s: Sequence[int], shoppers: Sequence[int], spends: Sequence[int], ring: int = RING
) -> list[tuple[list[int], list[int], int, float]]:
    """Define velocity.velocity for one key.

    times_s   seconds of its events, ascending
    shoppers  who
    spends    micros
    ring      how many of the events before an event can be in a window
    returns   events and their spend in each of WINDOWS_S, shoppers ever, seconds since the event before; for each event
    """
    rows = []
    for at, now_s in enumerate(times_s):
        before = range(max(0, at - ring), at)
        inside = [[i for i in before if now_s - times_s[i] < window_s] for window_s in WINDOWS_S]
        rows.append(
            (
                [len(each) for each in inside],
                [sum(spends[i] for i in each) for each in inside],
                min(len(set(shoppers[:at])), MOST_SHOPPERS),
                float(now_s - times_s[at - 1]) if at else math.nan,
            )
        )
    return rows
