"""Which items a shopper buys next: what behaviour foretells, what tends to follow, what was bought before. One loss.

In: the last events, as training.models.behaviour.Events. Out: the N_TOP_ITEMS best with probabilities and reasons, and
the shopper's vector. Called by training/baskets.py and the benchmarks on public sequences; exported as `encoder`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.features import N_TOP_ITEMS
from kernels.ledger import ORDER
from kernels.transitions import Transitions
from training.models.behaviour import DAY_S, N_KINDS, SILENT, Behaviour, Events
from training.tensors import EVENTS_IN, VECTOR, Signature
from training.tensors import Tensor as Named

# Latest places whose successors are looked up, and successors kept of each item.
N_RECENT, N_SUCCESSORS = 12, 32
DECAY = 0.7
# Purchases of an item are counted five times, halved after so many days each: from how lately to how often ever.
HALF_LIVES_DAYS = (2.0, 14.0, 60.0, 365.0, 36_500.0)
BUSY = HALF_LIVES_DAYS.index(365.0)
NARROW = 16
FOUND, BEFORE, FOLLOWS, COLD = 0, 1, 2, 3
LOG_2 = float(np.log(2.0))


class Scored(NamedTuple):
    """Every item's score, and what it is made of.

    What is said of few items stands in groups, one for each item that follows or was bought; group 0 is all others.
    shopper  (batch, WIDTH)
    share    (batch, n_items)   log of the probability that behaviour alone gives
    group    (batch, n_items)   group of every item, as float32
    follows  (batch, n_groups)  points of the transition table, ≥ 0
    score    (batch, n_items)   ranks like the log-rate, `rate`, and most of its values are `share` as it stands
    """

    shopper: Tensor
    share: Tensor
    group: Tensor
    follows: Tensor
    score: Tensor

    def groups(self, items: Tensor) -> Tensor:
        """(batch, n) int64 for items (batch, n) int64."""
        return self.group.gather(1, items).long()


class Repeats(nn.Module):
    """Log of the rate at which an item is bought because it was bought before.

    n_items  item indexes, 0 included
    """

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items, 1)
        nn.init.zeros_(self.item.weight)
        # Counts add up before their logarithm is taken: what was bought often and long ago still counts.
        self.worth = nn.Parameter(torch.log(torch.tensor([0.01, 0.2, 0.7, 0.1, 0.01])))
        self.power, self.level = nn.Parameter(torch.ones(())), nn.Parameter(torch.tensor(-3.0))
        last = nn.Linear(NARROW, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.bend = nn.Sequential(nn.Linear(len(HALF_LIVES_DAYS) + 1, NARROW), nn.SiLU(), last)

    def counts(self, events: Events, group: Tensor, n_groups: int) -> Tensor:
        """Purchases of the items of each group, each halved after every half-life before the last event.

        group    (batch, n_places) int64  of every place's item
        returns  (batch, n_groups, len(HALF_LIVES_DAYS)) float32
        """
        gap_days = events.gap_s.float() / DAY_S
        age_days = gap_days.sum(dim=1, keepdim=True) - gap_days.cumsum(dim=1)
        is_bought = ((events.kind == ORDER) & (events.item > 0)).float()
        worth = torch.stack([torch.exp(-age_days * (LOG_2 / days)) * is_bought for days in HALF_LIVES_DAYS], dim=2)
        sums = worth.new_zeros(group.shape[0], n_groups, worth.shape[2])
        return sums.scatter_add(1, group.unsqueeze(2).expand(-1, -1, worth.shape[2]), worth)

    def forward(self, counts: Tensor, items: Tensor) -> Tensor:
        """Log-rate of items; SILENT for one that was never bought.

        counts   (batch, n, len(HALF_LIVES_DAYS))  as `counts`
        items    (batch, n) int64
        returns  (batch, n)
        """
        busy = torch.log1p(counts[:, :, BUSY].sum(dim=1, keepdim=True)).expand(-1, counts.shape[1])
        told = torch.cat([torch.log(counts + 1e-3), busy.unsqueeze(2)], dim=2)
        often = torch.log(counts @ torch.exp(self.worth) + 1e-6)
        level = self.level + self.power * often + (self.bend(told) + self.item(items)).squeeze(2)
        return torch.where(counts[:, :, -1] > 0, level, SILENT)


class Recommendation(nn.Module):
    """Behaviour and transition table multiply, each to a power of its own; what was bought before adds its own rate.

    Rates add where reasons differ: a product counts a staple's popularity a second time on top of its repeats (LOG.md).
    behaviour    trained; its weights stay as they are
    has_repeats  False where nobody has an item twice: an item of the history is never recommended
    """

    successor: Tensor
    worth: Tensor
    fusion: Tensor
    silence: Tensor
    calibration: Tensor

    def __init__(self, behaviour: Behaviour, *, has_repeats: bool = True, n_successors: int = N_SUCCESSORS) -> None:
        super().__init__()
        n_items = behaviour.n_items
        self.behaviour = behaviour.requires_grad_(requires_grad=False)
        self.repeats = Repeats(n_items) if has_repeats else None
        self.register_buffer("successor", torch.zeros(n_items, n_successors, dtype=torch.int32))
        self.register_buffer("worth", torch.zeros(n_items, n_successors))
        # Power of behaviour, power of the table, its floor, and how many times as fitted repeats count.
        self.register_buffer("fusion", torch.tensor([1.0, 0.0, 1e-2, 1.0]))
        self.register_buffer("silence", torch.zeros(n_items))
        self.silence[0] = SILENT
        self.register_buffer("calibration", torch.tensor([1.0, 0.0, 0.0]))

    def train(self, mode: bool = True) -> "Recommendation":
        """Leave the encoder as it is served, whatever is trained around it."""
        super().train(mode)
        self.behaviour.eval()
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Recommendation":
        """The module whose weights were saved.

        state  a state_dict
        """
        part = "behaviour."
        behaviour = Behaviour.from_state({n.removeprefix(part): v for n, v in state.items() if n.startswith(part)})
        has_repeats = any(name.startswith("repeats.") for name in state)
        module = cls(behaviour, has_repeats=has_repeats, n_successors=state["successor"].shape[1])
        module.load_state_dict(dict(state))
        return module

    def take_table(self, table: Transitions) -> None:
        """Hold a transition table: rows over the root of their total, cut to the width that the module has.

        table  of the same item indexes
        """
        row = np.repeat(np.arange(table.n_items), np.diff(table.offsets))
        rank = np.arange(row.size) - table.offsets[row]
        total = np.bincount(row, table.weight, minlength=table.n_items)
        kept = rank < self.successor.shape[1]
        self.successor.zero_()
        self.worth.zero_()
        self.successor[row[kept], rank[kept]] = torch.from_numpy(table.successor[kept])
        self.worth[row[kept], rank[kept]] = torch.from_numpy(table.weight / np.sqrt(total[row]))[kept].float()

    def after(self, item: Tensor) -> tuple[Tensor, Tensor]:
        """Successors of the latest items, and the table's points for each.

        item     (batch, n_places) int64
        returns  items, points (batch, n_recent, n_successors); an item may stand behind several places
        """
        recent = item[:, -N_RECENT:]
        n_recent = recent.shape[1]
        fading = DECAY ** torch.arange(n_recent - 1, -1, -1.0, device=item.device)
        return self.successor[recent].long(), self.worth[recent] * fading.view(1, n_recent, 1)

    def found(self, events: Events, table: Tensor) -> Scored:
        """Scores of all items by behaviour alone, and what the table and the history say of few.

        table  (n_items, WIDTH) float32  Behaviour.table
        """
        shopper = self.behaviour.shopper(events, table)
        share = torch.addmm(self.silence, shopper, table.T).log_softmax(dim=1)
        return self.grouped(events, shopper, share)

    def grouped(self, events: Events, shopper: Tensor, share: Tensor) -> Scored:
        """Put what the table says of followers beside shares of all items, from wherever these come.

        shopper  (batch, WIDTH)
        share    (batch, n_items)
        """
        successors, points = self.after(events.item)
        places = torch.cat([successors.flatten(1), events.item], dim=1)
        n_places = places.shape[1]
        # An item's places go by one of them, whichever: one dense array serves points and every half-life.
        name = torch.arange(1.0, n_places + 1.0, device=share.device).expand(share.shape[0], n_places)
        group = torch.zeros_like(share).scatter(1, places, name)
        of_successors = group.gather(1, successors.flatten(1)).long()
        follows = share.new_zeros(share.shape[0], n_places + 1).scatter_add(1, of_successors, points.flatten(1))
        return Scored(shopper, share, group, follows, share)

    def found_rate(self, scored: Scored, items: Tensor) -> Tensor:
        """Log of the rate at which items are found, bought before or not.

        items    (batch, n) int64
        returns  (batch, n) float32
        """
        lift = torch.log1p(scored.follows.gather(1, scored.groups(items)) / self.fusion[2])
        return self.rate(scored.share.gather(1, items)) + self.fusion[1] * lift

    def scored(self, events: Events, table: Tensor) -> Scored:
        """Scores of all items.

        table  (n_items, WIDTH) float32  Behaviour.table
        """
        scored = self.found(events, table)
        places = torch.cat([self.successor[events.item[:, -N_RECENT:]].long().flatten(1), events.item], dim=1)
        rate = self.found_rate(scored, places)
        if self.repeats is None:
            n_successors = places.shape[1] - events.item.shape[1]
            score = scored.share.scatter(1, places[:, :n_successors], self._score(rate[:, :n_successors]))
            own = torch.full_like(events.item, int(SILENT), dtype=torch.float32)
            return scored._replace(score=score.scatter(1, events.item, own))
        # Few items have groups: all others keep their share. Places of one item write one value.
        rate = log_sum(rate, self.again(scored, events).gather(1, scored.groups(places)))
        return scored._replace(score=scored.share.scatter(1, places, self._score(rate)))

    def again(self, scored: Scored, events: Events) -> Tensor:
        """Log-rate of every group's item for having been bought before; SILENT where it was not.

        returns  (batch, n_groups)
        """
        assert self.repeats is not None
        group = scored.groups(events.item)
        counts = self.repeats.counts(events, group, scored.follows.shape[1])
        counts = counts.gather(1, group.unsqueeze(2).expand(-1, -1, counts.shape[2]))
        rate = self.repeats(counts, events.item) + torch.log(self.fusion[3])
        return torch.full_like(scored.follows, SILENT).scatter(1, group, rate)

    def rate(self, score: Tensor) -> Tensor:
        """Log-rates of scores."""
        return self.fusion[0] * score + self._offset()

    def _score(self, rate: Tensor) -> Tensor:
        return (rate - self._offset()) / self.fusion[0]

    def _offset(self) -> Tensor:
        # A power turns about an even share: its choice leaves a typical item where it was.
        return (self.fusion[0] - 1.0) * float(np.log(self.behaviour.n_items))

    def forward(self, events: Events) -> Tensor:
        """Log-rates of all items; a softmax over them ranks what is bought.

        returns  (batch, n_items) float32
        """
        return self.rate(self.scored(events, self.behaviour.table()).score)

    def probabilities(self, rate: Tensor, n_known: Tensor) -> Tensor:
        """Probability that an item is bought within a week.

        rate     (batch, n) float32  log-rates
        n_known  (batch, 1) int64    events of the history that name an item
        returns  (batch, n) float32
        """
        length = torch.log1p(n_known.float())
        return torch.sigmoid(self.calibration[0] * rate + self.calibration[1] * length + self.calibration[2])

    def reasons(self, scored: Scored, items: Tensor, events: Events) -> tuple[Tensor, Tensor]:
        """Why each item is recommended, and the item of the history that it follows most.

        items    (batch, n) int64
        returns  item_reason (batch, n) FOUND, BEFORE, FOLLOWS or COLD; item_because (batch, n), 0 is none
        """
        rate = self.rate(scored.score.gather(1, items))
        is_before = rate - self.found_rate(scored, items) > LOG_2  # more than half of the rate
        # Both against an item of which nothing is known: an even share, and no point of the table.
        by_table = self.fusion[1] * torch.log1p(scored.follows.gather(1, scored.groups(items)) / self.fusion[2])
        by_behaviour = self.fusion[0] * (scored.share.gather(1, items) + float(np.log(self.behaviour.n_items)))
        follows = by_table > by_behaviour.clamp(min=0.0)
        is_cold = self.behaviour.is_known[items] == 0.0
        reason = torch.where(follows, FOLLOWS, torch.where(is_cold, COLD, FOUND))
        successors, points = self.after(events.item)
        # (batch, n, n_recent): an item stands at most once behind each place.
        of_place = ((items[:, :, None, None] == successors[:, None]) * points[:, None]).sum(dim=3)
        most, place = of_place.max(dim=2)
        because = events.item[:, -N_RECENT:].gather(1, place) * (most > 0)
        return torch.where(is_before, BEFORE, reason), because


class Served(nn.Module):
    """The graph `encoder`: run when a shopper has changed, it says all that does not depend on one decision."""

    signature = Signature(
        EVENTS_IN,
        (
            VECTOR,
            Named("next_kind_prob", "TYPE_FP32", N_KINDS, "view, cart, order, refund as the next event"),
            Named("item_index", "TYPE_INT32", N_TOP_ITEMS, "vocabulary indexes, best first; 0 is none"),
            Named("item_prob", "TYPE_FP32", N_TOP_ITEMS, "bought within 7 days, descending"),
            Named("item_reason", "TYPE_INT32", N_TOP_ITEMS, "0 found, 1 bought before, 2 follows, 3 cold by content"),
            Named("item_because", "TYPE_INT32", N_TOP_ITEMS, "item of the history that it follows most; 0 is none"),
        ),
    )
    table: Tensor

    def __init__(self, recommendation: Recommendation) -> None:
        super().__init__()
        self.recommendation = recommendation.eval()
        # A constant of the graph: adding up 17,000 items' attributes for every shopper would cost more than the rest.
        with torch.no_grad():
            self.register_buffer("table", recommendation.behaviour.table(), persistent=False)

    def forward(self, item: Tensor, kind: Tensor, gap_s: Tensor, price: Tensor) -> tuple[Tensor, ...]:
        """The signature's outputs in order, of its inputs (batch, n_places) in order."""
        model = self.recommendation
        events = Events(item.long(), kind.long(), gap_s.long(), price.long())
        scored = model.scored(events, self.table)
        score, items = torch.topk(scored.score, N_TOP_ITEMS, dim=1)
        rate = model.rate(score)
        # What is silent is no item: the padding of a vocabulary of fewer than N_TOP_ITEMS.
        is_item = score > SILENT / 2
        probs = model.probabilities(rate, (events.item > 0).sum(dim=1, keepdim=True)) * is_item
        reason, because = model.reasons(scored, items, events)
        kinds = torch.softmax(model.behaviour.next_kind(scored.shopper), dim=1)
        whole = ((told * is_item).to(torch.int32) for told in (items, reason, because))
        index, reasons, becauses = whole
        return scored.shopper, kinds, index, probs, reasons, becauses


def log_sum(left: Tensor, right: Tensor) -> Tensor:
    """Log of the sum of two exponentials, in operators that ONNX has."""
    return torch.maximum(left, right) + torch.log1p(torch.exp(-(left - right).abs()))


def basket_loss(scores: Tensor, is_bought: Tensor, is_candidate: Tensor) -> Tensor:
    """Softmax cross-entropy of what a week's basket brings back, each basket worth the root of its size.

    scores        (batch, n_candidates) float32
    is_bought     (batch, n_candidates) bool
    is_candidate  (batch, n_candidates) bool  False where a place repeats an item or holds none
    returns       scalar; 0 where nothing was bought     source: softmax loss, algorithms table 1a
    """
    kept = scores.masked_fill(~is_candidate, SILENT)
    losses = (torch.logsumexp(kept, dim=1, keepdim=True) - kept) * is_bought
    n_bought = is_bought.sum(dim=1).clamp(min=1)
    return (losses.sum(dim=1) / n_bought.sqrt()).sum() / n_bought.sqrt().sum()
