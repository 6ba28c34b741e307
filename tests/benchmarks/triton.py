"""What each layer adds to one decision: ONNX Runtime in process, one Triton call around it, one Decide around that.

In: the exported repository. Out: medians of the same row through every leg, the legs alternating in one run.
Run by `python -m tests.benchmarks triton`.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from server.state.encodings import Encodings, no_encodings
from server.triton.client import HEAD_OUTPUTS, HEADS, MOST_ROWS, Models
from server.triton.process import serving
from tests.benchmarks.gateway_leg import decide_leg
from tests.benchmarks.record import Measured

N_WARM = 30
WITHIN_S = 10.0

Arrays = dict[str, NDArray[np.generic]]
Samples = dict[str, NDArray[np.float64]]
Call = Callable[[], object]
# Given Triton's address, a running gateway's Decide for one shopper over loopback.
DecideLeg = Callable[[str], AbstractContextManager[Call]]


def measure(
    quick: bool, raw: Path | None, repository: Path = Path("model_repository"), decide: DecideLeg | None = decide_leg
) -> Measured:
    """Measure every leg, alternating.

    quick       fewer rounds
    raw         folder for every sample and for the answers behind them; None writes nothing
    repository  what `stratagem export` wrote
    decide      opens the gateway's leg; None leaves its figures out
    returns     ratios of medians, and the medians in milliseconds as rivals
    raises      FileNotFoundError  if the repository was not built
    """
    rows = _known_rows(repository)
    with serving(repository) as address:
        samples, answers = _sampled(repository, address, rows, decide, 400 if quick else 4000)
    if raw is not None:
        np.savez_compressed(raw / "triton_samples_ms.npz", **samples)
        np.savez_compressed(raw / "triton_answers.npz", **answers)
    return _measured(samples)


def _known_rows(repository: Path) -> Arrays:
    """The held-out rows that export kept for the start-up self-test, repeated to a full batch."""
    with np.load(repository / HEADS / "1" / "self_test.npz") as known:
        found = {name.removeprefix("in_"): known[name] for name in known.files if name.startswith("in_")}
    return {name: np.resize(array, (MOST_ROWS, *array.shape[1:])) for name, array in found.items()}


def _sampled(
    repository: Path, address: str, rows: Arrays, decide: DecideLeg | None, n_rounds: int
) -> tuple[Samples, Arrays]:
    """Milliseconds by leg, (n_rounds,) each, and what ONNX Runtime and Triton answered for the full batch."""
    local, models = _local(repository), Models(address)
    with ExitStack() as stack:
        stack.callback(models.close)
        library = stack.enter_context(InferenceServerClient(address))
        samples: Samples = {}
        for n_rows in (1, MOST_ROWS):
            batch = {name: array[:n_rows] for name, array in rows.items()}
            legs = {
                f"onnxruntime_{n_rows}_ms": partial(local, batch),
                f"triton_{n_rows}_ms": _asking(models, batch),
                f"tritonclient_{n_rows}_ms": _asking_library(library, batch),
            }
            if n_rows == 1 and decide is not None:
                legs["decide_ms"] = stack.enter_context(decide(address))
            # A full batch takes a hundred times as long, and its median needs fewer rounds.
            samples |= alternated(legs, n_rounds if n_rows == 1 else n_rounds // 20)
        predicted = models.predict(*_asked_of(rows), WITHIN_S)
    answers = {f"onnxruntime_{name}": array for name, array in local(rows).items()}
    return samples, answers | {f"triton_{name}": getattr(predicted, name) for name in HEAD_OUTPUTS}


def alternated(legs: dict[str, Call], n_rounds: int) -> Samples:
    """Time every leg once a round, in an order drawn anew: a leg's neighbour leaves caches and sleeping threads behind.

    legs      name -> one call
    n_rounds  after N_WARM unmeasured ones
    returns   name -> (n_rounds,) float64, milliseconds
    """
    samples = {name: np.empty(n_rounds) for name in legs}
    order = np.random.default_rng(0)
    for n_round in range(-N_WARM, n_rounds):
        for name in order.permutation(list(legs)).tolist():
            started = time.perf_counter()
            legs[name]()
            if n_round >= 0:
                samples[name][n_round] = 1e3 * (time.perf_counter() - started)
    return samples


def _local(repository: Path) -> Callable[[Arrays], Arrays]:
    """The heads' graph in this process, one thread as Triton runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(repository / HEADS / "1" / "model.onnx", options)
    names = [tensor.name for tensor in session.get_outputs()]

    def run(batch: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, batch), strict=True))

    return run


def _asked_of(batch: Arrays) -> tuple[NDArray[np.float32], Encodings]:
    encodings = no_encodings(batch["features"].shape[0])
    encodings["shopper_vector"] = batch["shopper_vector"]
    return batch["features"].astype(np.float32, copy=False), encodings


def _asking(models: Models, batch: Arrays) -> Call:
    features, encodings = _asked_of(batch)
    return lambda: models.predict(features, encodings, WITHIN_S)


def _asking_library(library: InferenceServerClient, batch: Arrays) -> Call:
    """NVIDIA's own client as its documentation uses it."""

    def call() -> object:
        tensors = [InferInput(name, array.shape, "FP32").set_data_from_numpy(array) for name, array in batch.items()]
        answer = library.infer(HEADS, tensors, client_timeout=WITHIN_S)
        return [answer.as_numpy(name) for name in HEAD_OUTPUTS]

    return call


def _measured(samples: Samples) -> Measured:
    """Ratios of medians; the spread of a ratio is that of the rounds' own ratios."""
    figures, spread = {}, {name: _quartiles(taken) for name, taken in samples.items()}
    ratios = {
        "triton_over_onnxruntime": ("triton_1_ms", "onnxruntime_1_ms"),
        "triton_over_onnxruntime_256": (f"triton_{MOST_ROWS}_ms", f"onnxruntime_{MOST_ROWS}_ms"),
        "gateway_over_triton": ("decide_ms", "triton_1_ms"),
    }
    for name, (ours, rival) in ratios.items():
        if ours in samples:
            figures[name] = float(np.median(samples[ours]) / np.median(samples[rival]))
            spread[name] = _quartiles(samples[ours] / samples[rival])
    rivals = {name: float(np.median(taken)) for name, taken in samples.items()}
    if "decide_ms" in rivals:
        figures["decide_p50_ms"] = rivals.pop("decide_ms")
        spread["decide_p50_ms"] = spread.pop("decide_ms")
    return Measured(figures, rivals, n=len(samples["triton_1_ms"]), spread=spread)


def _quartiles(taken: NDArray[np.float64]) -> float:
    low, high = np.percentile(taken, (25, 75))
    return float(high - low)
