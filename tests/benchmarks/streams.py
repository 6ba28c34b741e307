"""Every streaming kernel beside what memory or numpy's exponential allow: `ratios`, for the features benchmark.

`python -m tests.benchmarks features` has them in its record, `python -m tests.benchmarks.streams` prints them alone.
A kernel without transcendental functions stands beside np.copyto of all bytes that it reads and writes; one with them
beside np.exp over as many values. Kernel and rival take turns, both on as many threads as numba uses, the rival's
arrays cut into equal parts. A kernel gets fresh memory for its results, as its callers do; so the rival writes as many
bytes into fresh memory too, and copies those that the kernel only reads to where it has written before.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from kernels import behaviour, calendar_days, decays, moments, streams, velocity, visits
from kernels.ledger import Ledger

N_ITEMS = 20_000
EVENTS_PER_SHOPPER = 100
START_S, SPAN_S = 1_388_534_400, 3 * 365 * 86_400


@dataclass(frozen=True)
class Ratio:
    """One kernel beside its rival; times are medians of one pass over all events.

    kernel_s   seconds of the kernel
    rival_s    seconds of the rival
    rival      "copy" or "exp"
    n_threads  of each of the two
    n_bytes    read and written by the kernel
    """

    kernel_s: float
    rival_s: float
    rival: str
    n_threads: int
    n_bytes: int

    @property
    def times(self) -> float:
        """How many times as long as the rival the kernel takes."""
        return self.kernel_s / self.rival_s

    @property
    def is_within(self) -> bool:
        """Whether it keeps the bar of its kind."""
        return self.times <= (3.0 if self.rival == "copy" else 2.0)


@dataclass(frozen=True)
class Streamed:
    """A kernel ready to be timed.

    run      one pass over all events
    n_read     bytes it reads
    n_written  bytes it writes
    n_exps     powers it takes; 0 if none
    """

    run: Callable[[], object]
    n_read: int
    n_written: int
    n_exps: int = 0


def ratios(n_events: int, repeats: int) -> dict[str, Ratio]:
    """Return every streaming kernel beside its rival.

    n_events  of all shoppers together
    repeats   passes of each, kernel and rival in turn
    """
    n_threads = numba.get_num_threads()
    found = {}
    with ThreadPoolExecutor(n_threads) as pool:
        for name, streamed in streamed_kernels(n_events).items():
            rival = exp_rival(streamed, pool) if streamed.n_exps else copy_rival(streamed, pool)
            kernel_s, rival_s = alternated(streamed.run, rival, repeats)
            kind = "exp" if streamed.n_exps else "copy"
            found[name] = Ratio(kernel_s, rival_s, kind, n_threads, streamed.n_read + streamed.n_written)
    return found


def alternated(kernel: Callable[[], object], rival: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of two calls that take turns, after one of each that nobody counts."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for call, times in zip((kernel, rival), seconds, strict=True):
            begun = time.perf_counter()
            call()
            if repeat:
                times.append(time.perf_counter() - begun)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def copy_rival(streamed: Streamed, pool: ThreadPoolExecutor) -> Callable[[], object]:
    """A copy of as many bytes as the kernel reads and writes."""
    n_threads = numba.get_num_threads()
    read, written = np.ones(streamed.n_read, np.uint8), np.ones(streamed.n_written, np.uint8)
    target = np.empty_like(read)

    def copy() -> None:
        fresh = np.empty_like(written)
        for source, goal in ((read, target), (written, fresh)):
            list(pool.map(np.copyto, np.array_split(goal, n_threads), np.array_split(source, n_threads)))

    return copy


def exp_rival(streamed: Streamed, pool: ThreadPoolExecutor) -> Callable[[], object]:
    """As many of numpy's exponentials as the kernel takes powers."""
    n_threads = numba.get_num_threads()
    powers = np.array_split(-np.random.default_rng(0).exponential(1.0, streamed.n_exps), n_threads)

    def exponentials() -> None:
        fresh = np.array_split(np.empty(streamed.n_exps), n_threads)
        list(pool.map(np.exp, powers, fresh))

    return exponentials


