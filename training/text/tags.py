"""Parts of speech: every word of a corpus gets one of seven coarse tags.

In: a corpus. Out: a tag per word, for counts per text. Called by training/text/features.py.
English: Brill's lexicon and rules as the package textblob ships them, read as data and applied by kernels/tagging.py.
Chinese: the tag jieba gives each word. A tag depends on its text alone, so nothing here is fitted and nothing can leak.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.checks import InvalidInput
from kernels.tagging import ALWAYS, ANY_TAG, N_COLUMNS, OUTSIDE, TAG, WORD, retagged
from training.text.chinese import tag_of
from training.text.normal import CHINESE, ENGLISH, NUMBER, PLACEHOLDERS
from training.text.words import Corpus

NOUN, VERB, ADJECTIVE, ADVERB, PRONOUN, NUMERAL, ELSE = COARSE = (
    "noun", "verb", "adjective", "adverb", "pronoun", "number", "other",
)  # fmt: skip

_PENN = {"NN": NOUN, "VB": VERB, "MD": VERB, "JJ": ADJECTIVE, "RB": ADVERB, "PR": PRONOUN, "WP": PRONOUN, "CD": NUMERAL}
_ICTCLAS = {
    "an": NOUN, "vn": NOUN, "ad": ADVERB, "vd": ADVERB, "mq": NUMERAL,
    "n": NOUN, "t": NOUN, "s": NOUN, "v": VERB, "a": ADJECTIVE, "b": ADJECTIVE, "z": ADJECTIVE, "d": ADVERB,
    "r": PRONOUN, "m": NUMERAL,
}  # fmt: skip

# What a context rule's name says: the kind and the places of each of its symbols, as kernels/tagging.py takes them.
_TEMPLATES = {
    "PREVTAG": ((TAG, -1, -1),), "NEXTTAG": ((TAG, 1, 1),), "PREV2TAG": ((TAG, -2, -2),), "NEXT2TAG": ((TAG, 2, 2),),
    "PREV1OR2TAG": ((TAG, -2, -1),), "NEXT1OR2TAG": ((TAG, 1, 2),),
    "PREV1OR2OR3TAG": ((TAG, -3, -1),), "NEXT1OR2OR3TAG": ((TAG, 1, 3),),
    "SURROUNDTAG": ((TAG, -1, -1), (TAG, 1, 1)),
    "PREVBIGRAM": ((TAG, -2, -2), (TAG, -1, -1)), "NEXTBIGRAM": ((TAG, 1, 1), (TAG, 2, 2)),
    "CURWD": ((WORD, 0, 0),), "PREVWD": ((WORD, -1, -1),), "NEXTWD": ((WORD, 1, 1),), "PREV1OR2WD": ((WORD, -2, -1),),
    "LBIGRAM": ((WORD, -1, -1), (WORD, 0, 0)), "RBIGRAM": ((WORD, 0, 0), (WORD, 1, 1)),
    "WDAND2AFT": ((WORD, 0, 0), (WORD, 2, 2)),
    "WDPREVTAG": ((TAG, -1, -1), (WORD, 0, 0)), "WDNEXTTAG": ((WORD, 0, 0), (TAG, 1, 1)),
    "WDAND2TAGAFT": ((WORD, 0, 0), (TAG, 2, 2)), "WDAND2TAGBFR": ((TAG, -2, -2), (WORD, 0, 0)),
}  # fmt: skip
# The lexicon was counted in newspapers, where `love` and `fit` are nouns more often than not. Reviews say "I love it".
_SPEAKERS = ("i", "we", "you", "they")
_OUR_RULES = tuple(f"NN VBP PREVWD {word}" for word in _SPEAKERS) + tuple(
    f"IN VBP LBIGRAM {word} like" for word in _SPEAKERS
)
# Three rules make verbs, nouns and adjectives of prepositions. Without the capitals of newspapers they strike `for` and
# `in`; the one word they are right about is `like`.
_CLOSED, _OPEN = "IN", ("VB", "NN", "JJ")
# jieba's dictionary files single characters of all kinds under zg; these are the frequent ones of them.
_OUR_CHINESE = (
    dict.fromkeys("很较仍反", ADVERB) | dict.fromkeys("此每您", PRONOUN) | dict.fromkeys("今县车物土村", NOUN)
)
_OUR_CHINESE |= dict.fromkeys("行穿掉选论奔", VERB)
_OUR_WORDS = {"i": "PRP", "<url>": "SYM", "<email>": "SYM", "<emoji>": "SYM", NUMBER: "CD"}
_CONTRACTIONS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")
_TEXT_END = "STAART"


@dataclass(frozen=True)
class _Brill:
    """The packaged data: tag by lower-case word, rules for unknown words, rules in context."""

    tag_by_word: dict[str, str]
    morphology: list[list[str]]
    context: list[list[str]]


def tagged(corpus: Corpus) -> NDArray[np.int8]:
    """Return the coarse tag of every word of the run, an index into COARSE.

    returns  (n_words,) int8  in texts of other languages: numbers, and otherwise other
    raises   InvalidInput     if the package with the English lexicon is not installed
    """
    coarse = np.full(corpus.word.size, COARSE.index(ELSE), np.int8)
    coarse[_placed(corpus.words, NUMBER)[corpus.word]] = COARSE.index(NUMERAL)
    for name, tag in ((ENGLISH, _english), (CHINESE, _chinese)):
        is_ours = corpus.is_in(name)
        in_run = np.repeat(is_ours, corpus.n_tokens)
        if in_run.any():
            offsets = np.concatenate([[0], np.cumsum(corpus.n_tokens[is_ours])])
            coarse[in_run] = tag(corpus.words, corpus.word[in_run], offsets)
    return coarse


def counts(corpus: Corpus, coarse: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """Return how many words of each text have each coarse tag; together they are all words.

    coarse  from `tagged`
    """
    return {name: corpus.count_where(coarse == index) for index, name in enumerate(COARSE)}


def _placed(words: list[str], wanted: str) -> NDArray[np.bool_]:
    return np.array([word == wanted for word in words], np.bool_)


def _chinese(words: list[str], word: NDArray[np.int32], _: NDArray[np.int64]) -> NDArray[np.int8]:
    """Each different word is asked for once."""
    tag = np.zeros(len(words), np.int8)
    for index in np.unique(word):
        tag[index] = COARSE.index(_coarse_of_chinese(words[index]))
    return tag[word]


def _coarse_of_chinese(word: str) -> str:
    if word in PLACEHOLDERS:
        return NUMERAL if word == NUMBER else ELSE
    if word in _OUR_CHINESE:
        return _OUR_CHINESE[word]
    if not ("\u3400" <= word[0] <= "\ufaff" or word[0] >= "\U00020000"):
        return NOUN if word[0].isalpha() else ELSE  # a brand, a model, a size
    tag = tag_of(word)
    return _ICTCLAS.get(tag[:2]) or _ICTCLAS.get(tag[:1]) or ELSE


def _english(words: list[str], word: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.int8]:
    """Lexicon and morphology give each different word its first tag, context each occurrence its last."""
    brill = _brill()
    used = np.unique(word)
    first = {int(index): _first_tag(words[index], brill) for index in used}
    names = sorted({*first.values(), *(rule[side] for rule in brill.context for side in (0, 1))})
    place = {name: index for index, name in enumerate(names)}
    tag = np.zeros(len(words), np.int32)
    tag[used] = [place[first[int(index)]] for index in used]
    rules = _rules(brill.context, place, {words[index]: int(index) for index in used})
    last = retagged(tag[word], word, offsets, rules)
    return np.array([COARSE.index(_PENN.get(name[:2], ELSE)) for name in names], np.int8)[last]


def _first_tag(word: str, brill: _Brill) -> str:
    known = brill.tag_by_word.get(word)
    if known is not None:
        return known
    for ending in _CONTRACTIONS:
        if word.endswith(ending) and len(word) > len(ending):
            return brill.tag_by_word.get(word.removesuffix(ending), "NN")
    if "-" in word:
        return "JJ"
    tag = "NN"
    for rule in brill.morphology:
        tag = _after(rule, word, tag, brill.tag_by_word)
    return tag


def _after(rule: list[str], word: str, tag: str, known: dict[str, str]) -> str:
    """The tag of an unknown word after one rule: [from] piece kind [length] to."""
    # A kind that begins with f holds for one tag only, which stands first: `NN s fhassuf 1 NNS`, but `ly hassuf 2 RB`.
    if rule[2].startswith("f"):
        if rule[0] != tag:
            return tag
        rule = rule[1:]
    piece, kind, to = rule[0], rule[1].removeprefix("f"), rule[-1]
    holds = (
        (kind == "hassuf" and word.endswith(piece))
        or (kind == "haspref" and word.startswith(piece))
        or (kind == "char" and piece in word)
        or (kind == "addsuf" and word + piece in known)
        or (kind == "addpref" and piece + word in known)
        or (kind == "deletesuf" and word.endswith(piece) and word.removesuffix(piece) in known)
        or (kind == "deletepref" and word.startswith(piece) and word.removeprefix(piece) in known)
    )
    return to if holds else tag


def _rules(context: list[list[str]], place: dict[str, int], index: dict[str, int]) -> NDArray[np.int32]:
    """Rules as numbers; one that names a word or a tag that does not occur can never hold and is left out."""
    rows = []
    for before, after, name, *symbols in context:
        row = [ANY_TAG if before == "*" else place[before], place[after]]
        for (kind, nearest, farthest), symbol in zip(_TEMPLATES[name], symbols, strict=True):
            known = OUTSIDE if symbol == _TEXT_END else (place if kind == TAG else index).get(symbol)
            if known is None:
                break
            row += [kind, nearest, farthest, known]
        else:
            row += [ALWAYS, 0, 0, 0] * ((N_COLUMNS - len(row)) // 4)
            rows.append(row)
    return np.array(rows, np.int32).reshape(len(rows), N_COLUMNS)


@cache
def _brill() -> _Brill:
    """Read the lexicon without importing its package, which brings nltk along."""
    found = importlib.util.find_spec("textblob")
    if found is None or not found.submodule_search_locations:
        raise InvalidInput("textblob must be installed for English parts of speech; `make setup` installs it")
    folder = Path(found.submodule_search_locations[0]) / "en"
    tags: dict[str, str] = {}
    for line in _lines(folder / "en-lexicon.txt"):
        if len(line) == 2:
            word, tag = line[0], line[1].split("|")[0]
            # Our words have no case: an entry in lower case is theirs, a name's only where there is no other.
            if word == word.lower() or word.lower() not in tags:
                tags[word.lower()] = tag
    # Rules that look at neighbours (goodleft, goodright) were learnt for whole corpora and are not applied.
    morphology = [line[:-1] for line in _lines(folder / "en-morphology.txt") if "good" not in "".join(line[:3])]
    context = [
        [*line[:3], *_lowered(line)]
        for line in _lines(folder / "en-context.txt")
        if len(line) > 3 and line[2] in _TEMPLATES and not (line[0] == _CLOSED and line[1] in _OPEN)
    ]
    return _Brill(tags | _OUR_WORDS, morphology, context + [rule.split() for rule in _OUR_RULES])


def _lowered(rule: list[str]) -> list[str]:
    """The rule's symbols, its words without case as ours are."""
    kinds = [kind for kind, _, _ in _TEMPLATES[rule[2]]]
    return [
        symbol.lower() if kind == WORD and symbol != _TEXT_END else symbol
        for kind, symbol in zip(kinds, rule[3:], strict=False)
    ]


def _lines(file: Path) -> Iterator[list[str]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(";;;"):
            yield line.split()
