"""What being given each arm adds to an outcome, with its standard error; arms that are doses never add less.

In: features, of the shop (kernels.features.FEATURES) or of any trial. Out: effects in units of the outcome. Called by
training/effects.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.checks import check
from kernels.features import N_ARMS, columns
from training.models.standard import Standard
from training.tensors import FEATURES_IN, Signature
from training.tensors import Tensor as Named

N_MEMBERS = 5
WIDTH = 8
# A feature this many deviations out says no more than at it: a linear effect must not run away with one shopper.
FURTHEST = 3.0


@dataclass(frozen=True)
class Shape:
    """What the net is built for.

    names           columns of `features`
    narrow          places of the columns that effects may differ by; the rest is not read
    n_arms          arms beside "nothing"
    doses           arms that are doses of one treatment, from the smallest on; an arm stands in one chain at most
    width           hidden units of each copy; 0 leaves a linear effect
    n_members       copies; the first sees every shopper once, the others a resample each
    unit            a usual effect, in units of the outcome: weights start at this size
    has_expected    whether effects may follow the chance of the outcome itself, which a part of its own estimates
    """

    names: tuple[str, ...] = columns()
    narrow: tuple[int, ...] = tuple(place for place, name in enumerate(columns()) if "[" not in name)
    n_arms: int = N_ARMS
    doses: tuple[tuple[int, ...], ...] = ()
    width: int = WIDTH
    n_members: int = N_MEMBERS
    unit: float = 10.0
    has_expected: bool = False

    def __post_init__(self) -> None:
        """Check the chains once."""
        dosed = [arm for chain in self.doses for arm in chain]
        check(len(set(dosed)) == len(dosed), f"doses must name an arm once, got {self.doses}")
        check(all(0 <= arm < self.n_arms for arm in dosed), f"doses must be arms below {self.n_arms}, got {self.doses}")
        check(self.n_members >= 3, f"n_members must be ≥ 3 for a standard error, got {self.n_members}")


class Expected(nn.Module):
    """Log-odds of the outcome, whatever was given: a linear part and a few hidden units."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, 1)
        self.hidden = nn.Sequential(nn.Linear(n_features, 16), nn.Tanh(), nn.Linear(16, 1))
        nn.init.zeros_(self.linear.weight)

    def forward(self, standard: Tensor) -> Tensor:
        """Log-odds.

        standard  (batch, n_features) float32
        returns   (batch, 1) float32
        """
        logits: Tensor = self.linear(standard) + self.hidden(standard)
        return logits


