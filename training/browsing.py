"""Sessions of anonymous shoppers become a Session model: counted tables, an encoder, a ranker, calibration.

In: past sessions as item indexes, the oldest first. Out: a calibrated Session. Called by training/visitors.py for a
shop, and for public sessions by tests.benchmarks.published.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from kernels.checks import check, check_array
from kernels.features import N_TOP_ITEMS
from kernels.session_neighbours import Kinship, SessionIndex, pair_table, session_index
from kernels.transitions import Transitions
from training.calibrate import fit_platt
from training.loop import Progress, Recipe, fit
from training.models.session import (
    N_FOLLOWING,
    N_PAIRED,
    N_SESSION,
    SHARPNESS,
    SILENT,
    WIDTH,
    Encoder,
    Session,
    choice_loss,
    share_odds,
)

# Sessions at the end of the past on which the ranker is fitted, training stops and probabilities are calibrated.
HELD_SHARE, MOST_HELD = 0.1, 12_000
# Of the held sessions, those that fit the ranker; the later rest judges.
RANKER_SHARE = 2 / 3
FEWEST_SESSIONS = 300
N_NEGATIVES = 1_024
MOST_JUDGED, MOST_RANKED = 3_000, 24_000
BATCH = 256
# Votes halve after this share of all sessions, so that a shop of any size forgets alike.
AGE_SHARE, FOLLOWING_AGE_SHARE, LATELY_SHARE = 0.45, 0.16, 0.08
RANKER_RECIPE = Recipe(n_epochs=8, batch=256, learning_rate=3e-3, weight_decay=1e-4)

Ints = NDArray[np.int64]
Items = NDArray[np.int32]


@dataclass(frozen=True)
class Sessions:
    """Sessions in the order of their beginning.

    items    (n_events,) int32        item indexes, 0 is no item
    offsets  (n_sessions + 1,) int64  session i is items[offsets[i] : offsets[i + 1]]
    """

    items: Items
    offsets: Ints

    def __len__(self) -> int:
        return int(self.offsets.size - 1)

    def part(self, first: int, last: int) -> "Sessions":
        """Sessions `first` to `last`, excluded."""
        begin, end = self.offsets[first], self.offsets[last]
        return Sessions(self.items[begin:end], self.offsets[first : last + 1] - begin)

    def windows(self) -> Items:
        """The last N_SESSION + 1 items of each, (n_sessions, N_SESSION + 1) int32, latest last, 0 pads."""
        return _padded(self.items, self.offsets[:-1], self.offsets[1:], N_SESSION + 1)

    def prefixes(self, *, with_empty: bool = False) -> "Prefixes":
        """Every beginning of every session with the item that came next.

        with_empty  also nothing at all, with the first item
        """
        session = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        event = np.arange(self.items.size)
        kept = (self.items > 0) & (with_empty | (event > self.offsets[session]))
        session, event = session[kept], event[kept]
        shown = _padded(self.items, self.offsets[session], event, N_SESSION)
        return Prefixes(shown, self.items[event].astype(np.int64), session)


@dataclass(frozen=True)
class Prefixes:
    """Cases: what was seen so far, and what came next.

    shown    (n, N_SESSION) int32  latest last, 0 pads
    chosen   (n,) int64            the next item
    session  (n,) int64            number of the session
    """

    shown: Items
    chosen: Ints
    session: Ints

    def thinned(self, most: int) -> "Prefixes":
        """At most so many of them, evenly."""
        if self.chosen.size <= most:
            return self
        kept = np.linspace(0, self.chosen.size - 1, most).astype(np.int64)
        return Prefixes(self.shown[kept], self.chosen[kept], self.session[kept])


def sessions_of(lists: list[list[int]]) -> Sessions:
    """Plain lists as Sessions."""
    items = np.array([item for session in lists for item in session], np.int32)
    return Sessions(items, np.cumsum([0, *(len(session) for session in lists)], dtype=np.int64))


def fit_session(
    past: Sessions, n_items: int, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> Session:
    """Learn from all but the end of the past, fit ranker and calibration on the end, then let all have it.

    past        the oldest session first; at least FEWEST_SESSIONS with two items
    n_items     item indexes, 0 included; more than N_TOP_ITEMS
    recipe      of the encoder
    checkpoint  of the encoder's training
    raises      InvalidInput  if there are too few sessions, or an index is out of range
    """
    check_sessions(past)
    check(n_items > N_TOP_ITEMS, f"n_items must be > {N_TOP_ITEMS}, got {n_items}")
    n_held = min(int(HELD_SHARE * len(past)), MOST_HELD)
    learned, held = past.part(0, len(past) - n_held), past.part(len(past) - n_held, len(past))
    n_fitted = int(RANKER_SHARE * n_held)
    fitted_on, judged_on = held.part(0, n_fitted), held.part(n_fitted, n_held)
    torch.manual_seed(recipe.seed)
    session = Session(n_items)
    first_vectors(session.encoder, learned, recipe.seed)
    fit(session.encoder, NextItem(learned, judged_on, n_items), recipe, _saying("encoder", progress), checkpoint)
    hold_tables(session, learned)
    session.settle()
    ranking = Ranking(session, fitted_on, judged_on)
    session.ranker.take(*ranking.moments())
    # About a hundred steps a pass, however small the shop.
    by_size = replace(RANKER_RECIPE, seed=recipe.seed, batch=min(max(ranking.n_rows // 100, 32), RANKER_RECIPE.batch))
    fit(session.ranker, ranking, by_size, _saying("ranker", progress))
    calibrate(session, judged_on)
    refresh(session, past, n_held, recipe, progress)
    return session.eval()


def check_sessions(past: Sessions) -> None:
    """Pass when there is enough to learn from.

    raises  InvalidInput  saying how many sessions of two items there are
    """
    check_array("items", past.items, np.int32)
    check_array("offsets", past.offsets, np.int64)
    n_long = int((np.diff(past.offsets) >= 2).sum())
    check(n_long >= FEWEST_SESSIONS, f"sessions of two items or more must be ≥ {FEWEST_SESSIONS}, got {n_long}")
    n_different = np.unique(past.items[past.items > 0]).size
    check(n_different >= 2, f"sessions must hold two different items or more, got {n_different}")


def refresh(session: Session, past: Sessions, n_held: int, recipe: Recipe, progress: Progress) -> None:
    """Let the encoder see the latest sessions once, at a quarter of its learning rate, and count tables over all."""
    hold_tables(session, past)
    _place_new_items(session, np.setdiff1d(past.items, past.part(0, len(past) - n_held).items))
    latest = past.part(max(0, len(past) - 2 * n_held), len(past))
    once = replace(recipe, n_epochs=1, learning_rate=recipe.learning_rate / 4, seed=recipe.seed + 1)
    task = NextItem(latest, latest.part(len(latest) - n_held // 3, len(latest)), session.n_items)
    fit(session.encoder, task, once, _saying("encoder, latest sessions", progress))
    session.settle()


class NextItem:
    """The Task of the encoder: every next item of a session against sampled others."""

    def __init__(self, learned: Sessions, judged: Sessions, n_items: int) -> None:
        windows = learned.windows()
        self.windows = torch.from_numpy(windows[(windows > 0).sum(axis=1) >= 2].astype(np.int64))
        self.n_rows = int(self.windows.shape[0])
        self.judged = judged.prefixes().thinned(MOST_JUDGED)
        counts = np.bincount(learned.items, minlength=n_items).astype(np.float64)
        counts[0] = 0.0
        # Half by popularity, half evenly: tail items must be negatives too.
        chance = 0.5 * counts / counts.sum() + 0.5 * (counts > 0) / (counts > 0).sum()
        self.chance, self.cumulated = torch.from_numpy(chance), np.cumsum(chance)

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:
        """Sampled softmax over all places of the sessions; see choice_loss."""
        assert isinstance(model, Encoder)
        windows = self.windows[rows]
        pointed, chosen = [], []
        # Sessions of like length together: most of a batch as wide as its longest session would be padding.
        for part in windows[(windows > 0).sum(dim=1).argsort()].tensor_split(4):
            if part.shape[0] == 0:
                continue
            shown = part[:, -max(2, int((part > 0).sum(dim=1).max())) :]
            seen, following = shown[:, :-1], shown[:, 1:]
            is_case = (following > 0) & (seen > 0)
            vectors = functional.normalize(model.item(seen), dim=2)
            pointed.append(model(seen, vectors, seen.shape[1])[is_case])
            chosen.append(following[is_case])
        return self._sampled(model, torch.cat(pointed) * SHARPNESS, torch.cat(chosen), seed)

    def _sampled(self, model: Encoder, pointed: Tensor, chosen: Tensor, seed: int) -> Tensor:
        drawn = np.random.default_rng(seed).random(N_NEGATIVES) * self.cumulated[-1]
        names = np.unique(np.minimum(np.searchsorted(self.cumulated, drawn, side="right"), self.cumulated.size - 1))
        negatives = torch.from_numpy(names)
        chance = self.chance[negatives]
        of_chosen = (pointed * functional.normalize(model.item(chosen), dim=1)).sum(dim=1, keepdim=True)
        of_others = pointed @ functional.normalize(model.item(negatives), dim=1).T
        log_chance = torch.log(-torch.expm1(N_NEGATIVES * torch.log1p(-chance))).float()
        log_counts = log_chance.expand(chosen.numel(), -1).masked_fill(chosen.unsqueeze(1) == negatives, -SILENT)
        return choice_loss(
            torch.cat([of_chosen, of_others], dim=1), torch.zeros_like(chosen), functional.pad(log_counts, (1, 0))
        )

    def validation_loss(self, model: nn.Module) -> float:
        """The same among all items, on later sessions."""
        assert isinstance(model, Encoder)
        directions = functional.normalize(model.item.weight, dim=1)
        total = 0.0
        for first in range(0, self.judged.chosen.size, BATCH):
            shown = torch.from_numpy(self.judged.shown[first : first + BATCH]).long()
            chosen = torch.from_numpy(self.judged.chosen[first : first + BATCH])
            scores = model(shown, directions[shown] * (shown > 0).unsqueeze(2), 1).squeeze(1) @ directions.T * SHARPNESS
            total += choice_loss(scores[:, 1:], chosen - 1, torch.zeros(())).item() * chosen.numel()
        return total / max(self.judged.chosen.size, 1)


class Ranking:
    """The Task of the ranker: the next item among the candidates that hold it, of sessions no table has counted."""

    def __init__(self, session: Session, fitted_on: Sessions, judged_on: Sessions) -> None:
        self.known, self.place = _candidates_of(session, fitted_on.prefixes().thinned(MOST_RANKED))
        self.judged, self.judged_place = _candidates_of(session, judged_on.prefixes().thinned(MOST_RANKED // 4))
        self.n_rows = int(self.place.numel())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of what is known of a candidate; 1 where it never varies."""
        flat = self.known.flatten(0, 1)
        spread = flat.std(dim=0)
        return flat.mean(dim=0), torch.where(spread > 1e-6, spread, torch.ones_like(spread))

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See choice_loss."""
        return self._loss(model, self.known[rows], self.place[rows])

    def validation_loss(self, model: nn.Module) -> float:
        """The same on the later of the held sessions."""
        total = 0.0
        for first in range(0, self.judged_place.numel(), BATCH):
            part = slice(first, first + BATCH)
            loss = self._loss(model, self.judged[part], self.judged_place[part])
            total += loss.item() * self.judged_place[part].numel()
        return total / max(self.judged_place.numel(), 1)

    def _loss(self, model: nn.Module, known: Tensor, place: Tensor) -> Tensor:
        return choice_loss(model(known), place, torch.zeros(()))


def first_vectors(encoder: Encoder, learned: Sessions, seed: int) -> None:
    """Begin with the leading eigenvectors of how items share sessions: it saves passes.

    source  subspace iteration, Halko et al. 2011 (arXiv 0909.4061), algorithm 4.4
    """
    n_items = encoder.item.num_embeddings
    index = session_index(learned.items, learned.offsets, n_items)
    even = Kinship(rarity_power=0.0, age_sessions=1e12, length_power=0.5, distance_decay=0.8, before=1.0)
    pairs = pair_table(index, even, 4 * N_PAIRED)
    one_way = csr_matrix((pairs.weight.astype(np.float32), pairs.successor, pairs.offsets), shape=(n_items, n_items))
    both = one_way + one_way.T
    total = np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-9) ** -0.5
    both = both.multiply(total[:, None]).multiply(total[None, :]).tocsr().astype(np.float32)
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((n_items, min(WIDTH + 16, n_items)), np.float32)
    for _ in range(6):
        basis, _ = np.linalg.qr(both @ (both @ basis))
    values, within = np.linalg.eigh(basis.T @ (both @ basis))
    leading = np.argsort(-np.abs(values))[:WIDTH]
    vectors = np.zeros((n_items, WIDTH), np.float32)
    vectors[:, : leading.size] = (basis @ within)[:, leading] * np.sqrt(np.abs(values[leading]))
    # An item that shares no session points anywhere.
    vectors += 1e-4 * rng.standard_normal(vectors.shape, np.float32)
    with torch.no_grad():
        encoder.item.weight.copy_(functional.normalize(torch.from_numpy(vectors), dim=1))
        encoder.item.weight[0] = 0.0


def hold_tables(session: Session, past: Sessions) -> None:
    """Count the tables and popularities that a Session reads."""
    n_sessions = max(len(past), 1)
    index = session_index(past.items, past.offsets, session.n_items)
    kinship = Kinship(age_sessions=AGE_SHARE * n_sessions)
    following = Kinship(age_sessions=FOLLOWING_AGE_SHARE * n_sessions, before=0.0, distance_decay=0.3)
    for table, items, worth in (
        (pair_table(index, kinship, N_PAIRED), session.paired, session.paired_worth),
        (pair_table(index, following, N_FOLLOWING), session.following, session.following_worth),
    ):
        _hold(table, items, worth)
    session.own_worth.copy_(torch.from_numpy(_own_votes(index, kinship)).float())
    ever = np.bincount(past.items, minlength=session.n_items)
    lately = past.part(int((1.0 - LATELY_SHARE) * n_sessions), len(past)).items
    popular = np.column_stack([ever, np.bincount(lately, minlength=session.n_items)])
    session.popular_log.copy_(torch.from_numpy(np.log1p(popular)).float())
    session.popular_log[torch.from_numpy(ever == 0), 0] = SILENT
    session.popular_log[0] = SILENT


def calibrate(session: Session, judged_on: Sessions) -> None:
    """Make the probability of every answer one of the next item, on sessions that nothing was fitted on."""
    cases = judged_on.prefixes(with_empty=True).thinned(4 * MOST_JUDGED)
    odds, is_next, length = [np.zeros(0)], [np.zeros(0, np.bool_)], [np.zeros(0)]
    for first in range(0, cases.chosen.size, BATCH):
        shown = torch.from_numpy(cases.shown[first : first + BATCH]).long()
        with torch.no_grad():
            candidate, share_log = session.ranked(shown)
            best, place = torch.topk(share_log, N_TOP_ITEMS, dim=1)
        odds.append(share_odds(best).double().numpy().ravel())
        chosen = torch.from_numpy(cases.chosen[first : first + BATCH]).unsqueeze(1)
        is_next.append((candidate.gather(1, place) == chosen).numpy().ravel())
        length.append(np.log1p((shown > 0).sum(dim=1).double().numpy()).repeat(N_TOP_ITEMS))
    inputs = np.column_stack([np.concatenate(odds), np.concatenate(length)])
    fitted = fit_platt(inputs, np.concatenate(is_next), np.array([1.0, 0.0, 0.0]))
    # A slope above zero keeps the list in descending order of probability.
    session.calibration.copy_(torch.tensor([max(fitted[0], 0.05), fitted[1], fitted[2]]))


def _candidates_of(session: Session, cases: Prefixes) -> tuple[Tensor, Tensor]:
    """What is known of the candidates of each case that holds the next item, and the item's place among them."""
    known, places = [], []
    for first in range(0, cases.chosen.size, BATCH):
        with torch.no_grad():
            candidate, of_each = session.candidates(torch.from_numpy(cases.shown[first : first + BATCH]).long())
        is_chosen = candidate == torch.from_numpy(cases.chosen[first : first + BATCH]).unsqueeze(1)
        holds = is_chosen.any(dim=1)
        known.append(of_each[holds])
        places.append(is_chosen[holds].long().argmax(dim=1))
    return torch.cat(known), torch.cat(places)


