"""Purchases called fraud or not, in time order: our sum of small networks beside boosting and printed numbers.

In: ../shared/data/fraud, the first 20,000 rows of Fraud_Data. Out: a Study. `fit` trains every seed and every rival
and keeps their probabilities; `measure` recounts every figure from them.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from tests.benchmarks.published.serving import copy_raw, keep_parity
from tests.benchmarks.published.study import CACHE, Line, Published, Study
from training.dataset import TEST, TRAIN, VALID
from training.evidence import Figure, interval, shopper_weights
from training.loop import save
from training.models.risk_transaction import RiskTransaction, Served
from training.parity import Parity
from training.risk import risk_features
from training.sources.tables import EVENTS, SHOPPERS, whole
from training.transactions import (
    FALSE_SHARE,
    RECIPE,
    Transactions,
    figures_of,
    fit_risk,
    logistic,
    probabilities,
    recall_at_false_share,
)

FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "fraud" / "fraud_first_20k.csv.gz"
KEPT = CACHE / "fraud"
SEEDS = (0, 1, 2)
N_REPLICATES = 400
MOMENT = "%m/%d/%Y %H:%M"
JANUARY_S, DAY_S = 1_420_070_400, 86_400
OURS, BOOSTED, RAW, LOGISTIC = "ours", "LightGBM, same features", "LightGBM, raw columns", "logistic, same features"
# Learned until, and validated until; what is later is the test. None: by shares of the purchases, as FDB cuts.
CUTS = {"fdb": None, "attack": (JANUARY_S + 7 * DAY_S, JANUARY_S + 9 * DAY_S)}
TRAIN_SHARE, VALID_SHARE = 0.64, 0.80
FDB = "Fraud Dataset Benchmark (Grover et al. 2022, arXiv 2208.14417), fraudecom"
ALL_ROWS = "all 151,112 rows; ours are 13 % of them, in which hardly a device comes twice"
PRINTED = (
    ("AFD TFI", 0.636, f"{ALL_ROWS}; profiles each device over time"),
    ("AutoGluon", 0.522, ALL_ROWS),
    ("AFD OFI", 0.519, ALL_ROWS),
    ("H2O", 0.518, ALL_ROWS),
    ("Auto-sklearn", 0.515, ALL_ROWS),
)

Progress = Callable[[str], None]
Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]


def fit(progress: Progress) -> None:
    """Train every seed and rival on both cuts, with and without devices, and export; what is finished is kept.

    raises  FileNotFoundError  without the data
    """
    told = read(FILE)
    KEPT.mkdir(parents=True, exist_ok=True)
    for cut in CUTS:
        for has_device in (True, False):
            kept = KEPT / f"{cut}{'' if has_device else '_no_device'}.npz"
            if not kept.exists():
                cases = cases_of(told, cut, has_device)
                np.savez_compressed(kept, **_scores(cases, told, kept.stem, progress))  # type: ignore[arg-type]
    if not (KEPT / "serving.json").exists():
        _serve(cases_of(told, "fdb", has_device=True), progress)


def read(file: Path) -> pl.DataFrame:
    """Purchases in time order; times in seconds since 1970.

    raises  FileNotFoundError  naming the file
    """
    if not file.exists():
        raise FileNotFoundError(f"the data set fraud must be in {file}")
    told = pl.read_csv(file, schema_overrides={"ip_address": pl.String, "user_id": pl.String})
    times = pl.col("signup_time", "purchase_time").str.to_datetime(MOMENT).dt.epoch("s")
    return told.with_columns(times).sort("purchase_time", maintain_order=True)


def cases_of(told: pl.DataFrame, cut: str, has_device: bool) -> Transactions:
    """Canonical events and shoppers, and from them what is known just before each purchase.

    told        from `read`
    cut         one of CUTS
    has_device  whether the devices are told
    """
    events = told.select(
        time_s="purchase_time",
        shopper_id="user_id",
        kind=pl.lit("order"),
        paid_micros=(pl.col("purchase_value") * 1e6).cast(pl.Int64),
        device_id=pl.col("device_id") if has_device else pl.lit(None, pl.String),
        address_id="ip_address",
    )
    shoppers = told.select(shopper_id="user_id", signed_up_s="signup_time")
    features = risk_features(
        whole(EVENTS, events).cast(dict(EVENTS.schema)), whole(SHOPPERS, shoppers).cast(dict(SHOPPERS.schema))
    )
    return Transactions(features, told["class"].to_numpy() > 0, part_of(told, cut), np.arange(told.height))


def part_of(told: pl.DataFrame, cut: str) -> NDArray[np.int8]:
    """Window of each purchase."""
    until = CUTS[cut]
    if until is None:
        ends = [int(share * told.height) for share in (TRAIN_SHARE, VALID_SHARE)]
    else:
        ends = [int((told["purchase_time"] < end_s).sum()) for end_s in until]
    part = np.full(told.height, TEST, np.int8)
    part[: ends[1]] = VALID
    part[: ends[0]] = TRAIN
    return part


def boosted(inputs: Floats, cases: Transactions) -> Floats:
    """Gradient boosting, its leaves and smallest leaf chosen and its trees stopped on validation.

    inputs   (n, n_columns) float64  NaN where unknown
    returns  (n_test,) float64  probabilities
    """
    from lightgbm import LGBMClassifier, early_stopping

    train, valid, test = (cases.of(part) for part in (TRAIN, VALID, TEST))
    best, least = None, np.inf
    for n_leaves in (4, 8, 16):
        for n_least in (5, 20, 100):
            model = LGBMClassifier(
                n_estimators=400, learning_rate=0.05, num_leaves=n_leaves, min_child_samples=n_least,
                random_state=0, n_jobs=1, verbose=-1,
            )  # fmt: skip
            model.fit(
                inputs[train], cases.is_fraud[train], eval_set=[(inputs[valid], cases.is_fraud[valid])],
                callbacks=[early_stopping(30, verbose=False)],
            )  # fmt: skip
            loss = model.best_score_["valid_0"]["binary_logloss"]
            if loss < least:
                best, least = model, loss
    assert best is not None
    probs: Floats = best.predict_proba(inputs[test])[:, 1]
    return probs


def raw_columns(told: pl.DataFrame) -> Floats:
    """What the file says of each purchase itself: numbers as they are, words as numbers."""
    words = [pl.col(name).rank("dense") for name in ("source", "browser", "sex")]
    numbers = [pl.col("ip_address").cast(pl.Float64), pl.col("age", "purchase_value", "signup_time", "purchase_time")]
    table: Floats = told.select(*words, *numbers).cast(pl.Float64).to_numpy()
    return table


def _scores(cases: Transactions, told: pl.DataFrame, name: str, progress: Progress) -> dict[str, NDArray[np.generic]]:
    """Probabilities of all models on the test window, what happened, and what was paid."""
    test = cases.of(TEST)
    scores: dict[str, NDArray[np.generic]] = {
        "happened": cases.is_fraud[test],
        "value": told["purchase_value"].to_numpy()[test],
        "n_train": np.array([cases.of(TRAIN).size, cases.of(VALID).size]),
    }
    seconds = []
    for seed in SEEDS:
        started = time.perf_counter()
        recipe = replace(RECIPE, seed=seed, batch=min(RECIPE.batch, cases.of(TRAIN).size // 16))
        model, _ = fit_risk(cases, recipe, lambda step: progress(f"{name}, seed {seed}: {step}"))  # noqa: B023 - called at once
        seconds.append(time.perf_counter() - started)
        scores[f"{OURS} {seed}"] = probabilities(model, cases.features[test])
        save(KEPT / f"{name}_{seed}.pt", model.state_dict())
    progress(f"{name}: rivals")
    scores["seconds"] = np.array(seconds)
    scores[BOOSTED] = boosted(cases.features.astype(np.float64), cases)
    scores[RAW] = boosted(raw_columns(told), cases)
    scores[LOGISTIC] = logistic(cases)
    return scores


def _serve(cases: Transactions, progress: Progress) -> None:
    progress("fraud: export and parity")
    model = RiskTransaction.from_state(torch.load(KEPT / f"fdb_{SEEDS[0]}.pt", weights_only=True)).eval()
    rows = cases.features[cases.of(TEST)]
    # The attack's purchases give other reasons than the quiet months'; a row of nothing known is one, too.
    rows = np.concatenate([cases.features[:64], rows[:191], np.full((1, rows.shape[1]), np.nan, np.float32)])
    keep_parity(KEPT, "risk_transaction", Served(model).eval(), Served.signature, {"risk_features": rows})


def measure(raw: Path | None) -> Study:
    """Recount all figures from the kept probabilities.

    raw     folder for the probabilities behind each figure
    raises  FileNotFoundError  if `fit` was not run
    """
    copy_raw(KEPT, raw)
    kept = {file.stem: dict(np.load(file)) for file in KEPT.glob("*.npz")}
    served = json.loads((KEPT / "serving.json").read_text())
    fdb, attack = kept["fdb"], kept["attack"]
    printed = [Published(value, f"{who}, {FDB}", like_for_like=False, remark=why) for who, value, why in PRINTED]
    lines = [
        *_lines(fdb, "fraud", printed),
        *_lines(attack, "fraud_attack", ()),
        *(replace(line, name=f"{line.name}_no_device") for line in _lines(kept["fdb_no_device"], "fraud", printed)[:1]),
        *(
            replace(line, name=f"{line.name}_no_device")
            for line in _lines(kept["attack_no_device"], "fraud_attack", ())[:1]
        ),
        _rival(fdb),
        *(_difference(fdb, figure, f"{figure}_over_rival") for figure in ("fraud_auc", "fraud_ap")),
        _difference(attack, "fraud_auc", "fraud_attack_auc_over_rival"),
        _difference(attack, "fraud_ap", "fraud_attack_ap_over_rival"),
    ]
    return Study(
        model="risk_transaction",
        protocol=_protocol(fdb, attack),
        lines=lines,
        n=int(fdb["happened"].size),
        train_s=float(fdb["seconds"].mean()),
        n_parameters=served["n_parameters"],
        onnx_bytes=served["onnx_bytes"],
        parity=Parity(served["onnxruntime"], served["triton"]),
        notes=NOTES,
    )


NOTES = (
    "Of the 1,929 frauds 1,053 are one attack of 1 to 13 January: accounts that buy within the minute of their sign-up,"
    " on devices and addresses shared by up to five of them. FDB's cut learns from it and is tested on months without"
    " it, where 3 of 4,000 devices were seen in the month before: nothing in the file tells those frauds, to us or to a"
    " rival.",
    "FDB gives device_id to AFD TFI as the entity that it profiles, so .636 is to be read beside the figure with"
    " devices; the other printed rows have none, as the figure without.",
    "The cut fraud_attack learns from the first week and is tested on all that follows, the attack's last days"
    " included.",
    "Notebooks with far higher figures count devices over the whole file and cut at random; here every count is as of"
    " the purchase.",
)


def _protocol(fdb: Mapping[str, NDArray[np.generic]], attack: Mapping[str, NDArray[np.generic]]) -> str:
    told = [
        f"{int(kept['n_train'][0]):,} to learn, {int(kept['n_train'][1]):,} to validate, "
        f"{kept['happened'].size:,} to test ({int(kept['happened'].sum()):,} frauds)"
        for kept in (fdb, attack)
    ]
    return (
        f"First 20,000 rows of Fraud_Data by purchase time, features as of each purchase. fraud: FDB's cut, {told[0]}. "
        f"fraud_attack: cut on 8 and 10 January, {told[1]}. Mean of {len(SEEDS)} seeds."
    )


def _lines(kept: Mapping[str, NDArray[np.generic]], prefix: str, printed: list[Published] | tuple[()]) -> list[Line]:
    """AUC first, then average precision, recall and calibration error."""
    measured = {name: _measured(kept, names) for name, names in _models(kept).items()}
    return [
        Line(
            figure.replace("fraud", prefix, 1),
            measured[OURS][figure],
            len(SEEDS),
            {name: figures[figure] for name, figures in measured.items() if name != OURS},
            printed if figure == "fraud_auc" else (),
        )
        for figure in measured[OURS]
    ]


def _models(kept: Mapping[str, NDArray[np.generic]]) -> dict[str, list[str]]:
    return {OURS: [f"{OURS} {seed}" for seed in SEEDS]} | {name: [name] for name in (BOOSTED, RAW, LOGISTIC)}


def _measured(kept: Mapping[str, NDArray[np.generic]], names: list[str]) -> dict[str, Figure]:
    drawn = [_drawn(kept, name) for name in names]
    return {
        figure: interval(
            float(np.mean([each[figure][0] for each in drawn])), np.concatenate([each[figure][1:] for each in drawn])
        )
        for figure in drawn[0]
    }


def _drawn(kept: Mapping[str, NDArray[np.generic]], name: str) -> dict[str, Floats]:
    """Value, then replicates, of each figure of one set of probabilities."""
    probs, happened = kept[name].astype(np.float64), kept["happened"].astype(np.bool_)
    weights = shopper_weights(np.arange(happened.size), N_REPLICATES)
    # Of the money that fraud took, what an alarm on one honest purchase in a hundred would have held back.
    value = np.where(happened, kept["value"].astype(np.float64), 1.0)
    weighted = np.concatenate([np.ones((1, happened.size)), weights]) * value
    recall = recall_at_false_share(probs, happened, weighted, FALSE_SHARE)
    return figures_of(probs, happened, weights) | {"fraud_value_recall_1fpr": recall}


def _rival(kept: Mapping[str, NDArray[np.generic]]) -> Line:
    return Line("fraud_auc_rival", _measured(kept, [BOOSTED])["fraud_auc"], 1)


def _difference(kept: Mapping[str, NDArray[np.generic]], figure: str, name: str) -> Line:
    """Ours less LightGBM on the same features, on the same resampled purchases."""
    theirs = _drawn(kept, BOOSTED)[figure]
    ours = [_drawn(kept, f"{OURS} {seed}")[figure] - theirs for seed in SEEDS]
    found = interval(float(np.mean([each[0] for each in ours])), np.concatenate([each[1:] for each in ours]))
    return Line(name, found, len(SEEDS))
