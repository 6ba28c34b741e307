"""Word vectors of the shop's own text: words that stand in the same company get vectors that point the same way.

In: a corpus of the training window. Out: WordVectors, and one vector per text. Called by training/text/fitted.py.
Counting and factorising gives the vectors that skip-gram with negative sampling approaches (Levy and Goldberg 2014), in
seconds and the same ones every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from kernels.transitions import transitions

WIDTH = 128
LEAST_COUNT = 3
MOST_WORDS = 20_000
WINDOW = 5
# Rare contexts would look more telling than they are; Levy, Goldberg and Dagan 2015, section 3.
_CONTEXT_POWER = 0.75
# Half of the singular values, instead of none or all of them; the same, equation 5.
_EIGEN_POWER = 0.5
# Two steps find the first singular value to 1e-6 and the hundredth to 6 %, in a quarter of the time of four.
_N_POWER_STEPS, _N_OVERSAMPLES = 2, 32
# A word of frequency p weighs a / (a + p) in its text's mean; Arora, Liang and Ma 2017.
_RARITY = 1e-3
# What is shorter is the rounding of float32, and no direction.
SHORTEST = 1e-6


@dataclass(frozen=True)
class WordVectors:
    """The vocabulary of one language in one shop. Index 0 is every other word.

    words     (n_words,)                index i + 1 is words[i], the most frequent first
    vectors   (n_words + 1, WIDTH) float32  of length 1; row 0 is 0
    weight    (n_words + 1,) float32    of a word in its text's mean, in [0, 1]; 0 for index 0
    common    (WIDTH,) float32          direction that all texts share and that is taken out of each; length 1, or 0
    """

    words: tuple[str, ...]
    vectors: NDArray[np.float32]
    weight: NDArray[np.float32]
    common: NDArray[np.float32]

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each word."""
        return {word: place for place, word in enumerate(self.words, 1)}

    def indexes(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Return the index of each word, 0 for unknown ones."""
        return np.array([self.index.get(word, 0) for word in words], np.int32)

    def nearest(self, word: str, n_words: int = 5) -> list[str]:
        """Return the words whose vectors point most nearly the same way, best first; none for an unknown word."""
        place = self.index.get(word)
        if place is None:
            return []
        similarity = self.vectors[1:] @ self.vectors[place]
        similarity[place - 1] = -np.inf
        return [self.words[other] for other in np.argsort(-similarity, kind="stable")[:n_words]]

    def pooled(self, indexes: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return one vector per text: the weighted mean of its known words, without the direction common to all.

        indexes  (n_words,) int32      from `indexes`, text after text
        offsets  (n_texts + 1,) int64  text i is indexes[offsets[i] : offsets[i + 1]]
        returns  (n_texts, WIDTH) float32  of length 1; 0 where no word is known
        """
        mean = _means(self, indexes, offsets)
        return _of_length_one(mean - np.outer(mean @ self.common, self.common))


def fit_word_vectors(
    words: Sequence[str], word: NDArray[np.int32], offsets: NDArray[np.int64], seed: int = 0
) -> WordVectors:
    """Fit vectors of the words that occur often enough.

    words    every different word
    word     (n_words,) int32      index into `words`, text after text
    offsets  (n_texts + 1,) int64  text i is word[offsets[i] : offsets[i + 1]]
    seed     of the random projection; equal seeds give equal vectors
    """
    n_seen = np.bincount(word, minlength=len(words))
    # Equal counts are ordered by the word itself: the order of the texts must not show.
    frequent = np.flatnonzero(n_seen >= LEAST_COUNT).tolist()
    kept = sorted(frequent, key=lambda place: (-n_seen[place], words[place]))[:MOST_WORDS]
    renamed = np.zeros(len(words) + 1, np.int32)
    renamed[kept] = np.arange(1, len(kept) + 1)
    indexes = renamed[word]
    vectors = np.zeros((len(kept) + 1, WIDTH), np.float32)
    weight = np.zeros(len(kept) + 1, np.float32)
    if kept:
        vectors[1:] = _factorised(_company(indexes, offsets, len(kept) + 1), seed)
        weight[1:] = _RARITY / (_RARITY + n_seen[kept] / n_seen.sum())
    plain = WordVectors(tuple(words[place] for place in kept), vectors, weight, np.zeros(WIDTH, np.float32))
    return WordVectors(plain.words, vectors, weight, _common(_means(plain, indexes, offsets)))


def _company(indexes: NDArray[np.int32], offsets: NDArray[np.int64], n_indexes: int) -> scipy.sparse.csr_matrix:
    """Positive pointwise mutual information of words within WINDOW of each other, near ones counting more."""
    after = transitions(indexes, offsets, n_indexes, WINDOW)
    shape = (n_indexes, n_indexes)
    pairs = scipy.sparse.csr_matrix((after.weight, after.successor, after.offsets), shape)[1:, 1:]
    pairs = (pairs + pairs.T).tocoo()
    total = np.asarray(pairs.sum(axis=1)).ravel()
    context = total**_CONTEXT_POWER
    # A pair that occurs has both totals above 0.
    information = np.log(pairs.data * context.sum() / (total[pairs.row] * context[pairs.col]))
    is_positive = information > 0.0
    places = (pairs.row[is_positive], pairs.col[is_positive])
    return scipy.sparse.csr_matrix((information[is_positive], places), pairs.shape)


def _factorised(information: scipy.sparse.csr_matrix, seed: int) -> NDArray[np.float32]:
    """Truncated singular vectors of the words, padded with 0 where there are fewer words than WIDTH."""
    rank = min(WIDTH, information.shape[0])
    left, values, _ = randomized_svd(
        information, rank, n_oversamples=_N_OVERSAMPLES, n_iter=_N_POWER_STEPS, random_state=seed
    )
    vectors = np.zeros((information.shape[0], WIDTH))
    vectors[:, :rank] = left * values**_EIGEN_POWER
    return _of_length_one(vectors)


def _means(fitted: WordVectors, indexes: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weighted mean over the known words of each text; 0 where there is none."""
    n_texts = offsets.size - 1
    weights = scipy.sparse.csr_matrix(
        (fitted.weight[indexes].astype(np.float64), indexes, offsets), (n_texts, fitted.weight.size)
    )
    n_known = np.diff(np.concatenate([[0], np.cumsum(indexes != 0)])[offsets])
    return np.asarray(weights @ fitted.vectors.astype(np.float64)) / np.maximum(n_known, 1)[:, None]


def _common(means: NDArray[np.float64]) -> NDArray[np.float32]:
    """First singular direction of the texts' vectors."""
    if not means.any():
        return np.zeros(WIDTH, np.float32)
    _, directions = np.linalg.eigh(means.T @ means)
    first = directions[:, -1]
    # A direction and its opposite are the same one; the sign is fixed so that equal data gives equal files.
    return np.asarray(first * np.sign(first[np.argmax(np.abs(first))]), np.float32)


def _of_length_one(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > SHORTEST), np.float32)
