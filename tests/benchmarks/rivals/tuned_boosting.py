"""LightGBM tuned as one would by hand: fifty seeded random trials, the best log-loss on a later window wins.

In: rows and answers of an earlier and a later window. Out: settings, and boosters fitted with them. Called by
tests/benchmarks/published.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import orjson
from numpy.typing import NDArray

N_TRIALS = 50
MOST_ROUNDS, PATIENCE = 400, 25
# Of rows where nothing happened, a trial keeps at most these many for each where it did, and counts each for more.
MOST_QUIET = 15

Matrix = NDArray[np.float32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tuned:
    """What the trials chose.

    settings  of LightGBM
    n_rounds  trees
    log_loss  on the later window
    n_trials  tried
    """

    settings: dict[str, float]
    n_rounds: int
    log_loss: float
    n_trials: int

    def fitted(self, rows: Matrix, happened: Bools) -> lightgbm.Booster:
        """A booster of all rows with these settings."""
        return lightgbm.train(_whole(self.settings), lightgbm.Dataset(rows, happened), self.n_rounds)


def tuned(
    early: tuple[Matrix, Bools], late: tuple[Matrix, Bools], kept: Path, progress: Callable[[str], None], seed: int = 0
) -> Tuned:
    """Try N_TRIALS random settings; a run that was killed continues at its last trial.

    early, late  rows (n, n_columns) and whether it happened (n,)
    kept         JSON file of trials done
    """
    draw = np.random.default_rng(seed)
    rows, weights = _thinned(early[1], draw)
    train = lightgbm.Dataset(early[0][rows], early[1][rows], weight=weights, free_raw_data=False)
    drawn = [_drawn(draw) for _ in range(N_TRIALS)]
    done: list[dict[str, float]] = orjson.loads(kept.read_bytes()) if kept.exists() else []
    for trial in range(len(done), N_TRIALS):
        done.append(_tried(drawn[trial], train, late))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(orjson.dumps(done))
        best = min(entry["log_loss"] for entry in done)
        progress(f"LightGBM, trial {trial + 1} of {N_TRIALS}: best log-loss {best:.5f}")
    best_trial = min(range(N_TRIALS), key=lambda trial: done[trial]["log_loss"])
    found = done[best_trial]
    return Tuned(drawn[best_trial], int(found["n_rounds"]), found["log_loss"], N_TRIALS)


def _drawn(draw: np.random.Generator) -> dict[str, float]:
    """Settings, log-uniform where a factor matters and not a difference."""

    def between(low: float, high: float) -> float:
        return float(np.exp(draw.uniform(np.log(low), np.log(high))))

    return {
        "learning_rate": between(0.02, 0.15),
        "num_leaves": float(draw.integers(3, 48)),
        "min_sum_hessian_in_leaf": between(0.3, 100.0),
        "feature_fraction": float(draw.uniform(0.1, 1.0)),
        "bagging_fraction": float(draw.uniform(0.5, 1.0)),
        "lambda_l2": between(0.1, 100.0),
        "lambda_l1": between(0.001, 10.0),
        "min_gain_to_split": between(0.001, 1.0),
    }


def _whole(settings: dict[str, float]) -> dict[str, object]:
    return {
        **settings,
        "num_leaves": int(settings["num_leaves"]),
        "objective": "binary",
        "bagging_freq": 1,
        "min_data_in_leaf": 5,
        "verbosity": -1,
        "seed": 0,
        "num_threads": 1,
        "deterministic": True,
    }


def _tried(settings: dict[str, float], train: lightgbm.Dataset, late: tuple[Matrix, Bools]) -> dict[str, float]:
    # Data made for one trial would keep its settings, so the later window is bound to `train` afresh.
    watch = lightgbm.Dataset(late[0], late[1], reference=train, free_raw_data=False)
    booster = lightgbm.train(
        _whole(settings) | {"metric": "binary_logloss", "feature_pre_filter": False},
        train,
        MOST_ROUNDS,
        valid_sets=[watch],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return {
        "n_rounds": float(booster.best_iteration),
        "log_loss": float(booster.best_score["valid_0"]["binary_logloss"]),
    }


def _thinned(happened: Bools, draw: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Every row where it happened and MOST_QUIET times as many where it did not, weighed to stand for all."""
    some, quiet = np.flatnonzero(happened), np.flatnonzero(~happened)
    n_quiet = min(quiet.size, MOST_QUIET * max(some.size, 1))
    kept = np.sort(draw.choice(quiet, n_quiet, replace=False))
    rows = np.concatenate([some, kept])
    order = np.argsort(rows)
    weights = np.concatenate([np.ones(some.size), np.full(n_quiet, quiet.size / max(n_quiet, 1))])
    return rows[order], weights[order]
