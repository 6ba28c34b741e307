"""Amazon Beauty and Toys, leave-one-out: behaviour alone, and fused with the transition table, every item ranked.

In: ../shared/data/amazon_5core. Out: a Study. Run by `python -m tests.benchmarks models`.
"""

import gzip
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from kernels import metrics
from kernels.ledger import ORDER
from kernels.transitions import Transitions, scores, transitions
from tests.benchmarks.published.serving import parity_of
from tests.benchmarks.published.study import CACHE, Line, Published, Study
from training.behaviours import NextEvent
from training.dataset import TEST, TRAIN, VALID
from training.evidence import Figure, interval, shopper_weights
from training.histories import Sequences
from training.loop import Recipe, save
from training.loop import fit as train
from training.models.behaviour import Behaviour, Events
from training.models.recommendation import DECAY, Recommendation, Served
from training.parity import Parity

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "amazon_5core"
KEPT = CACHE / "amazon"
FILES = {"beauty": "Beauty", "toys": "Toys_and_Games"}
SEEDS = (0, 1, 2)
N_PLACES, N_NEGATIVES, N_ATTRIBUTES, N_SUCCESSORS = 50, 512, 8, 100
DROPOUT, ID_DROPOUT = 0.5, 0.2
# Chosen on Beauty's validation items, seed 0 (LOG.md); Toys takes them as they are.
RECIPE = Recipe(n_epochs=20, batch=256, learning_rate=2e-3, patience=20, seconds=3_600.0)
# One item in ten is kept from training, so that its place in the ranking is its content's alone.
COLD = "beauty-cold"
COLD_SHARE = 0.1
# What published rows read: ids and nothing of the items' attributes.
IDS = "beauty-ids"

MOST = 10**9
KNN_DECAY = 0.5
IDS_ONLY = "reads ids only; ours also reads the items' attributes; whether seen items are left out differs"
PUBLISHED = {
    name: [Published(value, source, like_for_like=False, remark=IDS_ONLY) for source, value in rows.items()]
    for name, rows in {
        "beauty_ndcg10": {
            "SASRec as usually reported": 0.0318, "TIGER": 0.0384, "ActionPiece": 0.0424,
            "HSTU, run again by blondered/transformer_benchmark": 0.0439, "DuoRec": 0.0443,
            "eSASRec, arXiv 2508.06450": 0.0523, "SASRec with sampled softmax, arXiv 2508.06450": 0.0531,
        },
        "beauty_hr10": {
            "SASRec as usually reported": 0.0605, "TIGER": 0.0648, "ActionPiece": 0.0775,
            "HSTU, run again by blondered/transformer_benchmark": 0.0788, "DuoRec": 0.0845,
            "eSASRec, arXiv 2508.06450": 0.0928, "SASRec with sampled softmax, arXiv 2508.06450": 0.0921,
        },
        "toys_ndcg10": {"SASRec with sampled softmax, arXiv 2508.06450": 0.0580},
        "toys_hr10": {"SASRec with sampled softmax, arXiv 2508.06450": 0.0970},
    }.items()
}  # fmt: skip
LEAST = {"beauty_behaviour_ndcg10": 0.045, "beauty_ndcg10": 0.056, "beauty_hr10": 0.092, "toys_ndcg10": 0.065}
NOTES = (
    "The files give each user's items in order and no times, so no global time split can be made of them; the shop's "
    "own recommendation figures are split by time.",
    "Items of one day stand in file order, which a table that only looks ahead can use: a gate for us, not a claim.",
    "Refreshed: the table also counts the validation events, as a product would; published rows do not, they only read "
    "them.",
    "Without attributes the encoder stays far below the published rows, which read ids alone: what it gains over them "
    "here, it gains from the items' attributes and from the table.",
    "Among items that training never saw, plainly shared attributes rank better than the learned content does: lost.",
    "Epochs, dropout and rate were chosen on Beauty's validation items, powers on each file's own.",
)
POWERS, FLOORS = (0.2, 0.3, 0.4, 0.5, 0.6), (1e-3, 1e-2, 1e-1)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shop:
    """Who bought what in which order: the last item of each is the test, the one before it the validation.

    item, part  (n_events,)
    offsets     (n_users + 1,)
    attributes  (n_items, N_ATTRIBUTES) int64
    is_cold     (n_items,) bool  items that training must not see
    """

    item: Ints
    part: NDArray[np.int8]
    offsets: Ints
    attributes: Ints
    is_cold: NDArray[np.bool_]

    @property
    def n_items(self) -> int:
        """Item indexes, 0 included."""
        return int(self.attributes.shape[0])

    @cached_property
    def sequences(self) -> Sequences:
        """What the encoder reads; a cold item stands only where it is the test."""
        kept = ~self.is_cold[self.item] | (self.part == TEST)
        ends = np.concatenate([[0], np.cumsum(kept)])
        zeros = np.zeros(int(ends[-1]), np.int64)
        return Sequences(
            self.item[kept], zeros + ORDER, zeros, zeros, np.arange(zeros.size), self.part[kept], ends[self.offsets]
        )

    def table(self, until: int) -> Transitions:
        """Successions among the events of all windows up to one."""
        sequences = self.sequences
        kept = (sequences.part <= until) & ~self.is_cold[sequences.item]
        ends = np.concatenate([[0], np.cumsum(kept)])[sequences.offsets]
        return transitions(sequences.item[kept].astype(np.int32), ends, self.n_items)

    def task(self) -> NextEvent:
        """What is learned."""
        return NextEvent(self.sequences, self.n_items, N_PLACES, N_NEGATIVES, has_repeats=False)


