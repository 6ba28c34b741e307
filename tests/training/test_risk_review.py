"""A review's probability comes from its n-grams alone, whatever its length, and planted words are found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from kernels.review_ngrams import N_BUCKETS, review_ngrams
from tests.requirements import shared_data
from training.configs import config_of
from training.dataset import Dataset
from training.deceptions import (
    RECIPE,
    Deceptions,
    Style,
    figures_of,
    fit_review,
    lacks_labels,
    logits_of,
    probabilities,
    study,
)
from training.models.risk_review import FEWEST_REVIEWS, SMALLNESS, RiskReview, Served, deception_loss
from training.parity import largest_difference
from training.sources.tables import REVIEWS, InvalidTable, whole
from training.staging import onnxruntime_answers, stage
from training.transactions import calibration

GOOD = (
    "room", "staff", "lobby", "view", "breakfast", "location", "bed", "bathroom", "river", "street", "quiet", "clean",
)  # fmt: skip
QUICK = replace(RECIPE, n_epochs=4)


def planted(n_reviews: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Liars write 'my husband', 'My family' and '!!' where guests write 'husband my' and 'family, My'."""
    rng = np.random.default_rng(seed)
    lies = rng.random(n_reviews) < 0.5
    texts = []
    for lie in lies:
        words = rng.choice(GOOD, rng.integers(8, 30)).tolist()
        said = ["my husband", "My family", "great!!"] if lie else ["husband my", "family, My", "great! !"]
        for part in said:
            if rng.random() < 0.6:
                words.insert(int(rng.integers(0, len(words))), part)
        texts.append(" ".join(words))
    return texts, lies


@pytest.fixture(scope="module")
def learned() -> tuple[list[str], Deceptions, RiskReview]:
    """400 planted reviews, and a calibrated model of the first 200."""
    texts, lies = planted(400)
    reviews = Deceptions(Style.of(texts), lies)
    train, valid = np.arange(200), np.arange(200, 300)
    model, _ = fit_review(reviews, train, valid, QUICK, lambda _: None)
    model.take_calibration(*calibration(logits_of(model, reviews.style, valid), lies[valid]))
    return texts, reviews, model


def test_reviews_laid_side_by_side_are_the_kernels_rows() -> None:
    texts, _ = planted(7)
    texts[3] = ""
    style = Style.of(texts)
    rows = np.array([3, 0, 6])
    bucket, weight = style.padded(rows)
    expected, expected_weight = review_ngrams([texts[row] for row in rows])
    for told, true in ((bucket, expected), (weight, expected_weight)):
        assert all(sorted(row[row > 0]) == sorted(other[other > 0]) for row, other in zip(told, true, strict=True))
    n_with = style.n_reviews_with(rows)
    assert n_with.shape == (N_BUCKETS,)
    assert n_with.sum() == (bucket > 0).sum()
    heard = style.only(n_with >= FEWEST_REVIEWS).padded(rows)[0]
    shared = np.isin(bucket, np.flatnonzero(n_with >= FEWEST_REVIEWS)) & (bucket > 0)
    assert all(
        sorted(told[told > 0]) == sorted(row[kept]) for told, row, kept in zip(heard, bucket, shared, strict=True)
    )
    assert Style.of([]).padded(np.zeros(0, np.int64))[0].shape == (0, 1)


def test_a_batch_of_one_and_more_padding_change_nothing(learned: tuple[list[str], Deceptions, RiskReview]) -> None:
    _, reviews, model = learned
    bucket, weight = reviews.style.padded(np.arange(5))
    padded = np.pad(bucket, ((0, 0), (0, 9))), np.pad(weight, ((0, 0), (0, 9)))
    with torch.no_grad():
        five = model(torch.from_numpy(bucket), torch.from_numpy(weight))
        one = model(torch.from_numpy(bucket[:1]), torch.from_numpy(weight[:1]))
        more = model(*(torch.from_numpy(array) for array in padded))
    assert five.shape == (5, 1)
    assert one.shape == (1, 1)
    torch.testing.assert_close(one, five[:1])
    torch.testing.assert_close(more, five)


def test_an_empty_review_and_one_of_unknown_words_get_the_base_rate(
    learned: tuple[list[str], Deceptions, RiskReview],
) -> None:
    _, _, model = learned
    style = Style.of(["", "ωψχφ ξζ"])
    base = float(torch.sigmoid(model.bias * model.slope + model.shift).detach())
    assert probabilities(model, style, np.arange(2)) == pytest.approx([base, base])
    assert 0.2 < base < 0.8


def test_the_loss_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 1)) * 3, rng.integers(0, 2, (40, 1))
    prob = 1 / (1 + np.exp(-logits))
    scores = rng.normal(size=(100, 1))
    expected = -np.log(np.where(labels == 1, prob, 1 - prob)).mean() + SMALLNESS * (scores**2).sum()
    told = deception_loss(*(torch.from_numpy(array) for array in (logits, labels.astype(np.float64), scores)))
    assert float(told) == pytest.approx(expected, rel=1e-12)


def test_what_liars_write_is_found_and_means_what_it_says(learned: tuple[list[str], Deceptions, RiskReview]) -> None:
    _, reviews, model = learned
    test = np.arange(300, 400)
    probs = probabilities(model, reviews.style, test)
    figures = figures_of(probs, reviews.is_deceptive[test], np.ones((1, 100)))
    # 6.4 % of the reviews have none of the three marks, and half of those are guessed right.
    assert figures["review_accuracy"][0] > 0.9
    assert figures["review_auc"][0] > 0.95
    assert figures["review_accuracy"][0] == pytest.approx(((probs > 0.5) == reviews.is_deceptive[test]).mean())


