"""Textbook nets for many labels, as rivals: a GRU and a 1-d CNN over weeks, beside the features.

In: features, the shopper's vector, and lines bought by category in each of the last weeks. Out: log-odds of every
label, as training.models.tags.Tags gives them. Called by tests/benchmarks/published/tags.py.
"""

import torch
from torch import Tensor, nn

from kernels.features import N_CATEGORIES, N_FEATURES
from training.models.standard import Standard
from training.models.tags import N_LABELS, VECTOR_WIDTH

N_WEEKS = 26
WIDTH, N_HIDDEN = 64, 128


class _OnWeeks(nn.Module):
    """A summary of the weeks, beside the normalised features and the vector, into two layers and a line past them.

    Each net of it has a `summary` of the weeks, (batch, N_WEEKS, N_CATEGORIES) to (batch, WIDTH).
    Without the line both lost to logistic regression by 0.015 of macro-AP, which flattered ours (LOG.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self.standard = Standard()
        n_read = WIDTH + N_FEATURES + VECTOR_WIDTH
        self.head = nn.Sequential(
            nn.Linear(n_read, N_HIDDEN), nn.ReLU(), nn.Dropout(0.1), nn.Linear(N_HIDDEN, N_LABELS)
        )
        self.line = nn.Linear(n_read, N_LABELS)
        nn.init.zeros_(self.line.weight)

    def learn(self, features: Tensor) -> None:
        """Take mean and spread from the training rows."""
        self.standard.learn(features)

    def forward(self, features: Tensor, vector: Tensor, weeks: Tensor) -> Tensor:
        """Log-odds of every label.

        features  (batch, N_FEATURES) float32
        vector    (batch, VECTOR_WIDTH) float32
        weeks     (batch, N_WEEKS, N_CATEGORIES) float32  lines, the latest week last
        returns   (1, batch, N_LABELS)
        """
        summary = self.summary(torch.log1p(weeks))
        read = torch.cat([summary, self.standard(features), vector], dim=1)
        logits: Tensor = self.head(read) + self.line(read)
        return logits.unsqueeze(0)


class Gru(_OnWeeks):
    """A GRU that reads the weeks in order; its last state is the summary."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.GRU(N_CATEGORIES, WIDTH, batch_first=True)

    def summary(self, weeks: Tensor) -> Tensor:
        """See _OnWeeks.summary."""
        last: Tensor = self.reads(weeks)[1][0]
        return last


class Convolution(_OnWeeks):
    """Two convolutions of three weeks each, then the mean and the largest over time, mixed into one summary."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.Sequential(
            nn.Conv1d(N_CATEGORIES, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()
        )
        self.mixes = nn.Linear(2 * WIDTH, WIDTH)

    def summary(self, weeks: Tensor) -> Tensor:
        """See _OnWeeks.summary."""
        read = self.reads(weeks.transpose(1, 2))
        mixed: Tensor = self.mixes(torch.cat([read.mean(dim=2), read.amax(dim=2)], dim=1))
        return mixed
