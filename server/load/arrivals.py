"""When callers come and for whom: Poisson arrivals, and shoppers drawn evenly or as crowds do.

In: rates, counts, a seed. Out: moments and indexes, equal for equal seeds. Pure; called by open_loop.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.load.latencies import Times


@dataclass(frozen=True)
class Phase:
    """A stretch of time with one rate.

    rate_per_s  calls a second on average, > 0
    seconds     > 0
    """

    rate_per_s: float
    seconds: float


def poisson_arrivals(phases: Sequence[Phase], rng: np.random.Generator) -> Times:
    """The moments at which callers come who know nothing of each other.

    returns  (n,) float64  seconds since the beginning, ascending
    """
    moments, begins_s = [np.zeros(0)], 0.0
    for phase in phases:
        # Given their number, the arrivals of a Poisson process lie evenly at random in its time.
        n_calls = rng.poisson(phase.rate_per_s * phase.seconds)
        moments.append(begins_s + np.sort(rng.uniform(0.0, phase.seconds, n_calls)))
        begins_s += phase.seconds
    return np.concatenate(moments)


def drawn_shoppers(n_calls: int, n_shoppers: int, skew: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Whom each call asks about.

    skew     0: everybody alike; above: the k-th most asked comes with a chance that falls as k to the power of -skew
    returns  (n_calls,) int64  in [0, n_shoppers)
    """
    if skew == 0.0:
        return rng.integers(0, n_shoppers, n_calls)
    reach = np.cumsum(np.arange(1, n_shoppers + 1, dtype=np.float64) ** -skew)
    rank = np.searchsorted(reach, rng.uniform(0.0, reach[-1], n_calls))
    # Neighbours in rank must not be neighbours in the store.
    places: NDArray[np.int64] = rng.permutation(n_shoppers)[np.minimum(rank, n_shoppers - 1)]
    return places
