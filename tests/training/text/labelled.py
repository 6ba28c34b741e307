"""Sentences whose words were given their part of speech by hand, before any tagger had seen them.

Two faults that they showed were then mended in training/text/tags.py: prepositions turned verbs, and jieba's tag zg.
"""

_SHORT = dict(zip("nvarpdo", ("noun", "verb", "adjective", "adverb", "pronoun", "number", "other"), strict=True))

# n noun, v verb, a adjective, r adverb, p pronoun, d number, o other (articles, prepositions, conjunctions, particles)
ENGLISH = (
    "the/o fabric/n is/v very/r soft/a and/o it/p washes/v well/r",
    "i/p bought/v two/d of/o these/o for/o my/p daughters/n last/a summer/n",
    "she/p quickly/r returned/v the/o shoes/n because/o they/p were/v too/r small/a",
    "this/o beautiful/a dress/n looks/v great/a with/o black/a boots/n",
    "the/o zipper/n broke/v after/o three/d days/n",
    "we/p will/v definitely/r order/v from/o this/o shop/n again/r",
    "my/p husband/n loves/v his/p new/a blue/a shirt/n",
    "delivery/n was/v slow/a but/o the/o customer/n service/n was/v helpful/a",
    "you/p can/v wear/v it/p to/o work/n or/o on/o weekends/n",
    "the/o colors/n faded/v badly/r when/r i/p washed/v it/p",
)
CHINESE = (
    "这/p 个/o 手机/n 的/o 质量/n 非常/r 好/a",
    "我/p 很/r 喜欢/v 这/p 本书/n",
    "快递/n 很/r 快/a 服务/n 也/r 不错/a",
    "他们/p 已经/r 退货/v 了/o",
    "房间/n 干净/a 但是/o 早餐/n 不/r 好吃/v",
    "苹果/n 非常/r 新鲜/a 味道/n 很/r 甜/a",
    "我们/p 住/v 在/o 酒店/n 的/o 三楼/n",
    "作者/n 写/v 得/o 很/r 认真/a",
)


def labelled(sentence: str) -> list[tuple[str, str]]:
    """Words with their tags written out."""
    return [(word, _SHORT[tag]) for word, tag in (pair.rsplit("/", 1) for pair in sentence.split())]
