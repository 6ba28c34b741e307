"""Whether torch, ONNX Runtime and Triton give the same answers, and the sentence that says where they do not.

In: named arrays of two runtimes. Out: the largest difference, or Disagreement. Called by training/export.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Probabilities may differ by this much: 20 times the largest difference seen, a hundredth of what calibration resolves.
TOLERANCE = 1e-4
# What orders the values of a tensor of whole numbers; every other one is ordered by item_prob.
ORDERED_BY = {"reason_code": "reason_log_odds"}

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Parity:
    """Largest difference of a runtime's answers from torch's on held-out rows; relative where a value exceeds 1."""

    onnxruntime: float
    triton: float


class Disagreement(ValueError):  # noqa: N818 - a name of the house
    """Two runtimes answer differently; the message names the model, the tensor, the difference and the tolerance."""


def largest_difference(model: str, runtime: str, expected: Arrays, answered: Arrays) -> float:
    """Return the largest difference of any tensor from torch's answer, relative where a value exceeds 1.

    model     whose tensors they are
    runtime   who answered, for the message
    expected  torch's answers by tensor name; item_index needs item_prob beside it, and so on
    answered  the runtime's
    raises    Disagreement  if it is above TOLERANCE, or items differ where their probabilities do not tie
    """
    worst = 0.0
    for name, ours in expected.items():
        if name not in answered:
            raise Disagreement(f"{model}: {runtime} must answer {name}, got {', '.join(answered) or 'nothing'}")
        theirs = answered[name]
        if theirs.shape != ours.shape:
            raise Disagreement(f"{model}: {name} of {runtime} must have shape {ours.shape}, got {theirs.shape}")
        if np.issubdtype(ours.dtype, np.integer):
            order = expected[ORDERED_BY.get(name, "item_prob")]
            _check_items(model, runtime, name, ours, theirs, np.asarray(order, np.float64))
            continue
        exact, found = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        difference = float(np.max(np.abs(found - exact) / np.maximum(np.abs(exact), 1.0), initial=0.0))
        if not difference <= TOLERANCE:  # NaN differs too
            raise Disagreement(
                f"{model}: {name} of {runtime} must be within {TOLERANCE:g} of torch, got {difference:.3g} apart"
            )
        worst = max(worst, difference)
    return worst


def _check_items(
    model: str,
    runtime: str,
    name: str,
    ours: NDArray[np.generic],
    theirs: NDArray[np.generic],
    probs: NDArray[np.float64],
) -> None:
    """Another item in a place is right only where its probability ties with a neighbour's."""
    gaps = np.abs(np.diff(probs, axis=1))
    open_end = np.zeros(
        (probs.shape[0], 1)
    )  # the item after the last is not in the list: a tie there cannot be ruled out
    nearest = np.minimum(np.hstack([np.ones_like(open_end), gaps]), np.hstack([gaps, open_end]))
    wrong = (ours != theirs) & (nearest > TOLERANCE)
    if wrong.any():
        row, place = (int(axis) for axis in np.argwhere(wrong)[0])
        raise Disagreement(
            f"{model}: {name} of {runtime} must equal torch's where probabilities differ by more than {TOLERANCE:g},"
            f" got {theirs[row, place]} instead of {ours[row, place]} (row {row}, place {place})"
        )
