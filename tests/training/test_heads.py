"""The small net says what its teachers say, keeps their zeros, and is not shipped where it fell behind them."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from kernels.features import N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS
from server.triton.client import HEAD_OUTPUTS
from training.configs import DECISION, SIGNATURES
from training.dataset import TEST, TRAIN, VALID, Dataset
from training.distillation import HeadsTask, Lessons, Teachers, lessons_of, told_by
from training.evidence import Difference, Evidence, Figure
from training.fit import TrainReport
from training.gate import TOLERANCES, shortfall
from training.loop import Recipe, fit
from training.models.heads import N_PROBS, N_SAID, NUMBER_WORTH, Heads, Told, heads_loss
from training.models.response import Response
from training.models.tags import Tags
from training.models.uplift import Uplift
from training.outlook import without_vectors
from training.tensors import VECTOR_WIDTH

N_ROWS = 1_600


def taught_by_a_rule(features: torch.Tensor) -> Told:
    """What some teacher might say: everything follows from the first column; half of the slots are unused."""
    first = torch.log1p(features[:, :1])
    used = (torch.arange(N_CATEGORIES) % 2 == 0).float()
    groups, arms = used[:N_OFFER_GROUPS], torch.tensor([1.0, 1.0, 1.0, 0.0])
    prob = torch.sigmoid(first - 2.0)
    se = torch.full((len(first), 1), 3.0) * arms
    return Told(prob * used, prob * 0.1 * groups, prob * 0.01 * groups, (5.0 + 2.0 * first) * arms, se)


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    columns = torch.from_numpy(np.random.default_rng(0).gamma(1.0, 5.0, (N_ROWS, N_FEATURES)).astype(np.float32))
    columns[:, 8:] = 0.0  # few rows cannot teach that two hundred columns of noise are noise
    return columns


@pytest.fixture(scope="module")
def lessons(features: torch.Tensor) -> Lessons:
    """The rule's lessons: three quarters to learn from, an eighth each to choose on and to judge on."""
    part = np.repeat(np.array([TRAIN, VALID, TEST], np.int8), [1_200, 200, 200])
    vectors = np.zeros((N_ROWS, VECTOR_WIDTH), np.float32)
    bought = np.zeros((N_ROWS, N_CATEGORIES), np.bool_)
    return Lessons(np.arange(N_ROWS), part, features.numpy(), vectors, taught_by_a_rule(features), bought)


@pytest.fixture(scope="module")
def learned(lessons: Lessons) -> Heads:
    torch.manual_seed(0)
    heads = Heads((32,))
    recipe = Recipe(n_epochs=40, batch=64, learning_rate=1e-2, patience=40)
    fit(heads, HeadsTask(lessons, heads), recipe, lambda _: None)
    return heads


def test_the_net_learns_what_the_teachers_say(learned: Heads, lessons: Lessons) -> None:
    test = lessons.of(TEST)
    said = told_by(learned, lessons.features[test], lessons.vectors[test])
    truth = taught_by_a_rule(torch.from_numpy(lessons.features[test]))
    # Probabilities here lie between 0.1 and 0.8, uplifts between 5 and 12: a net that had learned means alone would be
    # 0.15 and 1.4 off on average.
    assert (said.category_prob - truth.category_prob).abs().mean() < 0.02
    assert (said.spend_uplift - truth.spend_uplift).abs().mean() < 0.3
    ratio = said.redeem_prob_se[:, 0] / truth.redeem_prob_se[:, 0]
    assert (ratio.log().abs().mean() < 0.1).item()


def test_slots_that_the_teachers_leave_empty_are_exactly_nought(learned: Heads, features: torch.Tensor) -> None:
    told = learned.told(features * 1e6, torch.full((N_ROWS, VECTOR_WIDTH), 50.0))
    truth = taught_by_a_rule(features)
    for name in Told.__annotations__:
        said, empty = getattr(told, name), (getattr(truth, name) == 0.0).all(dim=0)
        assert empty.any()
        assert (said[:, empty] == 0.0).all()
        assert torch.isfinite(said).all()
    assert (told.category_prob >= 0.0).all()
    assert (told.category_prob <= 1.0).all()
    assert (told.redeem_prob_se >= 0.0).all()
    assert (told.spend_uplift_se >= 0.0).all()


def test_numbers_stay_within_what_the_teachers_said_in_training(learned: Heads, lessons: Lessons) -> None:
    told = learned.told(torch.full((1, N_FEATURES), 1e9), torch.full((1, VECTOR_WIDTH), 1e3))
    train = lessons.of(TRAIN)
    for name in ("redeem_prob_se", "spend_uplift", "spend_uplift_se"):
        known, said = getattr(lessons.taught, name)[train], getattr(told, name)[0]
        # A logarithm and back, in float32.
        assert (said >= known.amin(dim=0) * (1.0 - 1e-5)).all()
        assert (said <= known.amax(dim=0) * (1.0 + 1e-5)).all()


