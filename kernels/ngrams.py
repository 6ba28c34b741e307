"""Hashed n-grams: every run of symbols in a text falls into one of a fixed number of buckets; the buckets are counted.

In: code points or word hashes of many texts, one after the other. Out: counts per text and bucket, sparse by row.
Called by training/text. A longer run starts from its prefix's hash and so costs one mixing more; one thread counts a
review in far less time than Python needs to split it into words.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, is_ascending, plain
from kernels.compiled import entry

MOST_BUCKETS = 1 << 24
LONGEST_RUN = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_BY_30, _BY_27, _BY_31 = np.uint64(30), np.uint64(27), np.uint64(31)


@dataclass(frozen=True)
class Counts:
    """How often each bucket occurs in each text, sparse by row.

    offsets  (n_texts + 1,) int64  text i owns pairs offsets[i] to offsets[i + 1]
    bucket   (n_pairs,) int32      in [0, n_buckets), each once in a row, in order of first occurrence
    count    (n_pairs,) int32      ≥ 1
    """

    offsets: NDArray[np.int64]
    bucket: NDArray[np.int32]
    count: NDArray[np.int32]

    def damped(self) -> NDArray[np.float32]:
        """Return 1 + log(count): the tenth occurrence of a word says less than the first."""
        return np.float32(1.0) + np.log(self.count.astype(np.float32))


def sequence_hashes(symbols: NDArray[np.uint64], offsets: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint64]:
    """Hash whole sequences of symbols: the name of a word that is the same in every process and every shop.

    symbols  (n_symbols,) uint64       such as code points
    offsets  (n_sequences + 1,) int64  sequence i is symbols[offsets[i] : offsets[i + 1]]
    seed     another one gives unrelated hashes, ≥ 0
    returns  (n_sequences,) uint64     equal for equal sequences; an empty one has the seed's own hash
    raises   InvalidInput              if offsets do not cover the symbols
    source   reference.text.sequence_hashes; the mixing is SplitMix64's (Steele, Lea and Flood 2014)
    """
    _check_sequences(symbols, offsets, seed)
    hashes = np.empty(offsets.size - 1, np.uint64)
    with np.errstate(over="ignore"):  # interpreted, a product of 64 bits that wraps around would warn
        _hash(plain(symbols), plain(offsets), np.uint64(seed), hashes)
    return hashes


def ngram_counts(
    symbols: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    least: int,
    most: int,
    n_buckets: int,
    seed: int = 0,
) -> Counts:
    """Count the runs of `least` to `most` adjacent symbols in each text, by bucket.

    symbols    (n_symbols,) uint64   code points for runs of characters, hashes for runs of words
    offsets    (n_texts + 1,) int64  text i is symbols[offsets[i] : offsets[i + 1]]
    least      shortest run, ≥ 1
    most       longest run, in [least, LONGEST_RUN]
    n_buckets  in [1, MOST_BUCKETS]; fewer make unlike runs share one
    seed       another one collides other runs, ≥ 0
    returns    Counts                no row for a run across two texts; a text shorter than `least` has none
    raises     InvalidInput          if a length is out of range or offsets do not cover the symbols
    source     reference.text.ngram_counts; hashing trick: Weinberger et al. 2009
    """
    _check_sequences(symbols, offsets, seed)
    check(1 <= least <= most <= LONGEST_RUN, f"least and most must ascend in [1, {LONGEST_RUN}], got {least}, {most}")
    check(1 <= n_buckets <= MOST_BUCKETS, f"n_buckets must be in [1, {MOST_BUCKETS}], got {n_buckets}")
    n_symbols = np.diff(offsets)
    n_runs = sum(np.maximum(n_symbols - length + 1, 0) for length in range(least, most + 1))
    room = int(np.minimum(n_runs, n_buckets).sum())
    row_offsets = np.zeros(offsets.size, np.int64)
    bucket, count = np.empty(room, np.int32), np.empty(room, np.int32)
    n_seen = np.zeros(n_buckets, np.int32)
    with np.errstate(over="ignore"):  # interpreted, a product of 64 bits that wraps around would warn
        _count(plain(symbols), plain(offsets), least, most, np.uint64(seed), n_seen, row_offsets, bucket, count)
    n_pairs = row_offsets[-1]
    return Counts(row_offsets, bucket[:n_pairs], count[:n_pairs])


def _check_sequences(symbols: NDArray[np.uint64], offsets: NDArray[np.int64], seed: int) -> None:
    check_array("symbols", symbols, np.uint64)
    check_array("offsets", offsets, np.int64)
    check(0 <= seed < 1 << 63, f"seed must be in [0, 2**63), got {seed}")
    check(offsets.size >= 1 and offsets[0] == 0 and is_ascending(offsets), "offsets must ascend from 0")
    check(offsets[-1] == symbols.size, f"offsets must end with n_symbols {symbols.size}, got {offsets[-1]}")


@njit(nogil=True, inline="always")
def _mixed(value):
    value = (value ^ (value >> _BY_30)) * _FIRST
    value = (value ^ (value >> _BY_27)) * _SECOND
    return value ^ (value >> _BY_31)


@entry
def _hash(symbols, offsets, seed, hashes):
    for i in range(hashes.size):
        value = _mixed(seed + _GOLDEN)
        for at in range(offsets[i], offsets[i + 1]):
            value = _mixed((value ^ symbols[at]) + _GOLDEN)
        hashes[i] = value


@entry
def _count(symbols, offsets, least, most, seed, n_seen, row_offsets, bucket, count):
    n_buckets = np.uint64(n_seen.size)
    start = _mixed(seed + _GOLDEN)
    n_pairs = 0
    for i in range(offsets.size - 1):
        first_pair = n_pairs
        end = offsets[i + 1]
        for begin in range(offsets[i], end):
            value = start
            for at in range(begin, min(begin + most, end)):
                value = _mixed((value ^ symbols[at]) + _GOLDEN)
                if at - begin + 1 >= least:
                    place = np.int64(value % n_buckets)
                    if n_seen[place] == 0:
                        bucket[n_pairs] = place
                        n_pairs += 1
                    n_seen[place] += 1
        for pair in range(first_pair, n_pairs):
            count[pair] = n_seen[bucket[pair]]
            n_seen[bucket[pair]] = 0
        row_offsets[i + 1] = n_pairs
