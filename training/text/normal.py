"""A text as somebody typed it becomes one that compares: one width, one case, no markup, named placeholders.

In: any string, lone surrogates and markup included. Out: readable text for sentence models, normalised text for
everything else, and its language. Called by training/text/words.py and training/text/embedding.py.
"""

import html
import re
import unicodedata

# A review of more characters is a file pasted by mistake; the rest of it is not read.
MOST_CHARACTERS = 20_000
_MOST_PASSES = 3
URL, EMAIL, NUMBER, EMOJI = "<url>", "<email>", "<number>", "<emoji>"
PLACEHOLDERS = (URL, EMAIL, NUMBER, EMOJI)
ENGLISH, CHINESE, OTHER = "en", "zh", "other"
LANGUAGES = (ENGLISH, CHINESE, OTHER)

# Ideographs of Chinese, rare ones and those beyond the first plane included.
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Half-width forms are folded by NFKC before these are looked for.
_KANA_AND_HANGUL = "\u3041-\u30ff\u31f0-\u31ff\u1100-\u11ff\uac00-\ud7af"
_PICTURE = "\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u23e9-\u23fa"

_MARKUP = re.compile(
    r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<!\[cdata\[|\]\]>"
    rf"|(?!{'|'.join(PLACEHOLDERS)})</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|<![a-z][^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
# What is left of a tag within a tag would be a tag at the next reading.
_OPENING = re.compile(rf"(?<!<)<+(?!{'|'.join(name[1:] for name in PLACEHOLDERS)})(?=[a-z/!])", re.IGNORECASE)
# Lone surrogates, which no encoding can write, and controls that are not white space; NFKC leaves both.
_UNWRITABLE = re.compile("[\ud800-\udfff\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufffe\uffff]")
# They join or part letters without being seen; a soft hyphen within a word would make it another word.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200c\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'，。！？、；：（）【】《》]+", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+-])\w[\w.+-]{0,63}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,4}(?![\w-])", re.IGNORECASE)
_EMOJI = re.compile(f"(?:[{_PICTURE}]|[0-9#*]\ufe0f?\u20e3)(?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_PICTURE}])*")
# A digit that stands in a word, as in 3xl or mp3, belongs to the word. Chinese is written without blanks.
_NUMBER = re.compile(r"(?<![a-z0-9])[0-9]+(?:[.,][0-9]+)*(?![a-z0-9])")
_JOINERS = re.compile("[\u200d\ufe00-\ufe0f\u20e3]")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "\u00b4": "'"})

_OF_HAN = re.compile(f"[{HAN}]")
_OF_NEIGHBOURS = re.compile(f"[{_KANA_AND_HANGUL}]")
_LATIN_WORD = re.compile("[a-z\u00c0-\u024f]+(?:'[a-z]+)?")
_OTHER_LETTER = re.compile(f"[^\\W\\d_a-z\u00c0-\u024f{HAN}{_KANA_AND_HANGUL}]")
# The words that every few English words hold one of, and that its neighbours do not share.
_ENGLISH_WORDS = frozenset({
    "the", "and", "of", "to", "is", "it", "for", "i", "this", "that", "with", "was", "are", "but", "my", "they", "have",
    "be", "so", "very", "at", "you", "not", "were", "her", "she", "had", "would", "i'm", "it's",
})  # fmt: skip
_ENOUGH_WORDS = 8
_LEAST_ENGLISH_SHARE = 0.05


def readable(text: str) -> str:
    """Return the text without markup, in compatibility composition, its white space single; case and numbers stay.

    text     anything; only its first MOST_CHARACTERS are read
    returns  encodable text for a reader or a sentence model
    """
    return " ".join(_OPENING.sub("", _MARKUP.sub(" ", _decoded(text[:MOST_CHARACTERS]))).split())


def normalised(text: str) -> str:
    """Return the readable text without case, with URLs, addresses, emoji and numbers replaced by their placeholders.

    text     anything
    returns  text that does not change when it is normalised again
    """
    once = _normalised_once(text)
    for _ in range(_MOST_PASSES):
        # Only markup that folding and joining have made can still change; few texts hold any of its letters.
        if "&" not in once and not _OPENING.search(once):
            break
        once = _normalised_once(once)
    return once


def language_of(text: str) -> str:
    """Return the language that a normalised text is written in, by the shares of its scripts.

    A Han character weighs as much as a Latin word. Latin letters count as English unless a text long enough to hold
    English function words holds hardly any.
    text     from `normalised`
    returns  one of LANGUAGES; other: no letters, another script, another language in Latin letters
    """
    for placeholder in PLACEHOLDERS:
        text = text.replace(placeholder, " ")
    words = _LATIN_WORD.findall(text)
    n_han, n_neighbours = len(_OF_HAN.findall(text)), len(_OF_NEIGHBOURS.findall(text))
    n_other = len(_OTHER_LETTER.findall(text)) / 4  # letters of a word, roughly
    # Japanese is half kana; a Chinese text may quote a word of it.
    if n_han > max(len(words), n_other) and n_neighbours <= n_han / 4:
        return CHINESE
    if len(words) <= max(n_han, n_neighbours, n_other):
        return OTHER
    n_english = sum(word in _ENGLISH_WORDS for word in words)
    is_told = len(words) >= _ENOUGH_WORDS and n_english < _LEAST_ENGLISH_SHARE * len(words)
    return OTHER if is_told else ENGLISH


def _decoded(text: str) -> str:
    """The text with its entities written out; exports escape twice and more, so until nothing changes."""
    while True:
        written = _INVISIBLE.sub("", _UNWRITABLE.sub(" ", html.unescape(text)))
        # Full-width letters and digits become half-width, ligatures their letters, ① a 1.
        written = unicodedata.normalize("NFKC", written).translate(_APOSTROPHES)
        if written == text:
            return text
        text = written


def _normalised_once(text: str) -> str:
    text = unicodedata.normalize("NFKC", readable(text).casefold()).translate(_APOSTROPHES)
    text = _EMAIL.sub(f" {EMAIL} ", _URL.sub(f" {URL} ", text))
    text = _JOINERS.sub("", _EMOJI.sub(f" {EMOJI} ", text))
    return " ".join(_NUMBER.sub(f" {NUMBER} ", text).split())
