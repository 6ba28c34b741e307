"""Trained models become a model repository: graphs, configs, catalogue, manifest; nothing is written unless all agree.

In: a shop, build/models, and a way to start a Triton (cli.py gives it: training knows no server). Out: the repository
that Triton serves and the gateway opens. Called by `stratagem export`.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.checks import InvalidInput
from kernels.features import columns
from training.catalogue import catalogue_json, items_table
from training.configs import DECISION, ENCODER, HEADS, JOINED, SIGNATURES, SOMETIMES, config_text
from training.dataset import Dataset, dataset_of
from training.examples import N_HELD_OUT, example_rows
from training.features.tags import contacts_of, fit_tag_limits
from training.gate import check_not_lost, losses, shortfall
from training.graphs import join_graphs, part_of
from training.models import (
    heads,
    lifetime,
    recommendation,
    response,
    risk_review,
    risk_transaction,
    session,
    tags,
    uplift,
)
from training.models.standard import Standard
from training.parity import Parity, largest_difference
from training.sources.shop import read_shop
from training.staging import VERSION, Arrays, onnxruntime_answers, stage

# What a trained model is served as, where it is not by its own name; behaviour's weights are in recommendation's too.
SERVED_AS = {"recommendation": ENCODER}
ALWAYS = ("recommendation", *HEADS, DECISION)
BUILDERS: Mapping[str, tuple[Callable[[Any], nn.Module], Callable[[dict[str, torch.Tensor]], nn.Module]]] = {
    "recommendation": (recommendation.Served, recommendation.Recommendation.from_state),
    "tags": (tags.Served, tags.Tags.from_state),
    "response": (response.Served, response.Response.from_state),
    "uplift": (uplift.Served, uplift.Uplift.from_state),
    "lifetime": (lifetime.Served, lifetime.Lifetime.from_state),
    "heads": (heads.Served, heads.Heads.from_state),
    "session": (session.Served, session.Session.from_state),
    "risk_transaction": (risk_transaction.Served, risk_transaction.RiskTransaction.from_state),
    "risk_review": (risk_review.Served, risk_review.RiskReview.from_state),
}

# A model's name and its rows by tensor name in, its answers by tensor name out.
Answers = Callable[[str, Arrays], Mapping[str, NDArray[np.generic]]]
# Starts a Triton on a staged repository, with these models loaded.
Serve = Callable[[Path, Sequence[str]], AbstractContextManager[Answers]]


@dataclass(frozen=True)
class Exported:
    """What an export is made of.

    accept_losses  ship even what lost to a simple rival
    """

    shop_folder: Path
    models_folder: Path
    repository: Path
    accept_losses: bool = False


def export(asked: Exported, serve: Serve, progress: Callable[[str], None]) -> dict[str, Parity]:
    """Write the repository, once torch, ONNX Runtime and Triton agree on rows of the test window.

    asked     from where to where; the repository is replaced file by file, the manifest last, and untouched on failure
    serve     starts a Triton on a staged repository
    returns   parity by model
    raises    Disagreement  if two runtimes differ; LostToRival if a model must not be shipped;
              InvalidInput if one was not trained
    """
    studies = orjson.loads((asked.models_folder / "evaluation.json").read_bytes())["models"]
    served = load_models(asked.models_folder)
    if not asked.accept_losses:
        for model in SOMETIMES:
            for sentence in losses({model: studies[model]}) if model in served else []:
                progress(f"{model} is left out: {sentence}")
                served.pop(model, None)
        check_not_lost({model: study for model, study in studies.items() if model in trained_of(served)})
        if sentence := shortfall(DECISION, studies[DECISION]):
            progress(f"{sentence}: its teachers answer in its place, some 26 times slower")
            served.pop(DECISION)
    dataset = dataset_of(read_shop(asked.shop_folder))
    rows = {model: inputs for model, inputs in example_rows(dataset, served).items() if model in served}
    with _staging(asked.repository) as staged:
        expected = {
            model: stage(staged / model, module, SIGNATURES[model], rows[model], config_text(model))
            for model, module in served.items()
        }
        expected[JOINED] = _stage_joined(staged, expected)
        if DECISION not in served:
            expected[DECISION] = _stage_teachers(staged, expected[JOINED])
        rows[JOINED] = {name: array for model in HEADS for name, array in rows[model].items()}
        rows.setdefault(DECISION, rows[JOINED])
        progress(f"{len(expected)} graphs staged; comparing up to {N_HELD_OUT} held-out rows of each")
        parity = _compared(staged, expected, rows, serve)
        (staged / "catalogue.json").write_bytes(catalogue_json(dataset))
        items_table(dataset).write_parquet(staged / "items.parquet")
        limits = fit_tag_limits(dataset, contacts_of(dataset.shop, dataset.vocabulary))
        (staged / "tags.json").write_bytes(limits.to_json())
        (staged / "normalisation.json").write_bytes(_normalisations(served, dataset.splits.train_until_s))
        _move_into_place(staged, asked.repository, _manifest(staged, dataset, parity, studies))
        for model in SOMETIMES:
            if model not in served:
                shutil.rmtree(asked.repository / model / str(VERSION), ignore_errors=True)
    return parity


def _compared(
    staged: Path, expected: Mapping[str, Arrays], rows: Mapping[str, Arrays], serve: Serve
) -> dict[str, Parity]:
    """Torch's answers beside those of ONNX Runtime and of a real Triton, model by model."""
    parity = {}
    with serve(staged, list(expected)) as answers:
        for model, known in expected.items():
            local = onnxruntime_answers(staged / model, SIGNATURES[model], rows[model])
            parity[model] = Parity(
                largest_difference(model, "ONNX Runtime", known, local),
                largest_difference(model, "Triton", known, answers(model, rows[model])),
            )
    return parity


