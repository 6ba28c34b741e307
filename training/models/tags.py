"""What a shopper will do next: categories bought within a week, and behaviour tags as outcomes of the coming days.

In: features as kernels.features.FEATURES and the shopper's vector. Out: log-odds of N_LABELS labels. Called by
training/outlook.py; `Served` is what Triton runs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import N_CATEGORIES, N_FEATURES, columns
from kernels.future_tags import N_FUTURE_TAGS
from training.models.piecewise import Piecewise
from training.models.standard import Standard
from training.tensors import FEATURES_IN, VECTOR, VECTOR_WIDTH, Signature
from training.tensors import Tensor as Named

N_LABELS = N_CATEGORIES + N_FUTURE_TAGS
CATEGORY_FEATURES = ("category_lines_hl14d", "category_lines_hl91d", "category_recency_days")
_NAMES = columns()
# Columns of each category, and those that are of no category.
OWN_COLUMNS = tuple(
    tuple(_NAMES.index(f"{name}[{slot}]") for name in CATEGORY_FEATURES) for slot in range(N_CATEGORIES)
)
SHARED_COLUMNS = tuple(sorted(set(range(N_FEATURES)) - {column for own in OWN_COLUMNS for column in own}))
N_BINS, N_OWN_BINS = 16, 8
N_WIDE = N_FEATURES + len(SHARED_COLUMNS) * N_BINS
N_OWN = len(CATEGORY_FEATURES) * (1 + N_OWN_BINS)
WIDTH, NARROW, OWN = 128, 32, 16
N_MEMBERS = 2
# Log-odds of about one in twelve, near the base rate of categories: starting there saves the first passes.
RARE_LOGIT = -2.5


class Inputs(nn.Module):
    """Features as the members read them: normalised, and bent where the training rows' quantiles lie."""

    own_columns: Tensor
    shared_columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own_columns", torch.tensor(OWN_COLUMNS).flatten(), persistent=False)
        self.register_buffer("shared_columns", torch.tensor(SHARED_COLUMNS), persistent=False)
        self.standard = Standard()
        self.bent = Piecewise(len(SHARED_COLUMNS), N_BINS)
        self.own_bent = Piecewise(len(CATEGORY_FEATURES), N_OWN_BINS)

    def learn(self, features: Tensor) -> None:
        """Take means, spreads and quantiles from the training rows.

        features  (n, N_FEATURES) float32
        """
        self.standard.learn(features)
        self.bent.learn(features[:, self.shared_columns])
        # One scale for all categories, so that what is learned of one holds for another.
        self.own_bent.learn(self._own(features).flatten(0, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What is read of the whole row, and of each category.

        features  (batch, N_FEATURES) float32
        returns   (batch, N_WIDE) and (batch, N_CATEGORIES, N_OWN) float32
        """
        standard = self.standard(features)
        wide = torch.cat([standard, self.bent(features[:, self.shared_columns])], dim=1)
        return wide, torch.cat([self._own(standard), self.own_bent(self._own(features))], dim=2)

    def _own(self, columns: Tensor) -> Tensor:
        return columns[:, self.own_columns].reshape(-1, N_CATEGORIES, len(CATEGORY_FEATURES))


class Member(nn.Module):
    """A linear part for every label, a shared trunk, one small head that each category runs on its own features.

    Tags read a trunk of their own besides: 64 categories have most of the loss, and tags lost 0.003 of AP to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(N_WIDE, N_LABELS)
        self.first = nn.Linear(N_WIDE, WIDTH)
        self.vector = nn.Linear(VECTOR_WIDTH, WIDTH, bias=False)
        self.trunk = nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1))
        self.shared = nn.Linear(WIDTH, NARROW)
        self.category = nn.Parameter(torch.randn(N_CATEGORIES, OWN) * 0.1)
        self.own = nn.Linear(N_OWN, NARROW)
        self.name = nn.Linear(OWN, NARROW)
        self.per_category = nn.Sequential(nn.ReLU(), nn.Linear(NARROW, NARROW), nn.ReLU(), nn.Linear(NARROW, 1))
        self.tag = nn.Linear(WIDTH, N_FUTURE_TAGS)
        self.tag_first = nn.Linear(N_WIDE, WIDTH)
        self.tag_trunk = nn.Sequential(
            nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(WIDTH, N_FUTURE_TAGS),
        )  # fmt: skip
        nn.init.zeros_(self.linear.weight)
        # Until it has learned what a vector says, a member does as if there were none.
        nn.init.zeros_(self.vector.weight)
        nn.init.constant_(self.linear.bias[:N_CATEGORIES], RARE_LOGIT)

    def forward(self, wide: Tensor, own: Tensor, vector: Tensor) -> Tensor:
        """Log-odds of every label.

        wide     (batch, N_WIDE) float32               from Inputs
        own      (batch, N_CATEGORIES, N_OWN) float32  from Inputs
        vector   (batch, VECTOR_WIDTH) float32
        returns  (batch, N_LABELS) float32
        """
        trunk = self.trunk(self.first(wide) + self.vector(vector))  # (batch, WIDTH)
        mixed = self.own(own) + self.name(self.category) + self.shared(trunk).unsqueeze(1)
        category = self.per_category(mixed).squeeze(2)  # (batch, N_CATEGORIES)
        tag = self.tag(trunk) + self.tag_trunk(self.tag_first(wide))  # (batch, N_FUTURE_TAGS)
        logits: Tensor = self.linear(wide) + torch.cat([category, tag], dim=1)
        return logits


