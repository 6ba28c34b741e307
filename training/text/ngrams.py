"""The n-grams of a corpus, of words and of characters, as counts of hashed buckets.

In: a corpus. Out: sparse counts, the same ones in every shop: nothing is fitted. Called by
training/text/features.py.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.ngrams import Counts, ngram_counts, sequence_hashes
from training.text.words import Corpus

N_BUCKETS = 1 << 16
# Single words and pairs: 不 好 alone and 不好 together say different things.
SHORTEST_OF_WORDS, LONGEST_OF_WORDS = 1, 2
# Two Chinese characters are a word, three English ones a syllable.
SHORTEST_OF_CHARACTERS, LONGEST_OF_CHARACTERS = 2, 3
# Each kind collides in its own way.
_SEED_OF_WORDS, _SEED_OF_CHARACTERS = 1, 2


def word_ngrams(corpus: Corpus) -> Counts:
    """Return the counts of words and pairs of adjacent words in each text."""
    names = sequence_hashes(*code_points(corpus.words))
    # A corpus without a word has no name to look up.
    symbols = names[corpus.word] if names.size else names
    return ngram_counts(symbols, corpus.offsets, SHORTEST_OF_WORDS, LONGEST_OF_WORDS, N_BUCKETS, _SEED_OF_WORDS)


def character_ngrams(corpus: Corpus) -> Counts:
    """Return the counts of runs of two and three characters in each normalised text, blanks included."""
    return ngram_counts(
        *code_points(corpus.normal), SHORTEST_OF_CHARACTERS, LONGEST_OF_CHARACTERS, N_BUCKETS, _SEED_OF_CHARACTERS
    )


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the characters of all texts as numbers, and where each text starts."""
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.frombuffer(joined, np.uint32).astype(np.uint64), offsets
