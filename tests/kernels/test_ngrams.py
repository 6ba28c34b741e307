"""Hashed n-grams and contextual rules equal their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.checks import InvalidInput
from kernels.ngrams import Counts, ngram_counts, sequence_hashes
from kernels.reference import text as twin
from kernels.tagging import ALWAYS, ANY_TAG, OUTSIDE, TAG, WORD, retagged
from tests.kernels.ledgers import EXAMPLES

# Any code point, lone surrogates among them: a hash knows no invalid text.
TEXTS = st.lists(st.text(st.characters(codec=None), max_size=30), max_size=5)
TAGS, WORDS = st.integers(0, 3), st.integers(-1, 3)


def laid_out(sequences: list[list[int]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Symbols one after the other, and where each sequence starts."""
    symbols = [symbol for sequence in sequences for symbol in sequence]
    return np.array(symbols, np.uint64), np.cumsum([0, *map(len, sequences)], dtype=np.int64)


def code_points(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def rows_of(counts: Counts) -> list[dict[int, int]]:
    """Counts as their twin writes them."""
    pairs = list(zip(counts.bucket.tolist(), counts.count.tolist(), strict=True))
    rows = [pairs[begin:end] for begin, end in zip(counts.offsets[:-1], counts.offsets[1:], strict=True)]
    assert all(len(dict(row)) == len(row) for row in rows)
    return [dict(row) for row in rows]


@EXAMPLES
@given(
    texts=TEXTS,
    least=st.integers(1, 4),
    longer=st.integers(0, 3),
    n_buckets=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_counts_equal_their_definition(texts: list[str], least: int, longer: int, n_buckets: int, seed: int) -> None:
    sequences = code_points(texts)
    counted = ngram_counts(*laid_out(sequences), least, least + longer, n_buckets, seed)
    assert rows_of(counted) == twin.ngram_counts(sequences, least, least + longer, n_buckets, seed)


@EXAMPLES
@given(sequences=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=6), max_size=5), seed=st.integers(0, 2**63 - 1))
def test_hashes_equal_their_definition(sequences: list[list[int]], seed: int) -> None:
    assert sequence_hashes(*laid_out(sequences), seed).tolist() == twin.sequence_hashes(sequences, seed)


@EXAMPLES
@given(
    texts=st.lists(st.lists(st.tuples(TAGS, WORDS), max_size=8), max_size=4),
    rules=st.lists(
        st.tuples(
            st.sampled_from([ANY_TAG, 0, 1, 2]),
            TAGS,
            *[
                part
                for _ in range(2)
                for part in (
                    st.sampled_from([ALWAYS, TAG, WORD]),
                    st.integers(-3, 0),
                    st.integers(0, 3),
                    st.sampled_from([OUTSIDE, 0, 1, 2]),
                )
            ],
        ),
        max_size=6,
    ),
)
def test_rules_apply_as_defined(texts: list[list[tuple[int, int]]], rules: list[tuple[int, ...]]) -> None:
    pairs = [pair for text in texts for pair in text]
    tags, words = (np.array([pair[side] for pair in pairs], np.int32) for side in (0, 1))
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    found = retagged(tags, words, offsets, np.array(rules, np.int32).reshape(len(rules), 10))
    defined = [
        tag
        for text in texts
        for tag in twin.retagged([pair[0] for pair in text], [pair[1] for pair in text], [list(rule) for rule in rules])
    ]
    assert found.tolist() == defined


def test_no_texts_and_empty_texts_have_no_runs() -> None:
    assert rows_of(ngram_counts(*laid_out([]), 1, 3, 16)) == []
    assert rows_of(ngram_counts(*laid_out([[], []]), 1, 3, 16)) == [{}, {}]


def test_a_text_shorter_than_the_shortest_run_has_none() -> None:
    assert rows_of(ngram_counts(*laid_out(code_points(["a", "ab"])), 2, 3, 1 << 16))[0] == {}


def test_no_run_leads_from_one_text_into_the_next() -> None:
    together, apart = (ngram_counts(*laid_out(code_points(texts)), 2, 2, 1 << 16) for texts in (["ab"], ["a", "b"]))
    assert together.bucket.size == 1
    assert apart.bucket.size == 0


def test_a_very_long_text_fills_every_bucket_and_loses_no_run() -> None:
    n_symbols = 3_000
    counted = ngram_counts(*laid_out([list(range(n_symbols))]), 1, 2, 64)
    assert sorted(counted.bucket.tolist()) == list(range(64))
    assert int(counted.count.sum()) == n_symbols + n_symbols - 1


def test_another_seed_puts_runs_elsewhere() -> None:
    symbols = laid_out(code_points(["a summer dress"]))
    first, second = (ngram_counts(*symbols, 3, 3, 1 << 20, seed=seed) for seed in (0, 1))
    assert set(first.bucket.tolist()).isdisjoint(second.bucket.tolist())


def test_unlike_words_share_a_bucket_about_as_often_as_chance_says() -> None:
    words = [f"word{number}" for number in range(2_000)]
    buckets = np.unique(sequence_hashes(*laid_out(code_points(words))) % np.uint64(1 << 12)).size
    expected = (1 << 12) * (1.0 - (1.0 - 2.0**-12) ** 2_000)
    assert abs(buckets - expected) < 80  # the spread of this count is about 17; words fixed, so the draw is too


def test_damped_counts_grow_with_the_logarithm() -> None:
    counted = ngram_counts(*laid_out(code_points(["aaa", "b"])), 1, 1, 16)
    np.testing.assert_allclose(counted.damped(), [1.0 + np.log(3.0), 1.0], rtol=1e-6)  # float32


def test_lengths_and_offsets_out_of_range_are_refused() -> None:
    symbols, offsets = laid_out([[1, 2, 3]])
    with pytest.raises(InvalidInput, match=r"least and most must ascend in \[1, 16\], got 3, 2"):
        ngram_counts(symbols, offsets, 3, 2, 16)
    with pytest.raises(InvalidInput, match=r"n_buckets must be in \[1, 16777216\], got 0"):
        ngram_counts(symbols, offsets, 1, 2, 0)
    with pytest.raises(InvalidInput, match="offsets must end with n_symbols 3, got 2"):
        sequence_hashes(symbols, np.array([0, 2]))
    with pytest.raises(InvalidInput, match=r"seed must be in \[0, 2\*\*63\), got -1"):
        sequence_hashes(symbols, offsets, -1)
    with pytest.raises(InvalidInput, match="rules must have 10 columns, got 3"):
        retagged(np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([0, 1]), np.zeros((1, 3), np.int32))
