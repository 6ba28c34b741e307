"""How likely a review was written to deceive, from the style it is written in. One loss.

In: hashed n-grams of kernels.review_ngrams. Out: log-odds. Called by training/deceptions.py. One score per n-gram, each
weighed by how rare it is; a review of any length has the same weight in all.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels.review_ngrams import N_BUCKETS
from training.tensors import Signature
from training.tensors import Tensor as Named

# An n-gram of a single training review tells that review alone; without them a pass takes half of the time.
FEWEST_REVIEWS = 2
# Keeps scores small. Adam alone, stopped early, gives rare n-grams as much as frequent ones: .899 of the reviews right
# where this has .910 (LOG.md).
SMALLNESS = 2e-5


class RiskReview(nn.Module):
    """A score for each bucket; a review's is the sum of its n-grams' scores by their shares of it."""

    rarity: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Embedding(N_BUCKETS, 1)
        nn.init.zeros_(self.score.weight)
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("rarity", torch.zeros(N_BUCKETS))
        self.register_buffer("slope", torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "RiskReview":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls()
        module.load_state_dict(dict(state))
        return module

    def learn(self, n_reviews_with: NDArray[np.int64], n_reviews: int) -> None:
        """Take from the training reviews how rare each n-gram is; one that is in too few of them is not heard at all.

        n_reviews_with  (N_BUCKETS,) int64  training reviews that hold each bucket
        source          inverse document frequency, smoothed as scikit-learn's TfidfTransformer
        """
        rarity = np.log((1.0 + n_reviews) / (1.0 + n_reviews_with)) + 1.0
        self.rarity.copy_(torch.from_numpy(np.where(n_reviews_with >= FEWEST_REVIEWS, rarity, 0.0)))

    def take_calibration(self, slope: float, shift: float) -> None:
        """Keep the slope and the shift that make log-odds mean what they say."""
        self.slope.fill_(slope)
        self.shift.fill_(shift)

    def forward(self, ngram_bucket: Tensor, ngram_weight: Tensor) -> Tensor:
        """Log-odds that the review deceives, not yet calibrated.

        ngram_bucket  (batch, length) int32    0 pads
        ngram_weight  (batch, length) float32  0 pads
        returns       (batch, 1) float32
        """
        weight = ngram_weight * self.rarity[ngram_bucket]  # (batch, length)
        # A review without any known n-gram has length 0 and is scored by the bias alone.
        share = weight / weight.square().sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
        scores = self.score(ngram_bucket).squeeze(2)
        logits: Tensor = (scores * share).sum(dim=1, keepdim=True) + self.bias
        return logits


class Served(nn.Module):
    """The calibrated probability as a forward, for the exporter."""

    signature = Signature(
        (
            Named("ngram_bucket", "TYPE_INT32", -1, "kernels/review_ngrams.py; 0 pads"),
            Named("ngram_weight", "TYPE_FP32", -1, "1 + log(count) of each bucket; 0 pads"),
        ),
        (Named("deceptive_prob", "TYPE_FP32", 1, "the review was written to deceive"),),
    )

    def __init__(self, risk: RiskReview) -> None:
        super().__init__()
        self.risk = risk

    def forward(self, ngram_bucket: Tensor, ngram_weight: Tensor) -> tuple[Tensor]:
        """Probability that the review deceives.

        ngram_bucket  (batch, length) int32
        ngram_weight  (batch, length) float32
        returns       deceptive_prob (batch, 1) float32
        """
        return (torch.sigmoid(self.risk(ngram_bucket, ngram_weight) * self.risk.slope + self.risk.shift),)


def deception_loss(logits: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Cross-entropy, and a little for every score that is not 0.

    logits   (batch, 1) float32
    labels   (batch, 1) float32  1 for a deceptive review
    scores   any shape  of the n-grams
    returns  scalar
    source   logistic regression with a ridge, as scikit-learn's with C = 1 / (2 SMALLNESS n)
    """
    return functional.binary_cross_entropy_with_logits(logits, labels) + SMALLNESS * scores.square().sum()
