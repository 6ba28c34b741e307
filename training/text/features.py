"""Text features of items and reviews: the one door to training/text.

In: the canonical tables items and reviews. Out: one row per item and per review for Parquet, and what was fitted.
Called by `stratagem features`. Word vectors are fitted on reviews written, and items first seen, before the training
window ends. Everything else depends on its own text alone: no later row changes an earlier one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from kernels.checks import check
from kernels.ngrams import Counts
from training.text import fitted as fits
from training.text import tags
from training.text.embedding import Embedded
from training.text.export import MODEL_OF, OUTPUTS
from training.text.fitted import FittedText
from training.text.ngrams import character_ngrams, word_ngrams
from training.text.normal import CHINESE, ENGLISH, LANGUAGES, PLACEHOLDERS
from training.text.vectors import WIDTH
from training.text.words import Corpus, is_stop_word, read_texts

# Vectors by language, for texts of a corpus.
Embed = Callable[[FittedText, Corpus, Sequence[str]], Mapping[str, Embedded]]
FIRST_SEEN = "first_seen_s"


@dataclass(frozen=True)
class TextFeatures:
    """What there is to know of the shop's texts.

    items    one row per item: item_id, then the columns that docs/text.md lists
    reviews  one row per review: review_id, time_s, then the same
    fitted   the word vectors behind them
    """

    items: pl.DataFrame
    reviews: pl.DataFrame
    fitted: FittedText

    def write(self, folder: Path) -> None:
        """Write text_items.parquet, text_reviews.parquet and the fit into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in (("text_items", self.items), ("text_reviews", self.reviews)):
            fresh = folder / f"{name}.writing"
            frame.write_parquet(fresh)
            fresh.replace(folder / f"{name}.parquet")
        fits.save(self.fitted, folder)


def text_features(
    items: pl.DataFrame,
    reviews: pl.DataFrame,
    train_until_s: int,
    embed: Embed | None = None,
    progress: Callable[[str], None] | None = None,
    fitted: FittedText | None = None,
) -> TextFeatures:
    """Return the features of every item's and every review's text.

    items          canonical items; a column first_seen_s, where there is one, says when an item was first known
    reviews        canonical reviews
    train_until_s  reviews written and items first seen at or after it have no part in what is fitted
    embed          such as training.text.embedding.Embedder; None leaves the sentence embeddings unset
    progress       told a sentence at each tenth of the texts
    fitted         an earlier fit to use again, as serving must; None fits anew
    raises         InvalidInput  if a table lacks a column, or a package with language data is missing
    """
    say = progress or (lambda _: None)
    texts, known_s = _texts_of(items, reviews)
    corpus = read_texts(texts, lambda n_read: say(f"{n_read:,} of {len(texts):,} texts read"))
    if fitted is None:
        fitted = fit(corpus, known_s, train_until_s)
        told = ", ".join(f"{len(vectors.words):,} {language}" for language, vectors in fitted.vectors.items())
        say(f"vectors fitted of {told or 'no'} words")
    embedded = embed(fitted, corpus, texts) if embed else {}
    columns = _columns(corpus, fitted, embedded)
    say(f"{len(texts):,} texts have {len(columns.columns)} columns")
    n_items = items.height
    return TextFeatures(
        pl.concat([items.select("item_id"), columns[:n_items]], how="horizontal"),
        pl.concat([reviews.select("review_id", "time_s"), columns[n_items:]], how="horizontal"),
        fitted,
    )


def fit(corpus: Corpus, known_s: NDArray[np.int64], train_until_s: int) -> FittedText:
    """Fit word vectors for each language on texts known before the training window ends.

    corpus   texts of any time
    known_s  (n_texts,) int64  when each was first known, seconds since 1970 UTC
    """
    is_early = known_s < train_until_s
    corpora = {language: _part(corpus, corpus.is_in(language) & is_early) for language in (ENGLISH, CHINESE)}
    return fits.fit({language: part for language, part in corpora.items() if part.word.size}, train_until_s)


