"""Diginetica, every prefix of a session to its next item: the served model beside its parts and printed numbers.

In: the three files of ../shared/data/diginetica. Out: a Study. `fit` trains and answers once; `measure` recounts every
figure from the kept answers.
"""

import gzip
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import torch
from numpy.typing import NDArray

from kernels.metrics import calibration_error
from kernels.session_neighbours import Kinship, next_items, session_index
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Published, Study
from training.browsing import AGE_SHARE, Prefixes, Sessions, fit_session, sessions_of
from training.evidence import Figure, interval, shopper_weights
from training.loop import Recipe, save
from training.models.session import N_SESSION, N_TOP_ITEMS, Served, Session
from training.parity import Parity
from training.staging import VERSION, stage
from training.visitors import answers_of, gains_of, rivals_of

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "diginetica"
KEPT = CACHE / "diginetica"
SEEDS = (0,)
RECIPE = Recipe(n_epochs=4, batch=1_024, learning_rate=3e-3, seconds=1_200.0)
# Draws of whole sessions behind the interval of a calibration error; each sorts a million probabilities.
N_DRAWN = 20
LEAST = {"diginetica_r20": 0.50, "diginetica_mrr20": 0.17}
QUOTED, MEMORY = "as others quote it, the paper not opened", "from memory, not verified"
# Who, R@20, MRR@20, whether split, items and metric are ours, what a reader must know.
PRINTED: tuple[tuple[str, float, float | None, bool, str], ...] = (
    ("SGNN-HN, Pan et al. 2020 (CIKM), table copied by paperswithcode", 0.5567, 0.1945, True, QUOTED),
    ("GCE-GNN, Wang et al. 2020 (SIGIR)", 0.5422, 0.1904, True, MEMORY),
    ("SR-GNN, Wu et al. 2019 (AAAI, arXiv 1811.00855)", 0.5073, 0.1759, True, QUOTED),
    ("SR-GNN run again by PaddleRec, pull request 162", 0.5170, None, True, "60,850 cases"),
    ("SR-GNN run again by a user, CRIPAC-DIG/SR-GNN issue 28", 0.5001, 0.1632, True, ""),
    ("NARM, Li et al. 2017, as run by the authors of SR-GNN", 0.4970, 0.1617, True, MEMORY),
    ("NARM in PyTorch after 100 epochs, a comment in its issue 5", 0.5753, 0.2028, False, "split and cases not said"),
    ("GRU4Rec, hidasib/GRU4Rec_PyTorch_Official", 0.4995, 0.1542, False, "its own split of the same clicks"),
)

Progress = Callable[[str], None]
Items = NDArray[np.int32]


def fit(progress: Progress) -> None:
    """Train every seed, answer every test prefix, ask the rivals too, and export; what is finished is not done again.

    raises  FileNotFoundError  without the data
    """
    past, test = read(FOLDER)
    n_items = int(past.items.max()) + 1
    np.savez_compressed(_made(KEPT) / "truth.npz", chosen=test.chosen, session=test.session, shown=test.shown)
    for seed in SEEDS:
        if not (KEPT / f"answers_{seed}.npz").exists():
            _fit_seed(seed, past, test, n_items, progress)
    if not (KEPT / "rivals.npz").exists():
        progress("rivals answer the test prefixes")
        session = Session.from_state(torch.load(KEPT / f"session_{SEEDS[0]}.pt", weights_only=True)).eval()
        np.savez_compressed(KEPT / "rivals.npz", **rivals_of(session, past, test))
    if not (KEPT / "serving.json").exists():
        _serve(past, test, n_items, progress)


def measure(raw: Path | None) -> Study:
    """Recount all figures from the kept answers.

    raw     folder for the answers behind each figure
    raises  FileNotFoundError  if `fit` was not run
    """
    if not (KEPT / "serving.json").exists():
        raise FileNotFoundError(f"{KEPT} must hold answers; run `fit` of tests.benchmarks.published.diginetica")
    truth, rivals = np.load(KEPT / "truth.npz"), dict(np.load(KEPT / "rivals.npz"))
    answers = [dict(np.load(KEPT / f"answers_{seed}.npz")) for seed in SEEDS]
    served = json.loads((KEPT / "serving.json").read_text())
    cases = Prefixes(truth["shown"], truth["chosen"], truth["session"])
    weights = shopper_weights(cases.session)
    ours = [_gains(answer["item_index"], cases) for answer in answers]
    theirs = {name: _gains(index, cases) for name, index in rivals.items()}
    lines = [
        Line(
            name,
            _spread([gains[column] for gains in ours], weights),
            len(SEEDS),
            {rival: _spread([gains[column]], weights) for rival, gains in theirs.items()},
            _printed(column),
            LEAST[name],
        )
        for column, name in enumerate(LEAST)
    ]
    lines += _calibration(answers, cases, weights)
    if raw is not None:
        (raw / "diginetica").mkdir(parents=True, exist_ok=True)
        for file in KEPT.glob("*.npz"):
            (raw / "diginetica" / file.name).write_bytes(file.read_bytes())
    return _study(lines, served, int(cases.chosen.size))


