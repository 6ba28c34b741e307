"""Histograms that take a whole micro-batch at once, told to Prometheus like any other.

In: arrays of seconds, rows or ages. Out: a metric family per scrape. Used by metrics.py. Written here because
prometheus_client's Histogram takes one value a call, at about 2 µs each: `python -m tests.server.telemetry.cost`.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import isinf
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

FEW = 16  # up to here a loop over bisect is faster than numpy's four calls


class Series:
    """The counts of one combination of labels. Safe to use from several threads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count nothing yet.

        bounds  upper bounds, each in its bucket, ascending; the last is infinite
        """
        self._bounds = tuple(bounds)
        self._edges = np.array(bounds)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._lock = Lock()

    def observe(self, value: float) -> None:
        """Count one value, which must not be NaN."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def observe_times(self, value: float, n: int) -> None:
        """Count one value, which must not be NaN, `n` times."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += n
            self._sum += value * n

    def observe_many(self, values: ArrayLike) -> None:
        """Count every value of an array; none may be NaN."""
        array = np.asarray(values, np.float64)
        if array.size <= FEW:
            few = array.tolist()
            places = [bisect_left(self._bounds, value) for value in few]
            with self._lock:
                for place in places:
                    self._counts[place] += 1
                self._sum += sum(few)
            return
        found = np.bincount(self._edges.searchsorted(array), minlength=len(self._bounds)).tolist()
        total = float(array.sum())
        with self._lock:
            self._counts = [had + more for had, more in zip(self._counts, found, strict=True)]
            self._sum += total

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound as Prometheus writes them, and the sum of all values."""
        with self._lock:
            counts, total = self._counts.copy(), self._sum
        told = zip(self._bounds, np.cumsum(counts).tolist(), strict=True)
        return [("+Inf" if isinf(bound) else repr(float(bound)), count) for bound, count in told], total


class Histogram(Collector):
    """A family of series with one set of bounds; a series begins when it is first asked for."""

    def __init__(self, name: str, words: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        """Describe the family.

        name    with its unit last
        words   what the page says of it
        bounds  finite upper bounds, ascending
        labels  names of the labels; without any there is one series from the start
        """
        self._name, self._words, self._labels = name, words, tuple(labels)
        self._bounds = (*bounds, float("inf"))
        self._series: dict[tuple[str, ...], Series] = {} if labels else {(): Series(self._bounds)}

    def of(self, *values: str) -> Series:
        """The series of these label values, in the order of the labels."""
        found = self._series.get(values)
        # setdefault is one step under the GIL: two threads that begin a series get the same one.
        return found if found is not None else self._series.setdefault(values, Series(self._bounds))

    def into(self, registry: CollectorRegistry) -> "Histogram":
        """Join a registry; returns the family itself."""
        registry.register(self)
        return self

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The family without samples: so that two of one name are refused."""
        yield HistogramMetricFamily(self._name, self._words, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family as it stands, for one scrape."""
        family = HistogramMetricFamily(self._name, self._words, labels=self._labels)
        for values, series in list(self._series.items()):
            buckets, total = series.read()
            family.add_metric(values, buckets, total)
        yield family