class Tags(nn.Module):
    """Members that differ in where they began; the mean of their log-odds, calibrated label by label."""

    slope: Tensor
    shift: Tensor
    is_used: Tensor

    def __init__(self, n_members: int = N_MEMBERS) -> None:
        super().__init__()
        self.inputs = Inputs()
        self.members = nn.ModuleList(Member() for _ in range(n_members))
        self.register_buffer("slope", torch.ones(N_LABELS))
        self.register_buffer("shift", torch.zeros(N_LABELS))
        self.register_buffer("is_used", torch.ones(N_LABELS))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Tags":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls(len({name.split(".")[1] for name in state if name.startswith("members.")}))
        module.load_state_dict(dict(state))
        return module

    @property
    def standard(self) -> Standard:
        """The normalisation that is served."""
        return self.inputs.standard

    def learn(self, features: Tensor) -> None:
        """Fit what is done to features before they are read, on the training rows.

        features  (n, N_FEATURES) float32
        """
        self.inputs.learn(features)

    def take_calibration(self, slopes: NDArray[np.float64], shifts: NDArray[np.float64]) -> None:
        """Keep a slope and a shift per label, which `probabilities` applies.

        slopes, shifts  (N_LABELS,) float64
        """
        self.slope.copy_(torch.from_numpy(slopes))
        self.shift.copy_(torch.from_numpy(shifts))

    def probabilities(self, features: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities; what is exported. Slots that name nothing or were never seen give 0.

        features  (batch, N_FEATURES) float32
        vector    (batch, VECTOR_WIDTH) float32
        returns   category_prob (batch, N_CATEGORIES), tag_prob (batch, N_FUTURE_TAGS) float32
        """
        logits = self(features, vector).mean(dim=0)
        probs = torch.sigmoid(logits * self.slope + self.shift) * self.is_used
        return probs[:, :N_CATEGORIES], probs[:, N_CATEGORIES:]

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """Log-odds of every label as each member says them, not yet calibrated.

        features  (batch, N_FEATURES) float32
        vector    (batch, VECTOR_WIDTH) float32  zeros for a shopper who was not encoded
        returns   (n_members, batch, N_LABELS) float32  N_CATEGORIES categories, then kernels.future_tags.FUTURE_TAGS
        """
        wide, own = self.inputs(features)
        return torch.stack([member(wide, own, vector) for member in self.members])


class Served(nn.Module):
    """`Tags.probabilities` as a forward, for the exporter."""

    signature = Signature(
        (FEATURES_IN, VECTOR),
        (
            Named("category_prob", "TYPE_FP32", N_CATEGORIES, "buys in the category within 7 days"),
            Named("tag_prob", "TYPE_FP32", N_FUTURE_TAGS, "order: kernels/future_tags.py"),
        ),
    )

    def __init__(self, tags: Tags) -> None:
        super().__init__()
        self.tags = tags

    def forward(self, features: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """See Tags.probabilities."""
        return self.tags.probabilities(features, vector)


class Logistic(nn.Module):
    """The simple rival: one linear layer on the same inputs, under the same loss."""

    def __init__(self) -> None:
        super().__init__()
        self.standard = Standard()
        self.linear = nn.Linear(N_FEATURES, N_LABELS)
        self.vector = nn.Linear(VECTOR_WIDTH, N_LABELS, bias=False)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.vector.weight)
        nn.init.constant_(self.linear.bias, RARE_LOGIT)

    def learn(self, features: Tensor) -> None:
        """See Tags.learn."""
        self.standard.learn(features)

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """Log-odds of every label, as Tags.forward of one member."""
        logits: Tensor = self.linear(self.standard(features)) + self.vector(vector)
        return logits.unsqueeze(0)


def tags_loss(logits: Tensor, labels: Tensor, observed: Tensor) -> Tensor:
    """Sigmoid cross-entropy over all labels, both terms, where the label could be seen; every member learns alone.

    logits    (n_members, batch, N_LABELS) float32
    labels    (batch, N_LABELS) float32  0 or 1
    observed  (batch, N_LABELS) float32  1 where the label could be seen, else 0
    returns   scalar                     mean over members and observed labels
    source    tests/training/test_tags_model.py, the two terms written out
    """
    each = functional.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="none")
    return (each * observed).sum() / (len(logits) * observed.sum()).clamp(min=1.0)
