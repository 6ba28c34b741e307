"""What a shopper will answer to each action, if it is sent: clicks it, redeems it, buys from it, spends. One loss.

In: a shopper's features and the encoder's vector. Out: probabilities and expected spend per action, and how far the
members disagree. Called by training/answers.py; tests/benchmarks/published runs the same module on other data.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import N_FEATURES, N_OFFER_GROUPS
from training.models.piecewise import Piecewise
from training.models.standard import Standard
from training.tensors import FEATURES_IN, VECTOR, VECTOR_WIDTH, Signature
from training.tensors import Tensor as Named

# Heads in the order of the last axis. Buying has two: an offer that is redeemed is nearly always bought from.
CLICK, REDEEM, BUY_IF_REDEEMED, BUY_IF_NOT, LOG_SPEND = range(5)
TASK_OF_HEAD = (0, 1, 2, 2, 3)
N_HEADS, N_TASKS = len(TASK_OF_HEAD), 4
# What happens or does not, in the order of `happened` and of the calibration.
CLICKED, REDEEMED, BOUGHT = range(3)
N_CHANCES = 3
N_MEMBERS, N_CROSSES, RANK = 4, 2, 16
N_EXPERTS, WIDTH, NARROW, N_BINS = 4, 16, 8, 8
LEAST_PROB, LEAST_SPEND, LEAST_SPREAD, MOST_SPREAD = 1e-6, 0.01, 0.1, 3.0


@dataclass(frozen=True)
class Actions:
    """What a module answers for.

    own     (n_actions, n_own) int64  columns of the features that are about the action; -1 where none is
    shared  (n_shared,) int64         columns of the features that are about the shopper
    """

    own: NDArray[np.int64]
    shared: NDArray[np.int64]


@dataclass(frozen=True)
class Chances:
    """What follows if each action is sent, not yet calibrated, as each member says.

    clicked, redeemed, bought  (N_MEMBERS, batch, n_actions) float32  probabilities
    log_spend                  (N_MEMBERS, batch, n_actions) float32  mean logarithm of what a buyer spends
    sigma                      (n_actions,) float32                   its spread
    """

    clicked: Tensor
    redeemed: Tensor
    bought: Tensor
    log_spend: Tensor
    sigma: Tensor

    def probs(self) -> Tensor:
        """(N_CHANCES, N_MEMBERS, batch, n_actions), away from 0 and 1."""
        return torch.stack([self.clicked, self.redeemed, self.bought]).clamp(LEAST_PROB, 1.0 - LEAST_PROB)

    def spend_if_bought(self) -> Tensor:
        """Mean of the log-normal, (N_MEMBERS, batch, n_actions), currency units."""
        return torch.exp((self.log_spend + 0.5 * self.sigma**2).clamp(max=20.0))


@dataclass(frozen=True)
class Outcomes:
    """What followed where an action was sent.

    observed  (batch, n_actions) float32             1 where it was sent and seen to the end of the horizon
    happened  (N_CHANCES, batch, n_actions) float32  0 or 1
    spend     (batch, n_actions) float32             currency units, ≥ 0
    draws     (N_MEMBERS, batch) float32             how often each member drew the row's shopper
    """

    observed: Tensor
    happened: Tensor
    spend: Tensor
    draws: Tensor


class Cross(nn.Module):
    """One low-rank cross layer. source: DCN V2, Wang et al. 2021 (arXiv 2008.13535), eq. 2 with W = UV."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, RANK, bias=False)
        self.up = nn.Linear(RANK, width)
        nn.init.normal_(self.up.weight, std=0.01)

    def forward(self, first: Tensor, hidden: Tensor) -> Tensor:
        """Products of the first layer with a projection of the last, beside the last; (batch, width) each."""
        crossed: Tensor = first * self.up(self.down(hidden)) + hidden
        return crossed