def _hold(table: Transitions, items: Tensor, worth: Tensor) -> None:
    row = np.repeat(np.arange(table.n_items), np.diff(table.offsets))
    place = np.arange(row.size) - table.offsets[row]
    items.zero_()
    worth.zero_()
    items[row, place] = torch.from_numpy(table.successor)
    worth[row, place] = torch.from_numpy(table.weight).float()


def _own_votes(index: SessionIndex, kinship: Kinship) -> NDArray[np.float64]:
    """What an item's sessions vote for the item itself."""
    length = np.maximum(np.diff(index.offsets), 1)
    age = np.arange(length.size)[::-1]
    vote = 0.5 ** (age / kinship.age_sessions) / length**kinship.length_power
    n_holding = np.diff(index.posting_offsets)
    item = np.repeat(np.arange(index.n_items), n_holding)
    votes = np.bincount(item, vote[index.session], minlength=index.n_items)
    return kinship.same * votes / np.maximum(n_holding, 1) ** kinship.rarity_power


def _place_new_items(session: Session, new: Items) -> None:
    """Items that training never saw point where the items that share their sessions do."""
    names = torch.from_numpy(new[new > 0].astype(np.int64))
    near = session.direction[session.paired[names].long()] * session.paired_worth[names].unsqueeze(2)
    with torch.no_grad():
        session.encoder.item.weight[names] = functional.normalize(near.sum(dim=1), dim=1)


def _padded(items: Items, begin: Ints, end: Ints, width: int) -> Items:
    """The last `width` items of each stretch, latest last, 0 pads."""
    event = end[:, None] - width + np.arange(width)
    is_in = event >= begin[:, None]
    return np.where(is_in, items[np.where(is_in, event, 0)], 0).astype(np.int32)


def _saying(who: str, progress: Progress) -> Progress:
    return lambda step: progress(f"{who}: {step}")
