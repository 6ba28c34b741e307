"""What a review's style is read from: hashed runs of words and marks and of characters, the same wherever it is read.

In: texts as typed. Out: buckets and weights, a row per text. Called by training/deceptions.py and by the gateway's
door for risk. Case and marks stay: who was paid to praise writes them otherwise. Nothing is fitted here.
"""

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kernels.ngrams import Counts, ngram_counts, sequence_hashes

# Of half of the buckets each: words and characters never share one. Bucket 0 is kept free: it pads.
N_BUCKETS = 1 << 18
_HALF = N_BUCKETS // 2 - 1
# Enough for the longest of the reviews this was chosen on, 2,447; it bounds a row's width and a request's cost.
MOST_CHARACTERS = 4_000
LONGEST_OF_WORDS = 2
SHORTEST_OF_CHARACTERS, LONGEST_OF_CHARACTERS = 2, 4
_SEED_OF_WORDS, _SEED_OF_CHARACTERS = 11, 12
# A run of letters and digits, or a single mark.
_WORD = re.compile(r"\w+|[^\w\s]")


def review_ngrams(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the buckets of each text's runs, and what each weighs in it.

    texts    as typed; white space counts as one blank, and only the first MOST_CHARACTERS are read
    returns  (n_texts, longest) int32 buckets in [1, N_BUCKETS), 0 pads; float32 1 + log(count), 0 pads; longest is
             the largest number of different runs of any text, and at least 1
    source   tests/kernels/test_review_ngrams.py, plain Python over the texts
    """
    read = [" ".join(text.split())[:MOST_CHARACTERS] for text in texts]
    words = [_WORD.findall(text) for text in read]
    names = sequence_hashes(*_code_points(list(chain.from_iterable(words))))
    word_offsets = np.cumsum([0, *map(len, words)], dtype=np.int64)
    of_words = ngram_counts(names, word_offsets, 1, LONGEST_OF_WORDS, _HALF, _SEED_OF_WORDS)
    of_characters = ngram_counts(
        *_code_points(read), SHORTEST_OF_CHARACTERS, LONGEST_OF_CHARACTERS, _HALF, _SEED_OF_CHARACTERS
    )
    return _side_by_side(of_words, of_characters)


def _code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.frombuffer(joined, np.uint32).astype(np.uint64), offsets


def _side_by_side(of_words: Counts, of_characters: Counts) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Both kinds of runs of a text in one row."""
    n_words, n_characters = np.diff(of_words.offsets), np.diff(of_characters.offsets)
    width = max(1, int((n_words + n_characters).max(initial=0)))
    bucket = np.zeros((n_words.size, width), np.int32)
    weight = np.zeros((n_words.size, width), np.float32)
    before = np.zeros(n_words.size, np.int64)
    for counts, first in ((of_words, 1), (of_characters, 1 + _HALF)):
        n_pairs = np.diff(counts.offsets)
        row = np.repeat(np.arange(n_pairs.size), n_pairs)
        place = np.arange(row.size) - counts.offsets[row] + before[row]
        bucket[row, place] = counts.bucket + first
        weight[row, place] = counts.damped()
        before += n_pairs
    return bucket, weight
