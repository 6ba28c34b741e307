"""Calibration finds the slope and shift that were planted, and leans on its family where a label is rare."""

import numpy as np
import pytest

from training.calibrate import fit_families, fit_platt

PRIOR = np.array([1.0, 0.0])


def drawn(rng: np.random.Generator, n: int, slope: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    logits = rng.normal(size=n) * 2.0
    return logits, rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-(slope * logits + shift)))


def test_a_planted_slope_and_shift_are_found() -> None:
    logits, happened = drawn(np.random.default_rng(0), 50_000, slope=0.6, shift=-1.0)
    # The standard error of a logistic slope at 50 000 cases of this spread is about 0.01.
    assert fit_platt(logits[:, None], happened, PRIOR) == pytest.approx([0.6, -1.0], abs=0.03)


def test_no_cases_leave_the_prior() -> None:
    assert fit_platt(np.zeros((0, 1)), np.zeros(0, np.bool_), PRIOR).tolist() == PRIOR.tolist()


def test_one_class_does_not_run_away() -> None:
    fitted = fit_platt(np.linspace(-1.0, 1.0, 50)[:, None], np.zeros(50, np.bool_), PRIOR)
    assert np.isfinite(fitted).all()
    assert fitted[1] < 0.0


def test_a_rare_label_takes_its_familys_calibration() -> None:
    rng = np.random.default_rng(1)
    columns = [drawn(rng, 4_000, slope=0.5, shift=0.3) for _ in range(3)]
    logits, happened = (np.column_stack(part) for part in zip(*columns, strict=True))
    observed = np.ones_like(happened)
    observed[3:, 2] = False
    slopes, shifts = fit_families(logits, happened, observed, [slice(0, 3)])
    # Three cases against a prior worth twenty: the rare label stays near its family, whatever they say.
    assert slopes == pytest.approx([0.5, 0.5, 0.5], abs=0.12)
    assert shifts == pytest.approx([0.3, 0.3, 0.3], abs=0.35)


def test_calibration_never_turns_an_order_round() -> None:
    rng = np.random.default_rng(2)
    logits, happened = drawn(rng, 5_000, slope=-1.0, shift=0.0)
    slopes, _ = fit_families(logits[:, None], happened[:, None], np.ones((5_000, 1), np.bool_), [slice(0, 1)])
    assert slopes[0] > 0.0
