"""Clicks on a fashion shop's recommendations, day after day, beside logistic regression and tuned LightGBM.

In: ../shared/data/open_bandit, four logs of 10,000 impressions in a week. Out: a Study. Run by
`python -m tests.benchmarks models`.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import torch
from numpy.typing import NDArray

from kernels import metrics
from tests.benchmarks.published.paired import Compared, worst_lower
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Study
from tests.benchmarks.rivals.tuned_boosting import N_TRIALS, tuned
from training.answering import Actions, Cases, Plan, Windows, fit_response, in_linear_parts, mapped, platt_of, served
from training.evidence import N_REPLICATES
from training.loop import Recipe, save
from training.models.response import CLICKED, N_CHANCES, Response, Served
from training.parity import Parity
from training.tensors import VECTOR, VECTOR_WIDTH, Signature
from training.tensors import Tensor as Named

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "open_bandit"
KEPT = CACHE / "open_bandit"
LOGS = ("random_men", "random_women", "bts_men", "bts_women")
# Each of these days is foretold from all days before it; the day before it chooses.
FIRST_DAY, LAST_DAY = 3, 7
N_SEEDS, N_POSITIONS = 3, 3
LOGISTIC, TREES = "logistic regression", f"LightGBM, {N_TRIALS} trials"
RECIPE = Recipe(n_epochs=5, batch=512, learning_rate=1e-3, weight_decay=1e-2, fingerprint="published open_bandit")
PLAN = Plan((1.0, 0.0, 0.0, 0.0), RECIPE)
USER, DAY_S = 4, 86_400
# What an item is believed to be before it was shown: the shop's rate, and one choice in forty.
PRIOR_CTR, PRIOR_SHOWN, PRIOR_CHOSEN = 0.005, 400.0, 20.0

Floats = NDArray[np.float64]
Progress = Callable[[str], None]
Kept = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """All impressions in time order.

    cases  actions are the places on the page; a shown item is part of the features
    day    (n,) int64   from 1
    log    (n,) str     of LOGS
    item   (n,) str
    """

    cases: Cases
    actions: Actions
    day: NDArray[np.int64]
    log: NDArray[np.str_]
    item: NDArray[np.str_]

    def windows(self, day: int) -> Windows:
        """The days before one, the last of them as the later window."""
        return Windows(
            *(
                self.cases.take(np.flatnonzero(rows))
                for rows in (self.day < day - 1, self.day == day - 1, self.day < day)
            )
        )

    def of(self, day: int) -> Cases:
        """One day."""
        return self.cases.take(np.flatnonzero(self.day == day))


def read_log() -> Log:
    """The four logs as one.

    raises  FileNotFoundError  without the data set
    """
    if not FOLDER.is_dir():
        raise FileNotFoundError(f"{FOLDER} must hold the Open Bandit logs, which are not part of this repository")
    shown = _so_far(pl.concat([_shown(name) for name in LOGS]).sort("time_s", "log", maintain_order=True))
    columns = _features(shown)
    features = np.ascontiguousarray(np.stack(list(columns.values()), axis=1), np.float32)
    names = list(columns)
    n, position = shown.height, shown["position"].to_numpy() - 1
    sent, happened = np.zeros((n, N_POSITIONS), np.bool_), np.zeros((N_CHANCES, n, N_POSITIONS), np.bool_)
    sent[np.arange(n), position] = True
    happened[CLICKED, np.arange(n), position] = shown["click"].to_numpy() == 1
    at_s = shown["time_s"].to_numpy()
    cases = Cases(np.arange(n), at_s, features, np.zeros((n, VECTOR_WIDTH), np.float32), sent, happened,
                  np.zeros((n, N_POSITIONS), np.float32))  # fmt: skip
    own = np.full((N_POSITIONS, 1), names.index("affinity"))
    day = (at_s - at_s.min() // DAY_S * DAY_S) // DAY_S + 1
    return Log(
        cases,
        Actions(own, np.arange(len(names))),
        day,
        shown["log"].to_numpy().astype(np.str_),
        shown["item"].to_numpy().astype(np.str_),
    )


def _shown(name: str) -> pl.DataFrame:
    """One log with the shown item's own columns."""
    log = pl.read_csv(FOLDER / f"{name}_log.csv.gz")
    items = pl.read_csv(FOLDER / f"{name}_item_context.csv.gz").select("item_id", "^item_feature_.*$")
    affinities = log.select("^user-item_affinity_.*$").to_numpy()
    return log.join(items, on="item_id", how="left", maintain_order="left").select(
        pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z").dt.epoch("s").alias("time_s"),
        pl.lit(name).alias("log"),
        pl.format("{} {}", pl.lit(name.split("_")[1]), "item_id").alias("item"),
        "position",
        "click",
        "propensity_score",
        *(pl.col(f"user_feature_{number}").cast(pl.String) for number in range(USER)),
        pl.col("item_feature_0").cast(pl.Float64),
        pl.Series("affinity", affinities[np.arange(log.height), log["item_id"].to_numpy()]),
        pl.Series("any_affinity", affinities.sum(axis=1)),
    )


