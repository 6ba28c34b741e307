"""Log-odds that mean what they say: a slope and a shift for each label, fitted on the validation window.

In: log-odds and what happened. Out: slopes and shifts that the exported graph applies. Called by training/answering.py,
training/baskets.py and training/multilabel.py.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Worth of the prior in cases: a label with few answers keeps its family's slope and shift.
PRIOR_CASES = 20.0


def fit_platt(inputs: Floats, happened: Bools, prior: Floats, prior_cases: float = PRIOR_CASES) -> Floats:
    """Fit a logistic regression on few inputs by Newton's method, drawn towards a prior.

    inputs       (n, n_inputs) float64  log-odds first; a constant 1 is added here
    happened     (n,) bool
    prior        (n_inputs + 1,) float64  coefficients without evidence, the shift last
    prior_cases  how many cases the prior is worth
    returns      (n_inputs + 1,) float64  coefficients, the shift last; the prior where there are no cases
    """
    design = np.column_stack([inputs, np.ones(happened.size)])
    coefficients = prior.astype(np.float64).copy()
    if happened.size == 0:
        return coefficients
    told = _sigmoid(design @ prior)
    # What one case tells about a logit is p (1 - p); the prior is worth that many typical cases.
    scale = np.maximum(design.std(axis=0), 1.0) ** 2
    ridge = np.diag(prior_cases * scale * max(float(np.mean(told * (1.0 - told))), 1e-4))
    for _ in range(30):
        probs = _sigmoid(design @ coefficients)
        gradient = design.T @ (happened - probs) - ridge @ (coefficients - prior)
        curvature = (design * (probs * (1.0 - probs))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature + 1e-9 * np.eye(coefficients.size), gradient)
        coefficients += np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    return coefficients


def fit_families(logits: Floats, happened: Bools, observed: Bools, families: Sequence[slice]) -> tuple[Floats, Floats]:
    """Fit a slope and a shift per label, each drawn towards the fit of its whole family.

    logits    (n, n_labels) float64
    happened  (n, n_labels) bool
    observed  (n, n_labels) bool     only these cases count
    families  slices of labels that share a prior
    returns   slopes (n_labels,) and shifts (n_labels,); slope ≥ 0.05, so that calibration never turns an order round
    """
    slopes, shifts = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    for family in families:
        seen = observed[:, family]
        shared = fit_platt(logits[:, family][seen][:, None], happened[:, family][seen], np.array([1.0, 0.0]))
        for label in range(family.start, family.stop):
            rows = observed[:, label]
            own = fit_platt(logits[rows, label][:, None], happened[rows, label], shared)
            slopes[label], shifts[label] = max(own[0], 0.05), own[1]
    return slopes, shifts


def _sigmoid(logits: Floats) -> Floats:
    clipped: Floats = np.clip(logits, -30.0, 30.0)
    result: Floats = 1.0 / (1.0 + np.exp(-clipped))
    return result
