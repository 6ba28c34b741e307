"""What a shopper did, as one vector, and what comes next: a causal one-block encoder over the last events. One loss.

In: the last events, as kernels.event_history tells them. Out: a vector, scores of items and kinds as the next event.
Trained by training/behaviours.py; training.models.recommendation holds one and is exported with it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.event_history import LENGTH, N_PRICES
from kernels.ledger import REFUND
from training.tensors import VECTOR_WIDTH

WIDTH, N_HEADS = VECTOR_WIDTH, 2
N_PLACES = LENGTH
# VIEW, CART, ORDER, REFUND of kernels.ledger; kind 0 is nobody's event.
N_KINDS = REFUND
# Log-odds of what cannot be; float32 keeps a softmax with it finite.
SILENT = -1e4
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
GAPS_S = (
    1, MINUTE_S, 10 * MINUTE_S, HOUR_S, 6 * HOUR_S, 12 * HOUR_S,
    *(days * DAY_S for days in (1, 2, 3, 5, 7, 10, 14, 21, 28, 42, 56, 91, 182, 365)),
)  # fmt: skip


class Events(NamedTuple):
    """Histories of a batch of shoppers, latest last.

    item   (batch, n_places) int64  vocabulary index; 0 is unknown
    kind   (batch, n_places) int64  1 to N_KINDS; 0 is no event and stands on the left
    gap_s  (batch, n_places) int64  seconds since the shopper's event before
    price  (batch, n_places) int64  price bucket; 0 is unknown
    """

    item: Tensor
    kind: Tensor
    gap_s: Tensor
    price: Tensor


class Block(nn.Module):
    """Attention and a gated layer, each behind a gate of its own input.

    Where an event stands is told by its distance to the event that reads it, so windows may begin anywhere.
    source  LiGR: arXiv 2502.03417, section 3; eSASRec: arXiv 2508.06450
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_layer = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key_value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out, self.attention_gate = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.layer_gate = nn.Linear(WIDTH, WIDTH)
        self.distance = nn.Parameter(torch.zeros(N_HEADS, N_PLACES))
        self.dropout = nn.Dropout(dropout)

    def forward(self, happened: Tensor, hidden: Tensor) -> Tensor:
        """Read every place from itself and those before it.

        happened  (batch, n_places) bool  whether a place holds an event
        hidden    (batch, n_places, WIDTH)
        returns   (batch, n_places, WIDTH)
        """
        normed = self.before_attention(hidden)
        key, value = (self._heads(part) for part in self.key_value(normed).chunk(2, dim=2))
        place = torch.arange(happened.shape[1], device=happened.device)
        back = place[:, None] - place[None, :]
        worth = functional.embedding(back.clamp(min=0), self.distance.T).permute(2, 0, 1)
        # A place always reads itself: a history without events is read too, and is nobody's.
        unread = (back < 0) | ((back > 0) & ~happened[:, None, None, :])
        allowed = worth.masked_fill(unread, SILENT)
        read = functional.scaled_dot_product_attention(self._heads(self.query(normed)), key, value, attn_mask=allowed)
        return self._after(hidden, normed, read.transpose(1, 2).flatten(2))

    def last(self, happened: Tensor, hidden: Tensor) -> Tensor:
        """What `forward` gives for the last place, without a key or a value of any other.

        A query reaches through the keys' weights to what they are made of, and so does a sum of values: 200 places cost
        a fifth (`python -m tests.benchmarks models`). Test: test_no_place_reads_what_came_after_it.
        happened  (batch, n_places) bool
        hidden    (batch, n_places, WIDTH)
        returns   (batch, 1, WIDTH)
        """
        normed = self.before_attention(hidden)
        n_places, width = happened.shape[1], WIDTH // N_HEADS
        of_keys, of_values = self.key_value.weight.view(2, N_HEADS, width, WIDTH).unbind(0)
        query = self.query(normed[:, -1]).view(-1, N_HEADS, width).transpose(0, 1)  # (N_HEADS, batch, width)
        asked = (query @ of_keys).transpose(0, 1)  # (batch, N_HEADS, WIDTH)
        worth = self.distance[:, :n_places].flip(1) + SILENT * (~self._read_by_last(happened)).unsqueeze(1)
        share = (asked @ normed.transpose(1, 2) / width**0.5 + worth).softmax(dim=2)
        read = (share @ normed).transpose(0, 1) @ of_values.transpose(1, 2)  # (N_HEADS, batch, width)
        mixed = read.transpose(0, 1).reshape(-1, 1, WIDTH) + self.key_value.bias[WIDTH:]
        return self._after(hidden[:, -1:], normed[:, -1:], mixed)

    def _read_by_last(self, happened: Tensor) -> Tensor:
        return torch.cat([happened[:, :-1], torch.ones_like(happened[:, -1:])], dim=1)

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.reshape(*projected.shape[:2], N_HEADS, WIDTH // N_HEADS).transpose(1, 2)

    def _after(self, hidden: Tensor, normed: Tensor, read: Tensor) -> Tensor:
        """Add what was read, and what the layer makes of it, each behind its gate."""
        hidden = hidden + self.dropout(self.out(read)) * torch.sigmoid(self.attention_gate(normed))
        own = self.before_layer(hidden)
        left, right = self.wide(own).chunk(2, dim=2)
        made: Tensor = self.dropout(self.narrow(functional.silu(left) * right)) * torch.sigmoid(self.layer_gate(own))
        return hidden + made


class Behaviour(nn.Module):
    """Encoder and items share their vectors: an item is its own vector plus those of its attributes.

    attributes  (n_items, n_attributes) int64  codes from 1, 0 pads; row 0 is no item
    n_blocks    blocks one after another
    dropout     share of activations dropped while training
    id_dropout  share of an item's own vectors dropped while training, so that attributes learn to stand alone
    """

    attributes: Tensor
    is_known: Tensor

    def __init__(self, attributes: Tensor, n_blocks: int = 1, dropout: float = 0.2, id_dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("attributes", attributes.long())
        self.register_buffer("is_known", torch.ones(attributes.shape[0]))
        self.item = nn.Embedding(attributes.shape[0], WIDTH, padding_idx=0)
        self.attribute = nn.Embedding(int(attributes.max()) + 1, WIDTH, padding_idx=0)
        self.kind = nn.Embedding(N_KINDS + 1, WIDTH)
        self.gap = nn.Embedding(len(GAPS_S) + 1, WIDTH)
        self.price = nn.Embedding(N_PRICES, WIDTH)
        for table in (self.item, self.attribute, self.kind, self.gap, self.price):
            nn.init.normal_(table.weight, std=0.05)
        with torch.no_grad():
            self.item.weight[0] = self.attribute.weight[0] = 0.0
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(WIDTH)
        self.next_kind = nn.Linear(WIDTH, N_KINDS)
        self.dropout = nn.Dropout(dropout)
        self.id_dropout = id_dropout
        self.register_buffer("gaps_s", torch.tensor(GAPS_S), persistent=False)

    gaps_s: Tensor

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Behaviour":
        """The module whose weights were saved.

        state  a state_dict
        """
        n_blocks = sum(name.startswith("blocks.") and name.endswith(".distance") for name in state)
        module = cls(state["attributes"], n_blocks)
        module.load_state_dict(dict(state))
        return module

    @property
    def n_items(self) -> int:
        """Item indexes, 0 included."""
        return self.item.num_embeddings

    def vectors(self, items: Tensor) -> Tensor:
        """Vectors of items; one that training never saw has those of its attributes alone.

        items    (n,) int64
        returns  (n, WIDTH) float32
        """
        kept = self.is_known[items]
        if self.training:
            kept = kept * (torch.rand(items.shape, device=items.device) >= self.id_dropout)
        content = self.attribute(self.attributes[items]).sum(dim=1)
        of_items: Tensor = self.item(items) * kept.unsqueeze(1) + content
        return of_items

    def table(self) -> Tensor:
        """Vectors of all items, (n_items, WIDTH) float32."""
        return self.vectors(torch.arange(self.n_items, device=self.attributes.device))

    def read(self, events: Events, vectors: Tensor) -> Tensor:
        """What is known after every place.

        events   n_places ≤ N_PLACES
        vectors  (batch, n_places, WIDTH)  of the events' items
        returns  (batch, n_places, WIDTH) float32
        """
        hidden, happened = self._seen(events, vectors), events.kind > 0
        for block in self.blocks:
            hidden = block(happened, hidden)
        read: Tensor = self.norm(hidden)
        return read

    def shopper(self, events: Events, table: Tensor) -> Tensor:
        """One vector for each history; an empty history is nobody's, and its vector is learned too.

        table    (n_items, WIDTH)  as `table`
        returns  (batch, WIDTH) float32
        """
        hidden, happened = self._seen(events, functional.embedding(events.item, table)), events.kind > 0
        *before, last = (block for block in self.blocks if isinstance(block, Block))
        for block in before:
            hidden = block(happened, hidden)
        shopper: Tensor = self.norm(last.last(happened, hidden)).squeeze(1)
        return shopper

    def _seen(self, events: Events, vectors: Tensor) -> Tensor:
        # One table of every kind, gap and price: three look-ups of all places would take as long as the attention.
        circumstances = self.kind.weight[:, None, None] + self.gap.weight[:, None] + self.price.weight
        gap = (events.gap_s.unsqueeze(2) >= self.gaps_s).sum(dim=2)
        row = (events.kind * (len(GAPS_S) + 1) + gap) * N_PRICES + events.price
        seen: Tensor = self.dropout(vectors + functional.embedding(row, circumstances.flatten(0, 2)))
        return seen

    def forward(self, events: Events) -> tuple[Tensor, Tensor]:
        """Scores of every item as the next one, and log-odds of every kind of the next event.

        returns  (batch, n_items), (batch, N_KINDS) float32
        """
        table = self.table()
        shopper = self.shopper(events, table)
        return shopper @ table.T, self.next_kind(shopper)


def next_event_loss(scores: Tensor, log_counts: Tensor, kinds: Tensor, kind: Tensor) -> Tensor:
    """Softmax cross-entropy of the next item among candidates, plus that of the next event's kind.

    scores      (n, 1 + n_negatives) float32  the next item first
    log_counts  (n, 1 + n_negatives) float32  log of how often a candidate was expected in the sample; -SILENT drops it
    kinds       (n, N_KINDS) float32          log-odds
    kind        (n,) int64                    1 to N_KINDS
    returns     scalar, mean                  source: sampled softmax with the logQ correction, algorithms table 1a
    """
    adjusted = scores - log_counts
    of_item = torch.logsumexp(adjusted, dim=1) - adjusted[:, 0]
    return of_item.mean() + functional.cross_entropy(kinds, kind - 1)
