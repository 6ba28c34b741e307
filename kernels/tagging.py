"""Contextual rules change the tags of words by what stands around them, rule after rule, as in Brill's tagger.

In: the first guess of every word's tag, and rules as numbers. Out: the tags after all rules. Called by
training/text/tags.py. A rule's whole meaning is in its row, so that one loop serves every kind of rule.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry

# Columns of a rule: it turns tag `from` into `to` where both of its conditions hold.
FROM, TO, FIRST, SECOND = 0, 1, 2, 6
# Columns of a condition, counted from FIRST or SECOND: the symbol, and the places around the word where it may stand.
KIND, NEAREST, FARTHEST, SYMBOL = 0, 1, 2, 3
N_COLUMNS = 10
# Kinds of condition.
ALWAYS, TAG, WORD = 0, 1, 2
ANY_TAG = -1
# What stands before and after a text: no tag, no word.
OUTSIDE = -2


def retagged(
    tags: NDArray[np.int32], words: NDArray[np.int32], offsets: NDArray[np.int64], rules: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Apply every rule to every text, in order, each from left to right; a change is seen by what comes after it.

    tags     (n_words,) int32          first guesses, ≥ 0
    words    (n_words,) int32          word indexes, ≥ -1; -1 is a word that no rule names
    offsets  (n_texts + 1,) int64      text i is words[offsets[i] : offsets[i + 1]]; no rule sees across its ends
    rules    (n_rules, N_COLUMNS) int32  FROM (or ANY_TAG), TO, then two conditions of kind, nearest and farthest place
                                       relative to the word, symbol; OUTSIDE as a symbol is the text's end
    returns  (n_words,) int32
    raises   InvalidInput              if lengths differ or offsets do not cover the words
    source   reference.text.retagged; Brill 1992
    """
    check_array("tags", tags, np.int32)
    check_array("words", words, np.int32)
    check_array("offsets", offsets, np.int64)
    check_array("rules", rules, np.int32, n_dims=2)
    check(rules.shape[1] == N_COLUMNS, f"rules must have {N_COLUMNS} columns, got {rules.shape[1]}")
    check(tags.size == words.size, f"tags must have n_words {words.size} values, got {tags.size}")
    check_each("tags", tags, tags >= 0, "≥ 0")
    check_each("words", words, words >= -1, "≥ -1")
    check(offsets.size >= 1 and offsets[0] == 0 and is_ascending(offsets), "offsets must ascend from 0")
    check(offsets[-1] == words.size, f"offsets must end with n_words {words.size}, got {offsets[-1]}")
    changed = tags.copy()
    _retag(changed, plain(words), plain(offsets), plain(rules))
    return changed


@njit(nogil=True)
def _holds(condition, tags, words, begin, end, here):
    """Whether the symbol stands at any of the condition's places."""
    kind = condition[KIND]
    if kind == ALWAYS:
        return True
    for place in range(here + condition[NEAREST], here + condition[FARTHEST] + 1):
        symbol = OUTSIDE
        if begin <= place < end:
            symbol = tags[place] if kind == TAG else words[place]
        if symbol == condition[SYMBOL]:
            return True
    return False


@entry
def _retag(tags, words, offsets, rules):
    for i in range(offsets.size - 1):
        begin = offsets[i]
        end = offsets[i + 1]
        for rule in range(rules.shape[0]):
            wanted = rules[rule, FROM]
            first = rules[rule, FIRST:SECOND]
            second = rules[rule, SECOND:N_COLUMNS]
            for here in range(begin, end):
                if (wanted == ANY_TAG or tags[here] == wanted) and _holds(first, tags, words, begin, end, here):  # noqa: SIM102
                    if _holds(second, tags, words, begin, end, here):
                        tags[here] = rules[rule, TO]
