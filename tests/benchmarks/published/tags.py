"""Behaviour tags and next-week categories of complete_journey, beside four rivals that read what ours reads and more.

In: `stratagem ingest complete_journey` in build/shop. Out: a Study. Run by `python -m tests.benchmarks models`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.features import N_CATEGORIES
from kernels.future_tags import FUTURE_TAGS, WEEK_S
from kernels.ledger import ORDER
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Study
from tests.benchmarks.rivals.boosted_labels import Boosting
from tests.benchmarks.rivals.weekly_nets import N_WEEKS, Convolution, Gru
from training import multilabel
from training.dataset import TEST, TRAIN, VALID, Dataset, dataset_of
from training.evidence import Figure, interval, shopper_weights
from training.loop import Recipe, save
from training.loop import fit as train
from training.models.tags import N_LABELS, Logistic, Served, Tags, tags_loss
from training.multilabel import Cases, Said, Truth
from training.outlook import (
    FAMILIES,
    RECIPE,
    Outlook,
    OutlookTask,
    calibrate,
    cases_of,
    fit_tags,
    outlook_of,
    said_of,
    without_vectors,
)
from training.parity import Parity
from training.sources.shop import read_shop
from training.tag_labels import shopper_of

SHOP = Path("build/shop")
KEPT = CACHE / "tags"
OURS, TREES = "tags net", "LightGBM"
N_SEEDS = 3
# Rates and passes were chosen on the validation window; each keeps its best pass.
LINEAR, LINEAR_RECIPE = "logistic regression", Recipe(n_epochs=30, batch=2_048, learning_rate=1e-2, patience=30)
NETS: Mapping[str, tuple[type[Gru | Convolution], Recipe]] = {
    "GRU": (Gru, Recipe(n_epochs=8, batch=512, learning_rate=3e-3, weight_decay=1e-4)),
    "1-d CNN": (Convolution, Recipe(n_epochs=8, batch=512, learning_rate=3e-3, weight_decay=1e-4)),
}
RIVALS = (LINEAR, TREES, *NETS)
FIGURES = ("macro_ap", "micro_f1", "macro_f1", "accuracy", "precision", "recall", "label_ece")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str], None]


class Weeks:
    """Lines that each shopper bought of each category in the weeks before each row."""

    def __init__(self, dataset: Dataset, outlook: Outlook) -> None:
        ledger, grid = dataset.ledger, outlook.grid
        week = (ledger.time_s - grid[0]) // WEEK_S + N_WEEKS
        counts = (ledger.kind == ORDER) & (ledger.category >= 0) & (week >= 0) & (week < N_WEEKS + grid.size)
        self.lines = np.zeros((ledger.n_shoppers, N_WEEKS + grid.size, N_CATEGORIES), np.float32)
        np.add.at(self.lines, (shopper_of(ledger)[counts], week[counts], ledger.category[counts]), 1.0)
        self.shopper, self.first = outlook.shopper, np.searchsorted(grid, outlook.at_s)

    def of(self, rows: Ints) -> NDArray[np.float32]:
        """(n, N_WEEKS, N_CATEGORIES) the latest week last; a row's own week is not in it."""
        return self.lines[self.shopper[rows, None], self.first[rows, None] + np.arange(N_WEEKS)]


class WeeklyTask:
    """The Task of rivals that read weeks: the loss that ours has."""

    def __init__(self, outlook: Outlook, weeks: Weeks) -> None:
        self.outlook, self.weeks = outlook, weeks
        self.train, self.valid = outlook.of(TRAIN), outlook.of(VALID)
        self.n_rows = self.train.size

    def loss(self, model: nn.Module, rows: Ints, seed: int) -> Tensor:  # noqa: ARG002 - nothing is sampled
        """See tags_loss."""
        of = self.train[rows]
        truth = self.outlook.truth(of, TRAIN)
        labels, observed = torch.from_numpy(truth.labels).float(), torch.from_numpy(truth.observed).float()
        return tags_loss(self._asked(model, of), labels, observed)

    def validation_loss(self, model: nn.Module) -> float:
        """See tags_loss."""
        truth = self.outlook.truth(self.valid, VALID)
        logits = torch.from_numpy(self.logits(model, self.valid)).float().unsqueeze(0)
        return float(
            tags_loss(logits, torch.from_numpy(truth.labels).float(), torch.from_numpy(truth.observed).float())
        )

    def logits(self, model: nn.Module, rows: Ints) -> Floats:
        """(n, N_LABELS) log-odds of many rows."""
        with torch.no_grad():
            batches = [self._asked(model, rows[first : first + 2_048])[0] for first in range(0, rows.size, 2_048)]
        return torch.cat(batches).numpy().astype(np.float64)

    def _asked(self, model: nn.Module, rows: Ints) -> Tensor:
        columns = (self.outlook.features[rows], self.outlook.vectors[rows], self.weeks.of(rows))
        logits: Tensor = model(*(torch.from_numpy(part) for part in columns))
        return logits


