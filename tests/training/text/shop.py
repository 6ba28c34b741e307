"""A little bilingual shop's items and reviews, whose words keep company that is known."""

import random

import polars as pl

TRAIN_UNTIL_S = 1_000
_ENGLISH = (
    ("the {} tastes sweet and fresh", ("apple", "pear", "plum")),
    ("this {} fits well and looks great on me", ("dress", "shirt", "skirt")),
    ("i use the {} every day for work", ("laptop", "phone", "tablet")),
)
_CHINESE = (
    ("这个{}很甜很新鲜，水分也多", ("苹果", "香蕉", "橘子")),
    ("这件{}穿起来合身，颜色好看", ("衬衫", "裙子", "外套")),
    ("{}的电池很耐用，屏幕清楚", ("手机", "平板", "电脑")),
)


def reviews(n_reviews: int = 240, seed: int = 0) -> pl.DataFrame:
    """Reviews at second 0, 10, 20, …; half in each language."""
    draw = random.Random(seed)
    texts = []
    for number in range(n_reviews):
        frame, things = draw.choice(_CHINESE if number % 2 else _ENGLISH)
        texts.append(frame.format(draw.choice(things)))
    return pl.DataFrame(
        {
            "review_id": [str(number) for number in range(n_reviews)],
            "time_s": [10 * number for number in range(n_reviews)],
            "title": ["" if number % 3 else "ok" for number in range(n_reviews)],
            "text": texts,
        }
    )


def items() -> pl.DataFrame:
    """Four items: English, Chinese, without any text, and one that another language describes."""
    return pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": ["Sweet apple", "新鲜香蕉", None, "Яблоко"],
            "description": ["A <b>fresh</b> apple, 2 kg", None, None, "свежее"],
        },
        schema={"item_id": pl.String, "title": pl.String, "description": pl.String},
    )