def random_ledger(n_events: int) -> Ledger:
    """Shoppers with EVENTS_PER_SHOPPER events on average, over three years, in visits; one line in three an order."""
    rng = np.random.default_rng(0)
    n_shoppers = max(n_events // EVENTS_PER_SHOPPER, 1)
    shopper = np.sort(rng.integers(0, n_shoppers, n_events))
    offsets = np.searchsorted(shopper, np.arange(n_shoppers + 1)).astype(np.int64)
    visit_s = rng.integers(0, SPAN_S // 86_400, n_events) * 86_400 + rng.integers(0, 86_400, n_events)
    time_s = START_S + np.repeat(visit_s[::4], 4)[:n_events] + rng.integers(0, 1_200, n_events)
    time_s = time_s[np.lexsort((time_s, shopper))]
    return Ledger(
        offsets,
        time_s=time_s,
        kind=rng.choice(np.array([1, 1, 1, 2, 3, 3, 4], np.int8), n_events),
        item=(rng.zipf(1.3, n_events) % N_ITEMS).astype(np.int32),
        category=rng.integers(-1, 64, n_events).astype(np.int16),
        order=rng.integers(1, 2**40, n_events),
        quantity=np.ones(n_events),
        paid_micros=rng.integers(0, 10**8, n_events),
        discount_micros=np.zeros(n_events, np.int64),
        coupon_micros=np.zeros(n_events, np.int64),
    )


def streamed_kernels(n_events: int) -> dict[str, Streamed]:
    """Every streaming kernel over one random ledger, with the bytes it touches; offsets aside, they are few."""
    ledger = random_ledger(n_events)
    bands = np.random.default_rng(1).integers(0, 6, N_ITEMS).astype(np.int8)
    paid, time_s = ledger.paid_micros, ledger.time_s
    table = calendar_days.day_table(new_york(), START_S, START_S + SPAN_S + 86_400)
    # Three shoppers take turns on a key, as in a household.
    keyed = velocity.KeyedEvents(ledger.offsets, time_s, ledger.order % 3, paid)
    n_queries = max(n_events // EVENTS_PER_SHOPPER, 1)
    shopper = np.arange(ledger.n_shoppers)[:n_queries]
    at_s = np.full(shopper.size, START_S + SPAN_S)
    held = np.minimum(np.diff(ledger.offsets), behaviour.LENGTH).sum()
    return {
        "gaps_s": Streamed(lambda: streams.gaps_s(ledger), n_events * 8, n_events * (4)),
        "kind_counts": Streamed(lambda: streams.kind_counts(ledger), n_events * 1, n_events * (6 * 4)),
        "running_spend": Streamed(lambda: streams.running_spend(ledger, paid), n_events * (1 + 8), n_events * (8)),
        "running_moments": Streamed(lambda: moments.running_moments(ledger, paid), n_events * (1 + 8), n_events * (16)),
        "price_bands": Streamed(lambda: streams.price_bands(ledger.item, bands), n_events * 4, n_events * (1)),
        "session_columns": Streamed(lambda: visits.session_columns(ledger), n_events * (8 + 1), n_events * (6 * 4)),
        "calendar_days": Streamed(lambda: calendar_days.calendar_days(table, time_s), n_events * 8, n_events * (5)),
        "velocity": Streamed(lambda: velocity.velocity(keyed), n_events * (8 + 8 + 8), n_events * (4 * 12 + 4 + 4)),
        "sequences_at": Streamed(
            lambda: behaviour.sequences_at(ledger, bands, shopper, at_s),
            int(held) * (8 + 4 + 1) + shopper.size * 16,
            shopper.size * behaviour.LENGTH * 7,
        ),
        "decayed_sums": Streamed(
            lambda: decays.decayed_sums(ledger, paid, 7 * 86_400.0),
            n_events * (8 + 1 + 8),
            n_events * (4 + 4),
            n_events,
        ),
    }


def new_york() -> calendar_days.Calendar:
    """A calendar with two changes of the clock a year, as of New York from 2014 on."""
    year = np.arange(4) * 365 * 86_400
    changes = np.stack([1_394_348_400 + year, 1_414_908_000 + year], axis=1).ravel()
    offsets_s = np.array([-18_000, *([-14_400, -18_000] * 4)])
    return calendar_days.Calendar(changes, offsets_s, np.arange(16_071, 18_000, 40), np.array([1, 15]))


if __name__ == "__main__":
    for kernel, ratio in ratios(n_events=4_000_000, repeats=7).items():
        print(
            f"{kernel:16} {ratio.times:6.2f} × {ratio.rival}  {ratio.kernel_s * 1e3:8.2f} ms  {ratio.n_threads} threads"
        )