def read_outlook() -> tuple[Dataset, Outlook]:
    """The shop's rows and labels.

    raises  FileNotFoundError  if complete_journey was not ingested
    """
    if not (SHOP / "shop.json").exists():
        raise FileNotFoundError(f"{SHOP} must hold complete_journey; run `stratagem ingest complete_journey`")
    shop = read_shop(SHOP)
    if shop.name != "complete_journey":
        raise FileNotFoundError(f"{SHOP} must hold complete_journey, got the shop {shop.name!r}")
    dataset = dataset_of(shop)
    return dataset, outlook_of(dataset, *dataset.weekly(), without_vectors, lambda _: None)


def fit(progress: Progress) -> None:
    """Train every seed and rival that is not kept yet, and keep what each says of validation and test."""
    dataset, outlook = read_outlook()
    cases, weeks = cases_of(outlook), Weeks(dataset, outlook)
    _keep_cases(outlook, cases)
    task = OutlookTask(outlook)
    for seed in range(N_SEEDS):
        if not _file(f"{OURS} {seed}").exists():
            torch.manual_seed(seed)
            ours = Tags()
            recipe = replace(RECIPE, seed=seed, fingerprint="published tags")
            seconds = fit_tags(task, ours, recipe, _named(progress, f"seed {seed}"), KEPT / f"checkpoint{seed}.pt")
            save(KEPT / f"seed{seed}.pt", ours.state_dict())
            _keep(f"{OURS} {seed}", said_of(ours, outlook, cases), seconds)
    if not _file(LINEAR).exists():
        torch.manual_seed(0)
        linear = Logistic()
        seconds = fit_tags(task, linear, LINEAR_RECIPE, _named(progress, LINEAR), KEPT / "linear_checkpoint.pt")
        _keep(LINEAR, said_of(linear, outlook, cases), seconds)
    for name in NETS:
        if not _file(name).exists():
            _keep(name, *_net(name, WeeklyTask(outlook, weeks), cases, _named(progress, name)))
    if not _file(TREES).exists():
        _keep(TREES, *_trees(outlook, cases, progress))
    if not (KEPT / "parity.json").exists():
        module = Tags.from_state(torch.load(KEPT / "seed0.pt", weights_only=True)).eval()
        calibrate(module, outlook, cases)
        rows = outlook.of(TEST)
        asked = {"features": outlook.features[rows], "shopper_vector": outlook.vectors[rows]}
        parity, size = parity_of("tags", Served(module).eval(), Served.signature, asked)
        (KEPT / "parity.json").write_bytes(orjson.dumps({"parity": asdict(parity), "onnx_bytes": size}))


def _net(name: str, task: WeeklyTask, cases: Cases, progress: Progress) -> tuple[Said, float]:
    kind, recipe = NETS[name]
    torch.manual_seed(recipe.seed)
    model = kind()
    model.learn(torch.from_numpy(task.outlook.features[task.train]))
    seconds = train(model, task, recipe, progress, KEPT / f"{name}.checkpoint").seconds
    test = task.outlook.of(TEST)
    return multilabel.calibrated(task.logits(model, task.valid), task.logits(model, test), cases), seconds


