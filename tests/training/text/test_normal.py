"""Texts that say the same are the same after normalisation, and each language is told by its script."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.text.normal import MOST_CHARACTERS, language_of, normalised, readable

ANYTHING = st.text(st.one_of(st.characters(codec=None), st.sampled_from("<>&;/ab1.'３Ａ😀\u200d\ufe0f@ ")), max_size=60)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("  Love   this\tDRESS!\n", "love this dress!"),
        ("ＡＢＣ１２３　ｆｕｌｌ", "abc123 full"),
        ("size １２", "size <number>"),
        ("great<br/>fit <b>really</b>", "great fit really"),
        ("great &lt;br&gt; fit &amp; colour", "great fit & colour"),
        ("I <3 it, 5 < 6 > 4", "i < <number> it, <number> < <number> > <number>"),
        ("a<script>alert(1)</script>b<!-- no -->c", "a b c"),
        ("see https://shop.example/a?b=1 or www.shop.example", "see <url> or <url>"),
        ("write to me@shop.example.com", "write to <email>"),
        ("paid $1,299.50 for 2 size 3xl mp3s", "paid $ <number> for <number> size 3xl mp3s"),
        ("花了199元", "花了 <number> 元"),
        ("nice 👍🏽👨‍👩‍👧❤️!", "nice <emoji> <emoji> <emoji> !"),
        ("a &amp;lt;b&amp;gt; ＜i＞ c", "a c"),
        ("a <A<A>&GT b", "a a > b"),
        ("<<<b is <a b", "b is a b"),
        ("don’t", "don't"),
        ("Straße", "strasse"),
        ("soft\u00adware ze\u200bro", "software zero"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("", ""),
    ],
)
def test_what_means_the_same_reads_the_same(typed: str, expected: str) -> None:
    assert normalised(typed) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(typed=ANYTHING)
def test_any_text_can_be_written_and_normalising_twice_changes_nothing(typed: str) -> None:
    once = normalised(typed)
    assert once.encode() == normalised(once).encode()
    assert readable(typed).encode().decode() == readable(typed)


def test_case_and_numbers_stay_readable() -> None:
    assert readable("I bought <i>2</i>&nbsp;Dresses") == "I bought 2 Dresses"


def test_only_the_beginning_of_an_endless_text_is_read() -> None:
    assert len(normalised("word " * 1_000_000)) <= MOST_CHARACTERS


@pytest.mark.parametrize("piece", ["<", "<script", "<a ", "&", "a@", "1,", "www."])
def test_a_text_made_to_be_slow_is_not(piece: str) -> None:
    # A pattern that goes back over all it has read needs hours for this; the test's own time limit is patience.
    assert len(normalised(piece * 300_000)) <= 8 * MOST_CHARACTERS


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("i love this dress, it is so comfortable", "en"),
        ("white hanging heart t-light holder", "en"),
        ("质量很好，物流也快", "zh"),
        ("iphone <number> 手机壳质量不错", "zh"),
        ("este vestido es muy bonito y la tela parece buena", "other"),
        ("この服はとてもかわいいです", "other"),
        ("отличное платье", "other"),
        ("옷이 예뻐요", "other"),
        ("<number> <emoji> !!!", "other"),
        ("", "other"),
    ],
)
def test_the_language_is_told_by_its_letters(text: str, language: str) -> None:
    assert language_of(text) == language
