"""A shop's visits as sessions of anonymous shoppers, and the study of the model that answers them.

In: a Dataset. Out: a calibrated Session and its evidence beside simple rivals. Called by training/fit.py.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels import transitions
from kernels.features import N_TOP_ITEMS
from kernels.ledger import ORDER
from kernels.metrics import calibration_error
from kernels.session_neighbours import Kinship, next_items, session_index
from kernels.visits import COLUMNS, session_columns
from training.browsing import AGE_SHARE, BATCH, Prefixes, Sessions, check_sessions, fit_session
from training.dataset import Dataset
from training.evidence import Evidence, Figure, Row, calibration_bins, differences, mean_figure, shopper_weights
from training.loop import Progress, Recipe
from training.models.session import N_SESSION, Session
from training.sources.tables import InvalidTable

MOST_RANKED = 10_000
RECIPE = Recipe(n_epochs=5, batch=512, learning_rate=2e-3)

Items = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Visits:
    """A shop's sessions before and after a moment.

    past     sessions that began before it, the oldest first
    later    those that began at it or after
    n_items  item indexes, 0 included; more than N_TOP_ITEMS
    """

    past: Sessions
    later: Sessions
    n_items: int


def visits_of(dataset: Dataset) -> Visits:
    """Views, cart changes and order lines of a visit, in order; an item that repeats at once is one.

    A visit most of whose events bear one second is left out.

    raises  InvalidTable  if a window has too few visits with two items
    """
    ledger = dataset.ledger
    number = session_columns(ledger)[:, COLUMNS.index("session_number")]
    shopper = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    kept = (ledger.kind <= ORDER) & (ledger.item > 0)
    key = shopper[kept] * (int(number.max(initial=0)) + 1) + number[kept]
    item, time_s = ledger.item[kept], ledger.time_s[kept]
    is_other = np.ones(item.size, np.bool_)
    # A view, the cart and the order of one item are one wish, and foretelling the second from the first is no art.
    is_other[1:] = (item[1:] != item[:-1]) | (key[1:] != key[:-1])
    key, item, time_s = key[is_other], item[is_other], time_s[is_other]
    in_order = _in_order(key, time_s)
    item, time_s, key = item[in_order], time_s[in_order], key[in_order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if key.size else np.zeros(0, np.int64)
    order = np.argsort(time_s[starts], kind="stable")
    length = np.diff(np.append(starts, key.size))[order]
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    event = np.repeat(starts[order], length) + np.arange(key.size) - np.repeat(offsets[:-1], length)
    sessions = Sessions(item[event], offsets)
    n_past = int(np.searchsorted(time_s[starts][order], dataset.splits.valid_until_s))
    past, later = sessions.part(0, n_past), sessions.part(n_past, len(sessions))
    try:
        check_sessions(past)
    except ValueError as few:
        raise InvalidTable(f"events before the test window are too few for a session model: {few}") from few
    if not later.prefixes().chosen.size:
        raise InvalidTable("visits of two items or more in the test window must be ≥ 1, got 0")
    return Visits(past, later, max(len(dataset.vocabulary.item_ids), N_TOP_ITEMS) + 1)


def _in_order(key: NDArray[np.int64], time_s: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which events are of visits whose order is known: the lines of one receipt bear one second, and have none.

    key      (n,) int64  of each event's visit; a visit's events stand together
    time_s   (n,) int64  ascending within a visit
    returns  (n,) bool   true where at least half of a visit's events come after the one before
    """
    begins = np.concatenate([np.ones(min(key.size, 1), np.bool_), key[1:] != key[:-1]])
    visit = np.cumsum(begins) - 1
    is_later = np.concatenate([np.zeros(min(key.size, 1), np.bool_), time_s[1:] > time_s[:-1]]) & ~begins
    n_events, n_later = np.bincount(visit), np.bincount(visit, weights=is_later)
    known: NDArray[np.bool_] = (2 * n_later >= n_events - 1)[visit]
    return known