def shop_of(run: str) -> Shop:
    """Read one of FILES, or Beauty with cold items.

    raises  FileNotFoundError  if the data set is not beside the repository
    """
    if not DATA.is_dir():
        raise FileNotFoundError("the data set amazon_5core is not beside the repository (../shared/data)")
    name = FILES[run.split("-")[0]]
    with gzip.open(DATA / f"{name}.txt.gz", "rt") as file:
        users = [np.array(line.split()[1:], np.int64) for line in file]
    with gzip.open(DATA / f"{name}_item2attributes.json.gz", "rt") as file:
        described: dict[str, list[int]] = json.load(file)
    item, offsets = np.concatenate(users), np.concatenate([[0], np.cumsum([user.size for user in users])])
    part = np.full(item.size, TRAIN, np.int8)
    part[offsets[1:] - 2], part[offsets[1:] - 1] = VALID, TEST
    attributes = np.zeros((int(item.max()) + 1, N_ATTRIBUTES), np.int64)
    for index, codes in described.items():
        if run != IDS:
            attributes[int(index), : len(codes[:N_ATTRIBUTES])] = codes[:N_ATTRIBUTES]
    is_cold = np.zeros(attributes.shape[0], np.bool_)
    if run == COLD:
        is_cold[1:] = np.random.default_rng(0).random(is_cold.size - 1) < COLD_SHARE
    return Shop(item, part, offsets, attributes, is_cold)


def fit(progress: Callable[[str], None]) -> None:
    """Train every seed, rank every test case, and keep both; what is kept is not done again.

    raises  FileNotFoundError  if the data set is not beside the repository
    """
    for run in (*FILES, COLD, IDS):
        for seed in SEEDS if run in FILES else SEEDS[:1]:
            file = KEPT / f"{run}-{seed}" / "ranked.npz"
            if not file.exists():
                behaviour = trained(run, seed, progress)
                shop = shop_of(run)
                ranked = rankings(shop, behaviour, progress)
                _keep(file, ranked)
                progress(f"{run}, seed {seed}: every item ranked for {ranked['target'].size:,} users")
        rivals = KEPT / f"{run}-rivals.npz"
        if not rivals.exists():
            _keep(rivals, rival_rankings(shop_of(run)))
            progress(f"{run}: rivals ranked")
    if not (KEPT / "parity.json").exists():
        _keep_parity(progress)