def test_a_number_that_is_the_same_for_everyone_is_told_exactly(learned: Heads, features: torch.Tensor) -> None:
    error = learned.told(features, torch.randn(N_ROWS, VECTOR_WIDTH)).spend_uplift_se[:, : N_ARMS - 1]
    # A logarithm and back, in float32.
    torch.testing.assert_close(error, torch.full_like(error, 3.0), rtol=1e-6, atol=0.0)


def test_heads_loss_is_cross_entropy_and_squared_error_written_out() -> None:
    said, targets, is_used = torch.zeros(1, N_SAID), torch.zeros(1, N_SAID), torch.zeros(N_SAID)
    is_used[:2] = 1.0
    is_used[N_PROBS] = 1.0
    said[0, :2] = torch.tensor([0.0, np.log(3.0)])
    targets[0, :2] = torch.tensor([0.25, 0.75])
    said[0, N_PROBS], targets[0, N_PROBS] = 2.0, 0.5
    # An unused slot costs nothing, whatever is said there.
    said[0, 2], said[0, N_PROBS + 1] = 9.0, -9.0
    entropy = (np.log(2.0) - 0.75 * np.log(0.75) - 0.25 * np.log(0.25)) / 2
    assert heads_loss(said, targets, is_used).item() == pytest.approx(entropy + NUMBER_WORTH * 1.5**2, rel=1e-6)


def test_the_net_comes_back_from_its_weights(learned: Heads, features: torch.Tensor) -> None:
    again = Heads.from_state(learned.state_dict()).eval()
    vectors = torch.zeros(N_ROWS, VECTOR_WIDTH)
    assert torch.equal(again(features, vectors), learned(features, vectors))
    linear = Heads(())
    assert torch.equal(Heads.from_state(linear.state_dict())(features, vectors), linear(features, vectors))


def test_lessons_are_what_the_served_teachers_answer(dataset: Dataset, trained: tuple[Path, TrainReport]) -> None:
    kinds = {"tags": Tags, "response": Response, "uplift": Uplift}
    tags, response, uplift = (
        kind.from_state(torch.load(trained[0] / name / "model.pt", weights_only=True)) for name, kind in kinds.items()
    )
    rows, grid = dataset.weekly()
    rows = rows.take(np.arange(200))
    vectors = without_vectors(rows)
    lessons = lessons_of(dataset, rows, grid, vectors, Teachers(tags, response, uplift))
    asked = torch.from_numpy(rows.features), torch.from_numpy(vectors)
    with torch.no_grad():
        category_prob, _ = tags.eval().probabilities(*asked)
        redeem_prob, *_, error = response.eval().calibrated(response(*asked))
        effect, effect_error = uplift.eval().effects(asked[0])
    known = Told(category_prob, redeem_prob, error, effect, effect_error)
    for name in Told.__annotations__:
        # Batches of another size: only the order of float32 sums differs.
        torch.testing.assert_close(getattr(lessons.taught, name), getattr(known, name), rtol=1e-4, atol=1e-5)


def test_training_keeps_the_figures_of_ours_and_the_teachers(trained: tuple[Path, TrainReport]) -> None:
    told = orjson.loads((trained[0] / "evaluation.json").read_bytes())["models"]["heads"]
    assert [row["name"] for row in told["rows"]] == ["heads", "teachers", "linear student"]
    for row in told["rows"]:
        assert 0.5 < row["figures"]["category_macro_auc"]["value"] < 1.0
        assert row["figures"]["minus_category_log_loss"]["value"] < 0.0
    assert any("spend_uplift differs from the teachers'" in note for note in told["notes"])


def test_what_is_served_is_what_the_gateway_asks() -> None:
    answered = {tensor.name: tensor.width for tensor in SIGNATURES[DECISION].outputs}
    assert answered == {name: width for name, (_, width) in HEAD_OUTPUTS.items()}


def study_with(figure: str, difference: float, rival: str = "teachers") -> dict[str, list[dict[str, object]]]:
    found = Evidence((), [Difference(rival, figure, Figure(difference, difference - 0.01, difference + 0.01))], "", {})
    return orjson.loads(orjson.dumps({"against": [{**vars(row), "is_lost": row.is_lost} for row in found.against]}))


def test_a_student_that_fell_behind_its_teachers_is_told_with_the_figure() -> None:
    sentence = "heads must stay within 0.003 of its teachers in category_macro_auc, got 0.0041 below"
    assert shortfall("heads", study_with("category_macro_auc", -0.0041)) == sentence
    told = shortfall("heads", study_with("redeem_auc", -0.02))
    assert told.endswith("within 0.01 of its teachers in redeem_auc, got 0.02 below")


def test_a_student_within_its_tolerance_is_shipped() -> None:
    for figure, most in TOLERANCES.items():
        assert shortfall("heads", study_with(figure, -0.9 * most)) == ""
        assert shortfall("heads", study_with(figure, 0.1)) == ""
    assert shortfall("heads", study_with("category_macro_auc", -0.5, "linear student")) == ""
    assert shortfall("heads", study_with("category_macro_ap", -0.5)) == ""
    assert shortfall("heads", {"against": []}) == ""
