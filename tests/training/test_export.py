"""The repository is written whole or not at all, and says what Triton and the gateway need."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import orjson
import polars as pl
import pytest
import torch
from google.protobuf import text_format
from onnx import numpy_helper
from tritonclient.grpc import model_config_pb2

from kernels.checks import InvalidInput
from kernels.features import N_CATEGORIES, columns
from kernels.tag_limits import TagLimits
from server.repository import open_repository
from tests.training.conftest import onnxruntime_serves
from training.configs import DECISION, ENCODER, HEADS, JOINED, SIGNATURES, config_text
from training.dataset import TRAIN, Dataset
from training.export import Answers, Exported, export, load_models
from training.features.normalisation import Moments, Normalisation
from training.features.tags import contacts_of, fit_tag_limits
from training.fit import TrainReport
from training.gate import LostToRival
from training.models.session import Session
from training.outlook import outlook_of, without_vectors
from training.parity import Disagreement, largest_difference
from training.staging import onnxruntime_answers

ROOT = Path(__file__).resolve().parents[2]
Trained = tuple[Path, TrainReport]


@pytest.fixture(scope="module")
def repository(shop_folder: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the little shop, served by ONNX Runtime where cli.py starts a Triton; not to be changed."""
    target = tmp_path_factory.mktemp("exported") / "model_repository"
    parity = export(asked(shop_folder, trained, target), onnxruntime_serves, lambda _: None)
    assert set(parity) == {ENCODER, *HEADS, JOINED, DECISION}
    # Measured: 2e-6, the rounding of float32 over 200 events; a dozen times that means another graph.
    assert max(found.onnxruntime for found in parity.values()) < 3e-5
    return target