def read(folder: Path) -> tuple[Sessions, Prefixes]:
    """Training sessions, and the test cases in the order of test_prefixes.

    raises  FileNotFoundError  naming the folder; ValueError if test_prefixes are not all prefixes of the test sessions
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the data set diginetica must be in {folder}")
    past = [[int(item) for item in line.split()] for line in _lines(folder / "train_sessions.txt.gz")]
    later = [
        [int(event.split(":")[0]) for event in line.split()]
        for line in _lines(folder / "test_sessions_with_time.txt.gz")
    ]
    cases = pl.read_parquet(folder / "test_prefixes.parquet")
    expected = [(items[:-back], items[-back]) for items in later for back in range(1, len(items))]
    if expected != list(zip(cases["prefix"].to_list(), cases["target"].to_list(), strict=True)):
        raise ValueError("test_prefixes must be all prefixes of test_sessions_with_time, the longest of each first")
    shown = np.zeros((len(expected), N_SESSION), np.int32)
    for row, (prefix, _) in enumerate(expected):
        shown[row, N_SESSION - len(prefix[-N_SESSION:]) :] = prefix[-N_SESSION:]
    session = np.repeat(np.arange(len(later)), [len(items) - 1 for items in later])
    return sessions_of(past), Prefixes(shown, cases["target"].to_numpy(), session)


def _fit_seed(seed: int, past: Sessions, test: Prefixes, n_items: int, progress: Progress) -> None:
    watch = _Watch(KEPT / f"seconds_{seed}.json", lambda step: progress(f"seed {seed}: {step}"))
    weights = KEPT / f"session_{seed}.pt"
    if weights.exists():
        session = Session.from_state(torch.load(weights, weights_only=True)).eval()
    else:
        recipe = replace(RECIPE, seed=seed, fingerprint=f"diginetica {len(past)}")
        session = fit_session(past, n_items, recipe, watch.say, KEPT / f"encoder_{seed}.pt")
        watch.say("trained")
        save(weights, session.state_dict())
        (KEPT / f"encoder_{seed}.pt").unlink(missing_ok=True)
    index, prob = answers_of(session, test)
    np.savez_compressed(KEPT / f"answers_{seed}.npz", item_index=index, item_prob=prob)


class _Watch:
    """Seconds of a training that may be killed and continued: written at every sentence of progress."""

    def __init__(self, file: Path, progress: Progress) -> None:
        self.file, self.progress = file, progress
        self.before_s = json.loads(file.read_text()) if file.exists() else 0.0
        self.started = time.monotonic()

    def say(self, sentence: str) -> None:
        self.file.write_text(json.dumps(self.before_s + time.monotonic() - self.started))
        self.progress(sentence)


def _neighbours(past: Sessions, shown: Items, n_items: int) -> tuple[Items, float]:
    """Best items by the kernel, and its microseconds for a prefix."""
    index = session_index(past.items, past.offsets, n_items)
    kinship = Kinship(age_sessions=AGE_SHARE * len(past))
    offsets = np.arange(shown.shape[0] + 1, dtype=np.int64) * N_SESSION
    next_items(index, shown[:1].ravel(), offsets[:2], kinship)
    started = time.perf_counter()
    item, _ = next_items(index, shown.ravel(), offsets, kinship, N_TOP_ITEMS)
    return item, (time.perf_counter() - started) / shown.shape[0] * 1e6


def _serve(past: Sessions, test: Prefixes, n_items: int, progress: Progress) -> None:
    """Export, compare runtimes, time single rows."""
    progress("export, parity and single rows")
    session = Session.from_state(torch.load(KEPT / f"session_{SEEDS[0]}.pt", weights_only=True)).eval()
    evenly = np.linspace(0, test.chosen.size - 1, 256).astype(np.int64)
    rows = {"session_items": test.shown[evenly]}
    parity, onnx_bytes = parity_of("session", Served(session), Served.signature, rows)
    kept = {
        "onnxruntime": parity.onnxruntime,
        "triton": parity.triton,
        "onnx_bytes": onnx_bytes,
        "kernel_us": _neighbours(past, test.shown[evenly], n_items)[1],
        "single_ms": _single_ms(session, rows["session_items"]),
        "n_parameters": sum(parameter.numel() for parameter in session.parameters()),
    }
    (KEPT / "serving.json").write_text(json.dumps(kept))


def _single_ms(session: Session, shown: Items) -> float:
    """Median milliseconds of ONNX Runtime for one row on one core."""
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        signature = Served.signature
        stage(Path(folder) / "session", Served(session), signature, {"session_items": shown}, "")
        alone = onnxruntime.SessionOptions()
        alone.intra_op_num_threads = 1
        graph = onnxruntime.InferenceSession(Path(folder) / "session" / str(VERSION) / "model.onnx", alone)
        for row in range(100):
            started = time.perf_counter()
            graph.run(None, {"session_items": shown[row : row + 1]})
            spent.append(time.perf_counter() - started)
    return float(np.median(spent) * 1e3)


def _gains(index: Items, cases: Prefixes) -> tuple[NDArray[np.float64], ...]:
    """R@20 and MRR@20 of each case."""
    return tuple(gains_of(index, cases).values())


def _spread(cases: list[NDArray[np.float64]], weights: NDArray[np.float64]) -> Figure:
    """Mean over seeds; whole sessions are drawn again, and a seed with each draw."""
    draws = np.stack([weights @ values / weights.sum(axis=1) for values in cases])
    chosen = np.random.default_rng(0).integers(len(cases), size=weights.shape[0])
    return interval(float(np.mean(cases)), draws[chosen, np.arange(weights.shape[0])])


def _calibration(
    answers: list[dict[str, NDArray[np.generic]]], cases: Prefixes, weights: NDArray[np.float64]
) -> list[Line]:
    """Expected calibration error of all 20 probabilities of an answer, and of its first alone."""
    lines = []
    for name, n_places in (("diginetica_ece", N_TOP_ITEMS), ("diginetica_first_place_ece", 1)):
        errors: list[float] = []
        drawn: list[float] = []
        for answer in answers:
            prob = answer["item_prob"][:, :n_places].astype(np.float64)
            happened = answer["item_index"][:, :n_places] == cases.chosen[:, None]
            errors.append(calibration_error(prob.ravel(), happened.ravel()))
            drawn += [
                calibration_error(np.repeat(prob, times, axis=0).ravel(), np.repeat(happened, times, axis=0).ravel())
                for times in weights[:N_DRAWN].astype(np.int64)
            ]
        lines.append(Line(name, interval(float(np.mean(errors)), np.array(drawn)), len(SEEDS)))
    return lines


def _printed(column: int) -> list[Published]:
    return [
        Published(value, who, alike, remark)
        for who, *values, alike, remark in PRINTED
        if isinstance(value := values[column], float)
    ]


def _study(lines: list[Line], served: dict[str, float], n: int) -> Study:
    seconds = [json.loads((KEPT / f"seconds_{seed}.json").read_text()) for seed in SEEDS]
    return Study(
        model="session",
        protocol=(
            "Diginetica as SR-GNN splits it: 186,670 training sessions, the test sessions of the last week, every "
            "prefix to its next item, 43,097 items ranked in full, nothing filtered; R@20 and MRR@20. Ranker, stopping "
            "and calibration use the last 12,000 training sessions; intervals resample whole test sessions."
        ),
        lines=lines,
        n=n,
        train_s=float(np.mean(seconds)),
        n_parameters=int(served["n_parameters"]),
        onnx_bytes=int(served["onnx_bytes"]),
        parity=Parity(served["onnxruntime"], served["triton"]),
        notes=(
            f"The kernel of neighbour sessions answers a prefix in {served['kernel_us']:.0f} µs without a model; the "
            f"exported graph takes {served['single_ms']:.1f} ms for a single row in ONNX Runtime on one core.",
            "Published rows of this split train on the same sessions and rank the same prefixes. SR-GNN's code, from "
            "which others take the split, reports its best pass on the test set; ours stops on the end of training.",
        ),
    )


def _lines(file: Path) -> list[str]:
    with gzip.open(file, "rt") as lines:
        return list(lines)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
