"""Models against a real Triton: equal to ONNX Runtime here, and every trouble is one sentence."""

import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from kernels.event_history import LENGTH
from kernels.features import N_FEATURES, columns
from server.problems import InvalidRequest, ModelUnavailable, TooLate
from server.state.encodings import Encodings, no_encodings
from server.triton.client import Models, Predictions, predictions_of
from server.triton.environment import Environment
from server.triton.process import serving, started
from tests.tiny_repository import local_answers, tiny_encodings, tiny_events, tiny_features, tiny_inputs

WITHIN_S = 30.0
# The same wheel of ONNX Runtime on the same CPU: a batch of another size may be summed in another order.
ATOL, RTOL = 1e-6, 1e-6


@contextmanager
def models_at(address: str) -> Iterator[Models]:
    """Models behind an address, closed at the end."""
    models = Models(address)
    try:
        yield models
    finally:
        models.close()


def ask(address: str, batch: int, within_s: float = WITHIN_S) -> Predictions:
    """One prediction of `batch` rows."""
    with models_at(address) as models:
        return models.predict(*rows_of(batch), within_s)


def rows_of(batch: int, seed: int = 1) -> tuple[NDArray[np.float32], Encodings]:
    """What `predict` is asked."""
    return tiny_features(batch, seed), tiny_encodings(batch, seed)


def assert_equals_local(found: Predictions, repository: Path, batch: int, seed: int = 1) -> None:
    """Compare with ONNX Runtime in this process, for the rows of rows_of(batch, seed)."""
    expected = local_answers(repository, "heads", tiny_inputs("heads", batch, seed))
    encodings = tiny_encodings(batch, seed)
    expected |= {name: encodings[name] for name in ("item_index", "item_prob")}
    assert asdict(found).keys() == expected.keys()
    for name, array in asdict(found).items():
        np.testing.assert_allclose(array, expected[name], rtol=RTOL, atol=ATOL, err_msg=name)


def assert_encodes_as_local(found: Encodings, repository: Path, batch: int, seed: int = 1) -> None:
    """Compare with ONNX Runtime in this process, for the rows of tiny_events(batch, seed)."""
    for name, expected in local_answers(repository, "encoder", tiny_inputs("encoder", batch, seed)).items():
        np.testing.assert_allclose(found[name], expected, rtol=RTOL, atol=ATOL, err_msg=name)


@pytest.mark.parametrize("batch", [1, 7, 256, 300, 2100])
def test_triton_answers_what_onnxruntime_answers_here(tiny_triton: str, tiny_repository: Path, batch: int) -> None:
    with models_at(tiny_triton) as models:
        assert_equals_local(models.predict(*rows_of(batch)), tiny_repository, batch)
        assert_encodes_as_local(models.encode(tiny_events(batch), WITHIN_S), tiny_repository, batch)
        foretold = models.foretell(*rows_of(batch))
    for name, array in local_answers(tiny_repository, "predictions", tiny_inputs("predictions", batch, 1)).items():
        np.testing.assert_allclose(foretold[name], array, rtol=RTOL, atol=ATOL, err_msg=name)


def test_a_question_on_its_way_can_be_waited_for_and_given_up(tiny_triton: str, tiny_repository: Path) -> None:
    with models_at(tiny_triton) as models:
        features, encodings = rows_of(7)
        asked = models.asked(features, encodings, WITHIN_S)
        assert asked.has_come(WITHIN_S)
        assert_equals_local(predictions_of(asked.answer(), encodings), tiny_repository, 7)
        given_up = models.asked(features, encodings, WITHIN_S)
        given_up.give_up()
        assert given_up.has_come(WITHIN_S)


def test_no_rows_are_no_rows(tiny_triton: str) -> None:
    assert ask(tiny_triton, 0).category_prob.shape == (0, 64)
    with models_at(tiny_triton) as models:
        assert models.encode(tiny_events(0), WITHIN_S).size == 0


