"""All that a decision asks of the heads, in one small net that learned it from the large ones.

In: features as kernels.features.FEATURES and the shopper's vector. Out: what tags, response and uplift say of
categories, redemptions and effects. Called by training/distillation.py; `Served` is what Triton runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS
from training.models import response, tags, uplift
from training.models.standard import Standard
from training.tensors import FEATURES_IN, VECTOR, VECTOR_WIDTH, Signature

# Columns of what the net says: probabilities, then standard errors, then effects.
SIZES = (N_CATEGORIES, N_OFFER_GROUPS, N_OFFER_GROUPS, N_ARMS, N_ARMS)
N_PROBS = N_CATEGORIES + N_OFFER_GROUPS
N_ERRORS = N_OFFER_GROUPS + N_ARMS
N_SAID = sum(SIZES)
# One layer beside a linear path: as good as two of 256 and 128, and cheaper; twice the width is no better (LOG.md).
WIDTHS = (256,)
# A standard error is told by its logarithm: half of it matters as much as twice of it.
LEAST_ERROR = 1e-6
# A spread below this share of the mean is rounding: the number is the same for everyone.
LEAST_SPREAD = 1e-5
# Log-odds of about one in twelve, near the base rate of categories: starting there saves the first passes.
RARE_LOGIT = -2.5
# Numbers are squared in units of their own spread, so their loss starts near 1 where a probability's starts near 0.1.
NUMBER_WORTH = 0.1


@dataclass(frozen=True)
class Told:
    """What a decision asks, as the teachers say it or as the net does.

    category_prob    (batch, N_CATEGORIES) float32
    redeem_prob      (batch, N_OFFER_GROUPS) float32
    redeem_prob_se   (batch, N_OFFER_GROUPS) float32
    spend_uplift     (batch, N_ARMS) float32          currency units
    spend_uplift_se  (batch, N_ARMS) float32
    """

    category_prob: Tensor
    redeem_prob: Tensor
    redeem_prob_se: Tensor
    spend_uplift: Tensor
    spend_uplift_se: Tensor

    def columns(self) -> Tensor:
        """All of it side by side in the order in which the net says it, standard errors as logarithms.

        returns  (batch, N_SAID) float32
        """
        errors = torch.cat([self.redeem_prob_se, self.spend_uplift_se], dim=1).clamp(min=LEAST_ERROR).log()
        return torch.cat([self.category_prob, self.redeem_prob, errors, self.spend_uplift], dim=1)


class Heads(nn.Module):
    """A linear path and hidden layers beside it; unfitted, every slot is used and every number has the spread 1.

    widths  of the hidden layers; none leaves the linear path, the simple rival
    """

    is_used: Tensor
    mean: Tensor
    spread: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.standard = Standard()
        self.linear = nn.Linear(N_FEATURES + VECTOR_WIDTH, N_SAID)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.constant_(self.linear.bias[:N_PROBS], RARE_LOGIT)
        layers: list[nn.Module] = []
        for before, width in zip((N_FEATURES + VECTOR_WIDTH, *widths), widths, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU()]
        self.hidden = nn.Sequential(*layers, nn.Linear(widths[-1], N_SAID, bias=False)) if widths else None
        self.register_buffer("is_used", torch.ones(N_SAID))
        # Of the numbers alone: standard errors, as logarithms, and uplifts.
        for name, value in (("mean", 0.0), ("spread", 1.0), ("least", -math.inf), ("most", math.inf)):
            self.register_buffer(name, torch.full((N_SAID - N_PROBS,), value))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Heads":
        """The module whose weights were saved.

        state  a state_dict
        """
        names = [name for name in state if name.startswith("hidden.") and name.endswith(".bias")]
        module = cls(tuple(state[name].shape[0] for name in names))
        module.load_state_dict(dict(state))
        return module

    def learn(self, features: Tensor, taught: Told) -> None:
        """Take the inputs' normalisation, the numbers' scale and the slots in use from the training rows.

        features  (n, N_FEATURES) float32
        taught    of the same rows
        """
        self.standard.learn(features)
        raw = (taught.category_prob, taught.redeem_prob, taught.redeem_prob_se)
        told = torch.cat([*raw, taught.spend_uplift_se, taught.spend_uplift], dim=1)
        self.is_used.copy_((told != 0.0).any(dim=0))
        numbers = taught.columns()[:, N_PROBS:].double()
        self.mean.copy_(numbers.mean(dim=0))
        self.least.copy_(numbers.amin(dim=0))
        self.most.copy_(numbers.amax(dim=0))
        spread = numbers.std(dim=0, correction=0)
        self.spread.copy_(torch.where(spread > LEAST_SPREAD * numbers.mean(dim=0).abs(), spread, 0.0))

    def targets(self, taught: Told) -> Tensor:
        """What the net should say: probabilities as they are, numbers in spreads from their mean.

        returns  (batch, N_SAID) float32
        """
        told = taught.columns()
        worth = torch.where(self.spread > 0.0, 1.0 / self.spread, 0.0)
        return torch.cat([told[:, :N_PROBS], (told[:, N_PROBS:] - self.mean) * worth], dim=1)

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """Log-odds of what happens or does not, then numbers in spreads from their mean.

        features  (batch, N_FEATURES) float32
        vector    (batch, VECTOR_WIDTH) float32
        returns   (batch, N_SAID) float32  categories, redemptions, their errors, uplifts' errors, uplifts
        """
        seen = torch.cat([self.standard(features), vector], dim=1)
        said: Tensor = self.linear(seen)
        return said if self.hidden is None else said + self.hidden(seen)

    def told(self, features: Tensor, vector: Tensor) -> Told:
        """What is served, in its own units; a slot that the teachers leave at 0 is 0.

        Numbers stay within what the teachers said in training: without limits, one shopper's standard error was 0.22
        from theirs, of which none is above 0.18 (LOG.md).

        features  (batch, N_FEATURES) float32
        vector    (batch, VECTOR_WIDTH) float32
        """
        said = self(features, vector)
        probs = torch.sigmoid(said[:, :N_PROBS]) * self.is_used[:N_PROBS]
        numbers = (said[:, N_PROBS:] * self.spread + self.mean).clamp(self.least, self.most)
        errors = torch.exp(numbers[:, :N_ERRORS]) * self.is_used[N_PROBS : N_PROBS + N_ERRORS]
        return Told(
            probs[:, :N_CATEGORIES],
            probs[:, N_CATEGORIES:],
            errors[:, :N_OFFER_GROUPS],
            numbers[:, N_ERRORS:] * self.is_used[N_PROBS + N_ERRORS :],
            errors[:, N_OFFER_GROUPS:],
        )


# What the teachers' signatures promise, so that nothing is said twice of one tensor.
_TAUGHT = {
    tensor.name: tensor
    for served in (tags.Served, response.Served, uplift.Served)
    for tensor in served.signature.outputs
}


class Served(nn.Module):
    """`Heads.told` as a forward, for the exporter."""

    signature = Signature((FEATURES_IN, VECTOR), tuple(_TAUGHT[name] for name in Told.__annotations__))

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """See Heads.told."""
        told = self.heads.told(features, vector)
        return told.category_prob, told.redeem_prob, told.redeem_prob_se, told.spend_uplift, told.spend_uplift_se


def heads_loss(said: Tensor, targets: Tensor, is_used: Tensor) -> Tensor:
    """Cross-entropy with the teachers' probabilities, both terms, and the squared error of what is a number.

    said     (batch, N_SAID) float32  from Heads
    targets  (batch, N_SAID) float32  from Heads.targets
    is_used  (N_SAID,) float32        1 where the teachers say anything, else 0
    returns  scalar                   mean over used slots of each kind, NUMBER_WORTH of the second
    source   Hinton et al. 2015 (arXiv 1503.02531), section 2, at temperature 1: probabilities are calibrated already
    """
    entropy = functional.binary_cross_entropy_with_logits(said[:, :N_PROBS], targets[:, :N_PROBS], reduction="none")
    missed = (said[:, N_PROBS:] - targets[:, N_PROBS:]) ** 2
    probs, numbers = is_used[:N_PROBS], is_used[N_PROBS:]
    n_probs, n_numbers = (len(said) * used.sum().clamp(min=1.0) for used in (probs, numbers))
    return (entropy * probs).sum() / n_probs + NUMBER_WORTH * (missed * numbers).sum() / n_numbers
