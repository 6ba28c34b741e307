"""What a shopper will spend: a buy-till-you-die part that knows rates and drop-out, and a net that corrects it.

In: features as kernels.features.FEATURES. Out: expected spend over 90 and 365 days, and the chance of any order within
90. Called by training/lifetimes.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import columns
from training.models.standard import Standard
from training.tensors import FEATURES_IN, Signature
from training.tensors import Tensor as Named

HORIZON_DAYS = (90.0, 365.0)
# Kinds of shoppers: how often they order while they stay, and the chance that an order was their last.
RATES_PER_WEEK = tuple(float(rate) for rate in torch.logspace(-2.6, 0.85, 24))
LAST_PROBS = (0.002, 0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.8)
WIDTH = 16
SMALLEST = 1e-6
# A correction beyond e^2 on either side would say that the shopper's own history is worth nothing.
FURTHEST = 2.0


class Lifetime(nn.Module):
    """Weights over kinds of shoppers, and what the features say beyond frequency and recency."""

    narrow: Tensor
    kind_prob: Tensor
    value_mean: Tensor
    value_orders: Tensor
    label_days: Tensor
    scale: Tensor
    rate: Tensor
    last_prob: Tensor
    horizon_days: Tensor

    def __init__(self) -> None:
        super().__init__()
        names = columns()
        self.place = {name: place for place, name in enumerate(names)}
        rate, last = torch.meshgrid(torch.tensor(RATES_PER_WEEK), torch.tensor(LAST_PROBS), indexing="ij")
        self.register_buffer("horizon_days", torch.tensor(HORIZON_DAYS), persistent=False)
        self.register_buffer("rate", rate.flatten(), persistent=False)
        self.register_buffer("last_prob", last.flatten(), persistent=False)
        narrow = [place for place, name in enumerate(names) if "[" not in name]
        self.register_buffer("narrow", torch.tensor(narrow), persistent=False)
        self.register_buffer("kind_prob", torch.full((rate.numel(),), 1.0 / rate.numel()))
        self.register_buffer("value_mean", torch.ones(1))
        self.register_buffer("value_orders", torch.ones(1))
        self.register_buffer("label_days", torch.full((1,), HORIZON_DAYS[0]))
        self.register_buffer("scale", torch.ones(1))
        self.standard = Standard()
        n_inputs = len(narrow) + 3
        self.linear = nn.Linear(n_inputs, 3)
        self.hidden = nn.Sequential(nn.Linear(n_inputs, WIDTH), nn.Tanh(), nn.Dropout(0.2), nn.Linear(WIDTH, 3))
        # Untrained, the net corrects nothing: what is expected is what the kinds expect.
        for part in (self.linear, self.hidden[3]):
            assert isinstance(part, nn.Linear)
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Lifetime":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls()
        module.load_state_dict(dict(state))
        return module

    def history_log_likelihood(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """How well each kind explains a shopper's orders, once for having stayed and once for having left.

        features  (batch, N_FEATURES) float32
        returns   two of (batch, n_kinds) float32
        source    Fader, Hardie and Lee 2005 (BG/NBD), eq. 3, given rate and drop-out
        """
        repeats = (self._named(features, "n_orders") - 1.0).clamp(min=0.0)
        tenure = self._named(features, "tenure_days") / 7.0
        recency = self._named(features, "order_recency_days") / 7.0
        last = torch.where(repeats > 0, (tenure - recency).clamp(min=0.0), torch.zeros_like(tenure))
        ordered = repeats * torch.log(self.rate)
        stayed = ordered + repeats * torch.log1p(-self.last_prob) - self.rate * tenure
        left = ordered + (repeats - 1.0) * torch.log1p(-self.last_prob) + torch.log(self.last_prob) - self.rate * last
        return stayed, torch.where(repeats > 0, left, torch.full_like(left, -1e9))

    def orders(self, features: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
        """Orders expected by the kinds alone, and the chance of any.

        features  (batch, N_FEATURES) float32
        days      (n_horizons,) float32
        returns   two of (batch, n_horizons) float32
        """
        stayed, left = self.history_log_likelihood(features)
        known = torch.log(self.kind_prob)
        all_told = torch.logsumexp(torch.cat([known + stayed, known + left], dim=1), dim=1, keepdim=True)
        alive = torch.exp(known + stayed - all_told)  # (batch, n_kinds) chance of the kind, and of having stayed
        weeks = (days / 7.0).unsqueeze(0)
        rate, last_prob = self.rate.unsqueeze(1), self.last_prob.unsqueeze(1)
        count = alive @ ((1.0 - torch.exp(-rate * last_prob * weeks)) / last_prob)
        buys = alive @ (1.0 - torch.exp(-rate * weeks))
        return count.clamp(min=SMALLEST), buys.clamp(SMALLEST, 1.0 - SMALLEST)

    def value(self, features: Tensor) -> Tensor:
        """Spend per order: the shopper's own mean, drawn to everyone's as if they had `value_orders` orders of it.

        features  (batch, N_FEATURES) float32
        returns   (batch, 1) float32  currency units
        """
        spent = self._named(features, "spend_total").clamp(min=0.0)
        n_orders = self._named(features, "n_orders")
        drawn = (self.value_orders * self.value_mean + spent) / (self.value_orders + n_orders)
        return drawn.clamp(min=SMALLEST)

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds of any spend within `label_days`, log of the mean if any, and log-spread, not yet calibrated.

        features  (batch, N_FEATURES) float32
        returns   (batch, 3) float32
        """
        return self.corrected(features, self.told(features))

    def told(self, features: Tensor) -> Tensor:
        """What the kinds alone say of the label's days; nothing in it is trained, so it is computed once.

        features  (batch, N_FEATURES) float32
        returns   (batch, 3) float32  log-odds of an order, log of spend if any, log of expected orders
        """
        count, buys = self.orders(features, self.label_days)
        log_mean = torch.log(count * self.value(features) / buys)
        return torch.cat([torch.log(buys) - torch.log1p(-buys), log_mean, torch.log(count)], dim=1)

    def corrected(self, features: Tensor, told: Tensor) -> Tensor:
        """Forward, once `told` is known.

        features  (batch, N_FEATURES) float32
        told      (batch, 3) float32
        returns   (batch, 3) float32
        """
        inputs = torch.cat([self.standard(features)[:, self.narrow], told], dim=1)
        correction = (self.linear(inputs) + self.hidden(inputs)).clamp(-FURTHEST, FURTHEST)
        start = torch.cat([told[:, :2], torch.zeros_like(told[:, :1])], dim=1)
        answered: Tensor = start + correction
        return answered

    def expectation(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated expectations; what is exported.

        features  (batch, N_FEATURES) float32
        returns   expected_spend (batch, 2), over HORIZON_DAYS in currency units; buy_90d_prob (batch, 1)
        """
        _, buys = self.orders(features, self.horizon_days[:1])
        _, label_buys = self.orders(features, self.label_days)
        log_odds = self(features)[:, :1] - (torch.log(label_buys) - torch.log1p(-label_buys))
        prob = torch.sigmoid(torch.log(buys) - torch.log1p(-buys) + log_odds)
        return self.spend(features, self.horizon_days), prob

    def spend(self, features: Tensor, days: Tensor) -> Tensor:
        """Expected spend over any horizon: that over `label_days`, stretched as the kinds stretch their orders.

        Beyond `label_days` nothing was measured: how fast orders dwindle is what the kinds' drop-out says.

        features  (batch, N_FEATURES) float32
        days      (n_horizons,) float32
        returns   (batch, n_horizons) float32
        """
        told = self(features)
        count, _ = self.orders(features, days)
        label_count, _ = self.orders(features, self.label_days)
        within_label = torch.sigmoid(told[:, :1]) * torch.exp(told[:, 1:2])
        stretched: Tensor = self.scale * within_label * count / label_count
        return stretched

    def _named(self, features: Tensor, name: str) -> Tensor:
        place = self.place[name]
        return features[:, place : place + 1]


class Served(nn.Module):
    """`Lifetime.expectation` as a forward, for the exporter."""

    signature = Signature(
        (FEATURES_IN,),
        (
            Named("expected_spend", "TYPE_FP32", 2, "within 90 and 365 days, currency units, refunds taken off"),
            Named("buy_90d_prob", "TYPE_FP32", 1, "P(any order within 90 days)"),
        ),
    )

    def __init__(self, lifetime: Lifetime) -> None:
        super().__init__()
        self.lifetime = lifetime

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Lifetime.expectation."""
        return self.lifetime.expectation(features)


def ziln_loss(told: Tensor, spend: Tensor) -> Tensor:
    """Minus log-likelihood of spend that is often 0 and otherwise lognormal.

    told    (batch, 3) float32  log-odds of any spend, log of its mean, log of its spread (on the log scale)
    spend   (batch,) float32    ≥ 0, currency units
    returns scalar  source: Wang, Liu and Miao 2019 (arXiv 1912.07753), eq. 5; the mean in the place of the location
    """
    logit, log_mean, log_spread = told[:, 0], told[:, 1], told[:, 2]
    spends = (spend > 0).float()
    spread = torch.exp(log_spread)
    # exp(location + spread² / 2) is a lognormal's mean.
    location = log_mean - 0.5 * spread**2
    log_spend = torch.log(torch.where(spend > 0, spend, torch.ones_like(spend)))
    missed = 0.5 * ((log_spend - location) / spread) ** 2 + log_spread
    return functional.binary_cross_entropy_with_logits(logit, spends) + (spends * missed).mean()
