"""Sentence models are written whole or not at all, and weights that are not whole are named."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.checks import InvalidInput
from server.repository import open_repository
from tests.tiny_repository import write_tiny_repository
from tests.training.text.served import InProcess
from tests.training.text.shop import TRAIN_UNTIL_S, items, reviews
from training.parity import Disagreement
from training.text.export import Ask, export_text, is_exported
from training.text.features import text_features
from training.text.fitted import FittedText
from training.text.normal import CHINESE
from training.text.sentences import MiniLm, padded, read_safetensors

EXAMPLES = {CHINESE: np.array([[1, 2, 3], [4, 0, 0]], np.int32)}


@pytest.fixture(scope="module")
def fitted() -> FittedText:
    """Word vectors of the little shop."""
    return text_features(items(), reviews(), TRAIN_UNTIL_S).fitted


def test_sentence_models_stand_beside_a_release_and_leave_it_as_it_is(fitted: FittedText, tmp_path: Path) -> None:
    write_tiny_repository(tmp_path / "models")
    release = open_repository(tmp_path / "models").release
    parity = export_text(fitted, EXAMPLES, tmp_path / "models", InProcess())
    assert open_repository(tmp_path / "models").release == release
    assert is_exported(tmp_path / "models", CHINESE, fitted)
    # Measured: 1e-7, the rounding of float32.
    assert parity["text_embedding_zh"].onnxruntime < 1e-5


def test_another_fit_is_another_model(fitted: FittedText, tmp_path: Path) -> None:
    export_text(fitted, EXAMPLES, tmp_path / "models", InProcess())
    other = text_features(items(), reviews(seed=1), TRAIN_UNTIL_S).fitted
    assert not is_exported(tmp_path / "models", CHINESE, other)


def test_nothing_is_written_when_triton_disagrees(fitted: FittedText, tmp_path: Path) -> None:
    @contextmanager
    def wrong(repository: Path, models: Sequence[str]) -> Iterator[Ask]:
        with InProcess()(repository, models) as ask:

            def shifted(model: str, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
                return ask(model, token_ids) + np.float32(0.01)

            yield shifted

    sentence = "text_embedding_zh: embedding of Triton must be within 0.0001 of torch, got 0.01 apart"
    with pytest.raises(Disagreement, match=sentence):
        export_text(fitted, EXAMPLES, tmp_path / "models", wrong)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_rows_are_padded_at_their_end_to_a_multiple() -> None:
    assert padded([[5, 6], [7]], 4).tolist() == [[5, 6, 0, 0], [7, 0, 0, 0]]
    assert padded([[]], 4).shape == (1, 4)


def test_a_safetensors_file_gives_its_tensors_and_one_cut_short_is_named(tmp_path: Path) -> None:
    told = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    header = json.dumps(told).encode()
    whole = len(header).to_bytes(8, "little") + header + np.array([1.0, 2.0], np.float32).tobytes()
    (tmp_path / "whole").write_bytes(whole)
    assert torch.equal(read_safetensors(tmp_path / "whole")["a"], torch.tensor([1.0, 2.0]))
    for n_bytes, sentence in (
        (20, "must be a whole safetensors file, got 20 bytes"),
        (len(whole) - 1, "a in .* whole"),
    ):
        (tmp_path / "short").write_bytes(whole[:n_bytes])
        with pytest.raises(InvalidInput, match=sentence):
            read_safetensors(tmp_path / "short")


def test_weights_that_lack_a_layer_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"must hold embeddings.word_embeddings.weight, got 0 others"):
        MiniLm({})
