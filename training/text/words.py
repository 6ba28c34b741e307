"""Many texts become one flat run of words: English words as written, Chinese ones as jieba parts them.

In: texts as typed. Out: a Corpus, whose words are indexes into one list. Called by training/text/features.py.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.text.chinese import segmented
from training.text.normal import CHINESE, ENGLISH, HAN, LANGUAGES, PLACEHOLDERS, language_of, normalised

# jieba's model of new words needs time that grows with the square of a run without a known word.
_LONGEST_RUN = 200
_TOKEN = re.compile(
    f"(?P<han>[{HAN}]{{1,{_LONGEST_RUN}}})|{'|'.join(PLACEHOLDERS)}"
    rf"|(?:(?![{HAN}])[^\W_])+(?:['-](?:(?![{HAN}])[^\W_])+)*"
)


@dataclass(frozen=True)
class Corpus:
    """Texts side by side.

    normal    normalised texts
    language  (n_texts,) int8       index into LANGUAGES
    words     every different word once, in order of first occurrence
    word      (n_words,) int32      index into `words`, text after text
    offsets   (n_texts + 1,) int64  text i is word[offsets[i] : offsets[i + 1]]
    """

    normal: list[str]
    language: NDArray[np.int8]
    words: list[str]
    word: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """Words of each text, placeholders included."""
        return np.diff(self.offsets)

    def is_in(self, language: str) -> NDArray[np.bool_]:
        """Whether each text is in a language."""
        is_ours: NDArray[np.bool_] = self.language == LANGUAGES.index(language)
        return is_ours

    def count_where(self, is_counted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Words of each text for which `is_counted`, a Boolean per word of the run, holds."""
        before: NDArray[np.int64] = np.concatenate([[0], np.cumsum(is_counted)])
        return np.diff(before[self.offsets])


def read_texts(texts: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> Corpus:
    """Normalise texts and split them into words.

    texts     as typed
    progress  told the number of texts read, once for each tenth of them
    """
    index: dict[str, int] = {}
    run: list[int] = []
    normal, languages, ends = [], [], [0]
    for n_read, text in enumerate(texts, 1):
        clean = normalised(text)
        run.extend(index.setdefault(word, len(index)) for word in tokens(clean))
        normal.append(clean)
        languages.append(LANGUAGES.index(language_of(clean)))
        ends.append(len(run))
        if ends_a_tenth(n_read, 1, len(texts)):
            progress(n_read)
    return Corpus(normal, np.array(languages, np.int8), list(index), np.array(run, np.int32), np.array(ends, np.int64))


def ends_a_tenth(n_done: int, n_new: int, n_all: int) -> bool:
    """Return whether another tenth of all is done with the newest: worth a sentence, ten times at most.

    n_done  the newest included
    n_new   how many are the newest
    """
    return n_done * 10 // n_all > (n_done - n_new) * 10 // n_all


def tokens(text: str) -> list[str]:
    """Return the words of a normalised text in order; punctuation is none."""
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "han":
            found += segmented(match[0])
        else:
            found.append(match[0])
    return found


def is_stop_word(corpus: Corpus) -> NDArray[np.bool_]:
    """Return for each word of the run whether it is a stop word of its text's language.

    returns  (n_words,) bool  False throughout texts in other languages
    """
    by_language = np.zeros((len(LANGUAGES), max(len(corpus.words), 1)), np.bool_)
    for language in (ENGLISH, CHINESE):
        known = stop_words(language)
        by_language[LANGUAGES.index(language), : len(corpus.words)] = [word in known for word in corpus.words]
    return by_language[np.repeat(corpus.language, corpus.n_tokens), corpus.word]


def without(corpus: Corpus, is_removed: NDArray[np.bool_]) -> Corpus:
    """Return the corpus with words of the run left out; the list of words stays as it is.

    is_removed  (n_words,) bool  such as `is_stop_word` returns
    """
    kept = corpus.count_where(~is_removed)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    return Corpus(corpus.normal, corpus.language, corpus.words, corpus.word[~is_removed], offsets)


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language, normalised.

    English: scikit-learn's 318, which leave praise and blame alone where longer lists do not.
    Chinese: the list of stopwords-iso.
    """
    if language == ENGLISH:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    if language == CHINESE:
        import stopwordsiso

        return frozenset(normalised(word) for word in stopwordsiso.stopwords("zh"))
    return frozenset()