def _features(shown: pl.DataFrame) -> dict[str, Floats]:
    """Numbers as they are, names as one column each; of an item, what was known at midnight.

    An item's own name and hashes are left out: a hundred columns on a hundred clicks told nothing (LOG.md).
    """
    hour = shown["time_s"].to_numpy() % DAY_S / DAY_S * 2.0 * np.pi
    columns = {
        "affinity": shown["affinity"].to_numpy(),
        "any_affinity": shown["any_affinity"].to_numpy(),
        "item number": shown["item_feature_0"].to_numpy(),
        "log_propensity": np.log(shown["propensity_score"].to_numpy()),
        **{name: shown[name].to_numpy() for name in ("item_ctr", "item_choice", "place_ctr")},
        "hour_sin": np.sin(hour),
        "hour_cos": np.cos(hour),
    }
    for name in ("log", *(f"user_feature_{number}" for number in range(USER))):
        values = shown[name].to_numpy()
        columns |= {f"{name} {value}": (values == value).astype(np.float64) for value in np.unique(values)}
    return columns


def _so_far(shown: pl.DataFrame) -> pl.DataFrame:
    """Add each item's and place's smoothed click rate and how often the policy chose the item, until midnight."""
    days = shown.with_columns(day=pl.col("time_s") // DAY_S, campaign=pl.col("item").str.split(" ").list.first())
    chosen = pl.col("propensity_score").log().filter(pl.col("log").str.starts_with("bts"))
    for key, sums in (
        (
            "item",
            [pl.len().alias("n"), pl.col("click").sum().alias("k"), chosen.sum().alias("c"), chosen.len().alias("m")],
        ),
        (
            "position",
            [pl.len().alias("n"), pl.col("click").sum().alias("k"), pl.lit(0.0).alias("c"), pl.lit(0).alias("m")],
        ),
    ):
        by_day = days.group_by("campaign", key, "day").agg(sums).sort("day")
        running = [pl.col(name).cum_sum().over("campaign", key).alias(name) for name in ("n", "k", "c", "m")]
        known = by_day.with_columns(*running, day=pl.col("day") + 1)
        days = days.sort("day", maintain_order=True).join_asof(
            known.sort("day"), on="day", by=["campaign", key], strategy="backward", check_sortedness=False
        )
        rate = (pl.col("k").fill_null(0) + PRIOR_SHOWN * PRIOR_CTR) / (pl.col("n").fill_null(0) + PRIOR_SHOWN)
        choice = ((pl.col("c") - PRIOR_CHOSEN * np.log(40.0)) / (pl.col("m") + PRIOR_CHOSEN)).fill_null(-np.log(40.0))
        named = [rate.log().alias(f"{'place' if key == 'position' else 'item'}_ctr")]
        named += [choice.alias("item_choice")] if key == "item" else []
        days = days.with_columns(named).drop("n", "k", "c", "m")
    return days.drop("day", "campaign")


def fit(progress: Progress) -> None:
    """Train every seed and rival of every day that is not kept yet, and keep what each says of the day."""
    log = read_log()
    KEPT.mkdir(parents=True, exist_ok=True)
    for day in range(FIRST_DAY, LAST_DAY + 1):
        windows, test = log.windows(day), log.of(day)
        for seed in range(N_SEEDS):
            _train(f"ours {seed} day {day}", log.actions, windows, test, seed, progress)
        if not _file(f"{LOGISTIC} day {day}").exists():
            alone = in_linear_parts(_fresh(log.actions, windows), windows, PLAN)
            _keep(f"{LOGISTIC} day {day}", {"click": served(alone, test)[2][test.sent]})
        if not _file(f"{TREES} day {day}").exists():
            _fit_trees(day, windows, test, progress)
    last = np.flatnonzero((log.day >= FIRST_DAY) & (log.day <= LAST_DAY))
    position = np.nonzero(log.cases.sent)[1]
    np.savez(
        KEPT / "cases.npz", day=log.day[last], log=log.log[last], position=position[last] + 1,
        clicked=log.cases.happened[CLICKED].any(axis=1)[last],
    )  # fmt: skip
    if not (KEPT / "served.json").exists():
        _keep_parity(log)


def measure(raw: Path | None) -> Study:
    """Recount every figure from what `fit` kept.

    raises  FileNotFoundError  if it did not run to its end
    """
    days, names = range(FIRST_DAY, LAST_DAY + 1), (*(f"ours {seed}" for seed in range(N_SEEDS)), LOGISTIC, TREES)
    for file in (*(_file(f"{name} day {day}") for name in names for day in days), KEPT / "served.json"):
        if not file.exists():
            raise FileNotFoundError(f"{file} must exist; run `python -m tests.benchmarks.published open_bandit`")
    said = {name: _joined([_read(_file(f"{name} day {day}")) for day in days]) for name in names}
    cases, told = _read(KEPT / "cases.npz"), orjson.loads((KEPT / "served.json").read_bytes())
    if raw is not None:
        shutil.copytree(KEPT, raw / "open_bandit", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pt"))
    n = int(cases["clicked"].size)
    # Nobody is named in the logs, so impressions are resampled; strata keep a day's ranking to the day.
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1.0 / n), N_REPLICATES).astype(np.float64)
    rivals = {LOGISTIC: said[LOGISTIC]["click"], TREES: said[TREES]["click"],
              f"{TREES}, calibrated as ours": said[TREES]["click_calibrated"]}  # fmt: skip
    ours = [said[f"ours {seed}"]["click"] for seed in range(N_SEEDS)]
    compared = Compared(ours, rivals, cases["clicked"], cases["day"], draws)
    gaps = compared.differences()
    return Study(
        model="response",
        protocol="Open Bandit, 4 logs of 10,000 impressions: each day from the third is foretold from the days before "
        "it, the day before choosing passes, ridge, trials and calibration. AUC within a day, days by their clicks. "
        "Intervals resample impressions.",
        lines=[
            Line("response_bandit_auc_lower", worst_lower(gaps), N_SEEDS,
                 {gap.rival: gap.difference for gap in gaps}, (), -0.01),
            Line("response_bandit_auc", compared.auc(), N_SEEDS, compared.rival_auc()),
            Line("response_bandit_ece", compared.ours_calibration(), N_SEEDS,
                 {name: compared.calibration(probs) for name, probs in rivals.items()}),
        ],
        n=n,
        train_s=float(said["ours 0"]["seconds"]),
        n_parameters=int(told["n_parameters"]),
        onnx_bytes=int(told["onnx_bytes"]),
        parity=Parity(told["onnx_runtime"], told["triton"]),
        notes=(
            f"{int(cases['clicked'].sum())} clicks in all: differences below about .05 are noise.",
            *(_by_slice(cases, ours[0], name) for name in ("log", "position")),
            "train_s is of the five days together. No published number has this protocol.",
        ),
    )  # fmt: skip


