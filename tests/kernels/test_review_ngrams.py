"""Runs of a review are counted as plain Python counts them, and every text has a row."""

import math
import re
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.review_ngrams import LONGEST_OF_CHARACTERS, MOST_CHARACTERS, N_BUCKETS, review_ngrams
from tests.kernels.ledgers import EXAMPLES

TEXTS = st.lists(st.text(st.characters(codec=None), max_size=40), max_size=5)


def defined(text: str) -> Counter[tuple[str, ...]]:
    """Runs of one text: one or two words or marks, and two to four characters."""
    read = " ".join(text.split())[:MOST_CHARACTERS]
    words = re.findall(r"\w+|[^\w\s]", read)
    runs = [tuple(words[at : at + n]) for n in (1, 2) for at in range(len(words) - n + 1)]
    runs += [
        ("characters", read[at : at + n])
        for n in range(2, LONGEST_OF_CHARACTERS + 1)
        for at in range(len(read) - n + 1)
    ]
    return Counter(runs)


@EXAMPLES
@given(texts=TEXTS)
def test_weights_are_those_of_the_runs_counted_one_by_one(texts: list[str]) -> None:
    bucket, weight = review_ngrams(texts)
    assert bucket.shape == weight.shape
    assert bucket.shape[0] == len(texts)
    assert ((bucket > 0) == (weight > 0)).all()
    assert (bucket < N_BUCKETS).all()
    for row, text in enumerate(texts):
        expected = sorted(1 + math.log(count) for count in defined(text).values())
        told = sorted(weight[row][weight[row] > 0].tolist())
        # Two runs of so few may share one of 131,071 buckets once in some thousand texts; then one pair is missing.
        if len(told) == len(expected):
            np.testing.assert_allclose(told, expected, rtol=1e-6)
        else:
            assert len(expected) - len(told) <= 2


def test_a_run_has_its_bucket_in_whatever_company() -> None:
    alone, _ = review_ngrams(["My husband"])
    among, _ = review_ngrams(["A clean room.", "My husband", ""])
    assert set(alone[0]) == set(among[1]) - {0}


def test_case_and_marks_make_other_runs() -> None:
    bucket, _ = review_ngrams(["ok ok", "OK ok", "ok, ok"])
    assert len({frozenset(row) for row in bucket.tolist()}) == 3


def test_white_space_is_one_blank_and_the_rest_of_a_long_text_is_not_read() -> None:
    bucket, weight = review_ngrams(["a b", " a \n\t b "])
    assert np.array_equal(bucket[0], bucket[1])
    assert np.array_equal(weight[0], weight[1])
    long = "x" * MOST_CHARACTERS
    cut, _ = review_ngrams([long, long + "yz"])
    assert np.array_equal(cut[0], cut[1])


def test_no_text_and_an_empty_text_have_rows_of_nothing() -> None:
    assert review_ngrams([])[0].shape == (0, 1)
    bucket, weight = review_ngrams(["", "  "])
    assert bucket.shape == (2, 1)
    assert not bucket.any()
    assert not weight.any()
