"""Rows a second and the slowest of a hundred calls, by batch, of each served graph: in float32, int8 and half floats.

In: the exported repository and a shop's held-out rows. Out: figures of a real Triton, ONNX Runtime in process beside
them, and what each variant loses in quality. Run by `python -m tests.benchmarks serving`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from server.triton.messages import channel_options, request_of
from server.triton.process import MODELS, started
from tests.benchmarks.record import Measured
from tests.benchmarks.serving_quality import HeldOut, held_out_of, losses
from training.configs import MOST_ROWS
from training.variants import VARIANTS

BATCHES = (1, 8, 64, 256, 1_024)
WHOLE = "fp32"
N_WARM = 3

Arrays = dict[str, NDArray[np.generic]]
Ask = Callable[[Arrays], object]


@dataclass(frozen=True)
class Effort:
    """How long to measure a cell: until calls and seconds are both reached; ten times the seconds end a slow one."""

    n_calls: int
    seconds: float


def measure(
    quick: bool,
    raw: Path | None,
    repository: Path = Path("model_repository"),
    models: Sequence[str] = MODELS,
    held_out: Callable[[], HeldOut] = held_out_of,
) -> Measured:
    """Measure every graph, variant, batch and leg, one after another.

    quick       fewer calls; the held-out rows are all of them
    raw         folder for every sample and every answer; None writes nothing
    repository  what `stratagem export` wrote
    models      in the order in which one needs another's answers
    held_out    rows that nothing was fitted on
    returns     Triton's figures, those of ONNX Runtime in process as rivals
    raises      FileNotFoundError  if the repository or the shop was not built
    """
    effort = Effort(20, 0.1) if quick else Effort(200, 2.0)
    rows = held_out()
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        names = {model: _stage_variants(repository / model, staged) for model in models}
        sessions = {name: _session(staged / name) for variants in names.values() for name in variants.values()}
        inputs, answers = _answered(names, sessions, rows.tensors)
        figures = _sizes(staged, sessions)
        for model, variants in names.items():
            figures |= losses(model, variants, answers, rows)
        samples = {f"{name}_onnxruntime": _timed(_asking(sessions[name]), inputs[name], effort) for name in sessions}
        with started(staged, list(sessions)) as triton, _channel(triton.address) as stub:
            samples |= {name: _timed(_asking_triton(stub, name), inputs[name], effort) for name in sessions}
    if raw is not None:
        np.savez_compressed(
            raw / "serving_samples_ms.npz",
            **{f"{leg}_{batch}": taken for leg, taken_at in samples.items() for batch, taken in taken_at.items()},
        )
        kept = {f"{name}.{tensor}": array for name, found in answers.items() for tensor, array in found.items()}
        np.savez_compressed(raw / "serving_answers.npz", **kept)
    return _measured(samples, figures)


def _stage_variants(model: Path, staged: Path) -> dict[str, str]:
    """Lay a model and its variants side by side under names of their own; returns the names by variant."""
    file = model / "1" / "model.onnx"
    if not file.exists():
        raise FileNotFoundError(f"{file} must exist; `stratagem export` writes it")
    names = {}
    for variant in (WHOLE, *VARIANTS):
        names[variant] = f"{model.name}_{variant}"
        folder = staged / names[variant] / "1"
        folder.mkdir(parents=True)
        text = (model / "config.pbtxt").read_text()
        (folder.parent / "config.pbtxt").write_text(
            text.replace(f'name: "{model.name}"', f'name: "{names[variant]}"', 1)
        )
        if variant == WHOLE:
            shutil.copy(file, folder / "model.onnx")
        else:
            VARIANTS[variant](file, folder / "model.onnx")
    return names


def _session(model: Path) -> onnxruntime.InferenceSession:
    """One thread, as Triton runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model / "1" / "model.onnx", options, providers=["CPUExecutionProvider"])


def _answered(
    names: Mapping[str, Mapping[str, str]],
    sessions: Mapping[str, onnxruntime.InferenceSession],
    tensors: Mapping[str, NDArray[np.generic]],
) -> tuple[dict[str, Arrays], dict[str, Arrays]]:
    """Inputs and answers of every graph for all held-out rows; what a later model reads of an earlier is in float32."""
    known, inputs, answers = dict(tensors), {}, {}
    for variants in names.values():
        for name in variants.values():
            session = sessions[name]
            inputs[name] = {tensor.name: known[tensor.name] for tensor in session.get_inputs()}
            found = session.run(None, inputs[name])
            answers[name] = dict(zip([tensor.name for tensor in session.get_outputs()], found, strict=True))
        known |= answers[variants[WHOLE]]
    return inputs, answers


def _sizes(staged: Path, names: Iterable[str]) -> dict[str, float]:
    return {f"serving_{name}_size_mb": (staged / name / "1" / "model.onnx").stat().st_size / 1e6 for name in names}


def _asking(session: onnxruntime.InferenceSession) -> Ask:
    return lambda rows: session.run(None, rows)


def _asking_triton(stub: GRPCInferenceServiceStub, model: str) -> Ask:
    """One call; more rows than Triton takes at once go out together, and the last answer counts."""

    def ask(rows: Arrays) -> object:
        n_rows = next(iter(rows.values())).shape[0]
        parts = [
            {name: array[first : first + MOST_ROWS] for name, array in rows.items()}
            for first in range(0, n_rows, MOST_ROWS)
        ]
        return [call.result() for call in [stub.ModelInfer.future(request_of(model, part)) for part in parts]]

    return ask


@contextmanager
def _channel(address: str) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        yield GRPCInferenceServiceStub(channel)


def _timed(ask: Ask, inputs: Arrays, effort: Effort) -> dict[int, NDArray[np.float64]]:
    """Milliseconds of every call by batch, one call at a time; batches are drawn from the held-out rows."""
    samples = {}
    draw = np.random.default_rng(0)
    n_known = next(iter(inputs.values())).shape[0]
    for batch in BATCHES:
        kept = draw.integers(0, n_known, batch)
        rows = {name: np.ascontiguousarray(array[kept]) for name, array in inputs.items()}
        for _ in range(N_WARM):
            ask(rows)
        taken: list[float] = []
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < effort.seconds or len(taken) < effort.n_calls:
            if passed > 10 * effort.seconds and len(taken) > effort.n_calls // 10:
                break
            started_s = time.perf_counter()
            ask(rows)
            taken.append(1e3 * (time.perf_counter() - started_s))
        samples[batch] = np.array(taken)
    return samples


def _measured(samples: Mapping[str, Mapping[int, NDArray[np.float64]]], figures: dict[str, float]) -> Measured:
    """Rates from the median call: a neighbour's burst on a shared machine moves a mean, and the p99 shows it."""
    rivals: dict[str, float] = {}
    spread = {}
    for leg, by_batch in samples.items():
        into = rivals if leg.endswith("_onnxruntime") else figures
        for batch, taken in by_batch.items():
            rates = 1e3 * batch / taken
            into[f"serving_{leg}_rows_per_s_{batch}"] = float(np.median(rates))
            into[f"serving_{leg}_p99_ms_{batch}"] = float(np.quantile(taken, 0.99))
            low, high = np.quantile(rates, (0.25, 0.75))
            spread[f"serving_{leg}_rows_per_s_{batch}"] = float(high - low)
    n = min(taken.size for by_batch in samples.values() for taken in by_batch.values())
    return Measured(figures, rivals, n, spread)