class Member(nn.Module):
    """A linear part fitted beforehand, and what a curve per column, crosses, experts and gates add to it.

    The experts are mixed by a gate per task and action. source: MMoE, Ma et al. 2018 (10.1145/3219819.3220007), eq. 5.
    """

    wide: Tensor
    own_wide: Tensor
    level: Tensor

    def __init__(self, n_features: int, n_shared: int, n_actions: int, n_own: int) -> None:
        super().__init__()
        self.register_buffer("wide", torch.zeros(n_features, N_HEADS))
        self.register_buffer("own_wide", torch.zeros(n_own, N_HEADS))
        self.register_buffer("level", torch.zeros(n_actions, N_HEADS))
        n_bent, n_own_bent = n_shared * N_BINS, n_own * N_BINS
        self.drop_columns, self.dropout = nn.Dropout1d(0.3), nn.Dropout(0.2)
        self.crosses = nn.ModuleList(Cross(n_bent) for _ in range(N_CROSSES))
        self.experts = nn.Linear(n_bent, N_EXPERTS * WIDTH)
        self.vector = nn.Linear(VECTOR_WIDTH, N_EXPERTS * WIDTH, bias=False)
        self.name = nn.Parameter(torch.randn(n_actions, NARROW) * 0.1)
        self.gate = nn.Linear(NARROW, N_TASKS * N_EXPERTS)
        self.shopper_gate = nn.Linear(n_bent, N_TASKS * N_EXPERTS, bias=False)
        self.action = nn.Linear(NARROW, WIDTH)
        self.own = nn.Linear(n_own_bent, WIDTH, bias=False)
        self.curves, self.own_curves = nn.Linear(n_bent, N_HEADS), nn.Linear(n_own_bent, N_HEADS, bias=False)
        # Nothing is added until it is learned: training starts at the linear part.
        self.head = nn.Parameter(torch.zeros(N_HEADS, WIDTH))
        for layer in (self.curves, self.own_curves):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.curves.bias)
        nn.init.zeros_(self.vector.weight)
        nn.init.zeros_(self.shopper_gate.weight)

    def linear(self, standard: Tensor, own: Tensor) -> Tensor:
        """The part fitted beforehand.

        standard  (batch, n_features) float32
        own       (batch, n_actions, n_own) float32
        returns   (batch, n_actions, N_HEADS) float32
        """
        return (standard @ self.wide).unsqueeze(1) + own @ self.own_wide + self.level

    def added(self, bent: Tensor, own_bent: Tensor, vector: Tensor) -> Tensor:
        """What curves and experts add to it.

        bent      (batch, n_shared, N_BINS) float32
        own_bent  (batch, n_actions, n_own * N_BINS) float32
        vector    (batch, VECTOR_WIDTH) float32
        returns   (batch, n_actions, N_HEADS) float32
        """
        first = self.drop_columns(bent).flatten(1)
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        experts = functional.relu(self.experts(crossed) + self.vector(vector))
        experts = self.dropout(experts).unflatten(1, (N_EXPERTS, WIDTH))  # (batch, N_EXPERTS, WIDTH)
        gates = self.gate(self.name) + self.shopper_gate(first).unsqueeze(1)
        gates = torch.softmax(gates.unflatten(2, (N_TASKS, N_EXPERTS)), dim=3)
        n_actions = self.name.shape[0]
        mixed = (gates.flatten(1, 2) @ experts).unflatten(1, (n_actions, N_TASKS))
        about = (self.own(own_bent) + self.action(self.name)).unsqueeze(2)  # (batch, n_actions, 1, WIDTH)
        hidden = functional.relu(mixed + about)[:, :, list(TASK_OF_HEAD)]  # (batch, n_actions, N_HEADS, WIDTH)
        curves = self.curves(first).unsqueeze(1) + self.own_curves(own_bent)
        added: Tensor = (hidden * self.head).sum(dim=3) + curves
        return added