def _trees(outlook: Outlook, cases: Cases, progress: Progress) -> tuple[Said, float]:
    """One booster a label, each kept when done."""
    rows = [outlook.of(part) for part in (TRAIN, VALID, TEST)]
    columns = [np.hstack([outlook.features[of], outlook.vectors[of]]) for of in rows]
    seen = [outlook.observed[of] == part for of, part in zip(rows, (TRAIN, VALID, TEST), strict=True)]
    happened = [outlook.labels[of] for of in rows]
    logits, seconds = [np.full((of.size, N_LABELS), -30.0) for of in rows[1:]], 0.0
    binned: dict[bytes, Boosting] = {}
    for label in np.flatnonzero(outlook.is_used):
        file = KEPT / "boosters" / f"{label}.npz"
        if not file.exists():
            began = time.monotonic()
            train, valid = (mask[:, label] for mask in seen[:2])
            key = train.tobytes()
            if key not in binned:
                binned = {key: Boosting(columns[0][train], columns[1][valid])}
            booster = binned[key].fit(happened[0][train, label], happened[1][valid, label])
            said = {
                name: booster.predict(columns[place], raw_score=True) for place, name in ((1, "valid"), (2, "test"))
            }
            _write(file, {**said, "seconds": np.array(time.monotonic() - began)})
            progress(f"tags: {TREES} has learned label {label + 1} of {N_LABELS}")
        with np.load(file) as kept:
            logits[0][:, label], logits[1][:, label] = kept["valid"], kept["test"]
            seconds += float(kept["seconds"])
    return multilabel.calibrated(*logits, cases), seconds


def measure(raw: Path | None) -> Study:
    """Compute every figure from what each model said of the whole test window.

    raw     folder to copy probabilities and labels into, for anyone to compute the figures again; None writes nothing
    raises  FileNotFoundError  if `fit` was not run
    """
    missing = [name for name in _kept_names() if not _file(name).exists()]
    if missing or not (KEPT / "parity.json").exists():
        raise FileNotFoundError("the tags study must be fitted first: `python -m tests.benchmarks.published tags`")
    cases, weights = _kept_cases(), shopper_weights(_kept_cases().shopper)
    found = {name: multilabel.figures(_said(name), cases, weights) for name in _kept_names()}
    seeds = [found[f"{OURS} {seed}"] for seed in range(N_SEEDS)]
    ours = {name: _over_seeds([seed[name] for seed in seeds]) for name in seeds[0]}
    best = max(RIVALS, key=lambda rival: float(found[rival]["macro_ap"][0]))
    against = {rival: _interval(ours["macro_ap"] - found[rival]["macro_ap"]) for rival in RIVALS}
    lines = [Line("tags_macro_ap_lower", _of_lower(against[best]), N_SEEDS, against, (), -0.002)]
    lines += [
        Line(
            f"tags_{name.removeprefix('label_')}",
            _interval(ours[name]),
            N_SEEDS,
            {rival: _interval(found[rival][name]) for rival in RIVALS},
        )
        for name in FIGURES
    ]
    if raw is not None:
        _copy(raw / "tags")
    kept = orjson.loads((KEPT / "parity.json").read_bytes())
    module = Tags.from_state(torch.load(KEPT / "seed0.pt", weights_only=True))
    return Study(
        model="tags",
        protocol=PROTOCOL,
        lines=lines,
        n=int(cases.test.observed.any(axis=1).sum()),
        train_s=float(np.mean([_seconds(f"{OURS} {seed}") for seed in range(N_SEEDS)])),
        n_parameters=sum(weight.numel() for weight in module.parameters()),
        onnx_bytes=kept["onnx_bytes"],
        parity=Parity(**kept["parity"]),
        notes=_notes(best, ours, found, cases),
    )


PROTOCOL = (
    "complete_journey, time split: training until 2017-10-02, validation until 2017-11-06, test after; every known "
    "household at the start of every week, a label counts where its whole horizon lies in the window (64 categories "
    "and tags of 7 days, tags of 28 days). Macro-AP is the mean over labels with five answers or more of either kind; "
    "thresholds (best F1 of each label) and calibration are chosen on validation; intervals resample households."
)


