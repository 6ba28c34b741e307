"""LightGBM as a rival for many labels: one booster for each, stopped on the validation window.

In: columns beside what happened. Out: boosters. Called by tests/benchmarks/published/tags.py.
"""

import lightgbm
import numpy as np
from numpy.typing import NDArray

SETTINGS = {
    "objective": "binary", "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 50, "feature_fraction": 0.4,
    "max_bin": 63, "num_threads": 1, "deterministic": True, "force_col_wise": True, "seed": 0, "verbose": -1,
}  # fmt: skip
MOST_TREES, PATIENCE = 200, 15

Columns = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Boosting:
    """Rows put into bins once, for all labels that are seen on the same rows.

    train, valid  (n, n_columns) float32
    """

    def __init__(self, train: Columns, valid: Columns) -> None:
        self.train = lightgbm.Dataset(train, np.zeros(len(train), np.float32), params=SETTINGS).construct()
        self.valid = self.train.create_valid(valid, np.zeros(len(valid), np.float32), params=SETTINGS).construct()

    def fit(self, happened: Bools, valid_happened: Bools) -> lightgbm.Booster:
        """Fit one label.

        happened, valid_happened  (n,) bool
        returns                   the booster, which answers with as many trees as validation liked best
        """
        self.train.set_label(happened.astype(np.float32))
        self.valid.set_label(valid_happened.astype(np.float32))
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        return lightgbm.train(SETTINGS, self.train, MOST_TREES, valid_sets=[self.valid], callbacks=[stop])