class Response(nn.Module):
    """N_MEMBERS members that drew different shoppers, and the calibration of their mean."""

    own_columns: Tensor
    shared_columns: Tensor
    slope: Tensor
    shift: Tensor
    scale: Tensor
    is_used: Tensor

    def __init__(self, actions: Actions, n_features: int = N_FEATURES) -> None:
        super().__init__()
        n_actions, n_own = actions.own.shape
        # One column more than there are features holds nought, for an action that no column is about.
        own = np.where(actions.own < 0, n_features, actions.own)
        self.register_buffer("own_columns", torch.from_numpy(own.astype(np.int64)))
        self.register_buffer("shared_columns", torch.from_numpy(actions.shared.astype(np.int64)))
        self.standard = Standard() if n_features == N_FEATURES else Standard([""] * n_features)
        self.bent, self.own_bent = Piecewise(actions.shared.size, N_BINS), Piecewise(n_own, N_BINS)
        self.members = nn.ModuleList(
            Member(n_features, actions.shared.size, n_actions, n_own) for _ in range(N_MEMBERS)
        )
        self.spread = nn.Parameter(torch.zeros(n_actions))
        self.register_buffer("slope", torch.ones(N_CHANCES, n_actions))
        self.register_buffer("shift", torch.zeros(N_CHANCES, n_actions))
        self.register_buffer("scale", torch.ones(n_actions))
        self.register_buffer("is_used", torch.ones(N_CHANCES, n_actions))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Response":
        """The module whose weights were saved.

        state  a state_dict
        """
        n_features = state["standard.mean"].shape[0]
        own = state["own_columns"].numpy()
        module = cls(Actions(np.where(own == n_features, -1, own), state["shared_columns"].numpy()), n_features)
        module.load_state_dict(dict(state))
        return module

    def learn_inputs(self, features: Tensor) -> None:
        """Take means, spreads and quantiles from the training rows.

        features  (n, n_features) float32
        """
        self.standard.learn(features)
        standard = self.standard(features)
        self.bent.learn(standard[:, self.shared_columns])
        # One scale for all actions, so that what is learned of one holds for another.
        self.own_bent.learn(self._own(standard).flatten(0, 1))

    def inputs(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the linear parts read, (batch, n_features) and (batch, n_actions, n_own) float32."""
        standard = self.standard(features)
        return standard, self._own(standard)

    def forward(self, features: Tensor, vector: Tensor) -> Chances:
        """What every member says.

        features  (batch, n_features) float32
        vector    (batch, VECTOR_WIDTH) float32
        """
        standard, own = self.inputs(features)
        bent = self.bent(standard[:, self.shared_columns]).unflatten(1, (-1, N_BINS)) - 0.5
        own_bent = self.own_bent(own) - 0.5
        members = [member for member in self.members if isinstance(member, Member)]
        heads = torch.stack([member.linear(standard, own) + member.added(bent, own_bent, vector) for member in members])
        redeemed = torch.sigmoid(heads[..., REDEEM])
        # source: ESMM, Ma et al. 2018 (arXiv 1804.07931), eq. 1: each product is trained on all who were sent.
        bought = redeemed * torch.sigmoid(heads[..., BUY_IF_REDEEMED])
        bought = bought + (1.0 - redeemed) * torch.sigmoid(heads[..., BUY_IF_NOT])
        sigma = functional.softplus(self.spread).clamp(LEAST_SPREAD, MOST_SPREAD)
        return Chances(torch.sigmoid(heads[..., CLICK]), redeemed, bought, heads[..., LOG_SPEND], sigma)

    def calibrated(self, chances: Chances) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What is served, from what the members say.

        returns  redeem, buy and click probability, expected spend, standard error of the first; (batch, n_actions) each
        """
        each = chances.probs()
        mean = self._mapped(each.mean(dim=1))
        members = self._mapped(each.transpose(0, 1))[:, REDEEMED]  # (N_MEMBERS, batch, n_actions)
        centred = members - members.mean(dim=0)
        error = torch.sqrt((centred**2).sum(dim=0) / (N_MEMBERS - 1))
        spend = mean[BOUGHT] * chances.spend_if_bought().mean(dim=0) * self.scale
        return mean[REDEEMED], mean[BOUGHT], mean[CLICKED], spend, error

    def _mapped(self, probs: Tensor) -> Tensor:
        """Calibrate (..., N_CHANCES, batch, n_actions)."""
        logits = torch.log(probs) - torch.log1p(-probs)
        calibrated = torch.sigmoid(logits * self.slope.unsqueeze(1) + self.shift.unsqueeze(1))
        return calibrated * self.is_used.unsqueeze(1)

    def _own(self, standard: Tensor) -> Tensor:
        padded = torch.cat([standard, torch.zeros_like(standard[:, :1])], dim=1)
        n_actions, n_own = self.own_columns.shape
        return padded[:, self.own_columns.flatten()].reshape(-1, n_actions, n_own)


class Served(nn.Module):
    """`Response.calibrated` as a forward, for the exporter."""

    signature = Signature(
        (FEATURES_IN, VECTOR),
        (
            Named("redeem_prob", "TYPE_FP32", N_OFFER_GROUPS, "redeems an offer of the group within 28 days, if sent"),
            Named("buy_prob", "TYPE_FP32", N_OFFER_GROUPS, "buys from the group's categories within 28 days, if sent"),
            Named("click_prob", "TYPE_FP32", N_OFFER_GROUPS, "clicks an offer of the group within 28 days, if sent"),
            Named("response_spend", "TYPE_FP32", N_OFFER_GROUPS, "currency units in the group's categories, 28 days"),
            Named("redeem_prob_se", "TYPE_FP32", N_OFFER_GROUPS, "standard error of redeem_prob"),
        ),
    )

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response

    def forward(self, features: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """See Response.calibrated."""
        return self.response.calibrated(self.response(features, vector))


def response_loss(chances: Chances, outcomes: Outcomes, worth: tuple[float, ...]) -> Tensor:
    """Cross-entropy of what happened, on all who were sent the action, and likelihood of what buyers spent.

    worth    of each of N_CHANCES and of the spend; one of 0 is left out
    returns  scalar, per action sent  source: zero-inflated log-normal, Wang et al. 2019 (arXiv 1912.07753), eq. 4
    """
    weights = outcomes.draws.unsqueeze(2) * outcomes.observed  # (N_MEMBERS, batch, n_actions)
    n_seen = weights.sum().clamp(min=1.0)
    total = n_seen * 0.0
    for said, happened, share in zip(chances.probs(), outcomes.happened, worth, strict=False):
        if share > 0.0:
            each = functional.binary_cross_entropy(said, happened.expand_as(said), reduction="none")
            total = total + share * (each * weights).sum()
    if worth[N_CHANCES] > 0.0:
        missed = (outcomes.spend.clamp(min=LEAST_SPEND).log() - chances.log_spend) / chances.sigma
        spent = weights * (outcomes.spend > 0.0)
        total = total + worth[N_CHANCES] * ((0.5 * missed**2 + chances.sigma.log()) * spent).sum()
    return total / n_seen
