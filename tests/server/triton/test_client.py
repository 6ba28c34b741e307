"""Models against a real Triton: equal to ONNX Runtime here, and every trouble is one sentence."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from kernels.features import HISTORY, N_FEATURES, columns
from server.problems import InvalidRequest, ModelUnavailable, TooLate
from server.triton.client import Models, Predictions
from server.triton.environment import Environment
from server.triton.process import serving
from tests.tiny_repository import local_answers, tiny_inputs

WITHIN_S = 30.0
# The same wheel of ONNX Runtime on the same CPU: a batch of another size may be summed in another order.
ATOL = 1e-6


def with_models(address: str, scene: Callable[[Models], Awaitable[Predictions]]) -> Predictions:
    """Run `scene` in a loop of its own."""

    async def run() -> Predictions:
        models = Models(address)
        try:
            return await scene(models)
        finally:
            await models.close()

    return asyncio.run(run())


def ask(address: str, batch: int, within_s: float = WITHIN_S) -> Predictions:
    """One prediction of `batch` rows."""
    return with_models(address, lambda models: models.predict(**tiny_inputs(batch), within_s=within_s))


def assert_equals_local(found: Predictions, repository: Path, batch: int, seed: int = 1) -> None:
    """Compare with ONNX Runtime in this process, for the rows of tiny_inputs(batch, seed)."""
    expected = local_answers(repository, "predictions", tiny_inputs(batch, seed))
    assert asdict(found).keys() == expected.keys()
    for name, array in asdict(found).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=ATOL, err_msg=name)


@pytest.mark.parametrize("batch", [1, 7, 256, 300])
def test_triton_answers_what_onnxruntime_answers_here(tiny_triton: str, tiny_repository: Path, batch: int) -> None:
    assert_equals_local(ask(tiny_triton, batch), tiny_repository, batch)


@pytest.mark.parametrize("batch", [1, 300, 2100])
def test_the_blocking_twin_answers_the_same(tiny_triton: str, tiny_repository: Path, batch: int) -> None:
    models = Models(tiny_triton)
    assert_equals_local(models.predict_now(**tiny_inputs(batch)), tiny_repository, batch)
    asyncio.run(models.close())


def test_no_rows_are_no_rows(tiny_triton: str) -> None:
    assert ask(tiny_triton, 0).category_prob.shape == (0, 64)


def test_sixty_callers_at_once_each_get_their_own_rows(tiny_triton: str, tiny_repository: Path) -> None:
    async def scene(models: Models) -> Predictions:
        answers = await asyncio.gather(
            *(models.predict(**tiny_inputs(1 + seed % 5, seed), within_s=WITHIN_S) for seed in range(60))
        )
        for seed, answer in enumerate(answers):
            assert_equals_local(answer, tiny_repository, 1 + seed % 5, seed)
        return answers[0]

    with_models(tiny_triton, scene)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_name(tiny_triton: str, wrong: float) -> None:
    inputs = tiny_inputs(4)
    inputs["features"][2, 17] = wrong
    with pytest.raises(InvalidRequest, match="must be finite, got") as refused:
        with_models(tiny_triton, lambda models: models.predict(**inputs, within_s=WITHIN_S))
    assert str(refused.value) == f"{columns()[17]} must be finite, got {wrong} (row 2 of features)"


@pytest.mark.parametrize(
    ("features", "item_history", "sentence"),
    [
        (np.zeros((1, 3), np.float32), np.zeros((1, HISTORY), np.int32), "features must be float32 of shape"),
        (np.zeros((1, N_FEATURES)), np.zeros((1, HISTORY), np.int32), "features must be float32 of shape"),
        (
            np.zeros((1, N_FEATURES), np.float32),
            np.zeros((2, HISTORY), np.int32),
            "one row per row of features, 1, got 2",
        ),
        (
            np.zeros((1, N_FEATURES), np.float32),
            np.full((1, HISTORY), -1, np.int32),
            "item_history must be ≥ 0, got -1",
        ),
    ],
    ids=["width", "dtype", "rows", "negative"],
)
def test_wrong_arrays_never_reach_triton(features: np.ndarray, item_history: np.ndarray, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        Models("127.0.0.1:1").predict_now(features, item_history)


def test_an_answer_that_is_not_finite_is_refused(
    triton_environment: Environment, tiny_repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model_repository"
    shutil.copytree(tiny_repository, broken)
    file = broken / "uplift/1/model.onnx"
    model = onnx.load(file)
    bias = next(array for array in model.graph.initializer if array.name == "mean_bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, np.nan, 0, 0], np.float32), "mean_bias"))
    onnx.save(model, file)
    with (
        serving(broken, self_test=False) as address,
        pytest.raises(ModelUnavailable, match=r"spend_uplift must be finite, got nan from Triton \(row 0, column 1\)"),
    ):
        ask(address, 2)


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
            Models(address).predict_now(**tiny_inputs(300))
        assert not asyncio.run(Models(address).is_ready())


def test_an_ensemble_that_is_not_loaded_is_one_sentence(tiny_triton: str) -> None:
    models = Models(tiny_triton, name="prophecies")
    with pytest.raises(ModelUnavailable, match=r"must answer prophecies, got: .*unknown model"):
        models.predict_now(**tiny_inputs(1))
    asyncio.run(models.close())
