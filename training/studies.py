"""What each model is learned from, in the order in which one may need another: the registry of `stratagem train`.

In: a Workplace. Out: a fitted module and its evidence. Called by training/fit.py, which knows no model by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training import (
    answers,
    baskets,
    behaviours,
    deceptions,
    distillation,
    effects,
    lifetimes,
    outlook,
    transactions,
    visitors,
)
from training.dataset import Dataset, Rows
from training.evidence import Evidence
from training.loop import Progress, Recipe
from training.models.behaviour import Behaviour
from training.models.response import Response
from training.models.tags import Tags
from training.models.uplift import Uplift
from training.sources.tables import InvalidTable

Vectors = NDArray[np.float32]


@dataclass
class Workplace:
    """One shop with everything that studies share.

    rows, grid  from Dataset.weekly
    into        folder of the trained models: a study may read what one before it left
    told        what a study says beside its evidence, as evaluation.json keeps it
    """

    dataset: Dataset
    rows: Rows
    grid: NDArray[np.int64]
    into: Path
    told: dict[str, object] = field(default_factory=dict)
    _vectors: dict[int, Vectors] = field(default_factory=dict)

    @property
    def behaviour(self) -> Behaviour:
        """The encoder as it was trained.

        raises  InvalidTable  if it was not
        """
        return Behaviour.from_state(self.state("behaviour")).eval()

    def state(self, model: str) -> dict[str, Tensor]:
        """Weights that an earlier study left.

        raises  InvalidTable  if it left none
        """
        file = self.into / model / "model.pt"
        if not file.exists():
            raise InvalidTable(f"{file} must exist: {model} is trained before the models that read it")
        state: dict[str, Tensor] = torch.load(file, weights_only=True)
        return state

    def vectors(self, rows: Rows) -> Vectors:
        """What the encoder makes of shoppers just before some queries, made once for the weekly rows.

        returns  (n, WIDTH) float32
        """
        if rows is not self.rows:
            return behaviours.vectors_of(self.behaviour, rows)
        if 0 not in self._vectors:
            self._vectors[0] = behaviours.vectors_of(self.behaviour, rows)
        return self._vectors[0]


Study = Callable[[Workplace, Recipe, Progress, Path], tuple[nn.Module, Evidence]]


def _behaviour(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    return behaviours.study(place.dataset, recipe, progress, checkpoint)


def _recommendation(
    place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path
) -> tuple[nn.Module, Evidence]:
    asked = baskets.baskets_of(place.dataset, place.rows)
    return baskets.study(place.dataset, asked, place.behaviour, recipe, progress, checkpoint)


def _tags(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    asked = outlook.outlook_of(place.dataset, place.rows, place.grid, place.vectors, progress)
    return outlook.study(asked, recipe, progress, checkpoint)


def _response(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    asked = answers.answers_of(place.dataset, place.rows, place.grid, place.vectors(place.rows))
    return answers.study(place.dataset, asked, recipe, progress, checkpoint)


def _uplift(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    module, found = effects.study(place.dataset, recipe, progress, checkpoint)
    for name in ("deciles", "overlap", "constants"):
        place.told[name] = _plain(getattr(found, name))
    return module, found.evidence


def _heads(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    teachers = distillation.Teachers(
        Tags.from_state(place.state("tags")),
        Response.from_state(place.state("response")),
        Uplift.from_state(place.state("uplift")),
    )
    vectors = place.vectors(place.rows)
    lessons = distillation.lessons_of(place.dataset, place.rows, place.grid, vectors, teachers)
    test = answers.answers_of(place.dataset, place.rows, place.grid, vectors).test()
    return distillation.study(lessons, test, teachers, recipe, progress, checkpoint)


def _lifetime(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    return lifetimes.study(place.dataset, recipe, progress, checkpoint)


def _session(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    return visitors.study(visitors.visits_of(place.dataset), recipe, progress, checkpoint)


def _transactions(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    return transactions.study(place.dataset, recipe, progress, checkpoint)


def _reviews(place: Workplace, recipe: Recipe, progress: Progress, checkpoint: Path) -> tuple[nn.Module, Evidence]:
    return deceptions.study(place.dataset, recipe, progress, checkpoint)


STUDIES: Mapping[str, Study] = {
    "behaviour": _behaviour,
    "recommendation": _recommendation,
    "tags": _tags,
    "response": _response,
    "uplift": _uplift,
    "heads": _heads,
    "lifetime": _lifetime,
    "session": _session,
    "risk_transaction": _transactions,
    "risk_review": _reviews,
}
# Learned only where a shop's data are enough; a release without them serves everything else.
SOMETIMES = ("session", "risk_transaction", "risk_review")


def _plain(found: Mapping[str, object]) -> dict[str, object]:
    return {
        name: [asdict(part) for part in value] if isinstance(value, list) else asdict(value)  # type: ignore[call-overload]
        for name, value in found.items()
    }
