"""Lifetime value on CDNOW and Online Retail beside BG/NBD + gamma-gamma on the same customers.

Everything is known up to one day, and what each customer then spent is compared. In: both data sets beside the
repository, read as any shop's export. Out: a Study. Run by `python -m tests.benchmarks models`.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from kernels.ledger import ORDER
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Study
from tests.benchmarks.rivals.buy_till_you_die import Customers, fit_purchases, fit_value
from tests.shops import shows
from training.dataset import DAY_S, Dataset, dataset_of
from training.evidence import N_REPLICATES, Difference, Figure, interval
from training.lifetimes import (
    KINDS,
    OURS,
    RECIPE,
    SCALED,
    Spending,
    expected_spend,
    figures_of,
    kinds_spend,
    learn,
    past_scale,
    past_spend,
    spending_of,
)
from training.loop import save
from training.models.lifetime import Lifetime, Served
from training.parity import Parity
from training.sources.shop import ingest, read_shop

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
KEPT = CACHE / "lifetime"
N_SEEDS = 3
RIVAL = "BG/NBD + gamma-gamma"
MODELS = (OURS, RIVAL, KINDS, SCALED)
FIGURES = ("spearman", "calibration", "gini")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One data set under one protocol.

    until       midnight (UTC) from which on nothing is known
    days        of spend that are then predicted
    remark      what a reader of the figures must know
    """

    name: str
    title: str
    until: str
    days: int
    protocol: str
    remark: str = ""

    @property
    def until_s(self) -> int:
        """Seconds since the epoch."""
        return int(np.datetime64(self.until, "s").astype(np.int64))


CASES = (
    Case(
        "cdnow", "cdnow", "1997-10-01", 273,
        "CDNOW sample, cohort of 1997's first quarter: 39 weeks known, spend of the next 39 weeks",
    ),
    Case(
        "online_retail", "retail", "2010-09-01", 90,
        "Online Retail 2009-12 to 2010-11, refunds taken off: 9 months known, spend of the next 90 days",
        " The 90 days are the shop's autumn, a season that the nine months before do not hold: every model expects "
        "too little.",
    ),
)  # fmt: skip


def dataset(case: Case, data: Path = DATA) -> Dataset:
    """A data set through the product's own ingestion, its training window ending where the case's knowledge does.

    raises  FileNotFoundError  if the data set is not there
    """
    source = data / case.name
    if not source.is_dir():
        raise FileNotFoundError(f"{case.name} must be in the data sets beside the repository")
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own"
        if case.name == "cdnow":
            toml = shows.write_original(source, own)
        else:
            toml = shows.write_form(shows.online_retail(source), case.name, "parquet", own)
        text = re.sub(r"^train_until = .*$", f"train_until = {case.until}", toml.read_text(), flags=re.MULTILINE)
        toml.write_text(text)
        ingest(toml, Path(folder) / "shop", lambda _: None)
        return dataset_of(read_shop(Path(folder) / "shop"))