def trained(run: str, seed: int, progress: Callable[[str], None]) -> Behaviour:
    """The encoder of one run and seed: as kept, or trained now and kept with its seconds."""
    file = KEPT / f"{run}-{seed}" / "behaviour.pt"
    if file.exists():
        return Behaviour.from_state(torch.load(file, weights_only=True)["state"]).eval()
    shop = shop_of(run)
    torch.manual_seed(seed)
    model = Behaviour(torch.from_numpy(shop.attributes), dropout=DROPOUT, id_dropout=ID_DROPOUT)
    model.is_known[torch.from_numpy(shop.is_cold)] = 0.0
    recipe, checkpoint = replace(RECIPE, seed=seed, fingerprint=run), file.with_name("checkpoint.pt")
    began = time.process_time()
    fitted = train(model, shop.task(), recipe, lambda step: progress(f"{run}, seed {seed}: {step}"), checkpoint)
    kept = {"seconds": fitted.seconds, "cpu_s": time.process_time() - began, "losses": list(fitted.validation_losses)}
    save(file, {"state": model.state_dict(), **kept})
    checkpoint.unlink(missing_ok=True)
    return model


def fused(shop: Shop, behaviour: Behaviour, until: int) -> Recommendation:
    """The encoder and a table of the windows up to one; the powers are set by `choose_powers`."""
    model = Recommendation(behaviour, has_repeats=False, n_successors=N_SUCCESSORS)
    model.take_table(shop.table(until))
    return model.eval()


def choose_powers(model: Recommendation, task: NextEvent) -> None:
    """Keep the powers and the floor with the best NDCG@10 on validation; with them the two logarithms add up to one."""
    offsets, items = task.followers(task.asked)
    best = -1.0
    kept = model.fusion.clone()
    table = model.behaviour.table()
    for power in POWERS:
        for floor in FLOORS:
            model.fusion.copy_(torch.tensor([power, 1.0 - power, floor, 1.0]))
            ranked = task.ranked(lambda events: model.scored(events, table).score, task.asked)
            gain = float(metrics.ranking_gains(ranked, offsets, items)[:, 1].mean())
            if gain > best:
                best, kept = gain, model.fusion.clone()
    model.fusion.copy_(kept)


def rankings(shop: Shop, behaviour: Behaviour, progress: Callable[[str], None]) -> dict[str, NDArray[np.generic]]:
    """The ten best items of every test case: behaviour alone, fused, and fused with a table of all but the test."""
    task, table = shop.task(), behaviour.table()
    asked = _asked(shop, task)
    model = fused(shop, behaviour, TRAIN)
    choose_powers(model, task)
    progress(f"powers {model.fusion[0]:g} and {model.fusion[1]:g}, floor {model.fusion[2]:g}")
    refreshed = fused(shop, behaviour, VALID)
    refreshed.fusion.copy_(model.fusion)
    of: dict[str, Callable[[Events], Tensor]] = {
        "behaviour": lambda events: behaviour.shopper(events, table) @ table.T,
        "fused": lambda events: model.scored(events, table).score,
        "refreshed": lambda events: refreshed.scored(events, table).score,
    }
    ranked = {name: task.ranked(scored, asked) for name, scored in of.items()}
    return {"target": task.sequences.item[asked + 1], "fusion": model.fusion.numpy(), **ranked}


