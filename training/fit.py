"""A shop's tables become trained models, each beside its simple rivals in one table.

In: build/shop. Out: build/models/<model>/model.pt and build/models/evaluation.json. Called by `stratagem train`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from kernels.features import columns
from training import answers, baskets, behaviours, deceptions, distillation, lifetimes, outlook, transactions, visitors
from training.dataset import TRAIN, WEEK_S, Dataset, Rows, dataset_of
from training.devices import on_one_thread
from training.doubts import check_learnable, doubts
from training.evidence import Evidence, histogram
from training.loop import Progress, Recipe, save
from training.sources.shop import read_shop
from training.sources.tables import InvalidTable
from training.studies import SOMETIMES, STUDIES, Workplace
from training.workers import all_here, is_first_worker

# Passes, batch and rate were chosen on the validation window (LOG.md); `quick` is for seeing that everything runs.
RECIPES: Mapping[str, Recipe] = {
    "behaviour": behaviours.RECIPE,
    "recommendation": baskets.RECIPE,
    "tags": outlook.RECIPE,
    "response": answers.RECIPE,
    "uplift": Recipe(n_epochs=12, batch=2_048, learning_rate=3e-3, weight_decay=1e-3, patience=3),
    "heads": distillation.RECIPE,
    "lifetime": lifetimes.RECIPE,
    "session": visitors.RECIPE,
    "risk_transaction": transactions.RECIPE,
    "risk_review": deceptions.RECIPE,
}
MODELS = tuple(STUDIES)
QUICK_PASSES = 2
SHOWN_FEATURES = (
    "order_recency_days", "n_orders", "orders_hl28d", "spend_hl28d", "basket_spend_mean", "order_gap_mean_days",
    "sessions_hl28d", "discount_depth_hl91d", "coupons_hl91d", "weekend_order_share_hl91d", "exposures_hl28d",
    "category_breadth",
)  # fmt: skip


@dataclass(frozen=True)
class TrainReport:
    """What training found.

    evidence  by model, in the order of MODELS
    seconds   wall time by model, studies and rivals included; "all" with reading and features
    """

    evidence: Mapping[str, Evidence]
    seconds: Mapping[str, float]


def train(
    shop_folder: Path,
    into: Path,
    progress: Callable[[str], None],
    quick: bool = False,
    models: tuple[str, ...] = MODELS,
    seed: int = 0,
) -> TrainReport:
    """Train models and write their weights and evidence; a run that was killed continues at its last pass.

    shop_folder  canonical tables, as ingested
    into         folder for weights and evidence
    progress     called with a sentence at each step
    quick        few passes: to see that everything works, not to use
    models       which, in an order in which none comes before one that it reads; evidence of the others stays
    seed         equal seeds give equal weights
    raises       InvalidTable, InvalidInput  in one sentence
    """
    began = time.monotonic()
    told: Progress = progress if is_first_worker() else lambda _: None  # one speaks for all
    dataset = dataset_of(read_shop(shop_folder))
    check_learnable(dataset)
    rows, grid = dataset.weekly()
    told(f"{len(rows):,} shopper-weeks of {len(columns())} features, {dataset.ledger.n_events:,} events")
    for sentence in doubts(dataset, rows, grid):
        told(f"look at this: {sentence}")
    place = Workplace(dataset, rows, grid, into, {"features": _feature_histograms(dataset, rows)})
    evidence, seconds = {}, {}
    for model in models:
        started = time.monotonic()
        on_one_thread()
        found = _studied(model, place, _recipe(model, dataset, quick, seed), told)
        if found is not None:
            evidence[model], seconds[model] = found, time.monotonic() - started
            told(f"{model} trained and judged in {seconds[model]:.0f} s")
    seconds["all"] = time.monotonic() - began
    if is_first_worker():
        _write_evaluation(into / "evaluation.json", dataset, evidence, seconds, place.told)
    return TrainReport(evidence, seconds)


def _recipe(model: str, dataset: Dataset, quick: bool, seed: int) -> Recipe:
    recipe = replace(RECIPES[model], seed=seed, fingerprint=_fingerprint(dataset))
    if quick:
        recipe = replace(recipe, n_epochs=min(recipe.n_epochs, QUICK_PASSES), batch=min(recipe.batch, 256))
    return recipe


def _studied(model: str, place: Workplace, recipe: Recipe, progress: Progress) -> Evidence | None:
    """Train and judge one model and keep its weights; None for one that this shop's data cannot teach."""
    checkpoint, file = place.into / model / "checkpoint.pt", place.into / model / "model.pt"
    try:
        module, found = STUDIES[model](place, recipe, progress, checkpoint)
    except InvalidTable as lack:
        if model not in SOMETIMES:
            raise
        progress(f"{model} is left out: {lack}")
        file.unlink(missing_ok=True)
        return None
    if is_first_worker():
        save(file, module.state_dict())
        checkpoint.unlink(missing_ok=True)
    all_here()
    return found


def _write_evaluation(
    file: Path,
    dataset: Dataset,
    evidence: Mapping[str, Evidence],
    seconds: Mapping[str, float],
    told: Mapping[str, object],
) -> None:
    """Merge into what an earlier run of other models left; the file is replaced whole."""
    old = orjson.loads(file.read_bytes()) if file.exists() else {}
    models = old.get("models", {}) | {
        model: {**_tables(found), "metrics": found.metrics(), "seconds_in_all": seconds[model]}
        for model, found in evidence.items()
    }
    reliability = old.get("reliability", {}) | {
        title: asdict(bins) for found in evidence.values() for title, bins in found.reliability.items()
    }
    content = (
        old
        | dict(told)
        | {
            "shop": dataset.shop.name,
            "currency_code": dataset.shop.currency_code,
            "training_window": asdict(dataset.splits),
            "models": models,
            "reliability": reliability,
            "seconds": old.get("seconds", {}) | dict(seconds),
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".writing")
    fresh.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    fresh.replace(file)


def _tables(found: Evidence) -> dict[str, object]:
    tables = asdict(found)
    del tables["reliability"]
    for row, difference in zip(tables["against"], found.against, strict=True):
        row["is_lost"] = difference.is_lost
    return tables


def _feature_histograms(dataset: Dataset, rows: Rows) -> dict[str, object]:
    """How a few features are distributed in the training window; a broken one is seen at a glance."""
    train = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TRAIN)
    named = columns()
    return {
        name: asdict(histogram(rows.features[train, named.index(name)].astype(np.float64))) for name in SHOWN_FEATURES
    }


def _fingerprint(dataset: Dataset) -> str:
    """Short name of the data, so that a checkpoint of other data is not continued."""
    ledger = dataset.ledger
    return f"{dataset.shop.name} {ledger.n_events} {int(ledger.time_s.sum())} {len(dataset.vocabulary.item_ids)}"


__all__ = ["RECIPES", "Progress", "TrainReport", "train"]
