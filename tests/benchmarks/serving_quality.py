"""What a smaller graph loses: its answers beside float32's, and both beside what really happened, on held-out rows.

In: a shop's test window and the answers of each variant. Out: figures. Called by tests/benchmarks/serving.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from kernels import metrics
from training.dataset import TEST, WEEK_S, dataset_of
from training.labels import NextItems, bought_categories, next_items
from training.sources.shop import read_shop

N_HELD_OUT = 4_096
N_TOP = 20
N_JUDGED = 10
WHOLE = "fp32"
# Fewer buyers in the held-out rows make a category's own AUC a coin toss.
FEWEST_BUYERS = 5

Arrays = Mapping[str, NDArray[np.generic]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Rows that no fit and no calibration has seen.

    tensors  name -> (n, width)  inputs of the models
    bought   (n, N_CATEGORIES) bool  categories bought within a week; None where that is not known
    items    bought within a week; None where that is not known
    """

    tensors: Arrays
    bought: NDArray[np.bool_] | None = None
    items: NextItems | None = None


def held_out_of(shop: Path = Path("build/shop")) -> HeldOut:
    """Take evenly spread shopper-weeks of a shop's test window, with what followed.

    raises  FileNotFoundError  if the shop was not ingested
    """
    if not shop.exists():
        raise FileNotFoundError(f"{shop} must exist; `stratagem ingest complete_journey` writes it")
    dataset = dataset_of(read_shop(shop))
    rows, grid = dataset.weekly()
    test = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TEST)
    kept = rows.take(test[np.linspace(0, test.size - 1, min(N_HELD_OUT, test.size)).astype(np.int64)])
    tensors = {"features": kept.features}
    tensors |= {f"event_{name}": column for name, column in vars(kept.events()).items()}
    bought = bought_categories(dataset, grid)[kept.shopper, np.searchsorted(grid, kept.at_s)]
    return HeldOut(tensors, bought, next_items(dataset, kept.shopper, kept.at_s))


def losses(model: str, variants: Mapping[str, str], answers: Mapping[str, Arrays], rows: HeldOut) -> dict[str, float]:
    """Figures of every variant of a model.

    variants  name by variant
    answers   by name, then tensor
    returns   largest difference and rank correlation of its numbers, overlap of its best N_TOP items, and AUC and
              NDCG of what happened beside those of float32, each only where the model answers such a thing
    """
    whole, figures = answers[variants[WHOLE]], {}
    for variant, name in variants.items():
        found = answers[name]
        judged = judged_by_labels(found, rows)
        figures |= {f"serving_{name}_{figure}": value for figure, value in judged.items()}
        if variant != WHOLE:
            beside = beside_whole(whole, found)
            figures |= {f"serving_{name}_{figure}": value for figure, value in beside.items()}
    return figures


def beside_whole(whole: Arrays, found: Arrays) -> dict[str, float]:
    """Largest difference of any number, least rank correlation of any column, mean overlap of the best items.

    whole, found  float32's answers and a variant's, by tensor
    """
    figures: dict[str, float] = {}
    for tensor, exact in whole.items():
        theirs = found[tensor]
        if tensor == "item_index":
            shared = [
                np.intersect1d(ours[ours > 0], other[other > 0]).size / max(int((ours > 0).sum()), 1)
                for ours, other in zip(exact[:, :N_TOP], theirs[:, :N_TOP], strict=True)
            ]
            figures["top20_overlap"] = float(np.mean(shared))
        # Numbers that belong to an item in a list cannot be compared where the lists differ.
        elif np.issubdtype(exact.dtype, np.floating) and not tensor.startswith("item_"):
            apart = np.abs(theirs.astype(np.float64) - exact) / np.maximum(np.abs(exact), 1.0)
            figures["max_difference"] = max(figures.get("max_difference", 0.0), float(apart.max(initial=0.0)))
            figures["rank_correlation"] = min(figures.get("rank_correlation", 1.0), _rank_correlation(exact, theirs))
    return figures


def judged_by_labels(found: Arrays, rows: HeldOut) -> dict[str, float]:
    """Macro AUC over categories, and NDCG of the best items, of what really happened.

    found  answers by tensor
    """
    figures: dict[str, float] = {}
    if "category_prob" in found and rows.bought is not None:
        probs, ones = found["category_prob"].astype(np.float64), np.ones((1, len(rows.bought)))
        n_buyers = rows.bought.sum(axis=0)
        judged = np.flatnonzero((n_buyers >= FEWEST_BUYERS) & (n_buyers < len(rows.bought)))
        areas = [metrics.ranking_areas(probs[:, slot].copy(), rows.bought[:, slot], ones)[0, 1] for slot in judged]
        if areas:
            figures["category_auc"] = float(np.mean(areas))
    if "item_index" in found and rows.items is not None:
        ranked = found["item_index"][:, :N_JUDGED].astype(np.int32)
        gains = metrics.ranking_gains(ranked, rows.items.offsets, rows.items.items)
        figures["item_ndcg_10"] = float(gains[np.diff(rows.items.offsets) > 0, 1].mean())
    return figures


def _rank_correlation(exact: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Least Spearman correlation over columns, rows being what is ranked; 1 where nothing varies."""
    ranks = [rankdata(array, axis=0) - (len(array) + 1) / 2 for array in (exact, theirs)]
    varies = (ranks[0] != 0).any(axis=0)
    top: Floats = (ranks[0] * ranks[1]).sum(axis=0)
    scale: Floats = np.sqrt((ranks[0] ** 2).sum(axis=0) * (ranks[1] ** 2).sum(axis=0))
    return float((top[varies] / np.maximum(scale[varies], 1e-12)).min(initial=1.0))
