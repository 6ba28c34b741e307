"""Models against a real Triton: equal to ONNX Runtime here, and every trouble is one sentence."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from kernels.event_history import LENGTH
from kernels.features import N_FEATURES, columns
from server.problems import InvalidRequest, ModelUnavailable, TooLate
from server.state.encodings import Encodings, no_encodings
from server.triton.client import Models, Predictions
from server.triton.environment import Environment
from server.triton.process import serving, started
from tests.tiny_repository import local_answers, tiny_encodings, tiny_events, tiny_features, tiny_inputs

WITHIN_S = 30.0
# The same wheel of ONNX Runtime on the same CPU: a batch of another size may be summed in another order.
ATOL, RTOL = 1e-6, 1e-6
Answer = TypeVar("Answer")


def with_models(address: str, scene: Callable[[Models], Awaitable[Answer]]) -> Answer:
    """Run `scene` in a loop of its own."""

    async def run() -> Answer:
        models = Models(address)
        try:
            return await scene(models)
        finally:
            await models.close()

    return asyncio.run(run())


def ask(address: str, batch: int, within_s: float = WITHIN_S) -> Predictions:
    """One prediction of `batch` rows."""
    return with_models(address, lambda models: models.predict(*rows_of(batch), within_s))


def rows_of(batch: int, seed: int = 1) -> tuple[NDArray[np.float32], Encodings]:
    """What `predict` is asked."""
    return tiny_features(batch, seed), tiny_encodings(batch, seed)


def assert_equals_local(found: Predictions, repository: Path, batch: int, seed: int = 1) -> None:
    """Compare with ONNX Runtime in this process, for the rows of rows_of(batch, seed)."""
    expected = local_answers(repository, "predictions", tiny_inputs("predictions", batch, seed))
    encodings = tiny_encodings(batch, seed)
    expected |= {name: encodings[name] for name in ("item_index", "item_prob")}
    assert asdict(found).keys() == expected.keys()
    for name, array in asdict(found).items():
        np.testing.assert_allclose(array, expected[name], rtol=RTOL, atol=ATOL, err_msg=name)


def assert_encodes_as_local(found: Encodings, repository: Path, batch: int, seed: int = 1) -> None:
    """Compare with ONNX Runtime in this process, for the rows of tiny_events(batch, seed)."""
    for name, expected in local_answers(repository, "encoder", tiny_inputs("encoder", batch, seed)).items():
        np.testing.assert_allclose(found[name], expected, rtol=RTOL, atol=ATOL, err_msg=name)


@pytest.mark.parametrize("batch", [1, 7, 256, 300])
def test_triton_answers_what_onnxruntime_answers_here(tiny_triton: str, tiny_repository: Path, batch: int) -> None:
    assert_equals_local(ask(tiny_triton, batch), tiny_repository, batch)
    encoded = with_models(tiny_triton, lambda models: models.encode(tiny_events(batch), WITHIN_S))
    assert_encodes_as_local(encoded, tiny_repository, batch)


@pytest.mark.parametrize("batch", [1, 300, 2100])
def test_the_blocking_twin_answers_the_same(tiny_triton: str, tiny_repository: Path, batch: int) -> None:
    models = Models(tiny_triton)
    assert_equals_local(models.predict_now(*rows_of(batch)), tiny_repository, batch)
    assert_encodes_as_local(models.encode_now(tiny_events(batch)), tiny_repository, batch)
    asyncio.run(models.close())


def test_no_rows_are_no_rows(tiny_triton: str) -> None:
    assert ask(tiny_triton, 0).category_prob.shape == (0, 64)
    assert with_models(tiny_triton, lambda models: models.encode(tiny_events(0), WITHIN_S)).size == 0


def test_sixty_callers_at_once_each_get_their_own_rows(tiny_triton: str, tiny_repository: Path) -> None:
    async def scene(models: Models) -> Predictions:
        answers = await asyncio.gather(*(models.predict(*rows_of(1 + seed % 5, seed), WITHIN_S) for seed in range(60)))
        for seed, answer in enumerate(answers):
            assert_equals_local(answer, tiny_repository, 1 + seed % 5, seed)
        return answers[0]

    with_models(tiny_triton, scene)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_name(tiny_triton: str, wrong: float) -> None:
    features, encodings = rows_of(4)
    features[2, 17] = wrong
    with pytest.raises(InvalidRequest, match="must be finite, got") as refused:
        with_models(tiny_triton, lambda models: models.predict(features, encodings, WITHIN_S))
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
        Models("127.0.0.1:1").predict_now(features, no_encodings(n_encodings))


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
        Models("127.0.0.1:1").encode_now(replace(tiny_events(1), **{name: wrong}))


def test_an_answer_that_is_not_finite_is_refused(
    triton_environment: Environment, tiny_repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model_repository"
    shutil.copytree(tiny_repository, broken)
    file = broken / "predictions/1/model.onnx"
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
    with pytest.raises(TooLate, match="must answer within 0 ms"):
        ask(tiny_triton, 2000, within_s=1e-4)
    with pytest.raises(TooLate, match="no time was left"):
        ask(tiny_triton, 1, within_s=0.0)


def test_a_port_without_a_server_is_one_sentence() -> None:
    with socket.socket() as taken:  # bound and never listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ModelUnavailable, match=f"^Triton at {address} must answer predictions, got: .+$"):
            ask(address, 1)
        with pytest.raises(ModelUnavailable, match="must answer predictions"):
            Models(address).predict_now(*rows_of(300))
        assert not asyncio.run(Models(address).is_ready())


def test_a_model_that_is_not_loaded_is_one_sentence(triton_environment: Environment, tiny_repository: Path) -> None:
    with serving(tiny_repository, ["predictions"]) as address:
        models = Models(address)
        assert not asyncio.run(Models(address).is_ready())
        with pytest.raises(ModelUnavailable, match=r"must answer encoder, got: .*unknown model"):
            models.encode_now(tiny_events(1))
        asyncio.run(models.close())