def rival_rankings(shop: Shop) -> dict[str, NDArray[np.generic]]:
    """The ten best items of every test case by rivals that need no training loop."""
    task = shop.task()
    asked = _asked(shop, task)
    sequences = task.sequences
    table = shop.table(TRAIN)
    popular = torch.from_numpy(task.counts).float()
    train = np.flatnonzero(sequences.part == TRAIN)
    cells = (np.ones(train.size), (sequences.shopper[train], sequences.item[train]))
    bought = sparse.csc_matrix(cells, shape=(shop.offsets.size - 1, shop.n_items))
    row, column = np.nonzero(shop.attributes)
    codes = shop.attributes[row, column]
    told = sparse.csc_matrix((np.ones(row.size), (codes, row)), shape=(int(codes.max(initial=0)) + 1, shop.n_items))
    by_buyers, by_attributes = _cosines(bought), _cosines(told)
    of: dict[str, Callable[[Events], Tensor]] = {
        "transition table": lambda events: torch.from_numpy(scores(table, events.item.to(torch.int32).numpy(), DECAY)),
        "item neighbours, cosine": lambda events: _neighbours(by_buyers, events.item.numpy(), KNN_DECAY),
        "shared attributes, cosine": lambda events: _neighbours(by_attributes, events.item.numpy(), DECAY),
        "popularity": lambda events: popular.expand(len(events.item), -1),
    }
    return {"target": sequences.item[asked + 1]} | {name: task.ranked(scored, asked) for name, scored in of.items()}


def _asked(shop: Shop, task: NextEvent) -> Ints:
    """The last event before every test item; of a shop with cold items, those that are followed by one."""
    asked = task.asked_of(TEST, MOST)
    return asked[shop.is_cold[task.sequences.item[asked + 1]]] if shop.is_cold.any() else asked


def _cosines(bought: sparse.csc_matrix) -> sparse.csr_matrix:
    """Cosine of every pair of columns."""
    size = np.sqrt(np.asarray(bought.multiply(bought).sum(axis=0)).ravel())
    unit = bought @ sparse.diags(1.0 / np.maximum(size, 1e-12))
    return (unit.T @ unit).tocsr()


def _neighbours(cosines: sparse.csr_matrix, item: NDArray[np.int64], decay: float) -> Tensor:
    """Cosines to the history's items, each step back worth `decay` of the one after."""
    worth = decay ** np.arange(item.shape[1] - 1, -1, -1.0) * (item > 0)
    history = sparse.csr_matrix(
        (worth.ravel(), (np.repeat(np.arange(len(item)), item.shape[1]), item.ravel())), (len(item), cosines.shape[0])
    )
    return torch.from_numpy((history @ cosines).toarray()).float()


