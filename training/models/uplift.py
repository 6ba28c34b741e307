"""What being sent a campaign of each arm adds to a shopper's spend, with its standard error.

In: features as kernels.features.FEATURES. Out: effects in currency units over 28 days. Called by training/effects.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kernels.features import N_ARMS, columns
from training.models.standard import Standard
from training.tensors import FEATURES_IN, Signature
from training.tensors import Tensor as Named

N_MEMBERS = 5
WIDTH = 8
# Deviations start small and in units of ten currency units: the constant effect is learned first.
UNIT = 10.0


class Uplift(nn.Module):
    """A constant effect per arm plus small additive heads, in N_MEMBERS copies that saw different shoppers."""

    narrow: Tensor
    constant: Tensor
    constant_se: Tensor
    trust: Tensor
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        narrow = [place for place, name in enumerate(columns()) if "[" not in name]
        self.register_buffer("narrow", torch.tensor(narrow), persistent=False)
        self.standard = Standard()
        self.inner = nn.Parameter(torch.randn(N_MEMBERS, len(narrow), WIDTH) * 0.1)
        self.inner_shift = nn.Parameter(torch.zeros(N_MEMBERS, 1, WIDTH))
        self.outer = nn.Parameter(torch.zeros(N_MEMBERS, WIDTH, N_ARMS))
        self.direct = nn.Parameter(torch.zeros(N_MEMBERS, len(narrow), N_ARMS))
        self.level = nn.Parameter(torch.zeros(N_MEMBERS, 1, N_ARMS))
        self.register_buffer("constant", torch.zeros(N_ARMS))
        self.register_buffer("constant_se", torch.zeros(N_ARMS))
        self.register_buffer("trust", torch.zeros(N_ARMS))
        self.register_buffer("centre", torch.zeros(N_ARMS))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Uplift":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls()
        module.load_state_dict(dict(state))
        return module

    def forward(self, features: Tensor) -> Tensor:
        """Effect of each arm as each member sees it, in currency units.

        features  (batch, N_FEATURES) float32
        returns   (N_MEMBERS, batch, N_ARMS) float32
        """
        standard = self.standard(features)[:, self.narrow].clamp(-3.0, 3.0).unsqueeze(0)  # (1, batch, n_narrow)
        hidden = torch.tanh(standard @ self.inner + self.inner_shift)  # (N_MEMBERS, batch, WIDTH)
        effects: Tensor = UNIT * (hidden @ self.outer + standard @ self.direct + self.level)
        return effects

    def effects(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Effects drawn towards each arm's constant by `trust`, and their standard errors; what is exported.

        features  (batch, N_FEATURES) float32
        returns   spend_uplift, spend_uplift_se (batch, N_ARMS) float32  an arm that no campaign had gives 0 and 0
        """
        members = self(features)
        mean = members.mean(dim=0)
        spread = ((members - mean) ** 2).sum(dim=0) / (N_MEMBERS - 1)
        effect = self.constant + self.trust * (mean - self.centre)
        return effect, torch.sqrt(self.constant_se**2 + self.trust**2 * spread)


class Served(nn.Module):
    """`Uplift.effects` as a forward, for the exporter."""

    signature = Signature(
        (FEATURES_IN,),
        (
            Named("spend_uplift", "TYPE_FP32", N_ARMS, "currency units over 28 days, of being sent the arm"),
            Named("spend_uplift_se", "TYPE_FP32", N_ARMS, "standard error of it"),
        ),
    )

    def __init__(self, uplift: Uplift) -> None:
        super().__init__()
        self.uplift = uplift

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Uplift.effects."""
        return self.uplift.effects(features)


def residual_loss(effects: Tensor, residual: Tensor, sent_residual: Tensor, weights: Tensor) -> Tensor:
    """The R-learner's loss: what is left of spend, less the effect times what is left of being sent, squared.

    effects        (N_MEMBERS, batch) float32  of the arm that the row's wave had
    residual       (batch,) float32            spend less its expectation, currency units
    sent_residual  (batch,) float32            1 if sent else 0, less the propensity
    weights        (N_MEMBERS, batch) float32  how often each member drew the row's shopper
    returns        scalar  source: Nie and Wager 2021 (arXiv 1712.04912), eq. 4
    """
    missed = (residual - effects * sent_residual) ** 2
    return (missed * weights).sum() / weights.sum().clamp(min=1.0)
