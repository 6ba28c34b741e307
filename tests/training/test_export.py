"""The repository is written whole or not at all, and says what Triton and the gateway need."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
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
from training.configs import JOINED, MODELS, SIGNATURES, config_text
from training.dataset import TRAIN, WEEK_S, Dataset
from training.export import Answers, export, load_models
from training.features.normalisation import Moments, Normalisation
from training.features.tags import contacts_of, fit_tag_limits
from training.fit import TrainReport
from training.parity import Disagreement, largest_difference

ROOT = Path(__file__).resolve().parents[2]
Trained = tuple[Path, TrainReport]


@pytest.fixture(scope="module")
def repository(shop_folder: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the little shop, served by ONNX Runtime where cli.py starts a Triton; not to be changed."""
    target = tmp_path_factory.mktemp("exported") / "model_repository"
    parity = export(shop_folder, trained[0], target, onnxruntime_serves, lambda _: None)
    assert set(parity) == set(MODELS)
    # Measured: 3e-7, the rounding of float32; a hundred times that means another graph.
    assert max(found.onnxruntime for found in parity.values()) < 3e-5
    return target


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
    assert set(manifest["models"]) == set(MODELS)
    assert manifest["training_window"]["train_until_s"] < manifest["training_window"]["valid_until_s"]


@pytest.mark.parametrize("model", MODELS)
def test_graphs_take_any_batch_and_name_their_tensors(repository: Path, model: str) -> None:
    file = repository / model / "1" / "model.onnx"
    graph = onnx.load(file).graph
    assert [tensor.name for tensor in graph.input] == [SIGNATURES[model].inputs[0].name]
    assert [tensor.name for tensor in graph.output] == [tensor.name for tensor in SIGNATURES[model].outputs]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    known = np.load(repository / model / "1" / "self_test.npz")
    rows = known[f"in_{SIGNATURES[model].inputs[0].name}"]
    for batch in (1, 3, 8):
        answers = session.run(None, {SIGNATURES[model].inputs[0].name: rows[:batch]})
        for tensor, answer in zip(SIGNATURES[model].outputs, answers, strict=True):
            # The same graph on fewer rows: only the order of float32 sums differs.
            np.testing.assert_allclose(answer, known[f"out_{tensor.name}"][:batch], rtol=1e-4, atol=1e-5)


def test_probabilities_are_probabilities_and_slots_without_a_name_give_nothing(repository: Path) -> None:
    known = np.load(repository / "response" / "1" / "self_test.npz")
    category = known["out_category_prob"]
    names = json.loads((repository / "catalogue.json").read_bytes())["categories"]
    unused = [slot for slot, name in enumerate(names) if not name]
    assert ((category >= 0) & (category <= 1)).all()
    assert category[:, 0].min() > 0
    assert unused
    assert (category[:, unused] == 0).all()


def test_graphs_hold_the_normalisation_that_is_written_beside_them(repository: Path) -> None:
    written = orjson.loads((repository / "normalisation.json").read_bytes())
    assert set(written) == {"response", "uplift"}
    for model, content in written.items():
        graph = onnx.load(repository / model / "1" / "model.onnx").graph
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        fitted = Normalisation.from_json(orjson.dumps(content))
        assert fitted.columns == columns()
        assert fitted.mean == tuple(held[f"{model}.standard.mean"].tolist())
        assert fitted.scale == tuple(held[f"{model}.standard.scale"].tolist())


def test_normalisation_is_fitted_on_the_training_window_alone(repository: Path, dataset: Dataset) -> None:
    written = orjson.loads((repository / "normalisation.json").read_bytes())["response"]
    rows, _ = dataset.weekly()
    train = rows.features[dataset.splits.part(rows.at_s, WEEK_S) == TRAIN]
    known = Moments.of(train).normalisation(columns())
    assert written["fitted_until_s"] == dataset.splits.train_until_s
    # What the graph holds is rounded to float32.
    np.testing.assert_allclose(written["mean"], known.mean, rtol=1e-7)
    later = Moments.of(rows.features).normalisation(columns())
    assert not np.allclose(written["mean"], later.mean, rtol=1e-4)


def test_tag_limits_are_written_beside_the_models(repository: Path, dataset: Dataset) -> None:
    limits = TagLimits.from_json((repository / "tags.json").read_bytes())
    assert limits == fit_tag_limits(dataset, contacts_of(dataset.shop, dataset.vocabulary))


def test_items_come_best_first_and_only_from_the_vocabulary(repository: Path) -> None:
    known = np.load(repository / "recommendation" / "1" / "self_test.npz")
    items = pl.read_parquet(repository / "items.parquet")
    assert (np.diff(known["out_item_prob"], axis=1) <= 0).all()
    assert known["out_item_index"].min() >= 1
    assert known["out_item_index"].max() <= items["item_index"].max()
    assert all(np.unique(row).size == row.size for row in known["out_item_index"])


@pytest.mark.parametrize("model", [*MODELS, JOINED])
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
    def wrong(staged: Path) -> Iterator[Answers]:
        with onnxruntime_serves(staged) as answers:

            def shifted(features: np.ndarray, item_history: np.ndarray) -> Mapping[str, np.ndarray]:
                found = dict(answers(features, item_history))
                return found | {"redeem_prob": found["redeem_prob"] + np.float32(0.01)}

            yield shifted

    sentence = "response: redeem_prob of Triton must be within 0.0001 of torch, got 0.01 apart"
    with pytest.raises(Disagreement, match=sentence):
        export(shop_folder, trained[0], target, wrong, lambda _: None)
    assert contents(tmp_path) == {"model_repository/manifest.json": b"the old release"}


def test_export_again_gives_the_same_release(
    repository: Path, shop_folder: Path, trained: Trained, tmp_path: Path
) -> None:
    export(shop_folder, trained[0], tmp_path / "again", onnxruntime_serves, lambda _: None)
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
    with pytest.raises(InvalidInput, match=r"response/model.pt must exist; `stratagem train` writes it"):
        load_models(tmp_path)


def test_a_model_of_another_shape_is_named(trained: Trained, tmp_path: Path) -> None:
    for model in MODELS:
        state = torch.load(trained[0] / model / "model.pt", weights_only=True)
        (tmp_path / model).mkdir()
        torch.save({"other": torch.zeros(1)} if model == "uplift" else state, tmp_path / model / "model.pt")
    with pytest.raises(InvalidInput, match="must hold models of this version"):
        load_models(tmp_path)