class Uplift(nn.Module):
    """A constant effect per arm plus small additive heads, in copies that saw different shoppers."""

    narrow: Tensor
    cumulate: Tensor
    is_dosed: Tensor
    unit: Tensor
    constant: Tensor
    constant_se: Tensor
    trust: Tensor
    centre: Tensor
    expected_mean: Tensor
    expected_scale: Tensor

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        n_inputs = len(shape.narrow) + shape.has_expected
        self.register_buffer("narrow", torch.tensor(shape.narrow))
        self.register_buffer("cumulate", _cumulation(shape.n_arms, shape.doses))
        dosed = [arm for chain in shape.doses for arm in chain]
        self.register_buffer("is_dosed", torch.tensor([arm in dosed for arm in range(shape.n_arms)]))
        self.register_buffer("unit", torch.tensor(shape.unit))
        self.standard = Standard(shape.names)
        self.expected = Expected(len(shape.narrow)) if shape.has_expected else None
        self.inner = nn.Parameter(torch.randn(shape.n_members, n_inputs, shape.width) * 0.1)
        self.inner_shift = nn.Parameter(torch.zeros(shape.n_members, 1, shape.width))
        self.outer = nn.Parameter(torch.zeros(shape.n_members, shape.width, shape.n_arms))
        self.direct = nn.Parameter(torch.zeros(shape.n_members, n_inputs, shape.n_arms))
        self.level = nn.Parameter(torch.zeros(shape.n_members, 1, shape.n_arms))
        for name in ("constant", "constant_se", "trust", "centre"):
            self.register_buffer(name, torch.zeros(shape.n_arms))
        self.register_buffer("expected_mean", torch.zeros(1))
        self.register_buffer("expected_scale", torch.ones(1))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Uplift":
        """The module whose weights were saved.

        state  a state_dict
        """
        n_members, n_inputs, n_arms = state["direct"].shape
        n_names = state["standard.mean"].numel()
        names = columns() if n_names == len(columns()) else tuple(f"feature[{place}]" for place in range(n_names))
        shape = Shape(
            names=names,
            narrow=tuple(state["narrow"].tolist()),
            n_arms=n_arms,
            width=state["inner"].shape[2],
            n_members=n_members,
            has_expected=n_inputs > state["narrow"].numel(),
        )
        module = cls(shape)
        module.load_state_dict(dict(state))
        return module

    def inputs(self, features: Tensor) -> Tensor:
        """What effects are functions of: standardised columns and, where the net has it, the chance of the outcome.

        features  (batch, n_features) float32
        returns   (batch, n_inputs) float32  within ±FURTHEST
        """
        standard = self.standard(features)[:, self.narrow]
        if self.expected is not None:
            chance = (torch.sigmoid(self.expected(standard)) - self.expected_mean) * self.expected_scale
            standard = torch.cat([standard, chance.detach()], dim=1)
        limited: Tensor = standard.clamp(-FURTHEST, FURTHEST)
        return limited

    def increments(self, features: Tensor) -> Tensor:
        """What each member says an arm adds: to nothing, or to the dose before it, where it is never below 0.

        features  (batch, n_features) float32
        returns   (n_members, batch, n_arms) float32
        """
        inputs = self.inputs(features).unsqueeze(0)  # (1, batch, n_inputs)
        hidden = torch.tanh(inputs @ self.inner + self.inner_shift)  # (n_members, batch, width)
        raw = hidden @ self.outer + inputs @ self.direct + self.level
        return self.unit * torch.where(self.is_dosed, functional.softplus(raw), raw)

    def forward(self, features: Tensor) -> Tensor:
        """Effect of each arm as each member sees it, in units of the outcome.

        features  (batch, n_features) float32
        returns   (n_members, batch, n_arms) float32
        """
        effects: Tensor = self.increments(features) @ self.cumulate
        return effects

    def effects(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Effects drawn towards each arm's constant by `trust`, and their standard errors; what is exported.

        features  (batch, n_features) float32
        returns   effect and its standard error, (batch, n_arms) float32  an arm that nobody was given has 0 and 0
        """
        drawn = self.constant + self.trust * (self.increments(features) - self.centre)
        # Drawing towards a constant may take an increment below 0; a larger dose must still not add less.
        drawn = torch.where(self.is_dosed, functional.relu(drawn), drawn) @ self.cumulate
        resampled = drawn[1:]
        spread = ((resampled - resampled.mean(dim=0)) ** 2).sum(dim=0) / (self.level.shape[0] - 2)
        return drawn[0], torch.sqrt(self.constant_se**2 + spread)


def _cumulation(n_arms: int, doses: Sequence[Sequence[int]]) -> Tensor:
    """(n_arms, n_arms) 0 or 1: which increments each arm's effect is the sum of."""
    matrix = torch.eye(n_arms)
    for chain in doses:
        for place, arm in enumerate(chain):
            matrix[list(chain[:place]), arm] = 1.0
    return matrix


SHOP_SIGNATURE = Signature(
    (FEATURES_IN,),
    (
        Named("spend_uplift", "TYPE_FP32", N_ARMS, "currency units over 28 days, of being sent the arm"),
        Named("spend_uplift_se", "TYPE_FP32", N_ARMS, "standard error of it"),
    ),
)


class Served(nn.Module):
    """`Uplift.effects` as a forward, for the exporter; a trial's own signature may stand in the place of the shop's."""

    signature = SHOP_SIGNATURE

    def __init__(self, uplift: Uplift, signature: Signature = SHOP_SIGNATURE) -> None:
        super().__init__()
        self.uplift = uplift
        self.signature = signature

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Uplift.effects."""
        return self.uplift.effects(features)


def residual_loss(effects: Tensor, residual: Tensor, sent_residual: Tensor, weights: Tensor) -> Tensor:
    """The R-learner's loss: what is left of the outcome, less the effect times what is left of being sent, squared.

    effects        (n_members, batch) float32  of the arm that the row's wave had
    residual       (batch,) float32            outcome less its expectation
    sent_residual  (batch,) float32            1 if sent else 0, less the propensity
    weights        (n_members, batch) float32  how often each member drew the row's shopper
    returns        scalar  source: Nie and Wager 2021 (arXiv 1712.04912), eq. 4
    """
    missed = (residual - effects * sent_residual) ** 2
    return (missed * weights).sum() / weights.sum().clamp(min=1.0)
