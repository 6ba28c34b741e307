"""Every text has its row, everything fitted is fitted on the training window, and nothing is asked twice."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kernels.checks import InvalidInput
from kernels.reference import text as twin
from tests.training.text.served import InProcess, require_minilm
from tests.training.text.shop import TRAIN_UNTIL_S, items, reviews
from training.text import fitted as fits
from training.text.embedding import Embedder
from training.text.features import TextFeatures, text_features
from training.text.ngrams import N_BUCKETS
from training.text.words import tokens


@pytest.fixture(scope="module")
def features() -> TextFeatures:
    """Features of the little shop; not to be changed."""
    return text_features(items(), reviews(), TRAIN_UNTIL_S)


def test_every_item_and_review_has_one_row_in_its_own_order(features: TextFeatures) -> None:
    assert features.items["item_id"].to_list() == items()["item_id"].to_list()
    assert features.reviews["review_id"].to_list() == reviews()["review_id"].to_list()
    assert features.items["language"].to_list() == ["en", "zh", "other", "other"]


def test_markup_numbers_and_stop_words_are_counted(features: TextFeatures) -> None:
    apple = features.items.row(0, named=True)
    assert apple["normal_text"] == "sweet apple a fresh apple, <number> kg"
    assert (apple["n_tokens"], apple["n_placeholders"], apple["n_stop_words"]) == (7, 1, 1)
    assert apple["stop_word_share"] == pytest.approx(1 / 7)
    assert (apple["n_tagged_number"], apple["n_tagged_adjective"]) == (1, 2)


def test_an_item_without_text_has_features_too(features: TextFeatures) -> None:
    empty = features.items.row(2, named=True)
    assert (empty["n_tokens"], empty["word_ngram_bucket"], empty["stop_word_share"]) == (0, [], 0.0)
    assert not any(empty["word_vector"])


def test_ngrams_are_those_of_the_normalised_text(features: TextFeatures) -> None:
    for row in features.items.iter_rows(named=True):
        words = twin.sequence_hashes([[ord(letter) for letter in word] for word in tokens(row["normal_text"])])
        for kind, symbols, least, most, seed in (
            ("word", words, 1, 2, 1),
            ("character", [ord(letter) for letter in row["normal_text"]], 2, 3, 2),
        ):
            defined = twin.ngram_counts([symbols], least, most, N_BUCKETS, seed)[0]
            assert dict(zip(row[f"{kind}_ngram_bucket"], row[f"{kind}_ngram_count"], strict=True)) == defined


def test_later_reviews_change_neither_the_fit_nor_an_earlier_row(features: TextFeatures) -> None:
    early = reviews().filter(pl.col("time_s") < TRAIN_UNTIL_S)
    alone = text_features(items(), early, TRAIN_UNTIL_S)
    assert alone.fitted.digest == features.fitted.digest
    assert_frame_equal(alone.reviews, features.reviews[: early.height])
    assert_frame_equal(alone.items, features.items)


def test_reviews_of_unknown_time_and_items_first_seen_later_are_not_fitted_on() -> None:
    undated = reviews().with_columns(time_s=pl.lit(None, pl.Int64))
    new = items().with_columns(first_seen_s=pl.lit(TRAIN_UNTIL_S))
    assert text_features(new, undated, TRAIN_UNTIL_S).fitted.vectors == {}


def test_a_fit_that_was_written_gives_the_same_features_again(features: TextFeatures, tmp_path: Path) -> None:
    features.write(tmp_path)
    loaded = fits.load(tmp_path)
    assert (loaded.digest, loaded.train_until_s) == (features.fitted.digest, TRAIN_UNTIL_S)
    again = text_features(items(), reviews(), TRAIN_UNTIL_S, fitted=loaded)
    assert_frame_equal(pl.read_parquet(tmp_path / "text_reviews.parquet"), again.reviews)
    assert_frame_equal(pl.read_parquet(tmp_path / "text_items.parquet"), again.items)


def test_without_a_fit_or_a_column_the_sentence_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"text.npz must exist; `stratagem features` writes it"):
        fits.load(tmp_path)
    with pytest.raises(InvalidInput, match=r"reviews must have the columns .* got none called text"):
        text_features(items(), reviews().drop("text"), TRAIN_UNTIL_S)


def test_a_shop_without_reviews_or_items_has_empty_tables() -> None:
    nothing = text_features(items().clear(), reviews().clear(), TRAIN_UNTIL_S)
    full = text_features(items(), reviews(), TRAIN_UNTIL_S)
    assert nothing.reviews.is_empty()
    assert nothing.reviews.schema == full.reviews.schema
    assert nothing.items.schema == full.items.schema


def test_sentence_embeddings_of_chinese_are_the_pooled_vectors_and_are_asked_for_once(tmp_path: Path) -> None:
    serve, told = InProcess(), []
    chinese = reviews().filter(pl.int_range(pl.len()) % 2 == 1)
    embed = Embedder(tmp_path / "models", serve, tmp_path / "cache", told.append)
    first = text_features(items()[1:2], chinese, TRAIN_UNTIL_S, embed)
    pooled, embedded = (first.reviews[name].to_numpy() for name in ("word_vector", "text_embedding_zh"))
    np.testing.assert_allclose(embedded, pooled, atol=1e-5)  # float32 in the graph, float64 here
    assert first.reviews["text_embedding"].null_count() == chinese.height
    assert any("text_embedding_zh against torch" in sentence for sentence in told)
    n_rows = serve.n_rows
    again = text_features(items()[1:2], chinese, TRAIN_UNTIL_S, embed)
    assert (serve.n_rows, serve.n_starts) == (n_rows, 2)
    assert_frame_equal(again.reviews, first.reviews)


def test_embedding_goes_on_where_it_stopped(tmp_path: Path) -> None:
    chinese = reviews(400, seed=1).filter(pl.int_range(pl.len()) % 2 == 1)
    chinese = chinese.with_columns(pl.col("text") + pl.col("review_id").str.replace_all(r"\d", "好"))
    chinese = chinese.with_columns(text=pl.concat_str("text", pl.col("text").shuffle(seed=2)))
    serve = InProcess()
    serve.fails_after = 64 + 64
    with pytest.raises(ConnectionError):
        text_features(items(), chinese, 10**9, Embedder(tmp_path / "models", serve, tmp_path / "cache"))
    n_before, serve.fails_after = serve.n_rows, 10**9
    whole = text_features(items(), chinese, 10**9, Embedder(tmp_path / "models", serve, tmp_path / "cache"))
    fresh = InProcess()
    text_features(items(), chinese, 10**9, Embedder(tmp_path / "other", fresh, tmp_path / "other_cache"))
    assert whole.reviews["text_embedding_zh"].null_count() == 0
    assert serve.n_rows == fresh.n_rows
    assert n_before < fresh.n_rows


def test_english_sentences_that_mean_the_same_are_near(tmp_path: Path) -> None:
    require_minilm()
    texts = ["The new movie is awesome", "The new movie is so great", "The dog plays in the garden"]
    said = pl.DataFrame({"review_id": ["1", "2", "3"], "time_s": [1, 2, 3], "title": [None] * 3, "text": texts})
    said = said.cast({"title": pl.String})
    embed = Embedder(tmp_path / "models", InProcess(), tmp_path / "cache")
    vectors = text_features(items()[:0], said, TRAIN_UNTIL_S, embed).reviews["text_embedding"].to_numpy()
    similarity = vectors @ vectors.T
    # The publishers of all-MiniLM-L6-v2 print 0.8939 for this pair.
    assert similarity[0, 1] == pytest.approx(0.8939, abs=5e-4)
    assert similarity[0, 2] < 0.2
    np.testing.assert_allclose(np.diag(similarity), 1.0, atol=1e-5)  # float32
