"""What the response models are held against: paired figures, tuned boosting, and the public log as it is read."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from sklearn.metrics import roc_auc_score

from tests.benchmarks.published import open_bandit
from tests.benchmarks.published.paired import Compared, worst_lower
from tests.benchmarks.rivals import tuned_boosting
from tests.requirements import shared_data
from training.models.response import CLICKED


def silent(_: str) -> None:
    pass


def compared(n: int = 2_000) -> Compared:
    """A seed that knows, one that half knows, and a rival that knows nothing; two days of different rates."""
    draw = np.random.default_rng(0)
    day = np.arange(n) % 2
    truth = draw.uniform(0.05, 0.4, n) + 0.3 * day
    happened = draw.random(n) < truth
    draws = draw.multinomial(n, np.full(n, 1.0 / n), 100).astype(np.float64)
    return Compared([truth, truth**2], {"blind": draw.random(n)}, happened, day, draws)


def test_areas_are_those_of_scikit_learn_within_each_stratum() -> None:
    found = compared()
    probs, total, n_happened = found.ours[0], 0.0, 0
    for day in (0, 1):
        inside = found.stratum == day
        happened = found.happened[inside]
        total += roc_auc_score(happened, probs[inside]) * happened.sum()
        n_happened += int(happened.sum())
    assert found.areas(probs)[0] == pytest.approx(total / n_happened, abs=1e-12)


def test_a_rival_that_knows_nothing_loses_and_the_lower_bound_says_so() -> None:
    found = compared()
    assert found.auc().lower > 0.55
    assert found.rival_auc()["blind"].value == pytest.approx(0.5, abs=0.05)
    assert worst_lower(found.differences()).value > 0.0
    turned = Compared([found.rivals["blind"]], {"ours": found.ours[0]}, found.happened, found.stratum, found.draws)
    assert turned.differences()[0].is_lost


def test_only_probabilities_that_are_true_are_calibrated() -> None:
    found = compared()
    # Of a perfect model, 2,000 cases in 15 bins are off by .03.
    assert found.calibration(found.ours[0]).value < 0.05 < found.calibration(found.ours[1]).value


def test_tuned_boosting_learns_and_continues_at_its_last_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_boosting, "N_TRIALS", 4)
    draw = np.random.default_rng(0)

    def window(n: int) -> tuple[np.ndarray, np.ndarray]:
        rows = draw.normal(size=(n, 5)).astype(np.float32)
        return rows, draw.random(n) < np.where(rows[:, 0] * rows[:, 1] > 0, 0.2, 0.01)

    early, late, last = window(3_000), window(2_000), window(2_000)
    found = tuned_boosting.tuned(early, late, tmp_path / "trials.json", silent)
    assert roc_auc_score(last[1], found.fitted(*early).predict(last[0])) > 0.7
    done = orjson.loads((tmp_path / "trials.json").read_bytes())
    assert found.log_loss == min(trial["log_loss"] for trial in done)
    (tmp_path / "trials.json").write_bytes(orjson.dumps(done[:2]))
    told: list[str] = []
    assert tuned_boosting.tuned(early, late, tmp_path / "trials.json", told.append) == found
    assert len(told) == 2


def test_the_public_log_is_in_time_order_and_one_place_is_sent_at_a_time() -> None:
    shared_data("open_bandit")
    log = open_bandit.read_log()
    assert len(log.cases) == 40_000
    assert int(log.cases.happened[CLICKED].sum()) == 46 + 46 + 69 + 46
    assert (np.diff(log.cases.at_s) >= 0).all()
    assert (log.cases.sent.sum(axis=1) == 1).all()
    assert np.unique(log.day).tolist() == [1, 2, 3, 4, 5, 6, 7]
    windows = log.windows(5)
    assert windows.early.at_s.max() < windows.late.at_s.min() <= windows.late.at_s.max() < log.of(5).at_s.min()
    assert np.isfinite(log.cases.features).all()