def customers(known: Dataset, asked: Spending, until_s: int) -> Customers:
    """What BG/NBD is told of the same customers: repeat days, their last, age in weeks, mean spend of repeat days."""
    ledger = known.ledger
    shopper = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    orders = (ledger.kind == ORDER) & (ledger.time_s < until_s)
    day = ledger.time_s[orders] // DAY_S
    purchase, place = np.unique(np.column_stack([shopper[orders], day]), axis=0, return_inverse=True)
    paid = np.bincount(place.ravel(), ledger.paid_micros[orders] / 1e6)
    who, when = purchase[:, 0], purchase[:, 1]
    n = ledger.n_shoppers
    first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    np.minimum.at(first, who, when)
    np.maximum.at(last, who, when)
    repeats = np.bincount(who, minlength=n) - 1.0
    later = when > first[who]
    value = np.bincount(who[later], paid[later], minlength=n) / np.maximum(repeats, 1.0)
    rows = asked.rows.shopper
    # The day before the cut is the last one known.
    age = (until_s // DAY_S - 1 - first[rows]) / 7.0
    return Customers(repeats[rows], (last[rows] - first[rows]) / 7.0, np.maximum(age, 0.0), value[rows])


def fit(progress: Callable[[str], None]) -> None:
    """Train every seed of both data sets that is not kept yet, and keep what each model expects of every customer."""
    for case in CASES:
        if (KEPT / f"{case.title}.npz").exists():
            continue
        known = dataset(case)
        asked = spending_of(known, np.array([case.until_s]), case.days)
        features = asked.rows.features
        kept: dict[str, NDArray[np.generic]] = {"spend": asked.spend, "shopper": asked.rows.shopper}
        seconds, label_days = [], 0.0
        for seed in range(N_SEEDS):
            learned = learn(known, case.until_s, replace(RECIPE, seed=seed), lambda _: None, None)
            save(KEPT / f"{case.title}_seed{seed}.pt", learned.model.state_dict())
            kept[f"{OURS} {seed}"] = expected_spend(learned.model, features, case.days)
            kept[KINDS] = kinds_spend(learned.model, features, case.days)
            seconds.append(learned.seconds)
            label_days = learned.label_days
            progress(f"lifetime: {case.name}, seed {seed} of {N_SEEDS}, gained {learned.gain:.4f} on validation")
        told = customers(known, asked, case.until_s)
        purchases, value = fit_purchases(told), fit_value(told)
        kept[RIVAL] = purchases.expected(told, case.days / 7.0) * value.expected(told)
        kept[SCALED] = past_spend(features, case.days, past_scale(known, case.until_s))
        if not (KEPT / "parity.json").exists():
            _keep_parity(case, features)
        about = {"seconds": seconds, "label_days": label_days, "bg_nbd": asdict(purchases), "value": asdict(value)}
        (KEPT / f"{case.title}.json").write_bytes(orjson.dumps(about))
        with (KEPT / "writing.npz").open("wb") as file:
            np.savez(file, **kept)
        (KEPT / "writing.npz").replace(KEPT / f"{case.title}.npz")


def _keep_parity(case: Case, features: NDArray[np.float32]) -> None:
    module = Served(_module(case)).eval()
    parity, size = parity_of("lifetime", module, Served.signature, {"features": features})
    (KEPT / "parity.json").write_bytes(orjson.dumps({"parity": asdict(parity), "onnx_bytes": size}))


def _module(case: Case) -> Lifetime:
    return Lifetime.from_state(torch.load(KEPT / f"{case.title}_seed0.pt", weights_only=True))


def measure(raw: Path | None) -> Study:
    """Score every customer from what `fit` kept.

    raw     a folder for predictions and spend behind the figures
    raises  FileNotFoundError  if fit was not run
    """
    if not all((KEPT / name).exists() for name in ("parity.json", *(f"{case.title}.npz" for case in CASES))):
        raise FileNotFoundError(f"{KEPT} must hold both data sets; `python -m tests.benchmarks models` trains them")
    lines: list[Line] = []
    notes: list[str] = []
    n, seconds = 0, []
    for case in CASES:
        kept = dict(np.load(KEPT / f"{case.title}.npz"))
        if raw is not None:
            (raw / "lifetime").mkdir(parents=True, exist_ok=True)
            np.savez(raw / "lifetime" / f"{case.title}.npz", **kept)
        about = orjson.loads((KEPT / f"{case.title}.json").read_bytes())
        values = drawn_figures(kept)
        lines += [_line(case, figure, values[figure]) for figure in FIGURES]
        notes.append(_note(case, values, about))
        n, seconds = n + kept["spend"].size, seconds + about["seconds"]
    known = orjson.loads((KEPT / "parity.json").read_bytes())
    return Study(
        model="lifetime",
        protocol="; ".join(case.protocol for case in CASES)
        + ". Every customer who had ordered before; rank correlation, predicted over observed sum, normalised Gini.",
        lines=lines,
        n=n,
        train_s=float(np.mean(seconds)),
        n_parameters=sum(parameter.numel() for parameter in _module(CASES[0]).parameters()),
        onnx_bytes=known["onnx_bytes"],
        parity=Parity(**known["parity"]),
        notes=notes,
    )


def drawn_figures(kept: Mapping[str, NDArray[np.generic]]) -> dict[str, dict[str, Floats]]:
    """Every figure of every model: its value, then its bootstrap replicates over customers (and, of ours, seeds).

    returns  figure -> model -> (1 + N_REPLICATES,) float64
    """
    spend = kept["spend"].astype(np.float64)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(spend.size, np.full(spend.size, 1.0 / spend.size), N_REPLICATES)
    weights = np.concatenate([np.ones((1, spend.size)), counts])
    seeds = [figures_of(kept[f"{OURS} {seed}"].astype(np.float64), spend, weights) for seed in range(N_SEEDS)]
    chosen = rng.integers(N_SEEDS, size=(N_REPLICATES, N_SEEDS))
    found: dict[str, dict[str, Floats]] = {}
    for figure in FIGURES:
        table = np.stack([figures[figure] for figures in seeds])
        drawn = np.array([table[picked, 1 + place].mean() for place, picked in enumerate(chosen)])
        found[figure] = {OURS: np.concatenate([[table[:, 0].mean()], drawn])}
    for model in MODELS[1:]:
        for figure, value in figures_of(kept[model].astype(np.float64), spend, weights).items():
            found[figure][model] = value
    return found


def against(values: Mapping[str, Mapping[str, Floats]]) -> list[Difference]:
    """Ours less each rival, replicate by replicate; calibration as the distance of the sums' ratio from 1."""
    differences = []
    for figure, models in values.items():
        goodness = {
            model: -np.abs(np.log(np.maximum(drawn, 1e-9))) if figure == "calibration" else drawn
            for model, drawn in models.items()
        }
        for rival in MODELS[1:]:
            apart = goodness[OURS] - goodness[rival]
            differences.append(Difference(rival, figure, interval(float(apart[0]), apart[1:])))
    return differences


def _line(case: Case, figure: str, models: Mapping[str, Floats]) -> Line:
    spans = {model: interval(float(drawn[0]), drawn[1:]) for model, drawn in models.items()}
    return Line(name=f"lifetime_{case.title}_{figure}", ours=spans.pop(OURS), n_seeds=N_SEEDS, rivals=spans)


def _note(case: Case, values: Mapping[str, Mapping[str, Floats]], about: Mapping[str, object]) -> str:
    lost = [one for one in against(values) if one.is_lost]
    said = ", ".join(f"{one.figure} to {one.rival} by {_span(one.difference)}" for one in lost) or "nothing"
    ahead = [one for one in against(values) if one.rival == RIVAL]
    stretched = (
        f"; what lies beyond the {about['label_days']:.0f} days of its labels it stretches by the kinds' drop-out"
        if float(str(about["label_days"])) < case.days
        else ""
    )
    return (
        f"{case.title}: less {RIVAL}, paired: {', '.join(f'{o.figure} {_span(o.difference)}' for o in ahead)}; "
        f"lost beyond noise: {said}{stretched}. 365 days are measured on neither data set.{case.remark}"
    )


def _span(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.lower:+.3f}, {figure.upper:+.3f}]"


__all__ = ["CASES", "customers", "dataset", "fit", "measure"]