def test_sixty_callers_at_once_each_get_their_own_rows(tiny_triton: str, tiny_repository: Path) -> None:
    with models_at(tiny_triton) as models, ThreadPoolExecutor(60) as callers:
        asked = [callers.submit(models.predict, *rows_of(1 + seed % 5, seed), WITHIN_S) for seed in range(60)]
        for seed, answer in enumerate(asked):
            assert_equals_local(answer.result(), tiny_repository, 1 + seed % 5, seed)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_name(tiny_triton: str, wrong: float) -> None:
    features, encodings = rows_of(4)
    features[2, 17] = wrong
    with models_at(tiny_triton) as models, pytest.raises(InvalidRequest, match="must be finite, got") as refused:
        models.predict(features, encodings, WITHIN_S)
    assert str(refused.value) == f"{columns()[17]} must be finite, got {wrong} (row 2 of features)"


@pytest.mark.parametrize(
    ("features", "n_encodings", "sentence"),
    [
        (np.zeros((1, 3), np.float32), 1, "features must be float32 of shape"),
        (np.zeros((1, N_FEATURES)), 1, "features must be float32 of shape"),
        (np.zeros((1, N_FEATURES), np.float32), 2, "one row per row of features, 1, got 2"),
    ],
    ids=["width", "dtype", "rows"],
)
def test_wrong_features_never_reach_triton(features: np.ndarray, n_encodings: int, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        Models("127.0.0.1:1").predict(features, no_encodings(n_encodings))


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("item", np.full((1, LENGTH), -1, np.int32), r"event_item must be ≥ 0, got -1 \(row 0, place 0\)"),
        ("kind", np.zeros((1, LENGTH), np.int32), "event_kind must be int8 of shape"),
        ("gap_s", np.zeros((2, LENGTH), np.int32), "event_gap_s must have 1 rows, as event_item, got 2"),
        ("item", np.zeros((1, 3), np.int32), r"event_item must be int32 of shape \(batch, 200\)"),
    ],
    ids=["negative", "dtype", "rows", "width"],
)
def test_wrong_events_never_reach_triton(name: str, wrong: np.ndarray, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        Models("127.0.0.1:1").encode(replace(tiny_events(1), **{name: wrong}))


def test_an_answer_that_is_not_finite_is_refused(
    triton_environment: Environment, tiny_repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model_repository"
    shutil.copytree(tiny_repository, broken)
    file = broken / "heads/1/model.onnx"
    model = onnx.load(file)
    bias = next(array for array in model.graph.initializer if array.name == "spend_uplift_bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, np.nan, 0, 0], np.float32), "spend_uplift_bias"))
    onnx.save(model, file)
    with (
        started(broken) as running,
        pytest.raises(ModelUnavailable, match=r"spend_uplift must be finite, got nan from Triton \(row 0, column 1\)"),
    ):
        ask(running.address, 2)


def test_time_that_is_too_short_is_too_late(tiny_triton: str) -> None:
    with pytest.raises(TooLate, match=r"must answer in time|no time was left"):
        ask(tiny_triton, 2000, within_s=1e-4)
    with pytest.raises(TooLate, match="no time was left"):
        ask(tiny_triton, 1, within_s=0.0)


def test_a_port_without_a_server_is_one_sentence() -> None:
    with socket.socket() as taken:  # bound and never listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ModelUnavailable, match=f"^Triton at {address} must answer heads, got: .+$"):
            ask(address, 1)
        with pytest.raises(ModelUnavailable, match="must answer heads"):
            Models(address).predict(*rows_of(300))
        assert not Models(address).is_ready()


def test_a_model_that_is_not_loaded_is_one_sentence(triton_environment: Environment, tiny_repository: Path) -> None:
    with serving(tiny_repository, ["heads"]) as address, models_at(address) as models:
        assert not models.is_ready()
        with pytest.raises(ModelUnavailable, match=r"must answer encoder, got: .*unknown model"):
            models.encode(tiny_events(1))