def _by_slice(cases: Kept, probs: Floats, name: str) -> str:
    """Calibration error of clicks in each part of a slice."""
    parts = [(part, cases[name] == part) for part in np.unique(cases[name])]
    found = [f"{part} {metrics.calibration_error(probs[rows], cases['clicked'][rows]):.4f}" for part, rows in parts]
    return f"Calibration error of clicks by {name}: {', '.join(found)}."


def _train(name: str, actions: Actions, windows: Windows, test: Cases, seed: int, progress: Progress) -> None:
    if _file(name).exists():
        return
    began = time.monotonic()
    plan = replace(PLAN, recipe=replace(RECIPE, seed=seed))
    net = _fresh(actions, windows, seed)
    fit_response(net, windows, plan, lambda step: progress(f"open_bandit, {name}: {step}"))
    save(KEPT / f"{name}.pt", net.state_dict())
    _keep(name, {"click": served(net, test)[2][test.sent], "seconds": np.array(time.monotonic() - began)})


def _fresh(actions: Actions, windows: Windows, seed: int = 0) -> Response:
    torch.manual_seed(seed)
    return Response(actions, windows.early.features.shape[1])


def _fit_trees(day: int, windows: Windows, test: Cases, progress: Progress) -> None:
    early, late, everything = (_table(part) for part in (windows.early, windows.late, windows.everything))
    found = tuned(
        early, late, KEPT / f"trials day {day}.json", lambda step: progress(f"open_bandit, day {day}, {step}")
    )
    seen = np.full(windows.late.sent.shape, 0.5)
    seen[windows.late.sent] = found.fitted(*early).predict(late[0])
    slope, shift = platt_of(np.clip(seen, 1e-6, 1.0 - 1e-6), windows.late.happened[CLICKED], windows.late.sent)
    raw = np.full(test.sent.shape, 0.5)
    raw[test.sent] = np.clip(found.fitted(*everything).predict(_table(test)[0]), 1e-6, 1.0 - 1e-6)
    _keep(f"{TREES} day {day}", {
        "click": raw[test.sent], "click_calibrated": mapped(raw, slope, shift)[test.sent]
    })  # fmt: skip


