"""The review study: reviews that somebody has called deceptive or truthful, our n-gram model and its simple rival.

In: texts and labels, or a Dataset whose reviews say is_deceptive. Out: a calibrated RiskReview and its evidence. Called
by training/fit.py; tests.benchmarks.published.reviews learns from the same texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels import metrics
from kernels.review_ngrams import N_BUCKETS, review_ngrams
from training.dataset import NEITHER, TEST, TRAIN, VALID, Dataset
from training.devices import beside
from training.evidence import Evidence, calibration_bins, compared, shopper_weights
from training.loop import Fitted, Progress, Recipe, fit
from training.models.risk_review import RiskReview, deception_loss
from training.sources.tables import InvalidTable, Shop
from training.transactions import WINDOWS, calibration

RECIPE = Recipe(n_epochs=15, batch=64, learning_rate=0.1, patience=15)
_BLOCK = 256

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Style:
    """The n-grams of many reviews, one after the other: padded side by side they would be several times as much.

    offsets  (n_reviews + 1,) int64  review i owns n-grams offsets[i] to offsets[i + 1]
    bucket   (n_ngrams,) int32
    weight   (n_ngrams,) float32
    """

    offsets: Ints
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Style":
        """Read texts as typed."""
        lengths, buckets, weights = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for first in range(0, len(texts), _BLOCK):
            bucket, weight = review_ngrams(texts[first : first + _BLOCK])
            lengths.append((bucket > 0).sum(axis=1))
            buckets.append(bucket[bucket > 0])
            weights.append(weight[bucket > 0])
        return cls(np.cumsum(np.concatenate(lengths)), np.concatenate(buckets), np.concatenate(weights))

    def n_reviews_with(self, rows: Ints) -> Ints:
        """In how many of some reviews each bucket occurs.

        rows     (n,) int64
        returns  (N_BUCKETS,) int64
        """
        is_chosen = np.zeros(self.offsets.size - 1, np.bool_)
        is_chosen[rows] = True
        return np.bincount(self.bucket[np.repeat(is_chosen, np.diff(self.offsets))], minlength=N_BUCKETS)

    def only(self, is_heard: Bools) -> "Style":
        """The same reviews without the n-grams of some buckets.

        is_heard  (N_BUCKETS,) bool
        """
        is_kept = is_heard[self.bucket]
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_kept)])
        return Style(before[self.offsets], self.bucket[is_kept], self.weight[is_kept])

    def padded(self, rows: Ints) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Some of the reviews as the model reads them.

        rows     (n,) int64
        returns  (n, longest) int32 and float32, 0 pads
        """
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        width = max(1, int(lengths.max(initial=0)))
        is_filled = np.arange(width) < lengths[:, None]
        taken = (self.offsets[rows][:, None] + np.arange(width))[is_filled]
        bucket, weight = np.zeros(is_filled.shape, np.int32), np.zeros(is_filled.shape, np.float32)
        bucket[is_filled], weight[is_filled] = self.bucket[taken], self.weight[taken]
        return bucket, weight


@dataclass(frozen=True)
class Deceptions:
    """Reviews of which it is known whether they deceive.

    is_deceptive  (n,) bool
    """

    style: Style
    is_deceptive: Bools


