"""Words that keep the same company point the same way: by construction in a little shop, by sense in real reviews."""

import numpy as np
import polars as pl
import pytest

from tests.training.text.real import chinese_reviews, english_reviews
from tests.training.text.shop import reviews
from training.text.vectors import WIDTH, WordVectors, fit_word_vectors
from training.text.words import read_texts


def fitted_on(texts: pl.Series, seed: int = 0) -> WordVectors:
    """Vectors of a column of texts."""
    corpus = read_texts(texts.to_list())
    return fit_word_vectors(corpus.words, corpus.word, corpus.offsets, seed)


@pytest.mark.parametrize(("word", "company"), [("apple", {"pear", "plum"}), ("手机", {"平板", "电脑"})])
def test_words_in_the_same_places_are_nearest(word: str, company: set[str]) -> None:
    assert set(fitted_on(reviews()["text"]).nearest(word, 2)) == company


def test_equal_texts_give_equal_vectors_whatever_their_order() -> None:
    texts = reviews()["text"]
    first, again = fitted_on(texts), fitted_on(texts)
    np.testing.assert_array_equal(first.vectors, again.vectors)
    other_way = fitted_on(texts.reverse())
    assert other_way.words == first.words
    np.testing.assert_array_equal(other_way.weight, first.weight)


def test_vectors_have_length_one_and_index_0_is_no_direction() -> None:
    fitted = fitted_on(reviews()["text"])
    np.testing.assert_allclose(np.linalg.norm(fitted.vectors[1:], axis=1), 1.0, atol=1e-6)  # float32
    assert not fitted.vectors[0].any()
    assert fitted.weight[0] == 0.0


def test_frequent_words_weigh_less() -> None:
    fitted = fitted_on(reviews()["text"])
    weight = dict(zip(fitted.words, fitted.weight[1:], strict=True))
    assert weight["the"] < weight["apple"]


def test_a_pooled_text_is_the_weighted_mean_without_what_all_share() -> None:
    fitted = fitted_on(reviews()["text"])
    words = ["the", "apple", "nowhere", "sweet"]
    indexes = fitted.indexes(words)
    pooled = fitted.pooled(indexes, np.array([0, 4, 4], np.int64))
    known = [index for index in indexes if index]
    mean = np.mean([fitted.weight[index] * fitted.vectors[index].astype(np.float64) for index in known], axis=0)
    mean -= (mean @ fitted.common) * fitted.common
    np.testing.assert_allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-6)  # float32
    assert not pooled[1].any()


def test_too_few_words_for_any_vector_give_none() -> None:
    fitted = fitted_on(pl.Series(["once", "twice"]))
    assert fitted.words == ()
    assert fitted.nearest("once") == []
    assert fitted.pooled(fitted.indexes(["once"]), np.array([0, 1], np.int64)).shape == (1, WIDTH)


@pytest.mark.parametrize(
    ("language", "word", "expected"),
    [
        ("en", "small", {"large", "medium", "big"}),
        ("en", "blue", {"green", "purple", "navy", "pink"}),
        ("en", "cotton", {"rayon", "linen", "jersey"}),
        ("zh", "蒙牛", {"伊利"}),
        ("zh", "苹果", {"新鲜", "口感", "好吃"}),
        ("zh", "快递", {"小哥", "师傅", "送货"}),
    ],
)
def test_the_nearest_words_in_real_reviews_make_sense(
    real: dict[str, WordVectors], language: str, word: str, expected: set[str]
) -> None:
    assert len(expected & set(real[language].nearest(word, 10))) >= min(2, len(expected))


@pytest.fixture(scope="module")
def real() -> dict[str, WordVectors]:
    """Vectors of a third of the real reviews of each language."""
    return {
        "en": fitted_on(english_reviews()["text"].gather_every(3)),
        "zh": fitted_on(chinese_reviews()["text"].gather_every(3)),
    }
