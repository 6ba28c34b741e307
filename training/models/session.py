"""What an anonymous shopper wants next, from the items of the present session: neighbour sessions, a small encoder and
a ranker of their candidates. One loss.

In: the session's items, latest last. Out: the N_TOP_ITEMS best with calibrated probabilities that the next item is it.
Trained by training/browsing.py; kernels.session_neighbours counts its table.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.features import N_TOP_ITEMS
from training.tensors import Signature
from training.tensors import Tensor as Named

WIDTH, N_HEADS = 64, 2
# Log-odds of what cannot be; float32 keeps a softmax with it finite.
SILENT = -1e4
# Places of a session that are read, and latest of them whose pairs are looked up.
N_SESSION, N_RECENT = 20, 8
# Other items kept for every item: of the sessions that hold both, and of those in which one followed at once.
N_PAIRED, N_FOLLOWING = 64, 32
N_CANDIDATES = 120
# Worth of one step back, for the table and for the vectors that the encoder begins with.
STEP_DECAY, FIRST_DECAY = 0.5, 0.6
# Cosines become log-odds; 43,000 items leave a uniform softmax at log-odds of -10.7.
SHARPNESS = 14.0
# Below any weight that one session gives a pair; keeps logarithms finite.
TABLE_FLOOR, FOLLOWING_FLOOR = 5e-6, 1e-4
# What is added up to find candidates: log of the table, cosine, log of popularity. The ranker begins with them too.
ROUGH = (1.0, 5.0, 0.05)
NAMES = (
    "table_log", "cosine", "popular_log", "latest_table_log", "following_log", "latest_cosine",
    "is_latest", "is_second_latest", "is_third_latest", "is_earlier", "n_times_log",
    "recently_popular_log", "latest_popular_log", "session_length_log",
)  # fmt: skip


class Block(nn.Module):
    """Every place reads itself and those before it, each by a learned worth of its distance; then one layer.

    dropout  share of activations dropped while training
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_layer = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key_value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.layer = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.distance = nn.Parameter(torch.zeros(N_HEADS, N_SESSION))
        self.dropout = nn.Dropout(dropout)

    def forward(self, holds: Tensor, hidden: Tensor, n_read: int) -> Tensor:
        """Read the last places.

        holds    (batch, n_places) bool  whether a place holds an item
        hidden   (batch, n_places, WIDTH) float32
        n_read   places from the last one on
        returns  (batch, n_read, WIDTH) float32
        """
        normed, last = self.before_attention(hidden), hidden[:, -n_read:]
        query = _heads(self.query(normed[:, -n_read:]))
        key, value = (_heads(part) for part in self.key_value(normed).chunk(2, dim=2))
        back = steps_back(hidden.shape[1], n_read, hidden.device)
        # A place always reads itself, so nobody's session is read too.
        hidden_from = (back < 0) | ((back > 0) & ~holds[:, None, None, :])
        worth = self.distance[:, back.clamp(min=0)].masked_fill(hidden_from, SILENT)
        attention = (query @ key.transpose(2, 3) / (WIDTH // N_HEADS) ** 0.5 + worth).softmax(dim=3)
        last = last + self.dropout(self.out((attention @ value).transpose(1, 2).flatten(2)))
        read: Tensor = last + self.dropout(self.layer(self.before_layer(last)))
        return read


class Encoder(nn.Module):
    """Items as directions, and after each item of a session the direction of the next one.

    n_items  item indexes, 0 included
    dropout  share of activations dropped while training
    """

    def __init__(self, n_items: int, dropout: float = 0.25) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items, WIDTH, padding_idx=0)
        self.step = nn.Parameter(torch.arange(N_SESSION) * torch.log(torch.tensor(FIRST_DECAY)))
        self.block = Block(dropout)
        self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.dropout = nn.Dropout(dropout)
        # At first a session points where its items do, the later the more.
        nn.init.zeros_(self.mix.weight)

    def forward(self, session: Tensor, directions: Tensor, n_read: int) -> Tensor:
        """Where the next item lies after each of the last places; 0 after nothing.

        session     (batch, n_places) int64           n_places ≤ N_SESSION, latest last, 0 pads
        directions  (batch, n_places, WIDTH) float32  of the session's items, of length 1, or 0 for none
        n_read      places from the last one on
        returns     (batch, n_read, WIDTH) float32    of length 1
        """
        dropped = self.dropout(directions)
        back = steps_back(session.shape[1], n_read, session.device)
        worth = torch.exp(self.step)[back.clamp(min=0)] * (back >= 0)
        # Hidden values of about 1, as layer norms like them.
        read = self.block(session > 0, dropped * WIDTH**0.5, n_read)
        return functional.normalize(worth @ dropped + self.mix(read), dim=2)


class Ranker(nn.Module):
    """A linear score of what is known of a candidate, and a small net that corrects it."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(len(NAMES)))
        self.register_buffer("scale", torch.ones(len(NAMES)))
        self.linear = nn.Linear(len(NAMES), 1, bias=False)
        last = nn.Linear(32, 1)
        nn.init.zeros_(last.weight)
        self.net = nn.Sequential(nn.Linear(len(NAMES), 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), last)
        self.take(torch.zeros(len(NAMES)), torch.ones(len(NAMES)))

    def take(self, shift: Tensor, scale: Tensor) -> None:
        """Hold means and spreads of what is known, and begin with the rough score.

        shift, scale  (n_names,) float32
        """
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.weight[0, : len(ROUGH)] = torch.tensor(ROUGH) * scale[: len(ROUGH)]

    def forward(self, known: Tensor) -> Tensor:
        """Scores, a softmax of which is over the candidates.

        known    (batch, n_candidates, n_names) float32  NAMES
        returns  (batch, n_candidates) float32
        """
        standard = (known - self.shift) / self.scale
        score: Tensor = (self.linear(standard) + self.net(standard)).squeeze(2)
        return score


class Session(nn.Module):
    """Tables of item pairs find candidates together with the encoder; the ranker orders them.

    n_items  item indexes, 0 included; more than N_TOP_ITEMS
    """

    paired: Tensor
    paired_worth: Tensor
    own_worth: Tensor
    following: Tensor
    following_worth: Tensor
    direction: Tensor
    popular_log: Tensor
    calibration: Tensor

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.encoder = Encoder(n_items)
        self.ranker = Ranker()
        self.register_buffer("paired", torch.zeros(n_items, N_PAIRED, dtype=torch.int32))
        self.register_buffer("paired_worth", torch.zeros(n_items, N_PAIRED))
        self.register_buffer("own_worth", torch.zeros(n_items))
        self.register_buffer("following", torch.zeros(n_items, N_FOLLOWING, dtype=torch.int32))
        self.register_buffer("following_worth", torch.zeros(n_items, N_FOLLOWING))
        self.register_buffer("direction", torch.zeros(n_items, WIDTH))
        # Ever and lately: log(1 + sessions' events of the item); SILENT in the first for an item that never was.
        self.register_buffer("popular_log", torch.full((n_items, 2), SILENT))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0, 0.0]))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Session":
        """The module whose weights were saved.

        state  a state_dict
        """
        module = cls(state["direction"].shape[0])
        module.load_state_dict(dict(state))
        return module

    def settle(self) -> None:
        """Keep the encoder's item vectors as directions: the graph then need not divide all of them at every call."""
        with torch.no_grad():
            self.direction.copy_(functional.normalize(self.encoder.item.weight, dim=1))
            self.direction[0] = 0.0

    def known(self, session_items: Tensor) -> Tensor:
        """Indexes that name an item; any other is 0.

        session_items  (batch, n_places) int
        returns        (batch, n_places) int64
        """
        session = session_items.long()
        return torch.where((session > 0) & (session < self.n_items), session, torch.zeros_like(session))

    def cosines(self, session: Tensor) -> Tensor:
        """Cosine of every item with where the session points.

        session  (batch, N_SESSION) int64
        returns  (batch, n_items) float32
        """
        pointed: Tensor = self.encoder(session, self.direction[session], 1).squeeze(1)
        return pointed @ self.direction.T

    def table(self, session: Tensor) -> Tensor:
        """Votes of the sessions that hold the latest items, an item counted where it stands last.

        session  (batch, N_SESSION) int64
        returns  (batch, n_items) float32  ≥ 0
        source   kernels.session_neighbours.pair_table
        """
        recent = session[:, -N_RECENT:]
        place = torch.arange(N_RECENT)
        again = (recent.unsqueeze(2) == recent.unsqueeze(1)) & (place[None, :] > place[:, None])
        worth = STEP_DECAY ** (N_RECENT - 1 - place) * (recent > 0) * (again.sum(dim=2) == 0)  # (batch, N_RECENT)
        votes = (self.paired_worth[recent] * worth.unsqueeze(2)).flatten(1)
        total = torch.zeros(session.shape[0], self.n_items).scatter_add(1, self.paired[recent].flatten(1).long(), votes)
        return total.scatter_add(1, recent, worth * self.own_worth[recent])

    def candidates(self, session: Tensor) -> tuple[Tensor, Tensor]:
        """The items of the highest rough score, and what is known of each.

        session  (batch, N_SESSION) int64
        returns  candidate (batch, n_candidates) int64, known (batch, n_candidates, n_names) float32 as NAMES
        """
        table = torch.log(self.table(session) + TABLE_FLOOR)
        cosine = self.cosines(session)
        rough = ROUGH[0] * table + ROUGH[1] * cosine + ROUGH[2] * self.popular_log[:, 0]
        n_candidates = min(N_CANDIDATES, self.n_items - 1)
        candidate = torch.topk(rough[:, 1:], n_candidates, dim=1).indices + 1
        latest = session[:, -1]
        shape = torch.zeros_like(candidate, dtype=torch.float32)
        place = torch.arange(1, N_SESSION + 1)
        stands = (candidate.unsqueeze(2) == session.unsqueeze(1)).long() * place  # (batch, n_candidates, N_SESSION)
        last = stands.max(dim=2).values
        known = (
            table.gather(1, candidate),
            cosine.gather(1, candidate),
            self.popular_log[candidate, 0],
            torch.log(_looked_up(candidate, self.paired[latest], self.paired_worth[latest]) + FOLLOWING_FLOOR),
            torch.log(_looked_up(candidate, self.following[latest], self.following_worth[latest]) + FOLLOWING_FLOOR),
            (self.direction[candidate] @ self.direction[latest].unsqueeze(2)).squeeze(2),
            *((last == N_SESSION - back).float() for back in range(3)),
            ((last > 0) & (last < N_SESSION - 2)).float(),
            torch.log1p((stands > 0).sum(dim=2).float()),
            self.popular_log[candidate, 1],
            self.popular_log[latest, 1].clamp(min=0.0).unsqueeze(1) + shape,
            torch.log1p((session > 0).sum(dim=1, keepdim=True).float()) + shape,
        )
        return candidate, torch.stack(known, dim=2)

    def ranked(self, session: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates with the log of each one's share of a softmax over them.

        session  (batch, N_SESSION) int64
        returns  candidate (batch, n_candidates) int64, share_log (batch, n_candidates) float32
        """
        candidate, known = self.candidates(session)
        popular = known[:, :, NAMES.index("popular_log")]
        # After nothing an item is as likely as it is popular: the ranker never saw such a session.
        score = torch.where((session > 0).any(dim=1, keepdim=True), self.ranker(known), popular)
        # An item that never was is none, however near it points.
        score = score + SILENT * (popular < 0.0)
        return candidate, score.log_softmax(dim=1)

    def top(self, session_items: Tensor) -> tuple[Tensor, Tensor]:
        """The best items and the probability that the next one is it; what is exported.

        session_items  (batch, N_SESSION) int32
        returns        item_index (batch, N_TOP_ITEMS) int32, item_prob (batch, N_TOP_ITEMS) float32 descending
        """
        session = self.known(session_items)
        candidate, share_log = self.ranked(session)
        best, place = torch.topk(share_log, N_TOP_ITEMS, dim=1)
        item = candidate.gather(1, place)
        is_item = self.popular_log[item, 0] >= 0.0
        level = self.level(best, (session > 0).sum(dim=1, keepdim=True))
        return (item * is_item).to(torch.int32), torch.sigmoid(level) * is_item

    def level(self, share_log: Tensor, length: Tensor) -> Tensor:
        """Calibrated log-odds that the next item is it.

        share_log  (batch, n) float32
        length     (batch, 1) int64  items of the session
        returns    (batch, n) float32
        """
        odds = share_odds(share_log)
        return self.calibration[0] * odds + self.calibration[1] * torch.log1p(length.float()) + self.calibration[2]


class Served(nn.Module):
    """`Session.top` as a forward, for the exporter."""

    signature = Signature(
        (Named("session_items", "TYPE_INT32", N_SESSION, "vocabulary indexes of this session, latest last, 0 pads"),),
        (
            Named("item_index", "TYPE_INT32", N_TOP_ITEMS, "vocabulary indexes, best first; 0 is none"),
            Named("item_prob", "TYPE_FP32", N_TOP_ITEMS, "is the next item of the session, descending"),
        ),
    )

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def forward(self, session_items: Tensor) -> tuple[Tensor, Tensor]:
        """See Session.top."""
        return self.session.top(session_items)


def share_odds(share_log: Tensor) -> Tensor:
    """Log-odds of a share of which the log is known; a share of 1 has odds of about a million.

    share_log  float32, ≤ 0
    returns    float32, same shape
    """
    return share_log - torch.log1p(-torch.exp(share_log).clamp(max=1.0 - 1e-6))


def steps_back(n_places: int, n_read: int, device: torch.device) -> Tensor:
    """How far each place lies behind each of the last ones, (n_read, n_places) int64; negative for later ones."""
    place = torch.arange(n_places, device=device)
    return place[-n_read:, None] - place[None, :]


def choice_loss(scores: Tensor, chosen: Tensor, log_counts: Tensor) -> Tensor:
    """Softmax cross-entropy of the next item among candidates; the encoder's are sampled.

    scores      (n, n_candidates) float32
    chosen      (n,) int64                 place of the next item among them
    log_counts  (n, n_candidates) float32  log of how often a candidate was expected in the sample; -SILENT drops it
    returns     scalar, mean               source: sampled softmax with the logQ correction, algorithms table 1a
    """
    return functional.cross_entropy(scores - log_counts, chosen)


def _looked_up(candidate: Tensor, listed: Tensor, worth: Tensor) -> Tensor:
    """Worth of each candidate in a list of items, 0 where it is not in it."""
    is_it = candidate.unsqueeze(2) == listed.long().unsqueeze(1)  # (batch, n_candidates, n_listed)
    return (is_it * worth.unsqueeze(1)).sum(dim=2)


def _heads(projected: Tensor) -> Tensor:
    """(batch, n_places, WIDTH) as (batch, N_HEADS, n_places, WIDTH / N_HEADS)."""
    batch, n_places, _ = projected.shape
    return projected.reshape(batch, n_places, N_HEADS, WIDTH // N_HEADS).transpose(1, 2)
