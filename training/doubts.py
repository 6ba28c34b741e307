"""What makes a shop's tables impossible to learn from, and what makes that doubtful: each in a sentence with a name.

In: a Dataset and its shopper-weeks. Out: InvalidTable, or sentences for a person to read. Called by training/fit.py.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

from kernels.features import columns
from kernels.ledger import ORDER
from training.dataset import TRAIN, WEEK_S, Dataset, Rows
from training.labels import bought_categories
from training.sources.tables import InvalidTable
from training.vocabulary import EVERYTHING_ELSE, FEWEST_PURCHASES

# A comparison of shoppers, and every bootstrap over them, needs two.
FEWEST_SHOPPERS = 2
# What is known beforehand does not rank so well: the best feature of complete_journey reaches 0.89.
NEAR_COPY_AUC = 0.999
# Few cases are ranked without a mistake by chance, among the thousands of pairs that are looked at.
FEWEST_CASES = 20
MOST_ROWS = 20_000
MOST_NAMED = 12

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def check_learnable(dataset: Dataset) -> None:
    """Pass when there is something to learn from.

    raises  InvalidTable  if the training window has one shopper, no orders, or no item that sold often enough
    """
    ledger, vocabulary = dataset.ledger, dataset.vocabulary
    in_training = ledger.time_s < dataset.splits.train_until_s
    shopper_of_event = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    active = np.unique(shopper_of_event[in_training])
    if active.size < FEWEST_SHOPPERS:
        named = ", ".join(repr(vocabulary.shopper_ids[shopper]) for shopper in active)
        raise InvalidTable(
            f"events must be of at least {FEWEST_SHOPPERS} shoppers in the training window, got {active.size}"
            + f" ({named})" * bool(named)
        )
    if not (in_training & (ledger.kind == ORDER)).any():
        raise InvalidTable("events must have orders in the training window, got none: no shopper ever buys anything")
    if not vocabulary.item_ids:
        raise InvalidTable(
            f"events.item_id must name an item that is ordered at least {FEWEST_PURCHASES} times in the training "
            "window, got none"
        )


def doubts(dataset: Dataset, rows: Rows, grid: NDArray[np.int64]) -> Iterator[str]:
    """Yield what a person should look at before trusting what is learned from the training window.

    rows, grid  from Dataset.weekly
    """
    train = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TRAIN)
    train = train[np.linspace(0, train.size - 1, min(train.size, MOST_ROWS)).astype(np.int64)]
    week = np.searchsorted(grid, rows.at_s[train])
    bought = bought_categories(dataset, grid)[rows.shopper[train], week]
    names = dataset.vocabulary.categories
    used = [slot for slot, name in enumerate(names) if name]
    labels = {f"buys in {names[slot]}": bought[:, slot] for slot in used}
    features = rows.features[train]
    yield from _constant_features(features, names)
    yield from (
        f"the label {name!r} always happens in training: nothing can be learned about it"
        for name, label in labels.items()
        if label.size and label.all()
    )
    yield from near_copies(features, columns(), labels)


def near_copies(features: NDArray[np.float32], named: Sequence[str], labels: dict[str, Bools]) -> Iterator[str]:
    """Yield a sentence for each label that some feature ranks almost without a mistake, either way round.

    features  (n, n_features) float32
    named     of the columns
    labels    name -> (n,) bool
    """
    judged = {
        name: label for name, label in labels.items() if min(label.sum(), label.size - label.sum()) >= FEWEST_CASES
    }
    if not judged:
        return
    areas = areas_of(features, np.stack(list(judged.values()), axis=1))
    for name, column in zip(judged, np.maximum(areas, 1.0 - areas).T, strict=True):
        suspects = np.flatnonzero(column > NEAR_COPY_AUC)
        if suspects.size:
            worst = suspects[np.argsort(-column[suspects], kind="stable")]
            told = _listed([f"{named[place]} (AUC {column[place]:.4f})" for place in worst])
            yield f"the label {name!r} is nearly given away in training by {told}: check that it is known beforehand"


def areas_of(features: NDArray[np.float32], labels: Bools) -> Floats:
    """Return the area under the ROC curve of every feature for every label; ties count half.

    features  (n, n_features) float32
    labels    (n, n_labels) bool  both classes in each
    returns   (n_features, n_labels) float64
    source    Mann and Whitney 1947; tests/training/test_doubts.py
    """
    n_true = labels.sum(axis=0)
    rank_sums = rankdata(features, axis=0).T @ labels  # (n_features, n_labels)
    areas: Floats = (rank_sums - n_true * (n_true + 1) / 2) / (n_true * (len(labels) - n_true))
    return areas


def _constant_features(features: NDArray[np.float32], categories: Sequence[str]) -> Iterator[str]:
    """A slot without a category may well be empty; any other column that never varies is missing data."""
    empty = {f"[{slot}]" for slot, name in enumerate(categories) if name in ("", EVERYTHING_ELSE)}
    constant = [
        columns()[place]
        for place in np.flatnonzero(features.min(axis=0, initial=np.inf) == features.max(axis=0, initial=-np.inf))
    ]
    told = [name for name in constant if name[name.find("[") :] not in empty]
    if told:
        yield f"{len(told)} features never vary in training and teach nothing: {_listed(told)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
