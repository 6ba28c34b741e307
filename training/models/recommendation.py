"""Which items a shopper buys within a week: repeat purchases, what tends to follow, and a small sequence net.

In: the last HISTORY items, as kernels.sequences keeps them. Out: the N_TOP_ITEMS best with calibrated probabilities.
Called by training/baskets.py; export.py writes it as one graph.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kernels.features import HISTORY, N_TOP_ITEMS
from training.tensors import HISTORY_IN, Signature
from training.tensors import Tensor as Named

WIDTH, N_HEADS = 48, 4
# Latest items whose successors are looked up, and successors kept of each.
N_RECENT, N_SUCCESSORS = 8, 32
DECAY = 0.7
# Log-odds of an index that names no item.
SILENT = -1e4
# Keeps logarithms finite; far below any item's rate.
TINY = 1e-30


class Recommendation(nn.Module):
    """Scores of all items: a base rate, a one-block attention net, repeat purchases and the transition table, summed.

    n_items      item indexes, 0 included
    has_repeats  False leaves the net alone, the rival
    """

    successor: Tensor
    worth: Tensor
    blend: Tensor
    calibration: Tensor

    def __init__(self, n_items: int, *, has_repeats: bool = True) -> None:
        super().__init__()
        self.has_repeats = has_repeats
        self.item = nn.Embedding(n_items, WIDTH, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.1)
        self.place = nn.Parameter(torch.randn(HISTORY, WIDTH) * 0.02)
        self.norm = nn.LayerNorm(WIDTH)
        self.query = nn.Parameter(torch.randn(N_HEADS, WIDTH) * 0.1)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Sequential(nn.Linear(N_HEADS * WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        self.base = nn.Parameter(torch.zeros(n_items))
        self.repeat_place = nn.Parameter(torch.linspace(-0.5, 0.0, HISTORY))
        self.repeat_item = nn.Parameter(torch.zeros(n_items))
        self.repeat = nn.Parameter(torch.tensor([-3.0, 1.0]))
        self.follow = nn.Parameter(torch.tensor(-5.0))
        self.register_buffer("successor", torch.zeros(n_items, N_SUCCESSORS, dtype=torch.int32))
        self.register_buffer("worth", torch.zeros(n_items, N_SUCCESSORS))
        self.register_buffer("blend", torch.ones(2))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0, 0.0]))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Recommendation":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls(state["base"].shape[0])
        module.load_state_dict(dict(state))
        return module

    def shopper(self, item_history: Tensor) -> Tensor:
        """One vector for each history.

        item_history  (batch, HISTORY) int64  latest last, 0 pads
        returns       (batch, WIDTH) float32
        """
        vectors = self.norm(self.item(item_history) + self.place)  # (batch, HISTORY, WIDTH)
        attention = self.key(vectors) @ self.query.T / WIDTH**0.5  # (batch, HISTORY, N_HEADS)
        share = attention.masked_fill((item_history == 0).unsqueeze(2), SILENT).softmax(dim=1)
        read = share.transpose(1, 2) @ self.value(vectors)  # (batch, N_HEADS, WIDTH)
        mixed: Tensor = self.mix(read.flatten(1))
        return mixed

    def counts(self, items: Tensor, item_history: Tensor) -> Tensor:
        """How often each item stands in its row's history, each place with a learned worth.

        items         (batch, n) int64
        item_history  (batch, HISTORY) int64
        returns       (batch, n) float32
        """
        worth = torch.exp(self.repeat_place) * (item_history > 0)  # (batch, HISTORY)
        return ((items.unsqueeze(2) == item_history.unsqueeze(1)) * worth.unsqueeze(1)).sum(dim=2)

    def again(self, items: Tensor, counts: Tensor) -> Tensor:
        """Rate at which items are bought because they were bought before; 0 for one that was not.

        items    (batch, n) int64
        counts   (batch, n) float32  as `counts`
        returns  (batch, n) float32
        """
        level = self.repeat[0] + self.repeat_item[items] + self.repeat[1] * torch.log(counts.clamp(min=TINY))
        return self.blend[0] * torch.exp(level) * (counts > 0)

    def after(self, item_history: Tensor) -> tuple[Tensor, Tensor]:
        """Successors of the latest items, and the table's score of each; `follow_rate` makes it a rate.

        item_history  (batch, HISTORY) int64
        returns       items (batch, N_RECENT * N_SUCCESSORS) int64, scores of the same shape; an item may stand twice
        """
        recent = item_history[:, -N_RECENT:]
        worth = self.worth[recent] * DECAY ** torch.arange(N_RECENT - 1, -1, -1.0).view(1, N_RECENT, 1)
        return self.successor[recent].flatten(1).long(), worth.flatten(1)

    def follow_rate(self) -> Tensor:
        """Rate at which an item is bought for every point that the table gives it, scalar."""
        return self.blend[1] * torch.exp(self.follow)

    def discovery(self, item_history: Tensor) -> Tensor:
        """Log of the rate at which every item is found: base rate and net.

        item_history  (batch, HISTORY) int64
        returns       (batch, n_items) float32
        """
        return self.base + self.shopper(item_history) @ self.item.weight.T

    def rates(self, item_history: Tensor) -> Tensor:
        """Rate of every item: it is bought because it is found, was bought before, or follows another.

        Rates add where reasons differ: a product would count a staple's popularity a second time on top of its repeats
        (NDCG@10 0.247 against 0.254, LOG.md). Repeats and successors are few, so they are scattered into
        the one dense array.

        item_history  (batch, HISTORY) int64
        returns       (batch, n_items) float32  ≥ 0
        """
        found = torch.exp(self.discovery(item_history))
        if not self.has_repeats:
            return found
        counts = self.counts(item_history, item_history)  # (batch, HISTORY)
        # Every place of an item carries its share, so that the places sum to the item's rate.
        share = torch.exp(self.repeat_place) / counts.clamp(min=TINY)
        repeated = found.scatter_add(1, item_history, self.again(item_history, counts) * share)
        successors, scores = self.after(item_history)
        return repeated.scatter_add(1, successors, self.follow_rate() * scores)

    def forward(self, item_history: Tensor) -> Tensor:
        """Scores of all items; softmax over them ranks the week's purchases.

        item_history  (batch, HISTORY) int64
        returns       (batch, n_items) float32
        """
        return torch.log(self.rates(item_history) + TINY)

    def top(self, item_history: Tensor) -> tuple[Tensor, Tensor]:
        """The best items and the probability that each is bought within a week; what is exported.

        item_history  (batch, HISTORY) int32
        returns       item_index (batch, N_TOP_ITEMS) int32, item_prob (batch, N_TOP_ITEMS) float32 descending
        """
        history = item_history.long()
        best, place = torch.topk(self.rates(history)[:, 1:], N_TOP_ITEMS, dim=1)
        # A rate of 0 is the padding of a vocabulary of fewer than N_TOP_ITEMS items.
        is_item = best > 0.0
        length = torch.log1p((history > 0).sum(dim=1, keepdim=True).float())
        level = self.calibration[0] * torch.log(best + TINY) + self.calibration[1] * length + self.calibration[2]
        return ((place + 1) * is_item).to(torch.int32), torch.sigmoid(level) * is_item


class Served(nn.Module):
    """`Recommendation.top` as a forward, for the exporter."""

    signature = Signature(
        (HISTORY_IN,),
        (
            Named("item_index", "TYPE_INT32", N_TOP_ITEMS, "vocabulary indexes, best first; 0 is none"),
            Named("item_prob", "TYPE_FP32", N_TOP_ITEMS, "bought within 7 days, descending"),
        ),
    )

    def __init__(self, recommendation: Recommendation) -> None:
        super().__init__()
        self.recommendation = recommendation

    def forward(self, item_history: Tensor) -> tuple[Tensor, Tensor]:
        """See Recommendation.top."""
        return self.recommendation.top(item_history)


def basket_loss(scores: Tensor, is_bought: Tensor, log_counts: Tensor) -> Tensor:
    """Softmax cross-entropy of a week's basket among candidates, each basket worth the root of its size.

    scores      (batch, n_candidates) float32
    is_bought   (batch, n_candidates) bool
    log_counts  (batch, n_candidates) float32  log of how often a candidate was expected in the sample; SILENT drops it
    returns     scalar                 source: sampled softmax with the logQ correction, algorithms table 1a
    """
    adjusted = scores - log_counts
    losses = (torch.logsumexp(adjusted, dim=1, keepdim=True) - scores) * is_bought
    n_bought = is_bought.sum(dim=1).clamp(min=1)
    return (losses.sum(dim=1) / n_bought.sqrt()).sum() / n_bought.sqrt().sum()
