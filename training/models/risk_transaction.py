"""How likely a transaction is fraud, and why: a sum of one small network for each group of features. One loss.

In: features as kernels.risk_features.RISK_FEATURES, NaN where unknown. Out: log-odds, each group's part in them, and
the groups that speak most for fraud. Called by training/transactions.py. The sum makes the reasons exact: what a group
adds is what the probability would lose without it.
"""

import math
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.risk_features import DAY_S, N_REASONS_TOLD, N_RISK_FEATURES, NO_REASON, REASONS, RISK_FEATURES
from training.models.standard import Standard
from training.tensors import Signature
from training.tensors import Tensor as Named

WIDTH = 16
CLOCK = RISK_FEATURES.index("time_of_day_s")
# How fast the average transaction follows the batches; a batch is some hundred rows.
_MOMENTUM = 0.05
# As many groups as this are hidden in training: the others learn to judge alone, as they must for a shop without cards.
_HIDDEN = 0.1
# Keeps a group silent that has nothing to say; chosen on the validation window (LOG.md).
SILENCE = 1e-3


class RiskTransaction(nn.Module):
    """One small network per group; what it adds to the log-odds of the average transaction is the group's part."""

    is_learned: Tensor
    typical: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.standard = Standard(RISK_FEATURES)
        self.parts = nn.ModuleList(
            # Values, whether they are known, and for the time of day its place on the circle.
            nn.Sequential(nn.Linear(2 * len(reason.features) + 2 * (reason.name == "time_of_day"), WIDTH), nn.ReLU(),
                          nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
            for reason in REASONS
        )  # fmt: skip
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("is_learned", torch.ones(N_RISK_FEATURES))
        self.register_buffer("typical", torch.zeros(len(REASONS)))
        self.register_buffer("slope", torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "RiskTransaction":
        """The module whose weights were saved, in eval mode: while training it hides groups.

        state  a state_dict
        """
        module = cls()
        module.load_state_dict(dict(state))
        return module.eval()

    def learn(self, features: Tensor, fraud_share: float) -> None:
        """Take spread and base rate from the training rows; a column never known there stays unknown for ever.

        features     (n, N_RISK_FEATURES) float32
        fraud_share  of the training rows, in (0, 1)
        """
        self.standard.learn(features)
        self.is_learned.copy_((~torch.isnan(features)).any(dim=0).float())
        with torch.no_grad():
            self.bias.fill_(math.log(fraud_share / (1.0 - fraud_share)))

    def take_calibration(self, slope: float, shift: float) -> None:
        """Keep the slope and the shift that make log-odds mean what they say."""
        self.slope.fill_(slope)
        self.shift.fill_(shift)

    def contributions(self, features: Tensor) -> Tensor:
        """What each group adds to the log-odds of the average transaction; 0 of a group of which nothing is known.

        features  (batch, N_RISK_FEATURES) float32
        returns   (batch, n_reasons) float32
        """
        known = (~torch.isnan(features)).float() * self.is_learned
        # Beyond ±LIMIT and NaN end here, so that nothing unknown reaches a network.
        standard = torch.where(known > 0, self.standard(features), torch.zeros_like(features))
        angle = torch.where(known > 0, features, torch.zeros_like(features))[:, CLOCK : CLOCK + 1] * (
            2 * math.pi / DAY_S
        )
        circle = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
        ends = list(accumulate(len(reason.features) for reason in REASONS))
        told, is_told = [], []
        for part, reason, end in zip(self.parts, REASONS, ends, strict=True):
            group = slice(end - len(reason.features), end)
            inputs = [standard[:, group], known[:, group]] + [circle] * (reason.name == "time_of_day")
            told.append(part(torch.cat(inputs, dim=1)))
            is_told.append(known[:, group].amax(dim=1, keepdim=True))
        # In float32 even where products are in half: the average that is kept must not round.
        return self._centred(torch.cat(told, dim=1).float(), torch.cat(is_told, dim=1))

    def _centred(self, told: Tensor, is_told: Tensor) -> Tensor:
        """Less what the group adds on average, so that unknown and average are the same."""
        if not self.training:
            return (told - self.typical) * is_told
        typical = (told * is_told).sum(dim=0) / is_told.sum(dim=0).clamp(min=1.0)
        with torch.no_grad():
            self.typical.lerp_(typical, _MOMENTUM)
        shown = functional.dropout(torch.ones_like(is_told), _HIDDEN)
        return (told - typical) * is_told * shown

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds that the transaction is fraud, not yet calibrated.

        features  (batch, N_RISK_FEATURES) float32
        returns   (batch, 1) float32
        """
        return self.contributions(features).sum(dim=1, keepdim=True) + self.bias

    def judged(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Calibrated probability and the groups that raise it most; what is exported.

        features  (batch, N_RISK_FEATURES) float32
        returns   fraud_prob (batch, 1) float32, reason_code (batch, N_REASONS_TOLD) int32, places in REASONS from 1,
                  NO_REASON where no further group speaks for fraud, and reason_log_odds, what each of them adds
        """
        parts = self.contributions(features) * self.slope
        logits = parts.sum(dim=1, keepdim=True) + self.bias * self.slope + self.shift
        most, place = torch.topk(parts, N_REASONS_TOLD, dim=1)
        speaks = most > 0
        code = torch.where(speaks, place + 1, torch.full_like(place, NO_REASON)).to(torch.int32)
        return torch.sigmoid(logits), code, torch.where(speaks, most, torch.zeros_like(most))


class Served(nn.Module):
    """`RiskTransaction.judged` as a forward, for the exporter."""

    signature = Signature(
        (Named("risk_features", "TYPE_FP32", N_RISK_FEATURES, "order: kernels/risk_features.py; NaN: unknown"),),
        (
            Named("fraud_prob", "TYPE_FP32", 1, "the transaction is fraud"),
            Named("reason_code", "TYPE_INT32", N_REASONS_TOLD, "kernels/risk_features.py, from 1, most telling first"),
            Named("reason_log_odds", "TYPE_FP32", N_REASONS_TOLD, "what each reason adds, beside the average"),
        ),
    )

    def __init__(self, risk: RiskTransaction) -> None:
        super().__init__()
        self.risk = risk

    def forward(self, risk_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See RiskTransaction.judged."""
        return self.risk.judged(risk_features)


def fraud_loss(contributions: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, and a little for every part that speaks without need.

    contributions  (batch, n_reasons) float32
    bias           (1,) float32  log-odds of the average transaction
    labels         (batch, 1) float32  1 for fraud
    returns        scalar
    source         Agarwal et al. 2021 (arXiv 2004.13912), section 2.1: cross-entropy and output penalty
    """
    logits = contributions.sum(dim=1, keepdim=True) + bias
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, labels)
    return cross_entropy + SILENCE * contributions.square().mean()
