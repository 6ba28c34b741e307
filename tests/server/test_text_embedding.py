"""A real Triton serves the sentence models, and what it answers is what torch and ONNX Runtime answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from server.problems import InvalidRequest, ModelUnavailable
from server.triton.environment import Environment
from server.triton.process import serving
from server.triton.text import TextModels
from tests.training.text.served import InProcess, require_minilm
from tests.training.text.shop import TRAIN_UNTIL_S, items, reviews
from training.text.embedding import Embedder
from training.text.export import MODEL_OF, Ask, config_text
from training.text.features import TextFeatures, text_features

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def triton(repository: Path, models: Sequence[str]) -> Iterator[Ask]:
    """What cli.py hands to training."""
    with serving(repository, models) as address:
        asking = TextModels(address)
        try:
            yield asking.ask
        finally:
            asking.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sentence models are exported to."""
    return tmp_path_factory.mktemp("text") / "model_repository"


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What embedding said."""
    return []


@pytest.fixture(scope="module")
def features(triton_environment: Environment, repository: Path, told: list[str]) -> TextFeatures:
    """The little shop's texts, embedded by a Triton of our own."""
    require_minilm()
    embed = Embedder(repository, triton, repository.parent / "cache", told.append)
    return text_features(items(), reviews(60), TRAIN_UNTIL_S, embed)


def test_torch_onnx_runtime_and_triton_agree_on_both_languages(features: TextFeatures, told: list[str]) -> None:
    for model in MODEL_OF.values():
        assert any(sentence.startswith(f"{model} against torch") for sentence in told)


def test_triton_answers_as_onnx_runtime_in_this_process(features: TextFeatures, repository: Path) -> None:
    local = Embedder(repository, InProcess(), repository.parent / "another_cache")
    ours = text_features(items(), reviews(60), TRAIN_UNTIL_S, local, fitted=features.fitted)
    for model in MODEL_OF.values():
        found, expected = (part.reviews[model].drop_nulls().to_numpy() for part in (features, ours))
        # Batches of other sizes sum in another order: float32 with 384 terms.
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_texts_of_different_lengths_get_what_they_get_alone(features: TextFeatures, repository: Path) -> None:
    with triton(repository, ["text_embedding"]) as ask:
        short, long = [101, 2307, 4377, 102], [101, *range(2000, 2060), 102]
        together = np.zeros((2, len(long)), np.int32)
        together[0, : len(short)], together[1] = short, long
        alone = ask("text_embedding", np.array([short], np.int32))
        np.testing.assert_allclose(ask("text_embedding", together)[0], alone[0], atol=1e-5)  # padding is not read


def test_what_cannot_be_asked_is_refused_in_one_sentence(features: TextFeatures, repository: Path) -> None:
    with triton(repository, ["text_embedding_zh"]) as ask:
        with pytest.raises(InvalidRequest, match="token_ids must be int32 of shape"):
            ask("text_embedding_zh", np.zeros((1, 0), np.int32))
        with pytest.raises(ModelUnavailable, match=r"must answer text_embedding_zh, got: .*Gather"):
            ask("text_embedding_zh", np.array([[1_000_000]], np.int32))
        with pytest.raises(ModelUnavailable, match="must answer text_embedding_fr"):
            ask("text_embedding_fr", np.array([[1]], np.int32))


@pytest.mark.parametrize("language", MODEL_OF)
def test_committed_configs_are_the_ones_that_export_writes(language: str) -> None:
    text = (ROOT / "model_repository" / MODEL_OF[language] / "config.pbtxt").read_text()
    assert text == config_text(language)
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.backend) == (MODEL_OF[language], "onnxruntime")
    assert [list(tensor.dims) for tensor in config.input] == [[-1]]
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_AUTO]
