"""Every model beside its simple rivals and the published numbers: public data sets first, then the trained shop.

In: what `python -m tests.benchmarks.published` keeps, and build/models/evaluation.json. Out: one line for each figure.
Run by `python -m tests.benchmarks models`; quick scores whole test sets from kept weights, `--full` trains all anew.
"""

import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import orjson

from evaluation.page import SHOWN, Evaluation
from tests.benchmarks.published.study import CACHE, Study
from tests.benchmarks.record import Measured

EVALUATION = Path("build/models/evaluation.json")
PROTOCOLS = (
    "amazon", "diginetica", "tags", "response", "open_bandit", "hillstrom", "lifetime", "fraud", "reviews",
)  # fmt: skip
SLOWEST = ("tags", "fraud")


def fit(protocols: Sequence[str] = PROTOCOLS) -> None:
    """Train what is not kept yet; a run that was killed goes on where it was.

    protocols  which, by the name of their module
    """
    for name in protocols:
        importlib.import_module(f"tests.benchmarks.published.{name}").fit(_say)


def measure(quick: bool, raw: Path | None) -> Measured:
    """Collect every line of every protocol, then every shown figure of the trained shop.

    quick    scores the whole test sets from kept weights; otherwise everything is trained again first
    raw      folder for predictions, labels and rankings behind each figure; None writes nothing
    returns  figures by contract name, rivals and published numbers as "figure: name"
    raises   FileNotFoundError  if nothing was trained
    """
    figures, rivals, spread, told, n = {}, {}, {}, [], 0
    for study in _studies(quick, raw):
        told.append(asdict(study))
        n = max(n, study.n)
        for line in study.lines:
            figures[line.name] = line.ours.value
            spread[line.name] = line.ours.upper - line.ours.lower
            for rival, figure in line.rivals.items():
                rivals[f"{line.name}: {rival}"] = figure.value
                spread[f"{line.name}: {rival}"] = figure.upper - figure.lower
            rivals |= {f"{line.name}: published, {number.source}": number.value for number in line.published}
    shop = _shop(raw)
    return Measured(
        figures | shop.figures, rivals | shop.rivals, max(n, shop.n), spread | shop.spread, {"studies": told}
    )


def _studies(quick: bool, raw: Path | None) -> Iterator[Study]:
    if not quick:
        for name in PROTOCOLS:
            shutil.rmtree(CACHE / name, ignore_errors=True)
        fit()
    # Recounting bootstraps is most of it: two processes bring it below the minute that `--quick` may take.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        slowest_first = sorted(PROTOCOLS, key=lambda name: name not in SLOWEST)
        recounted = {name: pool.submit(_recounted, name, raw) for name in slowest_first}
        for name in PROTOCOLS:
            yield from recounted[name].result()


def _recounted(name: str, raw: Path | None) -> list[Study]:
    found = importlib.import_module(f"tests.benchmarks.published.{name}").measure(raw)
    return [found] if isinstance(found, Study) else list(found)


def _shop(raw: Path | None) -> Measured:
    """What the last `stratagem train` found on its test window."""
    evaluation: Evaluation = orjson.loads(EVALUATION.read_bytes())
    if raw is not None:
        shutil.copy(EVALUATION, raw / EVALUATION.name)
    figures, rivals, spread = {}, {}, {}
    for model, study in evaluation["models"].items():
        for place, row in enumerate(study["rows"]):
            for name, figure in row["figures"].items():
                if name in SHOWN:
                    label = f"shop_{model}_{name}" if place == 0 else f"shop_{model}_{name}: {row['name']}"
                    (figures if place == 0 else rivals)[label] = figure["value"]
                    spread[label] = figure["upper"] - figure["lower"]
        figures[f"shop_{model}_train_s"] = study["seconds_in_all"]
    n = max((n for study in evaluation["models"].values() for n in study["n"].values()), default=0)
    return Measured(figures, rivals, n, spread)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