def _notes(best: str, ours: Mapping[str, Floats], found: Mapping[str, Mapping[str, Floats]], cases: Cases) -> list[str]:
    slices = ", ".join(f"{name} {float(ours[f'{name}_ece'][0]):.4f}" for name in cases.groups)
    pooled = [float(ours[f"{name}_ece"][0]) for name in FAMILIES]
    families = "; ".join(
        f"{name} labels {float(ours[f'{name}_macro_ap'][0]):.4f} against "
        + ", ".join(f"{rival} {float(found[rival][f'{name}_macro_ap'][0]):.4f}" for rival in RIVALS)
        for name in FAMILIES
    )
    unseen = [tag.name for place, tag in enumerate(FUTURE_TAGS) if N_CATEGORIES + place not in cases.test.judged()]
    seconds = ", ".join(f"{rival} {_seconds(rival):.0f} s" for rival in RIVALS)
    return [
        f"The best rival by macro-AP is {best}; the lower line is against it, with the differences to all beside.",
        "All read the features and the shopper's vector (zeros here: no encoder). GRU and CNN want a sequence: they "
        f"also read what was bought by category in each of {N_WEEKS} weeks; ours, linear and {TREES} do not.",
        f"Macro-AP by family: {families}.",
        f"Calibration error of ours by how often households order: {slices}; pooled over categories {pooled[0]:.4f}, "
        f"over tags {pooled[1]:.4f}; tags_ece is the mean of the labels' own.",
        f"The shop has no views, carts or refunds: {', '.join(unseen)} are not judged here.",
        f"Training took {seconds}, on a machine that others used.",
        "Not like for like with anything published: no public benchmark exists for these labels.",
    ]


def _over_seeds(drawn: list[Floats]) -> Floats:
    """The mean of the seeds, then replicates that each take one seed: their spread is of seeds and of cases."""
    stacked = np.stack(drawn)
    n_replicates = stacked.shape[1] - 1
    replicates = stacked[np.arange(n_replicates) % len(drawn), 1 + np.arange(n_replicates)]
    return np.concatenate([[stacked[:, 0].mean()], replicates])


def _interval(drawn: Floats) -> Figure:
    return interval(float(drawn[0]), drawn[1:])


def _of_lower(difference: Figure) -> Figure:
    """The lower bound as the figure, its interval the difference's."""
    return Figure(difference.lower, difference.lower, difference.upper)


def _named(progress: Progress, name: str) -> Progress:
    return lambda step: progress(f"tags, {name}: {step}")


def _kept_names() -> tuple[str, ...]:
    return (*(f"{OURS} {seed}" for seed in range(N_SEEDS)), *RIVALS)


def _file(name: str) -> Path:
    return KEPT / f"{name.replace(' ', '_')}.npz"


def _write(file: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """A reader sees the whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.stem}.writing")
    with fresh.open("wb") as out:
        np.savez(out, **arrays)
    fresh.replace(file)


def _keep(name: str, said: Said, seconds: float) -> None:
    valid, test = said.valid.astype(np.float32), said.test.astype(np.float32)
    _write(_file(name), {"valid": valid, "test": test, "seconds": np.array(seconds)})


def _said(name: str) -> Said:
    with np.load(_file(name)) as kept:
        return Said(kept["valid"].astype(np.float64), kept["test"].astype(np.float64))


def _seconds(name: str) -> float:
    with np.load(_file(name)) as kept:
        return float(kept["seconds"])


def _keep_cases(outlook: Outlook, cases: Cases) -> None:
    truths = {
        f"{part}_{name}": getattr(truth, name)
        for part, truth in (("valid", cases.valid), ("test", cases.test))
        for name in ("labels", "observed")
    }
    groups = {f"is_{name}": rows for name, rows in cases.groups.items()}
    _write(_file("cases"), {**truths, **groups, "shopper": cases.shopper, "at_s": outlook.at_s[outlook.of(TEST)]})


def _kept_cases() -> Cases:
    with np.load(_file("cases")) as kept:
        truths = [Truth(kept[f"{part}_labels"], kept[f"{part}_observed"]) for part in ("valid", "test")]
        groups = {name.removeprefix("is_"): kept[name] for name in kept.files if name.startswith("is_")}
        return Cases(truths[0], truths[1], FAMILIES, kept["shopper"], groups)


def _copy(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_kept_names(), "cases"):
        (folder / _file(name).name).write_bytes(_file(name).read_bytes())