def test_equal_seeds_give_equal_weights(learned: tuple[list[str], Deceptions, RiskReview]) -> None:
    _, reviews, _ = learned
    rows, once = np.arange(100), replace(QUICK, n_epochs=1)
    first, second = (fit_review(reviews, rows, rows, once, lambda _: None)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_exported_graph_answers_as_torch_at_any_length(
    learned: tuple[list[str], Deceptions, RiskReview], tmp_path: Path
) -> None:
    _, reviews, model = learned
    served, signature = Served(model).eval(), Served.signature
    bucket, weight = reviews.style.padded(np.arange(20))
    bucket[3], weight[3] = 0, 0.0
    rows = {"ngram_bucket": bucket, "ngram_weight": weight}
    folder = tmp_path / "risk_review"
    expected = stage(folder, served, signature, rows, config_of("risk_review", signature))
    assert (
        largest_difference("risk_review", "ONNX Runtime", expected, onnxruntime_answers(folder, signature, rows)) < 1e-5
    )
    short, light = review_ngrams(["my husband"])
    told = onnxruntime_answers(folder, signature, {"ngram_bucket": short, "ngram_weight": light})
    with torch.no_grad():
        (ours,) = served(torch.from_numpy(short), torch.from_numpy(light))
    np.testing.assert_allclose(told["deceptive_prob"], ours.numpy(), atol=1e-6)


def test_saved_weights_are_the_module_again(learned: tuple[list[str], Deceptions, RiskReview]) -> None:
    _, reviews, model = learned
    again, rows = RiskReview.from_state(model.state_dict()), np.arange(20)
    assert np.array_equal(probabilities(again, reviews.style, rows), probabilities(model, reviews.style, rows))


def with_reviews(dataset: Dataset, n_reviews: int = 400) -> Dataset:
    """The shop with planted reviews spread over its whole time; every tenth has no verdict."""
    texts, lies = planted(n_reviews)
    splits = dataset.splits
    verdicts = [None if row % 10 == 0 else int(lie) for row, lie in enumerate(lies)]
    told = pl.DataFrame(
        {
            "review_id": [f"r{row}" for row in range(n_reviews)],
            "time_s": np.linspace(splits.first_s, splits.last_s, n_reviews).astype(np.int64),
            "text": texts,
            "is_deceptive": verdicts,
        }
    )
    reviews = whole(REVIEWS, told).cast(dict(REVIEWS.schema))
    return replace(dataset, shop=replace(dataset.shop, reviews=reviews))


def test_a_shop_with_verdicts_gets_a_model_that_its_rival_does_not_beat(dataset: Dataset) -> None:
    _, evidence = study(with_reviews(dataset), QUICK, lambda _: None)
    assert evidence.metrics()["review_auc"] > 0.9
    assert not any(row.is_lost for row in evidence.against)
    # Single words do not tell these liars: the rival has to lose.
    accuracy = next(row for row in evidence.against if row.figure == "review_accuracy")
    assert accuracy.difference.lower > 0


def test_reviews_from_the_future_are_left_out_and_counted(dataset: Dataset) -> None:
    marked = with_reviews(dataset)
    future = pl.when(pl.col("review_id") == "r399").then(marked.splits.end_s + 1).otherwise("time_s")
    reviews = marked.shop.reviews.with_columns(time_s=future)
    said: list[str] = []
    _, evidence = study(replace(marked, shop=replace(marked.shop, reviews=reviews)), QUICK, said.append)
    assert said[0] == "reviews: 1 of 360 with a verdict are dated before or after all events: left out"
    assert evidence.n["reviews"] == study(marked, QUICK, said.append)[1].n["reviews"] - 1


def test_a_shop_without_verdicts_or_with_one_class_is_told_so(dataset: Dataset) -> None:
    assert lacks_labels(dataset.shop).startswith("reviews.is_deceptive must hold 0 and 1")
    with pytest.raises(InvalidTable, match="got none known"):
        study(dataset, QUICK, lambda _: None)
    marked = with_reviews(dataset)
    late = pl.col("time_s") >= marked.splits.valid_until_s
    told = marked.shop.reviews.with_columns(is_deceptive=pl.when(late).then(0).otherwise("is_deceptive"))
    with pytest.raises(InvalidTable, match="both classes in the test window, got 0 deceptive among"):
        study(replace(marked, shop=replace(marked.shop, reviews=told)), QUICK, lambda _: None)


def test_hotel_reviews_of_unseen_hotels_are_told_apart() -> None:
    told = pl.read_csv(shared_data("reviews_en") / "deceptive_opinion_positive.csv.gz")
    fold = (told["hotel"].rank("dense") % 5).to_numpy()
    reviews = Deceptions(Style.of(told["text"].to_list()), (told["deceptive"] == "deceptive").to_numpy())
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    model, _ = fit_review(reviews, train, train[:64], replace(RECIPE, n_epochs=3), lambda _: None)
    right = (logits_of(model, reviews.style, test) > 0) == reviews.is_deceptive[test]
    # 160 reviews, of which all five folds together have .90 right: below .82 is beyond three standard errors.
    assert right.mean() > 0.82
