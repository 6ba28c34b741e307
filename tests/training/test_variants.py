"""Smaller graphs answer nearly the same through the same tensors."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.serving_quality import HeldOut, beside_whole, judged_by_labels
from training.configs import config_of
from training.labels import NextItems
from training.staging import onnxruntime_answers, stage
from training.tensors import FEATURES_IN, VECTOR, Signature
from training.tensors import Tensor as Named
from training.variants import VARIANTS

WIDTH, N_ROWS, N_TOP = 16, 64, 20
# Weights in 8 bits are right to a 127th of their largest, half floats to a 2048th; two layers add up.
APART = {"int8": 0.05, "fp16": 0.005}


class Items(nn.Module):
    """Scores of items, their best, and a log of rates: what exported graphs are made of."""

    signature = Signature(
        (FEATURES_IN,),
        (
            VECTOR,
            Named("item_index", "TYPE_INT32", N_TOP, "best first"),
            Named("item_prob", "TYPE_FP32", N_TOP, "descending"),
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(FEATURES_IN.width, VECTOR.width)
        self.item = nn.Embedding(300, VECTOR.width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vector, best items, their probabilities."""
        vector = torch.tanh(self.inner(features))
        rates = torch.exp(vector @ self.item.weight.T)
        found = rates.scatter_add(1, torch.zeros_like(rates[:, :1], dtype=torch.int64), rates[:, :1])
        best, place = torch.topk(torch.log(found + 1e-30), N_TOP, dim=1)
        return vector, place.to(torch.int32), torch.sigmoid(best)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A staged model of float32."""
    folder = tmp_path_factory.mktemp("variants") / "items"
    stage(folder, Items().eval(), Items.signature, rows(), config_of("items", Items.signature))
    return folder


def rows() -> dict[str, np.ndarray]:
    """Examples of the input."""
    return {"features": np.random.default_rng(0).normal(size=(N_ROWS, FEATURES_IN.width)).astype(np.float32)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_smaller_and_answers_nearly_the_same_through_the_same_tensors(
    staged: Path, tmp_path: Path, variant: str
) -> None:
    file, smaller = staged / "1" / "model.onnx", tmp_path / "items" / "1" / "model.onnx"
    smaller.parent.mkdir(parents=True)
    VARIANTS[variant](file, smaller)
    assert smaller.stat().st_size < 0.6 * file.stat().st_size
    for side in ("input", "output"):
        was, now = (getattr(onnx.load(path).graph, side) for path in (file, smaller))
        assert [(t.name, t.type.tensor_type.elem_type) for t in was] == [
            (t.name, t.type.tensor_type.elem_type) for t in now
        ]
    exact = onnxruntime_answers(staged, Items.signature, rows())
    found = onnxruntime_answers(tmp_path / "items", Items.signature, rows())
    figures = beside_whole(exact, found)
    assert 0 < figures["max_difference"] < APART[variant]
    assert 0.98 < figures["rank_correlation"] <= 1.0
    assert figures["top20_overlap"] > 0.9


def test_a_batch_of_one_and_of_many_are_answered(staged: Path, tmp_path: Path) -> None:
    VARIANTS["int8"](staged / "1" / "model.onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for n_rows in (1, N_ROWS):
        assert session.run(None, {"features": rows()["features"][:n_rows]})[0].shape == (n_rows, VECTOR.width)


def test_the_same_answers_lose_nothing_and_turned_ones_lose_all() -> None:
    rng = np.random.default_rng(0)
    whole = {"category_prob": rng.random((50, 3)), "item_index": np.tile(np.arange(1, 21, dtype=np.int32), (50, 1))}
    assert beside_whole(whole, whole) == {"max_difference": 0.0, "rank_correlation": 1.0, "top20_overlap": 1.0}
    turned = {"category_prob": 1.0 - whole["category_prob"], "item_index": whole["item_index"] + 20}
    lost = beside_whole(whole, turned)
    assert lost["rank_correlation"] == pytest.approx(-1.0)
    assert lost["top20_overlap"] == 0.0


def test_labels_judge_categories_and_items() -> None:
    bought = np.arange(40)[:, None] % 2 == np.array([0, 1])
    items = NextItems(np.arange(41), np.full(40, 7, np.int32))
    found = {
        "category_prob": np.stack([bought[:, 0], ~bought[:, 1]], axis=1).astype(np.float32),
        "item_index": np.full((40, 20), 7, np.int32) * (np.arange(20) == 1),
    }
    judged = judged_by_labels(found, HeldOut({}, bought, items))
    # One category ranked without a mistake, one the wrong way round; the item bought stands second: 1 / log2(3).
    assert judged == {"category_auc": 0.5, "item_ndcg_10": pytest.approx(1 / np.log2(3))}
