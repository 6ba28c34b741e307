"""A shop's tables become three trained models, each beside its simple rivals in one table.

In: build/shop. Out: build/models/<model>/model.pt and build/models/evaluation.json. Called by `stratagem train`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from torch import nn

from kernels.features import columns
from training import answers, baskets, effects
from training.configs import MODELS
from training.dataset import TRAIN, WEEK_S, Dataset, Rows, dataset_of
from training.evidence import Evidence, histogram
from training.loop import Progress, Recipe, save
from training.sources.shop import read_shop

# Passes, batch and rate were chosen on the validation window (LOG.md); `quick` is for seeing that everything runs.
RECIPES: Mapping[str, Recipe] = {
    "response": Recipe(n_epochs=5, batch=1_024, learning_rate=1e-3, weight_decay=1e-4),
    "uplift": Recipe(n_epochs=12, batch=2_048, learning_rate=3e-3, weight_decay=1e-3, patience=3),
    "recommendation": Recipe(n_epochs=4, batch=256, learning_rate=3e-3),
}
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
    models       which; the evidence of the others stays as it was
    seed         equal seeds give equal weights
    raises       InvalidTable, InvalidInput  in one sentence
    """
    began = time.monotonic()
    shop = read_shop(shop_folder)
    dataset = dataset_of(shop)
    rows, grid = dataset.weekly()
    progress(f"{len(rows):,} shopper-weeks of {len(columns())} features, {dataset.ledger.n_events:,} events")
    fingerprint = _fingerprint(dataset)
    told: dict[str, object] = {"features": _feature_histograms(dataset, rows)}
    evidence, seconds = {}, {}
    for model in models:
        started = time.monotonic()
        recipe = replace(RECIPES[model], seed=seed, fingerprint=fingerprint)
        if quick:
            recipe = replace(recipe, n_epochs=min(recipe.n_epochs, QUICK_PASSES), batch=min(recipe.batch, 256))
        checkpoint = into / model / "checkpoint.pt"
        module: nn.Module
        if model == "response":
            asked = answers.answers_of(dataset, rows, grid)
            module, evidence[model] = answers.study(dataset, asked, recipe, progress, checkpoint)
        elif model == "uplift":
            module, found = effects.study(dataset, recipe, progress, checkpoint)
            evidence[model] = found.evidence
            told |= {
                "deciles": _plain(found.deciles),
                "overlap": _plain(found.overlap),
                "constants": _plain(found.constants),
            }
        else:
            module, evidence[model] = baskets.study(
                dataset, baskets.baskets_of(dataset, rows), recipe, progress, checkpoint
            )
        save(into / model / "model.pt", module.state_dict())
        checkpoint.unlink(missing_ok=True)
        seconds[model] = time.monotonic() - started
        progress(f"{model} trained and judged in {seconds[model]:.0f} s")
    seconds["all"] = time.monotonic() - began
    _write_evaluation(into / "evaluation.json", dataset, evidence, seconds, told)
    return TrainReport(evidence, seconds)


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
    fresh = file.with_suffix(".writing")
    fresh.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    fresh.replace(file)


def _tables(found: Evidence) -> dict[str, object]:
    tables = asdict(found)
    del tables["reliability"]
    for row, difference in zip(tables["against"], found.against, strict=True):
        row["is_lost"] = difference.is_lost
    return tables


def _plain(found: Mapping[str, object]) -> dict[str, object]:
    return {
        name: [asdict(part) for part in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
        for name, value in found.items()
    }


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
