"""The slow plain-Python twins of the text kernels: lists in, lists and dictionaries out."""

from collections import Counter

_ALL_BITS = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def sequence_hashes(sequences: list[list[int]], seed: int = 0) -> list[int]:
    """Hash each sequence symbol by symbol, in whole numbers that are cut to 64 bits.

    sequences  symbols of each
    seed       start of every hash
    returns    one number in [0, 2**64) for each
    """
    return [_hash(sequence, seed) for sequence in sequences]


def ngram_counts(texts: list[list[int]], least: int, most: int, n_buckets: int, seed: int = 0) -> list[dict[int, int]]:
    """Hash every run of `least` to `most` symbols by itself and count the buckets.

    texts      symbols of each
    least      shortest run
    most       longest run
    n_buckets  hashes are taken modulo this
    seed       start of every hash
    returns    bucket to count, for each text
    """
    return [
        dict(
            Counter(
                _hash(text[begin : begin + length], seed) % n_buckets
                for length in range(least, most + 1)
                for begin in range(len(text) - length + 1)
            )
        )
        for text in texts
    ]


def retagged(tags: list[int], words: list[int], rules: list[list[int]]) -> list[int]:
    """Apply the rules to one text.

    tags     first guesses
    words    word indexes
    rules    from, to, then two conditions: kind (0 always, 1 tag, 2 word), nearest, farthest, symbol
    returns  the tags after the last rule
    """
    changed = list(tags)
    for rule in rules:
        for here in range(len(changed)):
            if rule[0] in (-1, changed[here]) and all(_holds(rule[at : at + 4], changed, words, here) for at in (2, 6)):
                changed[here] = rule[1]
    return changed


def _holds(condition: list[int], tags: list[int], words: list[int], here: int) -> bool:
    kind, nearest, farthest, symbol = condition
    if kind == 0:
        return True
    symbols = tags if kind == 1 else words
    places = range(here + nearest, here + farthest + 1)
    return symbol in [symbols[place] if 0 <= place < len(symbols) else -2 for place in places]


def _hash(symbols: list[int], seed: int) -> int:
    value = _mixed(seed + _GOLDEN)
    for symbol in symbols:
        value = _mixed((value ^ symbol) + _GOLDEN)
    return value


def _mixed(value: int) -> int:
    """SplitMix64's finaliser."""
    value &= _ALL_BITS
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _ALL_BITS
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _ALL_BITS
    return value ^ (value >> 31)
