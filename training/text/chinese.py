"""Chinese words and their parts of speech, by jieba's dictionary and models.

In: a run of Han characters, or one word. Out: its words, or its tag. Called by training/text/words.py and tags.py.
jieba is imported at first use: it costs a second and most shops hold no Chinese.
"""

import logging
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast


class _Segmenter(Protocol):
    def lcut(self, sentence: str) -> list[str]: ...


class _Pair(Protocol):
    word: str
    flag: str


class _Tagger(Protocol):
    word_tag_tab: dict[str, str]

    def lcut(self, sentence: str) -> list[_Pair]: ...


def segmented(run: str) -> list[str]:
    """Return the words of a run of Han characters, in order; together they are the run.

    run  Han characters only; jieba looks names and new words up in its hidden Markov model
    """
    return _segmenter().lcut(run)


def tag_of(word: str) -> str:
    """Return the part of speech of a Chinese word that stands alone, in jieba's (ICTCLAS) letters.

    word     as `segmented` gave it; one that the dictionary lacks gets the tag of its last part, its head
    returns  such as n, v, a, or x where jieba does not know
    """
    tagger = _tagger()
    known = tagger.word_tag_tab.get(word)
    if known is not None:
        return known
    parts = tagger.lcut(word)
    return parts[-1].flag if parts else "x"


@cache
def _segmenter() -> _Segmenter:
    return cast(_Segmenter, _loaded(_jieba()))


@cache
def _tagger() -> _Tagger:
    return cast(_Tagger, _jieba().posseg.POSTokenizer(_segmenter()))


def _loaded(jieba: ModuleType) -> object:
    """A tokenizer with the packaged dictionary; jieba's own way trusts a file in the folder of temporary files."""
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


def _jieba() -> ModuleType:
    with warnings.catch_warnings():
        # Its sources hold escapes that this Python warns of once, when it compiles them.
        warnings.simplefilter("ignore")
        jieba = import_module("jieba")
        import_module("jieba.posseg")
    jieba.setLogLevel(logging.WARNING)
    return jieba
