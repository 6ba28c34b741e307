"""What a shopper will answer: categories bought within a week, offers redeemed within 28 days if sent. One loss.

In: features as kernels.features.FEATURES. Out: log-odds of N_LABELS labels. Called by training/answers.py.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, columns
from training.models.standard import Standard
from training.tensors import FEATURES_IN, Signature
from training.tensors import Tensor as Named

N_LABELS = N_CATEGORIES + N_OFFER_GROUPS
CATEGORY_FEATURES = ("category_lines_hl14d", "category_lines_hl91d", "category_recency_days")
WIDTH, NARROW, OWN = 128, 32, 16
# Log-odds of about one in twelve, near the base rate: starting there saves the first passes.
RARE_LOGIT = -2.5


class Response(nn.Module):
    """A linear part for every label, a shared trunk, and one small head that each category runs on its own features."""

    own_columns: Tensor
    slope: Tensor
    shift: Tensor
    is_used: Tensor

    def __init__(self) -> None:
        super().__init__()
        names = columns()
        own = [[names.index(f"{name}[{slot}]") for name in CATEGORY_FEATURES] for slot in range(N_CATEGORIES)]
        self.register_buffer("own_columns", torch.tensor(own).flatten(), persistent=False)
        self.standard = Standard()
        self.linear = nn.Linear(N_FEATURES, N_LABELS)
        self.trunk = nn.Sequential(
            nn.Linear(N_FEATURES, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.shared = nn.Linear(WIDTH, NARROW)
        self.category = nn.Parameter(torch.randn(N_CATEGORIES, OWN) * 0.1)
        self.own = nn.Linear(len(CATEGORY_FEATURES), NARROW)
        self.name = nn.Linear(OWN, NARROW)
        self.per_category = nn.Sequential(nn.ReLU(), nn.Linear(NARROW, NARROW), nn.ReLU(), nn.Linear(NARROW, 1))
        self.redeem = nn.Linear(WIDTH, N_OFFER_GROUPS)
        self.register_buffer("slope", torch.ones(N_LABELS))
        self.register_buffer("shift", torch.zeros(N_LABELS))
        self.register_buffer("is_used", torch.ones(N_LABELS))
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, RARE_LOGIT)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Response":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls()
        module.load_state_dict(dict(state))
        return module

    def take_calibration(self, slopes: NDArray[np.float64], shifts: NDArray[np.float64]) -> None:
        """Keep a slope and a shift per label, which `probabilities` applies.

        slopes, shifts  (N_LABELS,) float64
        """
        self.slope.copy_(torch.from_numpy(slopes))
        self.shift.copy_(torch.from_numpy(shifts))

    def probabilities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities; what is exported. Slots that name nothing give 0.

        features  (batch, N_FEATURES) float32
        returns   category_prob (batch, N_CATEGORIES), redeem_prob (batch, N_OFFER_GROUPS) float32
        """
        probs = torch.sigmoid(self(features) * self.slope + self.shift) * self.is_used
        return probs[:, :N_CATEGORIES], probs[:, N_CATEGORIES:]

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds of every label, not yet calibrated.

        features  (batch, N_FEATURES) float32
        returns   (batch, N_LABELS) float32  N_CATEGORIES categories, then N_OFFER_GROUPS groups
        """
        standard = self.standard(features)
        trunk = self.trunk(standard)  # (batch, WIDTH)
        own = standard[:, self.own_columns].unflatten(1, (N_CATEGORIES, len(CATEGORY_FEATURES)))
        mixed = (
            self.own(own) + self.name(self.category) + self.shared(trunk).unsqueeze(1)
        )  # (batch, N_CATEGORIES, NARROW)
        category = self.per_category(mixed).squeeze(2)  # (batch, N_CATEGORIES)
        logits: Tensor = self.linear(standard) + torch.cat([category, self.redeem(trunk)], dim=1)
        return logits


class Served(nn.Module):
    """`Response.probabilities` as a forward, for the exporter."""

    signature = Signature(
        (FEATURES_IN,),
        (
            Named("category_prob", "TYPE_FP32", N_CATEGORIES, "buys in the category within 7 days"),
            Named("redeem_prob", "TYPE_FP32", N_OFFER_GROUPS, "redeems an offer of the group within 28 days, if sent"),
        ),
    )

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Response.probabilities."""
        return self.response.probabilities(features)


class Logistic(nn.Module):
    """The simple rival: one linear layer on the same standardised features, under the same loss."""

    def __init__(self) -> None:
        super().__init__()
        self.standard = Standard()
        self.linear = nn.Linear(N_FEATURES, N_LABELS)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, RARE_LOGIT)

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds of every label, as Response.forward."""
        logits: Tensor = self.linear(self.standard(features))
        return logits


def response_loss(logits: Tensor, labels: Tensor, observed: Tensor) -> Tensor:
    """Sigmoid cross-entropy over all labels, both terms, where the label could be observed.

    logits    (batch, N_LABELS) float32
    labels    (batch, N_LABELS) float32  0 or 1
    observed  (batch, N_LABELS) float32  1 where the label could be seen, else 0
    returns   scalar            mean over the observed labels
    """
    each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (each * observed).sum() / observed.sum().clamp(min=1.0)
