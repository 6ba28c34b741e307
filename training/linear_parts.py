"""The linear parts of a Response's members: ridge regressions on pairs of a moment and an action.

In: features, what was sent and what followed. Out: coefficients, kept in the members. Called by training/answering.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from training.models.response import LEAST_SPEND, LOG_SPEND, Member, Response

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Inverse ridge strengths of the linear parts, as scikit-learn counts them; the later window chooses.
STRENGTHS = (0.0003, 0.001, 0.003)
# How much cheaper an action's own level is than a column's coefficient. Levels of later campaigns are not those of
# earlier ones: unshrunk they cost 0.05 of pooled AUC (LOG.md).
LEVEL_SCALE = 4.0
MOST_PAIRS = 300_000


class LinearParts:
    """Pairs of a moment and an action as rows of a linear model, and its coefficients as a member's linear part."""

    def __init__(self, model: Response, features: NDArray[np.float32]) -> None:
        self.members = [member for member in model.members if isinstance(member, Member)]
        with torch.no_grad():
            standard, own = model.inputs(torch.from_numpy(features))
        self.standard, self.own = standard.numpy(), own.numpy()

    def fit(self, head: int, seen: Bools, happened: Bools, draws: Floats, strength: float) -> None:
        """A ridge logistic regression per draw; one draw serves every member."""
        row, action = _pairs(seen)
        answers = happened[row, action]
        if answers.all() or not answers.any():
            self.level(head, seen, happened)
            return
        rows = self._rows(row, action)
        linear = LogisticRegression(C=strength, max_iter=50, tol=1e-3, warm_start=True)
        for place, drawn in enumerate(draws):
            linear.fit(rows, answers, sample_weight=drawn[row])
            self._keep(head, linear.coef_[0], float(linear.intercept_[0]), place if len(draws) > 1 else None)

    def fit_log_spend(self, seen: Bools, spend: NDArray[np.float32]) -> None:
        """A ridge regression of the logarithm of what buyers spent."""
        row, action = _pairs(seen)
        if row.size:
            linear = Ridge(alpha=100.0).fit(
                self._rows(row, action), np.log(np.maximum(spend[row, action], LEAST_SPEND))
            )
            self._keep(LOG_SPEND, linear.coef_, float(linear.intercept_), None)

    def level(self, head: int, seen: Bools, happened: Bools) -> None:
        """Log-odds of the share alone, with two cases more that tell nothing."""
        share = (float(happened[seen].sum()) + 1.0) / (float(seen.sum()) + 2.0)
        self.constant(head, float(np.log(share / (1.0 - share))))

    def constant(self, head: int, log_odds: float) -> None:
        """The same log-odds for every action."""
        for member in self.members:
            member.level[:, head] = log_odds

    def _rows(self, row: Ints, action: Ints) -> NDArray[np.float32]:
        levels = np.zeros((row.size, self.own.shape[1]), np.float32)
        levels[np.arange(row.size), action] = LEVEL_SCALE
        return np.concatenate([self.standard[row], self.own[row, action], levels], axis=1)

    def _keep(self, head: int, coefficients: Floats, intercept: float, place: int | None) -> None:
        n_features, n_own = self.standard.shape[1], self.own.shape[2]
        found = torch.from_numpy(coefficients.astype(np.float32))
        for number, member in enumerate(self.members):
            if place is None or place == number:
                member.wide[:, head] = found[:n_features]
                member.own_wide[:, head] = found[n_features : n_features + n_own]
                member.level[:, head] = LEVEL_SCALE * found[n_features + n_own :] + intercept


def _pairs(seen: Bools) -> tuple[Ints, Ints]:
    """Moments and actions, evenly thinned where they are more than a linear fit needs."""
    row, action = np.nonzero(seen)
    if row.size > MOST_PAIRS:
        kept = np.linspace(0, row.size - 1, MOST_PAIRS).astype(np.int64)
        row, action = row[kept], action[kept]
    return row, action