def _texts_of(items: pl.DataFrame, reviews: pl.DataFrame) -> tuple[list[str], NDArray[np.int64]]:
    """Texts of items, then of reviews, and when each was first known."""
    for name, table, needed in (
        ("items", items, ("item_id", "title", "description")),
        ("reviews", reviews, ("review_id", "time_s", "title", "text")),
    ):
        absent = [column for column in needed if column not in table.columns]
        check(not absent, f"{name} must have the columns {', '.join(needed)}, got none called {', '.join(absent)}")
    titled = [
        table.select(pl.concat_str(pl.col(parts).fill_null(""), separator="\n")).to_series().to_list()
        for table, parts in ((items, ["title", "description"]), (reviews, ["title", "text"]))
    ]
    # A catalogue without dates is one that the window began with.
    always = pl.lit(np.iinfo(np.int64).min, pl.Int64)
    first = pl.col(FIRST_SEEN).fill_null(always) if FIRST_SEEN in items.columns else always
    # A review that nobody dated may be of any time, and so of a later one.
    never = pl.lit(np.iinfo(np.int64).max, pl.Int64)
    item_s = items.select(pl.col("item_id"), known_s=first)["known_s"].to_numpy()
    review_s = reviews.select(known_s=pl.col("time_s").cast(pl.Int64).fill_null(never))["known_s"].to_numpy()
    return titled[0] + titled[1], np.concatenate([item_s, review_s]).astype(np.int64)


def _part(corpus: Corpus, is_chosen: NDArray[np.bool_]) -> Corpus:
    """The chosen texts; the list of words stays as it is."""
    word = corpus.word[np.repeat(is_chosen, corpus.n_tokens)]
    offsets = np.concatenate([[0], np.cumsum(corpus.n_tokens[is_chosen])])
    normal = [text for text, is_kept in zip(corpus.normal, is_chosen, strict=True) if is_kept]
    return Corpus(normal, corpus.language[is_chosen], corpus.words, word, offsets)


def _columns(corpus: Corpus, fitted: FittedText, embedded: Mapping[str, Embedded]) -> pl.DataFrame:
    n_tokens, n_stop_words = corpus.n_tokens, corpus.count_where(is_stop_word(corpus))
    is_placeholder = np.array([word in PLACEHOLDERS for word in corpus.words], np.bool_)
    columns = {
        "language": pl.Series([LANGUAGES[language] for language in corpus.language], dtype=pl.String),
        "normal_text": pl.Series(corpus.normal, dtype=pl.String),
        "n_tokens": pl.Series(n_tokens, dtype=pl.Int32),
        "n_placeholders": pl.Series(corpus.count_where(is_placeholder[corpus.word]), dtype=pl.Int32),
        "n_stop_words": pl.Series(n_stop_words, dtype=pl.Int32),
        "stop_word_share": pl.Series((n_stop_words / np.maximum(n_tokens, 1)).astype(np.float32)),
    }
    coarse = tags.tagged(corpus)
    columns |= {
        f"n_tagged_{name}": pl.Series(count, dtype=pl.Int32) for name, count in tags.counts(corpus, coarse).items()
    }
    for kind, counts in (("word_ngram", word_ngrams(corpus)), ("character_ngram", character_ngrams(corpus))):
        columns[f"{kind}_bucket"] = _lists(counts, counts.bucket)
        columns[f"{kind}_count"] = _lists(counts, counts.count)
    columns["word_vector"] = _fixed(_word_vectors(corpus, fitted))
    for language, model in MODEL_OF.items():
        columns[model] = _embedding(corpus.language.size, OUTPUTS[language].width, embedded.get(language))
    return pl.DataFrame(columns)


def _word_vectors(corpus: Corpus, fitted: FittedText) -> NDArray[np.float32]:
    """Each text's pooled vector by its own language's words; 0 where there are none."""
    pooled = np.zeros((corpus.language.size, WIDTH), np.float32)
    for language, vectors in fitted.vectors.items():
        is_ours = corpus.is_in(language)
        part = _part(corpus, is_ours)
        pooled[is_ours] = vectors.pooled(vectors.indexes(corpus.words)[part.word], part.offsets)
    return pooled


def _lists(counts: Counts, values: NDArray[np.int32]) -> pl.Series:
    """One list per text, without copying the values."""
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(counts.offsets, values)))


def _fixed(vectors: NDArray[np.float32]) -> pl.Series:
    return pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))


def _embedding(n_texts: int, width: int, found: Embedded | None) -> pl.Series:
    """Vectors in their texts' rows, null elsewhere."""
    if found is None:
        return pl.Series([None] * n_texts, dtype=pl.Array(pl.Float32, width))
    known = pl.DataFrame({"text": found.text, "vector": _fixed(found.vectors)})
    rows = pl.DataFrame({"text": np.arange(n_texts)})
    return rows.join(known, on="text", how="left", maintain_order="left")["vector"]
