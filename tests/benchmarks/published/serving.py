"""A study's module through the one exporter: ONNX Runtime and a real Triton answer the same rows as torch.

In: a module, its signature, rows. Out: the largest differences and the graph's size. Called by every study's `fit`.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from server.triton.asking import ask_now
from server.triton.process import serving
from training.configs import MOST_ROWS, config_of
from training.parity import Parity, largest_difference
from training.staging import VERSION, onnxruntime_answers, stage
from training.tensors import Signature

Rows = Mapping[str, NDArray[np.generic]]


def parity_of(model: str, module: nn.Module, signature: Signature, rows: Rows) -> tuple[Parity, int]:
    """Export a module, serve it, and compare.

    model    name to serve it under
    module   in eval mode; its forward takes the signature's inputs and returns a tuple of its outputs
    rows     2 to MOST_ROWS rows of each input
    returns  the largest differences, and the bytes of model.onnx
    raises   Disagreement  if two runtimes differ
    """
    rows = {name: array[:MOST_ROWS] for name, array in rows.items()}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        expected = stage(repository / model, module, signature, rows, config_of(model, signature))
        local = onnxruntime_answers(repository / model, signature, rows)
        size = (repository / model / str(VERSION) / "model.onnx").stat().st_size
        with serving(repository, [model]) as address:
            served = ask_now(address, model, rows)
    found = Parity(
        largest_difference(model, "ONNX Runtime", expected, local),
        largest_difference(model, "Triton", expected, served),
    )
    return found, size


def keep_parity(folder: Path, model: str, module: nn.Module, signature: Signature, rows: Rows) -> None:
    """Write what `parity_of` finds, and the module's size, to serving.json of a study's folder."""
    parity, n_bytes = parity_of(model, module, signature, rows)
    n_parameters = sum(parameter.numel() for parameter in module.parameters())
    told = {**asdict(parity), "onnx_bytes": n_bytes, "n_parameters": n_parameters}
    (folder / "serving.json").write_text(json.dumps(told))


def copy_raw(folder: Path, raw: Path | None) -> None:
    """Put a study's kept arrays where strangers can recount from them.

    folder  of the study, as `fit` left it
    raw     None copies nothing
    raises  FileNotFoundError  if `fit` was not run
    """
    if not (folder / "serving.json").exists():
        raise FileNotFoundError(f"{folder} must hold what `python -m tests.benchmarks.published {folder.name}` keeps")
    if raw is not None:
        (raw / folder.name).mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.npz"):
            shutil.copy(file, raw / folder.name / file.name)