def study(
    visits: Visits, recipe: Recipe, progress: Progress, checkpoint: Path | None = None
) -> tuple[Session, Evidence]:
    """Fit on the past, and rank all items after every prefix of the later sessions, beside rivals.

    visits  from visits_of
    recipe  of the encoder
    """
    started = time.monotonic()
    session = fit_session(visits.past, visits.n_items, recipe, progress, checkpoint)
    seconds = time.monotonic() - started
    cases = visits.later.prefixes().thinned(MOST_RANKED)
    index, prob = answers_of(session, cases)
    ranked = {"session model": index} | rivals_of(session, visits.past, cases)
    weights = shopper_weights(cases.session)
    names = list(ranked)
    figures: list[dict[str, Figure]] = []
    replicates: list[dict[str, Floats]] = []
    for name in names:
        found = {figure: mean_figure(values, weights) for figure, values in gains_of(ranked[name], cases).items()}
        figures.append({figure: spread for figure, (spread, _) in found.items()})
        replicates.append({figure: draws for figure, (_, draws) in found.items()})
    values = [{figure: spread.value for figure, spread in row.items()} for row in figures]
    is_next = index == cases.chosen[:, None]
    error = calibration_error(prob.ravel().astype(np.float64), is_next.ravel())
    figures[0]["next_item_ece"] = Figure(error, error, error)
    evidence = Evidence(
        rows=[Row(name, figures[place]) for place, name in enumerate(names)],
        against=differences(names, values, replicates),
        protocol=(
            "The next other item of a visit from the visit's items so far, for every beginning of every visit of the "
            "test window, all items ranked; visits end after 30 minutes without an event."
        ),
        n={"sessions": len(visits.later), "prefixes": int(cases.chosen.size), "past_sessions": len(visits.past)},
        seconds=seconds,
        n_parameters=sum(parameter.numel() for parameter in session.parameters()),
        reliability={
            "an answer is the next item of the visit": calibration_bins(
                prob.ravel().astype(np.float64), is_next.ravel()
            )
        },
    )
    return session, evidence


def answers_of(session: Session, cases: Prefixes) -> tuple[Items, NDArray[np.float32]]:
    """What the served module answers, (n, N_TOP_ITEMS) each."""
    index = np.zeros((cases.chosen.size, N_TOP_ITEMS), np.int32)
    prob = np.zeros((cases.chosen.size, N_TOP_ITEMS), np.float32)
    for first in range(0, cases.chosen.size, BATCH):
        with torch.no_grad():
            items, probs = session.top(torch.from_numpy(cases.shown[first : first + BATCH]))
        index[first : first + BATCH], prob[first : first + BATCH] = items.numpy(), probs.numpy()
    return index, prob


def rivals_of(session: Session, past: Sessions, cases: Prefixes) -> dict[str, Items]:
    """The best items of simpler methods, and of the model's own parts, by name."""
    table = transitions.transitions(past.items, past.offsets, session.n_items, n_kept=64)
    counts = np.bincount(past.items, minlength=session.n_items)
    counts[0] = 0
    popular = np.argsort(-counts, kind="stable")[:N_TOP_ITEMS].astype(np.int32)
    found: dict[str, list[Items]] = {"transition table": [], "table of pairs alone": [], "encoder alone": []}
    for first in range(0, cases.chosen.size, BATCH):
        shown = cases.shown[first : first + BATCH]
        seen = torch.from_numpy(shown).long()
        with torch.no_grad():
            found["transition table"].append(_best(torch.from_numpy(transitions.scores(table, shown))))
            found["table of pairs alone"].append(_best(session.table(seen)))
            found["encoder alone"].append(_best(session.cosines(seen)))
    index = session_index(past.items, past.offsets, session.n_items)
    offsets = np.arange(cases.chosen.size + 1, dtype=np.int64) * N_SESSION
    neighbours, _ = next_items(index, cases.shown.ravel(), offsets, Kinship(age_sessions=AGE_SHARE * len(past)))
    return {
        "neighbour sessions": neighbours,
        **{name: np.concatenate(parts) for name, parts in found.items()},
        "popularity": np.tile(popular, (cases.chosen.size, 1)),
    }


def gains_of(index: Items, cases: Prefixes) -> Mapping[str, Floats]:
    """Whether the next item is among the best 20, and one over its rank, 0 where it is not; each case's own.

    index  (n, N_TOP_ITEMS) int32  best first
    """
    is_next = index == cases.chosen[:, None]
    return {
        "recall_20": is_next.any(axis=1).astype(np.float64),
        "mrr_20": (is_next / np.arange(1, index.shape[1] + 1)).sum(axis=1),
    }


def _best(scores: torch.Tensor) -> Items:
    best = torch.topk(scores[:, 1:], N_TOP_ITEMS, dim=1).indices.numpy() + 1
    return best.astype(np.int32)
