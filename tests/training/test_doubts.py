"""A column that nearly is a label is found by its area under the curve, which equals scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.doubts import FEWEST_CASES, areas_of, near_copies


def test_areas_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 5, (60, 4)).astype(np.float32)  # many ties
    labels = rng.random((60, 3)) < 0.4
    areas = areas_of(features, labels)
    for place in range(4):
        for label in range(3):
            expected = roc_auc_score(labels[:, label], features[:, place])
            assert areas[place, label] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_near_copy_is_named_either_way_round_and_an_honest_feature_is_not(sign: float) -> None:
    rng = np.random.default_rng(1)
    label = rng.random(2_000) < 0.3
    honest = rng.normal(label * 2.0)
    copied = sign * (label + rng.normal(0.0, 0.1, label.size))
    features = np.stack([honest, copied], axis=1).astype(np.float32)
    (told,) = near_copies(features, ["honest", "copied"], {"buys": label})
    assert told.startswith("the label 'buys' is nearly given away in training by copied (AUC ")
    assert "honest" not in told


def test_few_cases_are_not_judged() -> None:
    label = np.arange(1_000) < FEWEST_CASES - 1
    assert list(near_copies(label[:, None].astype(np.float32), ["same"], {"rare": label})) == []
    more = np.arange(1_000) < FEWEST_CASES
    assert len(list(near_copies(more[:, None].astype(np.float32), ["same"], {"seldom": more}))) == 1
