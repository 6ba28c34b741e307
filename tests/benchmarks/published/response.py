"""Redemptions of complete_journey, beside logistic regression and tuned LightGBM on the same mailings.

In: `stratagem ingest complete_journey` in build/shop. Out: a Study. Run by `python -m tests.benchmarks models`.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import torch
from numpy.typing import NDArray

from kernels import metrics
from kernels.features import columns
from tests.benchmarks.published.paired import Compared, worst_lower
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Study
from tests.benchmarks.rivals.tuned_boosting import N_TRIALS, tuned
from training.answering import Cases, Plan, Windows, fit_response, in_linear_parts, mapped, platt_of, served
from training.answers import RECIPE, Answers, actions_of, answers_of, plan_of
from training.dataset import Dataset, dataset_of
from training.evidence import Figure, interval, mean_figure, shopper_weights
from training.labels import held_groups
from training.loop import save
from training.models.response import BOUGHT, REDEEMED, Response, Served
from training.parity import Parity
from training.sources.shop import read_shop

SHOP = Path("build/shop")
KEPT = CACHE / "response"
N_SEEDS = 3
LOGISTIC, TREES = "logistic regression", f"LightGBM, {N_TRIALS} trials"
OUTPUTS = ("redeem", "buy", "click", "spend", "redeem_se")

Floats = NDArray[np.float64]
# Arrays of one file, a value for each mailing of the test window.
Kept = dict[str, Any]
Progress = Callable[[str], None]


def read_answers() -> tuple[Dataset, Answers]:
    """The shop's mailings and what followed.

    raises  FileNotFoundError  if complete_journey was not ingested
    """
    if not (SHOP / "shop.json").exists():
        raise FileNotFoundError(f"{SHOP} must hold complete_journey; run `stratagem ingest complete_journey`")
    shop = read_shop(SHOP)
    if shop.name != "complete_journey":
        raise FileNotFoundError(f"{SHOP} must hold complete_journey, got the shop {shop.name!r}")
    dataset = dataset_of(shop)
    return dataset, answers_of(dataset, *dataset.weekly())


def fit(progress: Progress) -> None:
    """Train every seed and rival that is not kept yet, and keep what each says of the test window."""
    dataset, answers = read_answers()
    windows, test, plan = answers.windows(), answers.test(), plan_of(answers, RECIPE)
    assert windows is not None  # complete_journey has campaigns in every window
    _keep_cases(dataset, answers, test)
    for seed in range(N_SEEDS):
        _train(f"ours {seed}", dataset, windows, test, _seeded(plan, seed), progress)
        alone = replace(_seeded(plan, seed), worth=(0.0, plan.worth[REDEEMED], 0.0, 0.0))
        _train(f"single task {seed}", dataset, windows, test, alone, progress)
    if not _file(LOGISTIC).exists():
        progress("response, the linear rival")
        alone = in_linear_parts(Response(actions_of(dataset)), windows, plan)
        _keep(LOGISTIC, _said(alone, test), 0.0)
    if not _file(TREES).exists():
        _fit_trees(dataset, windows, test, progress)
    if not (KEPT / "served.json").exists():
        ours = Response.from_state(torch.load(KEPT / "ours 0.pt", weights_only=True)).eval()
        rows = {"features": test.features[:64], "shopper_vector": test.vectors[:64]}
        parity, size = parity_of("response", Served(ours).eval(), Served.signature, rows)
        found = {"onnx_runtime": parity.onnxruntime, "triton": parity.triton, "onnx_bytes": size}
        found["n_parameters"] = sum(parameter.numel() for parameter in ours.parameters())
        (KEPT / "served.json").write_bytes(orjson.dumps(found))


def measure(raw: Path | None) -> Study:
    """Recount every figure from what `fit` kept.

    raises  FileNotFoundError  if it did not run to its end
    """
    names = (*(f"{task} {seed}" for task in ("ours", "single task") for seed in range(N_SEEDS)), LOGISTIC, TREES)
    for file in (*map(_file, names), KEPT / "cases.npz", KEPT / "served.json"):
        if not file.exists():
            raise FileNotFoundError(f"{file} must exist; run `python -m tests.benchmarks.published response`")
    said = {name: _read(_file(name)) for name in names}
    if raw is not None:
        shutil.copytree(KEPT, raw / "response", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pt"))
    cases, told = _read(KEPT / "cases.npz"), orjson.loads((KEPT / "served.json").read_bytes())
    return Study(
        model="response",
        protocol="complete_journey, shopper-weeks from 2017-11-06 in which an offer of the group was held; redeemed "
        "within 28 days. Learned from rows whose 28 days ended before; passes, ridge, trials and calibration chosen "
        "on the later half of those. Intervals resample households.",
        lines=_lines(cases, said),
        n=int(cases["shopper"].size),
        train_s=float(np.mean([said[f"ours {seed}"]["seconds"] for seed in range(N_SEEDS)])),
        n_parameters=int(told["n_parameters"]),
        onnx_bytes=int(told["onnx_bytes"]),
        parity=Parity(told["onnx_runtime"], told["triton"]),
        notes=_notes(cases, said),
    )


def _lines(cases: Kept, said: Mapping[str, Kept]) -> list[Line]:
    trees = said[TREES]
    rivals = {
        LOGISTIC: said[LOGISTIC]["redeem"],
        TREES: trees["redeem"],
        f"{TREES}, calibrated as ours": trees["redeem_calibrated"],
    }
    redeem = _compared(cases, "redeemed", _seeds(said, "ours", "redeem"), rivals)
    buy = _compared(cases, "bought", _seeds(said, "ours", "buy"), {LOGISTIC: said[LOGISTIC]["buy"]})
    gaps = redeem.differences()
    errors = {name: redeem.calibration(probs) for name, probs in redeem.rivals.items()}
    ours_error, rival_error = (_spend_error(cases, said[name]["spend"]) for name in ("ours 0", LOGISTIC))
    return [
        Line("response_auc_lower", worst_lower(gaps), N_SEEDS, {gap.rival: gap.difference for gap in gaps}, (), -0.01),
        Line("response_redeem_auc", redeem.auc(), N_SEEDS, redeem.rival_auc()),
        Line("response_ece", redeem.ours_calibration(), N_SEEDS, errors),
        Line("response_buy_auc", buy.auc(), N_SEEDS, buy.rival_auc()),
        Line("response_buy_ece", buy.ours_calibration(), N_SEEDS, {LOGISTIC: buy.calibration(buy.rivals[LOGISTIC])}),
        Line("response_spend_error", ours_error, 1, {LOGISTIC: rival_error}),
    ]


def _notes(cases: Kept, said: Mapping[str, Kept]) -> tuple[str, ...]:
    shared, alone = (
        _compared(cases, "redeemed", _seeds(said, task, "redeem"), {}).mean_areas() for task in ("ours", "single task")
    )
    gap = interval(float(shared[0] - alone[0]), shared[1:] - alone[1:])
    return (
        "Redemption AUC of ours less that of the same net trained on redemptions alone, on the same rows: "
        f"{gap.value:+.4f} [{gap.lower:+.4f}, {gap.upper:+.4f}].",
        *(_by_slice(cases, said["ours 0"]["redeem"], name) for name in ("third", "arm", "group")),
        _doubt(cases, said["ours 0"]),
        "Calibration errors must be at most .01. LightGBM reads every feature, the group's own columns and the group.",
        "response_spend_error is the mean distance between expected and actual spend, currency units; less is better.",
        "No published number has this protocol.",
    )


def _by_slice(cases: Kept, probs: Floats, name: str) -> str:
    """Calibration error of redemptions in each part of a slice."""
    found = []
    for part in np.unique(cases[name]):
        inside = cases[name] == part
        error = metrics.calibration_error(probs[inside], cases["redeemed"][inside])
        n_redeemed = int(cases["redeemed"][inside].sum())
        found.append(f"{part} {error:.4f} ({n_redeemed} of {int(inside.sum())})")
    return f"Calibration error of redemptions by {name}: {', '.join(found)}."


def _doubt(cases: Kept, said: Kept) -> str:
    """Whether a larger standard error goes with a larger miss: mean absolute miss by third of it, at equal risk."""
    missed = np.abs(said["redeem"] - cases["redeemed"])
    # Where more is expected both are larger; within twentieths of the probability that is no longer so.
    twentieth = np.argsort(np.argsort(said["redeem"], kind="stable"), kind="stable") * 20 // missed.size
    doubtful = np.zeros(missed.size, np.bool_)
    for part in range(20):
        inside = np.flatnonzero(twentieth == part)
        doubtful[inside] = said["redeem_se"][inside] > np.median(said["redeem_se"][inside])
    ratio = said["redeem_se"].mean() / said["redeem"].mean()
    return (
        f"redeem_prob_se is {ratio:.2f} of redeem_prob on average; at equal probability the mean miss is "
        f"{missed[doubtful].mean():.4f} where it is above its median and {missed[~doubtful].mean():.4f} below."
    )


def _spend_error(cases: Kept, expected: Floats) -> Figure:
    missed = np.abs(expected - cases["spend"])
    return mean_figure(missed, _draws(cases))[0]


def _seeds(said: Mapping[str, Kept], task: str, output: str) -> list[Floats]:
    return [said[f"{task} {seed}"][output] for seed in range(N_SEEDS)]


def _compared(cases: Kept, outcome: str, ours: list[Floats], rivals: Mapping[str, Floats]) -> Compared:
    return Compared(ours, rivals, cases[outcome], np.zeros(cases[outcome].size, np.int64), _draws(cases))


def _draws(cases: Kept) -> Floats:
    return shopper_weights(cases["shopper"])


def _train(name: str, dataset: Dataset, windows: Windows, test: Cases, plan: Plan, progress: Progress) -> None:
    """Train one net that is not kept yet."""
    if _file(name).exists():
        return
    torch.manual_seed(plan.recipe.seed)
    net = Response(actions_of(dataset))
    seconds = fit_response(
        net, windows, plan, lambda step: progress(f"response, {name}: {step}"), KEPT / f"{name} checkpoint.pt"
    )
    save(KEPT / f"{name}.pt", net.state_dict())
    _keep(name, _said(net, test), seconds)
    (KEPT / f"{name} checkpoint.pt").unlink(missing_ok=True)


def _fit_trees(dataset: Dataset, windows: Windows, test: Cases, progress: Progress) -> None:
    """Fifty trials on the earlier and later window, then all of both; raw, and calibrated as ours is."""
    early, late, everything, last = (
        _table(dataset, cases) for cases in (windows.early, windows.late, windows.everything, test)
    )
    found = tuned(early, late, KEPT / "trials.json", lambda step: progress(f"response, {step}"))
    seen = np.zeros(windows.late.sent.shape)
    seen[windows.late.sent] = found.fitted(*early).predict(late[0])
    slope, shift = platt_of(np.clip(seen, 1e-6, 1.0 - 1e-6), windows.late.happened[REDEEMED], windows.late.sent)
    raw = np.zeros(test.sent.shape)
    raw[test.sent] = found.fitted(*everything).predict(last[0])
    calibrated = mapped(np.clip(raw, 1e-6, 1.0 - 1e-6), slope, shift)
    _keep(TREES, {"redeem": raw[test.sent], "redeem_calibrated": calibrated[test.sent]}, 0.0)


def _table(dataset: Dataset, cases: Cases) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What LightGBM reads of each mailing: every feature, the group's own columns, and which group it is."""
    own = actions_of(dataset).own
    row, action = np.nonzero(cases.sent)
    padded = np.concatenate([cases.features, np.zeros((len(cases), 1), np.float32)], axis=1)
    groups = np.eye(own.shape[0], dtype=np.float32)[action]
    return (
        np.concatenate([cases.features[row], padded[row[:, None], own[action]], groups], axis=1),
        cases.happened[REDEEMED][row, action],
    )


