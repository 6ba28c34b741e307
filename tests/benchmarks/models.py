"""The trained models beside their simple rivals, as the last `stratagem train` measured them on its test window.

In: build/models/evaluation.json. Out: ours, the rivals', and the width of each 95 % interval as the spread.
Run by `python -m tests.benchmarks models`.
"""

import shutil
from pathlib import Path

import orjson

from evaluation.page import SHOWN, Evaluation
from tests.benchmarks.record import Measured

EVALUATION = Path("build/models/evaluation.json")


def measure(quick: bool, raw: Path | None) -> Measured:
    """Collect every shown figure.

    quick    changes nothing: a quality test set is never shortened
    raw      folder for a copy of the whole evaluation; None writes nothing
    returns  figures as model_figure, rivals as model_figure: rival
    raises   FileNotFoundError  if nothing was trained
    """
    evaluation: Evaluation = orjson.loads(EVALUATION.read_bytes())
    if raw is not None:
        shutil.copy(EVALUATION, raw / EVALUATION.name)
    figures, rivals, spread = {}, {}, {}
    for model, study in evaluation["models"].items():
        for place, row in enumerate(study["rows"]):
            for name, figure in row["figures"].items():
                if name in SHOWN:
                    label = f"{model}_{name}" if place == 0 else f"{model}_{name}: {row['name']}"
                    (figures if place == 0 else rivals)[label] = figure["value"]
                    spread[label] = figure["upper"] - figure["lower"]
        figures[f"{model}_train_s"] = study["seconds_in_all"]
    n = max(n for study in evaluation["models"].values() for n in study["n"].values())
    return Measured(figures, rivals, n, spread)