class DeceptionTask:
    """The Task: see deception_loss; what says when to stop is its cross-entropy alone.

    train, valid  (n,) int64  rows to learn from, and rows that say when to stop
    """

    def __init__(self, reviews: Deceptions, train: Ints, valid: Ints) -> None:
        self.n_rows = train.size
        self.reviews, self.train, self.valid = reviews, train, valid

    def loss(self, model: nn.Module, rows: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See deception_loss."""
        chosen = self.train[rows]
        (labels,) = beside(model, torch.from_numpy(self.reviews.is_deceptive[chosen]).float()[:, None])
        return deception_loss(_logits(model, self.reviews.style, chosen), labels, cast(RiskReview, model).score.weight)

    def validation_loss(self, model: nn.Module) -> float:
        """See deception_loss."""
        logits = torch.from_numpy(logits_of(model, self.reviews.style, self.valid)[:, None])
        labels = torch.from_numpy(self.reviews.is_deceptive[self.valid]).double()[:, None]
        return float(deception_loss(logits, labels, torch.zeros(1)))


def fit_review(
    reviews: Deceptions, train: Ints, valid: Ints, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> tuple[RiskReview, Fitted]:
    """Train one model, not yet calibrated.

    train, valid  (n,) int64  rows to learn from, and rows that say when to stop
    returns       the module, and how its training went
    """
    model = RiskReview()
    model.learn(reviews.style.n_reviews_with(train), train.size)
    # What the model does not hear need not be laid out for it in every pass.
    heard = replace(reviews, style=reviews.style.only((model.rarity > 0).numpy()))
    return model, fit(model, DeceptionTask(heard, train, valid), recipe, progress, checkpoint)


def logits_of(model: nn.Module, style: Style, rows: Ints) -> Floats:
    """Log-odds, not calibrated.

    rows     (n,) int64
    returns  (n,) float64
    """
    model.eval()
    with torch.no_grad():
        blocks = [
            _logits(model, style, rows[first : first + _BLOCK])[:, 0].float().cpu().numpy().astype(np.float64)
            for first in range(0, rows.size, _BLOCK)
        ]
    return np.concatenate([np.zeros(0), *blocks])


def probabilities(model: RiskReview, style: Style, rows: Ints) -> Floats:
    """Calibrated probabilities.

    rows     (n,) int64
    returns  (n,) float64
    """
    logits = logits_of(model, style, rows) * float(model.slope) + float(model.shift)
    probs: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
    return probs


def lacks_labels(shop: Shop) -> str:
    """Say in one sentence that a shop's reviews cannot teach what deceives; empty if they can."""
    known = _labelled(shop)["is_deceptive"]
    if known.n_unique() == 2:
        return ""
    found = "none known" if known.len() == 0 else f"{known[0]} on all {known.len():,} dated reviews that have one"
    return f"reviews.is_deceptive must hold 0 and 1 for a model of deception, got {found}"


def study(
    dataset: Dataset, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> tuple[RiskReview, Evidence]:
    """Train on a shop's labelled reviews and compare on its test window; a review without a time has no window.

    raises  InvalidTable  if a window lacks a class
    """
    lack = lacks_labels(dataset.shop)
    if lack:
        raise InvalidTable(lack)
    table = _labelled(dataset.shop)
    texts = _texts(table)
    reviews = Deceptions(Style.of(texts), table["is_deceptive"].to_numpy() > 0)
    part = dataset.splits.part(table["time_s"].to_numpy(), 0)
    if (part == NEITHER).any():
        n_outside = int((part == NEITHER).sum())
        progress(f"reviews: {n_outside} of {part.size} with a verdict are dated before or after all events: left out")
    train, valid, test = (np.flatnonzero(part == window) for window in (TRAIN, VALID, TEST))
    for rows, name in zip((train, valid, test), WINDOWS.values(), strict=True):
        n_deceptive = int(reviews.is_deceptive[rows].sum())
        if not 0 < n_deceptive < rows.size:
            raise InvalidTable(
                f"reviews.is_deceptive must hold both classes in the {name} window, "
                f"got {n_deceptive} deceptive among {rows.size}"
            )
    model, fitted = fit_review(reviews, train, valid, recipe, lambda step: progress(f"reviews: {step}"), checkpoint)
    model.take_calibration(*calibration(logits_of(model, reviews.style, valid), reviews.is_deceptive[valid]))
    scored = {
        "n-grams of words and characters": probabilities(model, reviews.style, test),
        "logistic regression on words": word_logistic(texts, reviews.is_deceptive, train, valid, test),
    }
    # Whoever wrote several reviews is drawn with all of them; the unknown are each their own.
    writer = table.select(pl.coalesce("shopper_id", "review_id").rank("dense").cast(pl.Int64)).to_series().to_numpy()
    return model, _evidence(scored, reviews.is_deceptive[test], writer[test], fitted.seconds)


def word_logistic(texts: Sequence[str], is_deceptive: Bools, train: Ints, valid: Ints, test: Ints) -> Floats:
    """The simple rival: logistic regression on single words, calibrated on validation as ours is.

    returns  (n_test,) float64  probabilities
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True).fit([texts[row] for row in train])
    inputs = {"train": train, "valid": valid, "test": test}
    read = {name: words.transform([texts[row] for row in rows]) for name, rows in inputs.items()}
    model = LogisticRegression(C=10.0, max_iter=2_000).fit(read["train"], is_deceptive[train])
    slope, shift = calibration(model.decision_function(read["valid"]), is_deceptive[valid])
    probs: Floats = 1.0 / (1.0 + np.exp(-(model.decision_function(read["test"]) * slope + shift)))
    return probs


def figures_of(probs: Floats, happened: Bools, weights: Floats) -> dict[str, Floats]:
    """Value, then bootstrap replicates, of each figure.

    probs     (n,) float64
    happened  (n,) bool
    weights   (n_replicates, n) float64
    returns   figure -> (1 + n_replicates,) float64; the calibration error has its value alone
    """
    weighted = np.concatenate([np.ones((1, probs.size)), weights])
    is_right = ((probs > 0.5) == happened).astype(np.float64)
    return {
        "review_accuracy": weighted @ is_right / weighted.sum(axis=1),
        "review_auc": metrics.ranking_areas(probs, happened, weighted)[:, 1],
        "review_ece": np.array([metrics.calibration_error(probs, happened)]),
    }


def texts_of(shop: Shop) -> list[str]:
    """Return the labelled reviews as the model reads them, headline and text."""
    return _texts(_labelled(shop))


def _texts(table: pl.DataFrame) -> list[str]:
    both = table.select(pl.concat_str(pl.col("title", "text").fill_null(""), separator="\n")).to_series().to_list()
    return [text.strip("\n") for text in both]


def _labelled(shop: Shop) -> pl.DataFrame:
    return shop.reviews.filter(pl.col("is_deceptive").is_not_null(), pl.col("time_s").is_not_null())


def _logits(model: nn.Module, style: Style, rows: Ints) -> Tensor:
    bucket, weight = style.padded(rows)
    logits: Tensor = model(*beside(model, torch.from_numpy(bucket), torch.from_numpy(weight)))
    return logits


def _evidence(scored: dict[str, Floats], happened: Bools, writer: Ints, seconds: float) -> Evidence:
    weights = shopper_weights(writer)
    rows, against = compared({name: figures_of(probs, happened, weights) for name, probs in scored.items()})
    return Evidence(
        rows=rows,
        against=[row for row in against if row.figure != "review_ece"],
        protocol="All dated reviews of the test window with a label.",
        n={"reviews": happened.size, "deceptive reviews": int(happened.sum())},
        seconds=seconds,
        n_parameters=sum(parameter.numel() for parameter in RiskReview().parameters()),
        reliability={"the review deceives": calibration_bins(next(iter(scored.values())), happened)},
    )
