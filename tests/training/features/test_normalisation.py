"""One normalisation, fitted before the end of training, held by the graph and written beside it."""

import json

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from kernels.checks import InvalidInput
from training.features.normalisation import LIMIT, Moments, Normalisation
from training.models.standard import Standard

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
_VALUES = st.one_of(st.just(float("nan")), st.floats(-1e9, 1e9, width=32))
ROWS = arrays(np.float32, st.tuples(st.integers(0, 20), st.just(3)), elements=_VALUES)


def defined(values: np.ndarray) -> np.ndarray:
    """What a normalisation does, column by column, from the whole of the rows."""
    squeezed = np.sign(values) * np.log1p(np.abs(values))
    result = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        known = squeezed[~np.isnan(values[:, column]), column].astype(np.float64)
        if known.size:
            spread = known.std()
            standard = (squeezed[:, column] - known.mean()) * (1 / spread if spread > 1e-6 else 0.0)
            result[:, column] = standard.clip(-8, 8)
    return result


@EXAMPLES
@given(values=ROWS)
def test_normalisation_equals_its_definition(values: np.ndarray) -> None:
    fitted = Moments.of(values).normalisation(("a", "b", "c"))
    # float32 logarithms of up to 20 keep 1e-6; a spread barely above 1e-6 multiplies that.
    close = 2e-6 * max(1.0, *fitted.scale)
    assert_allclose(fitted.applied(values), defined(values), atol=close, rtol=1e-5)


@EXAMPLES
@given(values=ROWS, cut=st.integers(0, 20))
def test_moments_of_parts_are_those_of_the_whole(values: np.ndarray, cut: int) -> None:
    whole, parts = Moments.of(values), Moments.of(values[:cut]).merged(Moments.of(values[cut:]))
    assert parts.n.tolist() == whole.n.tolist()
    # The same sums in another order, of numbers up to 21: float64 keeps 1e-14 of them.
    assert_allclose(parts.mean, whole.mean, atol=1e-12)
    assert_allclose(parts.squares, whole.squares, atol=1e-9)


def test_nan_stays_and_a_column_that_never_varied_is_silent() -> None:
    fitted = Moments.of(np.array([[1.0, 7.0], [np.nan, 7.0], [3.0, 7.0]])).normalisation(("kept", "silent"))
    assert_allclose(fitted.applied(np.array([[np.nan, 1e9], [1e30, 7.0]])), [[np.nan, 0.0], [LIMIT, 0.0]])


def test_the_module_does_what_the_normalisation_says() -> None:
    values = np.random.default_rng(0).exponential(50.0, (400, 3)).astype(np.float32)
    module = Standard(("a", "b", "c"))
    module.learn(torch.from_numpy(values))
    # torch's and numpy's float32 logarithms differ in the last digit.
    assert_allclose(module(torch.from_numpy(values)).numpy(), module.normalisation().applied(values), atol=2e-6)


def test_a_normalisation_comes_back_from_its_file_as_it_was() -> None:
    fitted = Moments.of(np.array([[1.0, 7.0], [3.0, 9.0]])).normalisation(("a", "b"), 86_400)
    assert Normalisation.from_json(orjson.dumps(fitted.to_json())) == fitted


def test_a_file_of_another_rule_or_shape_is_refused() -> None:
    known = Normalisation(("a",), (0.0,), (1.0,)).to_json()
    for content in (b"no", b"[]", b"{}", json.dumps({"rule": known["rule"], "limit": LIMIT}).encode()):
        with pytest.raises(InvalidInput, match="a normalisation must be one of this version"):
            Normalisation.from_json(content)
    with pytest.raises(InvalidInput, match=r"rule must be .* within 8.0, got 'other' within 8.0"):
        Normalisation.from_json(json.dumps(known | {"rule": "other"}).encode())
    with pytest.raises(InvalidInput, match="scale must have 1 values, got 2"):
        Normalisation(("a",), (0.0,), (1.0, 1.0))
    with pytest.raises(InvalidInput, match=r"values must have 1 columns, got shape \(2, 3\)"):
        Normalisation(("a",), (0.0,), (1.0,)).applied(np.zeros((2, 3)))
