"""Texts become words in both languages, stop words are known, and parts of speech agree with people and with jieba."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.text.labelled import CHINESE, ENGLISH, labelled
from tests.training.text.real import chinese_reviews
from training.text import tags
from training.text.words import Corpus, is_stop_word, read_texts, tokens, without


def words_of(corpus: Corpus, text: int = 0) -> list[str]:
    """One text's words."""
    return [corpus.words[index] for index in corpus.word[corpus.offsets[text] : corpus.offsets[text + 1]]]


def test_english_words_keep_their_apostrophes_and_hyphens() -> None:
    assert tokens("don't buy this t-shirt, 3xl is <number> cm!") == [
        "don't", "buy", "this", "t-shirt", "3xl", "is", "<number>", "cm",
    ]  # fmt: skip


def test_chinese_words_are_parted_and_foreign_ones_within_stay_whole() -> None:
    assert tokens("这个iphone手机质量很好") == ["这个", "iphone", "手机", "质量", "很", "好"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts=st.lists(st.text(st.sampled_from("ab 好的手机质量很<>1&'-😀"), max_size=20), max_size=5))
def test_every_word_belongs_to_one_text_and_has_one_tag(texts: list[str]) -> None:
    corpus = read_texts(texts)
    assert [words_of(corpus, row) for row in range(len(texts))] == [tokens(text) for text in corpus.normal]
    counted = tags.counts(corpus, tags.tagged(corpus))
    assert np.array_equal(sum(counted.values(), np.zeros(len(texts), np.int64)), corpus.n_tokens)


@settings(max_examples=30, deadline=None)
@given(n_texts=st.integers(0, 60))
def test_reading_tells_of_each_tenth_once_and_of_the_end(n_texts: int) -> None:
    told: list[int] = []
    read_texts(["a"] * n_texts, told.append)
    assert len(told) == min(n_texts, 10)
    assert np.diff([0, *told, n_texts]).max() <= n_texts / 10 + 1


def test_a_text_of_a_million_characters_without_a_known_word_is_read() -> None:
    assert read_texts(["龘靐" * 500_000]).n_tokens[0] > 0


def test_stop_words_are_those_of_the_texts_own_language() -> None:
    corpus = read_texts(["the dress is great and i love it", "质量和物流都很好", "the 的"])
    stops = is_stop_word(corpus)
    assert [words_of(without(corpus, stops), row) for row in range(2)] == [
        ["dress", "great", "love"], ["质量", "物流"],
    ]  # fmt: skip
    assert corpus.count_where(stops).tolist()[:2] == [5, 4]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("it is snorply made", "adverb"),
        ("she is glorfing it", "verb"),
        ("two vorbels", "noun"),
        ("a snorpable coat", "adjective"),
        ("so quorpful", "adjective"),
        ("they don't shrink", "verb"),
    ],
)
def test_english_words_outside_of_the_lexicon_are_told_by_their_form(text: str, tag: str) -> None:
    corpus = read_texts([text])
    told = dict(zip(words_of(corpus), (tags.COARSE[place] for place in tags.tagged(corpus)), strict=True))
    unknown = next(word for word in told if word[:4] in ("snor", "glor", "vorb", "quor", "don'"))
    assert told[unknown] == tag


def by_character(pairs: list[tuple[str, str]]) -> list[str]:
    """The tag of every character: two ways to part a sentence compare by what they share."""
    return [tag for word, tag in pairs for _ in word]


@pytest.mark.parametrize(
    # Measured: 0.98 of the words and 0.84 of the characters; jieba joins 很快 to one adverb and takes 快递 for a verb.
    ("sentences", "between", "least_share"),
    [(ENGLISH, " ", 0.92), (CHINESE, "", 0.80)],
)
def test_parts_of_speech_agree_with_sentences_tagged_by_hand(
    sentences: tuple[str, ...], between: str, least_share: float
) -> None:
    right, n_all = 0.0, 0
    for sentence in sentences:
        pairs = labelled(sentence)
        corpus = read_texts([between.join(word for word, _ in pairs)])
        found = [tags.COARSE[tag] for tag in tags.tagged(corpus)]
        ours = by_character(list(zip(words_of(corpus), found, strict=True)))
        agree = np.array(ours) == np.array(by_character(pairs))
        # In English a word counts once, however long it is.
        weight = np.repeat([1 / len(word) if between else 1.0 for word, _ in pairs], [len(word) for word, _ in pairs])
        right, n_all = right + float(agree @ weight), n_all + round(weight.sum())
    assert right / n_all >= least_share


def test_chinese_tags_agree_with_jieba_reading_whole_sentences() -> None:
    from jieba import posseg

    reviews = chinese_reviews().sample(100, seed=0)
    agree = []
    for text in reviews["text"].to_list():
        corpus = read_texts([text])
        ours = by_character(
            [(word, tags.COARSE[tag]) for word, tag in zip(words_of(corpus), tags.tagged(corpus), strict=True)]
        )
        spoken = "".join(words_of(corpus))
        theirs = by_character([(pair.word, pair.flag) for pair in posseg.lcut(spoken)])
        agree += [(mine, flag[:1]) for mine, flag in zip(ours, theirs, strict=True)]
    nouns = [flag in "nts" for mine, flag in agree if mine == "noun"]
    verbs = [flag == "v" for mine, flag in agree if mine == "verb"]
    # Measured: 0.89 and 0.95. jieba reads words that its dictionary lacks by another model in a whole sentence.
    assert np.mean(nouns) > 0.86
    assert np.mean(verbs) > 0.92