def trained_of(served: Mapping[str, nn.Module]) -> set[str]:
    """Return the studies behind some served models: the encoder is behaviour's and recommendation's."""
    return {model for model in served if model != ENCODER} | {"behaviour", "recommendation"}


def load_models(models_folder: Path) -> dict[str, nn.Module]:
    """Return every trained model as the module whose forward is served, the encoder first.

    models_folder  as `train` wrote it
    raises         InvalidInput  if one that every release needs is missing, or one is not of this version's shape
    """
    found = {model: _state(models_folder / model / "model.pt") for model in (*ALWAYS, *SOMETIMES)}
    for model in ALWAYS:
        if found[model] is None:
            raise InvalidInput(f"{models_folder / model / 'model.pt'} must exist; `stratagem train` writes it")
    try:
        served = {SERVED_AS.get(model, model): _built(model, state) for model, state in found.items() if state}
    except (RuntimeError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(
            f"{models_folder} must hold models of this version, got: {first}; run `stratagem train`"
        ) from error
    return {model: module.eval() for model, module in served.items()}


def _built(model: str, state: dict[str, torch.Tensor]) -> nn.Module:
    served, from_state = BUILDERS[model]
    return served(from_state(state))


def _state(file: Path) -> dict[str, torch.Tensor] | None:
    if not file.exists():
        return None
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


def _stage_joined(staged: Path, expected: Mapping[str, Arrays]) -> Arrays:
    """Write the graph that holds all heads, with its config and a self-test made of theirs; returns their answers."""
    folder = staged / JOINED / str(VERSION)
    folder.mkdir(parents=True)
    (staged / JOINED / "config.pbtxt").write_text(config_text(JOINED))
    parts = {model: staged / model / str(VERSION) for model in HEADS}
    join_graphs({model: part / "model.onnx" for model, part in parts.items()}, JOINED, folder / "model.onnx")
    known: Arrays = {}
    for part in parts.values():
        with np.load(part / "self_test.npz") as tensors:
            known |= dict(tensors)
    np.savez(folder / "self_test.npz", **known)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only
    return {name: array for model in HEADS for name, array in expected[model].items()}


def _stage_teachers(staged: Path, joined: Arrays) -> Arrays:
    """Write in the student's place the part of the joined graph that a decision asks for; returns its answers."""
    folder, source = staged / DECISION / str(VERSION), staged / JOINED / str(VERSION)
    folder.mkdir(parents=True)
    (staged / DECISION / "config.pbtxt").write_text(config_text(DECISION))
    outputs = [tensor.name for tensor in SIGNATURES[DECISION].outputs]
    part_of(source / "model.onnx", DECISION, outputs, folder / "model.onnx")
    with np.load(source / "self_test.npz") as tensors:
        asked = {name for name in tensors.files if name.startswith("in_")} | {f"out_{name}" for name in outputs}
        np.savez(folder / "self_test.npz", **{name: tensors[name] for name in asked})
    return {name: joined[name] for name in outputs}


def _manifest(
    staged: Path, dataset: Dataset, parity: Mapping[str, Parity], studies: Mapping[str, Mapping[str, object]]
) -> bytes:
    files = {
        str(file.relative_to(staged)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(staged.rglob("*"))
        if file.is_file()
    }
    metrics = {model: study["metrics"] for model, study in studies.items()}
    metrics[ENCODER] = metrics.get("recommendation", {})
    models = {
        model: {"version": VERSION, "metrics": metrics.get(model, {}), "parity": asdict(found)}
        for model, found in parity.items()
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