def measure(raw: Path | None) -> Study:
    """Score what `fit` kept, the whole test set.

    raw     folder for the rankings behind each figure
    raises  FileNotFoundError  if `fit` was not run
    """
    if not (KEPT / "parity.json").exists():
        raise FileNotFoundError("Amazon was not trained; run `python -m tests.benchmarks.published amazon`")
    if raw is not None:
        for file in sorted(KEPT.rglob("*.npz")):
            target = raw / "amazon" / file.relative_to(KEPT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    parity = json.loads((KEPT / "parity.json").read_text())
    seconds = [torch.load(KEPT / f"beauty-{seed}" / "behaviour.pt", weights_only=True)["seconds"] for seed in SEEDS]
    return Study(
        model="recommendation",
        protocol="Amazon Beauty and Toys, 5-core files of S3-Rec: each user's last item is the test, the one before it "
        "the validation; all items ranked, those of the user's history left out. A case counts once.",
        lines=[*_lines("beauty"), *_lines("toys"), *_side_lines()],
        n=sum(_kept(f"{run}-0/ranked")["target"].size for run in FILES),
        train_s=float(np.mean(seconds)),
        n_parameters=parity["n_parameters"],
        onnx_bytes=parity["onnx_bytes"],
        parity=Parity(parity["onnxruntime"], parity["triton"]),
        notes=NOTES,
    )


def _lines(run: str) -> list[Line]:
    lines = []
    for figure, column in (("ndcg10", 1), ("hr10", 2)):
        rivals = _rivals(run, column)
        alone, both = _figure(run, SEEDS, "behaviour", column), _figure(run, SEEDS, "fused", column)
        refreshed = _figure(run, SEEDS, "refreshed", column)
        published = PUBLISHED[f"{run}_{figure}"]
        least = LEAST.get(f"{run}_behaviour_{figure}"), LEAST.get(f"{run}_{figure}")
        lines += [
            Line(f"{run}_behaviour_{figure}", alone, len(SEEDS), rivals, published, least[0]),
            Line(f"{run}_{figure}", both, len(SEEDS), rivals | {"behaviour alone": alone}, published, least[1]),
            Line(f"{run}_refreshed_{figure}", refreshed, len(SEEDS), {"table of the training events": both}),
        ]
    return lines


def _side_lines() -> list[Line]:
    """The encoder without attributes, and items that training never saw."""
    lines = []
    for figure, column in (("ndcg10", 1), ("hr10", 2)):
        with_content = _figure("beauty", SEEDS[:1], "behaviour", column)
        ids = _figure(IDS, SEEDS[:1], "behaviour", column)
        published = [
            replace(row, remark="whether seen items are left out differs") for row in PUBLISHED[f"beauty_{figure}"]
        ]
        cold = _figure(COLD, SEEDS[:1], "behaviour", column)
        fused_cold = _figure(COLD, SEEDS[:1], "fused", column)
        lines += [
            Line(f"beauty_ids_{figure}", ids, 1, {"the same with attributes": with_content}, published),
            Line(f"beauty_cold_{figure}", cold, 1, _rivals(COLD, column) | {"fused, as served": fused_cold}),
        ]
    return lines


def _rivals(run: str, column: int) -> dict[str, Figure]:
    kept = _kept(f"{run}-rivals")
    return {name: _interval([_gains(kept, name)[:, column]]) for name in kept if name != "target"}


def _figure(run: str, seeds: Sequence[int], name: str, column: int) -> Figure:
    return _interval([_gains(_kept(f"{run}-{seed}/ranked"), name)[:, column] for seed in seeds])


def _interval(of_seeds: Sequence[NDArray[np.float64]]) -> Figure:
    """Mean over seeds; its interval draws seeds and users anew."""
    values = np.stack(of_seeds)
    weights = shopper_weights(np.arange(values.shape[1]))
    drawn = np.random.default_rng(0).integers(0, len(values), (len(weights), len(values)))
    of_draw = weights @ values.T / values.shape[1]  # (n_replicates, n_seeds)
    return interval(float(values.mean()), np.take_along_axis(of_draw, drawn, axis=1).mean(axis=1))


def _gains(kept: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.float64]:
    target = kept["target"].astype(np.int32)
    return metrics.ranking_gains(kept[name].astype(np.int32), np.arange(target.size + 1), target)


def _kept(name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(KEPT / f"{name}.npz") as arrays:
        return dict(arrays)


def _keep(file: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".writing.npz")
    np.savez_compressed(fresh, **arrays)
    fresh.replace(file)


def _keep_parity(progress: Callable[[str], None]) -> None:
    """The fused module of Beauty through the exporter and a real Triton, on users of the test."""
    shop = shop_of("beauty")
    model = fused(shop, trained("beauty", 0, progress), TRAIN)
    model.fusion.copy_(torch.from_numpy(_kept("beauty-0/ranked")["fusion"]))
    task = shop.task()
    asked = task.asked_of(TEST, 256)
    events = shop.sequences.before(shop.sequences.shopper[asked], asked + 1, 200)
    rows = {
        tensor.name: column.numpy().astype(np.int32)
        for tensor, column in zip(Served.signature.inputs, events, strict=True)
    }
    parity, onnx_bytes = parity_of("encoder", Served(model), Served.signature, rows)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    told = {"onnxruntime": parity.onnxruntime, "triton": parity.triton, "onnx_bytes": onnx_bytes}
    (KEPT / "parity.json").write_text(json.dumps(told | {"n_parameters": n_parameters}))