def _keep_cases(dataset: Dataset, answers: Answers, test: Cases) -> None:
    """What happened to each mailing of the test window, with the slices it falls into."""
    row, action = np.nonzero(test.sent)
    activity = test.features[:, list(columns()).index("orders_hl91d")]
    third = np.searchsorted(np.quantile(activity, (1 / 3, 2 / 3)), activity)
    KEPT.mkdir(parents=True, exist_ok=True)
    np.savez(
        KEPT / "cases.npz",
        shopper=test.shopper[row],
        at_s=test.at_s[row],
        group=np.array(answers.groups)[action],
        third=np.array(["least active", "middle", "most active"])[third][row],
        arm=_arms(dataset, test)[test.sent],
        redeemed=test.happened[REDEEMED][test.sent],
        bought=test.happened[BOUGHT][test.sent],
        spend=test.spend[test.sent].astype(np.float64),
    )


def _arms(dataset: Dataset, test: Cases) -> NDArray[np.str_]:
    """The campaign type of which each shopper holds the group's offer; several are joined."""
    grid = np.unique(test.at_s)
    found = np.full(test.sent.shape, "", dtype="<U8")
    for arm in dataset.vocabulary.arms:
        offers = dataset.shop.offers.filter(pl.col("arm") == arm)
        held = held_groups(replace(dataset, shop=replace(dataset.shop, offers=offers)), grid)
        held = held[test.shopper, np.searchsorted(grid, test.at_s)]
        found = np.where(held, np.char.add(found, arm), found)
    return found


def _said(net: Response, test: Cases) -> dict[str, Floats]:
    return {name: said[test.sent] for name, said in zip(OUTPUTS, served(net, test), strict=True)}


def _seeded(plan: Plan, seed: int) -> Plan:
    return replace(plan, recipe=replace(plan.recipe, seed=seed, fingerprint="published response"))


def _keep(name: str, said: Mapping[str, Floats], seconds: float) -> None:
    fresh = KEPT / f"{name}.writing.npz"
    np.savez(fresh, seconds=np.array(seconds), **said)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only
    fresh.replace(_file(name))


def _read(file: Path) -> Kept:
    with np.load(file) as kept:
        return dict(kept)


def _file(name: str) -> Path:
    return KEPT / f"{name}.npz"
