"""Trained models become a model repository: graphs, configs, catalogue, manifest; nothing is written unless all agree.

In: a shop, build/models, and a way to start a Triton (cli.py gives it: training knows no server). Out: the repository
that Triton serves and the gateway opens. Called by `stratagem export`.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.checks import InvalidInput
from kernels.features import columns
from training.catalogue import catalogue_json, items_table
from training.configs import JOINED, MODELS, SIGNATURES, config_text
from training.dataset import TEST, WEEK_S, Dataset, Rows, dataset_of
from training.features.tags import contacts_of, fit_tag_limits
from training.graphs import join_graphs
from training.models import recommendation, response, uplift
from training.models.standard import Standard
from training.parity import Parity, largest_difference
from training.sources.shop import read_shop
from training.staging import VERSION, Arrays, onnxruntime_answers, stage

N_HELD_OUT = 512

Answers = Callable[[NDArray[np.float32], NDArray[np.int32]], Mapping[str, NDArray[np.generic]]]
Serve = Callable[[Path], AbstractContextManager[Answers]]


def export(
    shop_folder: Path, models_folder: Path, repository: Path, serve: Serve, progress: Callable[[str], None]
) -> dict[str, Parity]:
    """Write the repository, once torch, ONNX Runtime and Triton agree on rows of the test window.

    shop_folder    canonical tables, as ingested
    models_folder  as `train` wrote it
    repository     replaced file by file, the manifest last; untouched on any failure
    serve          starts a Triton on a staged repository and answers `predictions`
    returns        parity by model
    raises         Disagreement  if two runtimes differ; InvalidInput if a model was not trained
    """
    served = load_models(models_folder)
    dataset = dataset_of(read_shop(shop_folder))
    held_out = held_out_rows(dataset)
    with _staging(repository) as staged:
        rows: Arrays = {"features": held_out.features, "item_history": held_out.item_history}
        expected = {
            model: stage(staged / model, served[model], SIGNATURES[model], rows, config_text(model)) for model in MODELS
        }
        _stage_joined(staged)
        progress(f"three graphs staged; comparing {len(held_out)} held-out rows")
        local = {
            model: largest_difference(
                model, "ONNX Runtime", expected[model], onnxruntime_answers(staged / model, SIGNATURES[model], rows)
            )
            for model in MODELS
        }
        with serve(staged) as answers:
            answered = answers(held_out.features, held_out.item_history)
        triton = {model: largest_difference(model, "Triton", expected[model], answered) for model in MODELS}
        parity = {model: Parity(local[model], triton[model]) for model in MODELS}
        (staged / "catalogue.json").write_bytes(catalogue_json(dataset))
        items_table(dataset).write_parquet(staged / "items.parquet")
        limits = fit_tag_limits(dataset, contacts_of(dataset.shop, dataset.vocabulary))
        (staged / "tags.json").write_bytes(limits.to_json())
        (staged / "normalisation.json").write_bytes(_normalisations(served, dataset.splits.train_until_s))
        manifest = _manifest(staged, dataset, parity, models_folder)
        _move_into_place(staged, repository, manifest)
    return parity


def load_models(models_folder: Path) -> dict[str, nn.Module]:
    """Return every trained model as the module whose forward is served.

    models_folder  as `train` wrote it
    raises         InvalidInput  if one is missing or is not of this version's shape
    """
    state = {model: _state(models_folder / model / "model.pt") for model in MODELS}
    try:
        served: dict[str, nn.Module] = {
            "response": response.Served(response.Response.from_state(state["response"])),
            "uplift": uplift.Served(uplift.Uplift.from_state(state["uplift"])),
            "recommendation": recommendation.Served(recommendation.Recommendation.from_state(state["recommendation"])),
        }
    except (RuntimeError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(
            f"{models_folder} must hold models of this version, got: {first}; run `stratagem train`"
        ) from error
    return {model: module.eval() for model, module in served.items()}


def held_out_rows(dataset: Dataset) -> Rows:
    """Return evenly spread shopper-weeks of the test window, which no fit and no calibration has seen."""
    rows, _ = dataset.weekly()
    test = np.flatnonzero(dataset.splits.part(rows.at_s, WEEK_S) == TEST)
    kept = test[np.linspace(0, test.size - 1, min(N_HELD_OUT, test.size)).astype(np.int64)]
    return rows.take(kept)


def _state(file: Path) -> dict[str, torch.Tensor]:
    if not file.exists():
        raise InvalidInput(f"{file} must exist; `stratagem train` writes it")
    state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    return state


def _normalisations(served: Mapping[str, nn.Module], fitted_until_s: int) -> bytes:
    """What each model does to its features first, by model; one that reads none is left out."""
    found = {
        model: part.normalisation(fitted_until_s).to_json()
        for model, module in served.items()
        for part in module.modules()
        if isinstance(part, Standard)
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder on the repository's own disk, so that moving is a rename; gone afterwards, whatever happens."""
    repository.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{repository.name}-", dir=repository.parent))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _stage_joined(staged: Path) -> None:
    """Write the graph that holds all of them, with its config and a self-test made of theirs."""
    folder = staged / JOINED / str(VERSION)
    folder.mkdir(parents=True)
    (staged / JOINED / "config.pbtxt").write_text(config_text(JOINED))
    parts = {model: staged / model / str(VERSION) for model in MODELS}
    join_graphs({model: part / "model.onnx" for model, part in parts.items()}, JOINED, folder / "model.onnx")
    known: Arrays = {}
    for part in parts.values():
        with np.load(part / "self_test.npz") as tensors:
            known |= dict(tensors)
    np.savez(folder / "self_test.npz", **known)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only


def _manifest(staged: Path, dataset: Dataset, parity: Mapping[str, Parity], models_folder: Path) -> bytes:
    files = {
        str(file.relative_to(staged)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(staged.rglob("*"))
        if file.is_file()
    }
    figures = orjson.loads((models_folder / "evaluation.json").read_bytes())["models"]
    models = {
        model: {"version": VERSION, "metrics": figures[model]["metrics"], "parity": asdict(parity[model])}
        for model in MODELS
    }
    release = hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    return orjson.dumps(
        {
            "release": release,
            "created_s": int(time.time()),
            "shop": dataset.shop.name,
            "training_window": asdict(dataset.splits),
            "features": columns(),
            "models": models,
            "files": files,
        },
        option=orjson.OPT_INDENT_2,
    )


def _move_into_place(staged: Path, repository: Path, manifest: bytes) -> None:
    """Rename every file over its old one, the manifest last: until then a reader's hash check refuses the mixture."""
    for file in sorted(staged.rglob("*")):
        target = repository / file.relative_to(staged)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    fresh = staged / "manifest.json"
    fresh.write_bytes(manifest)
    fresh.replace(repository / "manifest.json")