def _table(cases: Cases) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What LightGBM reads: every feature, and the place on the page."""
    row, action = np.nonzero(cases.sent)
    rows = np.concatenate([cases.features[row], action[:, None].astype(np.float32)], axis=1)
    return rows, cases.happened[CLICKED][row, action]


def _keep_parity(log: Log) -> None:
    state = torch.load(KEPT / f"ours 0 day {LAST_DAY}.pt", weights_only=True)
    net = Response.from_state(state).eval()
    test = log.of(LAST_DAY)
    features = Named("features", "TYPE_FP32", test.features.shape[1], "as read_log makes them")
    outputs = tuple(replace(tensor, width=N_POSITIONS) for tensor in Served.signature.outputs)
    rows = {"features": test.features[:64], "shopper_vector": test.vectors[:64]}
    parity, size = parity_of("response_bandit", Served(net).eval(), Signature((features, VECTOR), outputs), rows)
    found = {"onnx_runtime": parity.onnxruntime, "triton": parity.triton, "onnx_bytes": size}
    found["n_parameters"] = sum(parameter.numel() for parameter in net.parameters())
    (KEPT / "served.json").write_bytes(orjson.dumps(found))


def _joined(days: list[Kept]) -> Kept:
    joined = {name: np.concatenate([day[name] for day in days]) for name in days[0] if name != "seconds"}
    return joined | {"seconds": sum(float(day.get("seconds", 0.0)) for day in days)}


def _keep(name: str, said: Mapping[str, Floats]) -> None:
    fresh = KEPT / f"{name}.writing.npz"
    np.savez(fresh, **said)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only
    fresh.replace(_file(name))


def _read(file: Path) -> Kept:
    with np.load(file) as kept:
        return dict(kept)


def _file(name: str) -> Path:
    return KEPT / f"{name}.npz"