def asked(shop_folder: Path, trained: Trained, target: Path) -> Exported:
    """An export of two quick passes, which may lose to anything."""
    return Exported(shop_folder, trained[0], target, accept_losses=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_gateway_opens_what_was_exported(repository: Path) -> None:
    opened = open_repository(repository)
    assert opened.features == columns()
    assert len(opened.catalogue.categories) == N_CATEGORIES
    assert opened.catalogue.offers


def test_the_manifest_names_every_file_by_its_hash(repository: Path) -> None:
    manifest = json.loads((repository / "manifest.json").read_bytes())
    found = {name: hashlib.sha256(content).hexdigest() for name, content in contents(repository).items()}
    del found["manifest.json"]
    assert manifest["files"] == found
    assert set(manifest["models"]) == {ENCODER, *HEADS, JOINED, DECISION}
    assert manifest["training_window"]["train_until_s"] < manifest["training_window"]["valid_until_s"]


@pytest.mark.parametrize("model", [ENCODER, *HEADS, JOINED, DECISION])
def test_graphs_take_any_batch_and_name_their_tensors(repository: Path, model: str) -> None:
    file, signature = repository / model / "1" / "model.onnx", SIGNATURES[model]
    graph = onnx.load(file).graph
    assert {tensor.name for tensor in graph.input} == {tensor.name for tensor in signature.inputs}
    assert [tensor.name for tensor in graph.output] == [tensor.name for tensor in signature.outputs]
    known = dict(np.load(repository / model / "1" / "self_test.npz"))
    whole = {tensor.name: known[f"out_{tensor.name}"] for tensor in signature.outputs}
    inputs = {tensor.name: known[f"in_{tensor.name}"] for tensor in signature.inputs}
    for batch in (1, 3, 8):
        rows = {name: array[:batch] for name, array in inputs.items()}
        answers = onnxruntime_answers(repository / model, signature, rows)
        # The same graph on fewer rows: only the order of float32 sums differs.
        assert largest_difference(model, "a smaller batch", {n: a[:batch] for n, a in whole.items()}, answers) < 1e-5


def test_probabilities_are_probabilities_and_slots_without_a_name_give_nothing(repository: Path) -> None:
    known = np.load(repository / "tags" / "1" / "self_test.npz")
    category = known["out_category_prob"]
    names = json.loads((repository / "catalogue.json").read_bytes())["categories"]
    unused = [slot for slot, name in enumerate(names) if not name]
    assert ((category >= 0) & (category <= 1)).all()
    assert category[:, 0].min() > 0
    assert unused
    assert (category[:, unused] == 0).all()


def test_graphs_hold_the_normalisation_that_is_written_beside_them(repository: Path) -> None:
    written = orjson.loads((repository / "normalisation.json").read_bytes())
    assert {"tags", "response", "uplift"} <= set(written)
    for model, content in written.items():
        graph = onnx.load(repository / model / "1" / "model.onnx").graph
        held = [numpy_helper.to_array(tensor).ravel().tolist() for tensor in graph.initializer]
        fitted = Normalisation.from_json(orjson.dumps(content))
        assert fitted.columns == columns()
        assert list(fitted.mean) in held
        assert list(fitted.scale) in held


def test_normalisation_is_fitted_on_the_training_window_alone(repository: Path, dataset: Dataset) -> None:
    written = orjson.loads((repository / "normalisation.json").read_bytes())["tags"]
    asked = outlook_of(dataset, *dataset.weekly(), without_vectors, lambda _: None)
    known = Moments.of(asked.features[asked.of(TRAIN)]).normalisation(columns())
    assert written["fitted_until_s"] == dataset.splits.train_until_s
    # What the graph holds is rounded to float32.
    np.testing.assert_allclose(written["mean"], known.mean, rtol=1e-7)
    later = Moments.of(asked.features).normalisation(columns())
    assert not np.allclose(written["mean"], later.mean, rtol=1e-4)


def test_tag_limits_are_written_beside_the_models(repository: Path, dataset: Dataset) -> None:
    limits = TagLimits.from_json((repository / "tags.json").read_bytes())
    assert limits == fit_tag_limits(dataset, contacts_of(dataset.shop, dataset.vocabulary))


def test_items_come_best_first_and_only_from_the_vocabulary(repository: Path) -> None:
    known = np.load(repository / ENCODER / "1" / "self_test.npz")
    items = pl.read_parquet(repository / "items.parquet")
    assert (np.diff(known["out_item_prob"], axis=1) <= 0).all()
    assert known["out_item_index"].min() >= 1
    assert known["out_item_index"].max() <= items["item_index"].max()
    assert all(np.unique(row).size == row.size for row in known["out_item_index"])


@pytest.mark.parametrize("model", SIGNATURES)
def test_committed_configs_are_the_ones_that_export_writes(model: str) -> None:
    text = (ROOT / "model_repository" / model / "config.pbtxt").read_text()
    assert text == config_text(model)
    assert text_format.Parse(text, model_config_pb2.ModelConfig()).name == model


def test_export_writes_nothing_when_a_runtime_disagrees(
    repository: Path, shop_folder: Path, trained: Trained, tmp_path: Path
) -> None:
    target = tmp_path / "model_repository"
    target.mkdir()
    (target / "manifest.json").write_text("the old release")

    @contextmanager
    def wrong(staged: Path, models: Sequence[str]) -> Iterator[Answers]:
        with onnxruntime_serves(staged, models) as answers:

            def shifted(model: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
                found = dict(answers(model, inputs))
                if model == "response":
                    found["redeem_prob"] = found["redeem_prob"] + np.float32(0.01)
                return found

            yield shifted

    sentence = "response: redeem_prob of Triton must be within 0.0001 of torch, got 0.01 apart"
    with pytest.raises(Disagreement, match=sentence):
        export(asked(shop_folder, trained, target), wrong, lambda _: None)
    assert contents(tmp_path) == {"model_repository/manifest.json": b"the old release"}


def test_export_again_gives_the_same_release(
    repository: Path, shop_folder: Path, trained: Trained, tmp_path: Path
) -> None:
    export(asked(shop_folder, trained, tmp_path / "again"), onnxruntime_serves, lambda _: None)
    first, again = (json.loads((folder / "manifest.json").read_bytes()) for folder in (repository, tmp_path / "again"))
    assert first["release"] == again["release"]


def test_items_may_change_places_only_where_their_probabilities_tie() -> None:
    probs = np.array([[0.5, 0.3, 0.30001, 0.1]])
    torchs = {"item_index": np.array([[1, 2, 3, 4]]), "item_prob": probs}
    tied = {"item_index": np.array([[1, 3, 2, 4]]), "item_prob": probs}
    assert largest_difference("recommendation", "Triton", torchs, tied) == 0.0
    apart = {"item_index": np.array([[2, 1, 3, 4]]), "item_prob": probs}
    with pytest.raises(Disagreement, match=r"item_index of Triton must equal torch's .* got 2 instead of 1"):
        largest_difference("recommendation", "Triton", torchs, apart)


def test_an_answer_that_is_missing_misshapen_or_nan_disagrees() -> None:
    ours = {"spend_uplift": np.array([[1.0]])}
    with pytest.raises(Disagreement, match="ONNX Runtime must answer spend_uplift, got nothing"):
        largest_difference("uplift", "ONNX Runtime", ours, {})
    with pytest.raises(Disagreement, match=r"must have shape \(1, 1\), got \(1,\)"):
        largest_difference("uplift", "ONNX Runtime", ours, {"spend_uplift": np.array([1.0])})
    with pytest.raises(Disagreement, match="got nan apart"):
        largest_difference("uplift", "ONNX Runtime", ours, {"spend_uplift": np.array([[np.nan]])})


def test_a_model_that_was_not_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"recommendation/model.pt must exist; `stratagem train` writes it"):
        load_models(tmp_path)


def test_a_model_of_another_shape_is_named(trained: Trained, tmp_path: Path) -> None:
    for model in ("recommendation", *HEADS, DECISION):
        state = torch.load(trained[0] / model / "model.pt", weights_only=True)
        (tmp_path / model).mkdir()
        torch.save({"other": torch.zeros(1)} if model == "uplift" else state, tmp_path / model / "model.pt")
    with pytest.raises(InvalidInput, match="must hold models of this version"):
        load_models(tmp_path)


def test_a_model_that_lost_to_its_rival_is_not_shipped(shop_folder: Path, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(trained[0], folder)
    told = orjson.loads((folder / "evaluation.json").read_bytes())
    told["models"]["tags"]["against"] = [
        {
            "rival": "logistic regression", "figure": "category_macro_ap", "is_lost": True,
            "difference": {"value": -0.02, "lower": -0.03, "upper": -0.01},
        }
    ]  # fmt: skip
    for model in ("behaviour", "recommendation", "response", "uplift", "heads", "lifetime"):
        told["models"][model]["against"] = []
    (folder / "evaluation.json").write_bytes(orjson.dumps(told))
    sentence = r"tags must not lose to a simple rival, got category_macro_ap -0.02 \[-0.03, -0.01\] against logistic"
    with pytest.raises(LostToRival, match=sentence):
        export(Exported(shop_folder, folder, tmp_path / "repository"), onnxruntime_serves, lambda _: None)
    assert not (tmp_path / "repository").exists()


def test_a_model_that_a_release_can_do_without_is_left_out_where_it_lost(
    shop_folder: Path, trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(trained[0], folder)
    told = orjson.loads((folder / "evaluation.json").read_bytes())
    for study in told["models"].values():
        study["against"] = []
    lost = {"value": -0.1, "lower": -0.2, "upper": -0.05}
    against = [{"rival": "popularity", "figure": "mrr_20", "is_lost": True, "difference": lost}]
    told["models"]["session"] = {"metrics": {}, "against": against}
    # The little shop's orders have no order within, so it teaches none; an untrained one stands in its place.
    (folder / "session").mkdir()
    torch.save(Session(50).state_dict(), folder / "session" / "model.pt")
    (folder / "evaluation.json").write_bytes(orjson.dumps(told))
    said: list[str] = []
    parity = export(Exported(shop_folder, folder, tmp_path / "repository"), onnxruntime_serves, said.append)
    assert "session" not in parity
    assert not (tmp_path / "repository" / "session" / "1").exists()
    assert any(sentence.startswith("session is left out: session must not lose") for sentence in said)
