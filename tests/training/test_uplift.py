"""The uplift net finds planted effects, errs honestly, and never says that a larger dose adds less."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import uplift_metrics
from kernels.checks import InvalidInput
from kernels.features import N_ARMS, N_FEATURES, columns
from tests.benchmarks.published import hillstrom
from tests.kernels.ledgers import EXAMPLES
from tests.requirements import shared_data
from training.configs import config_of
from training.effects import dose_arms, member_weights, rising
from training.evidence import Difference, interval
from training.models.uplift import SHOP_SIGNATURE, Served, Shape, Uplift
from training.staging import onnxruntime_answers, stage
from training.tensors import Signature, Tensor
from training.trials import Trial, learn, shape_of

NAMES = ("flag", "noise", "history")
EFFECTS = (0.05, 0.15)


def planted(n: int, seed: int) -> Trial:
    """Arm 1 works alike on everyone, arm 2 on those with the flag alone; who buys anyway depends on history."""
    rng = np.random.default_rng(seed)
    flag, arm = rng.integers(0, 2, n), rng.integers(0, 3, n)
    history = rng.exponential(50.0, n)
    chance = 0.05 + 0.07 * np.log1p(history) + EFFECTS[0] * (arm == 1) + EFFECTS[1] * (arm == 2) * flag
    features = np.column_stack([flag, rng.normal(size=n), history]).astype(np.float32)
    return Trial(NAMES, features, arm, rng.uniform(size=n) < chance, np.full(3, 1.0 / 3.0))


@pytest.fixture(scope="module")
def learned() -> Uplift:
    """A net taught by a planted trial."""
    trial = planted(9_000, seed=0)
    return learn(trial, shape_of(trial, n_members=5))


def effects_of(uplift: Uplift, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effects and standard errors."""
    with torch.no_grad():
        effect, error = uplift.effects(torch.from_numpy(features))
    return effect.numpy().astype(np.float64), error.numpy().astype(np.float64)


def test_a_planted_effect_is_found_where_it_is_and_only_there(learned: Uplift) -> None:
    features = planted(2_000, seed=1).features
    effect, error = effects_of(learned, features)
    flag = features[:, 0] == 1
    # 3,000 rows an arm: a difference of two rates near 0.35 has a standard error of 0.012, of half of them 0.017.
    assert effect[:, 0].mean() == pytest.approx(EFFECTS[0], abs=0.03)
    assert effect[flag, 1].mean() == pytest.approx(EFFECTS[1], abs=0.05)
    assert effect[~flag, 1].mean() == pytest.approx(0.0, abs=0.05)
    assert 0.003 < error.mean() < 0.03


def test_noise_gets_next_to_no_slope_and_mostly_none_at_all(learned: Uplift) -> None:
    slopes = learned.direct.detach()
    assert slopes[0, NAMES.index("flag"), 1].item() > 0.3
    noise = slopes[0, NAMES.index("noise")]
    assert noise.abs().max() < 0.02
    assert (noise == 0).any()  # by chance either stands further out than 1.5 deviations in one trial of seven


def test_the_net_ranks_better_than_a_response_model(learned: Uplift) -> None:
    train, test = planted(9_000, seed=0), planted(9_000, seed=1)
    pair = np.flatnonzero(test.arm != 1)
    weights = np.random.default_rng(0).multinomial(pair.size, np.full(pair.size, 1 / pair.size), 50).astype(np.float64)
    drawn = [
        uplift_metrics.qini_coefficients(scores[pair, 1].copy(), test.outcome[pair], test.arm[pair] == 2, weights)
        for scores in (effects_of(learned, test.features)[0], hillstrom.response_scores(train, test))
    ]
    apart = interval(float(np.mean(drawn[0] - drawn[1])), drawn[0] - drawn[1])
    assert apart.lower > 0
    # The gate: had ours been the response model, it would have been refused.
    turned = interval(-apart.value, drawn[1] - drawn[0])
    assert Difference("uplift net", "qini", turned).is_lost
    assert not Difference("response model", "qini", apart).is_lost


def test_a_loss_to_the_linear_rival_on_hillstrom_would_be_said() -> None:
    drawn = np.linspace(0.01, 0.03, 201)
    values = {"qini_women": {hillstrom.OURS: drawn, hillstrom.LINEAR: drawn + 0.02}}
    (difference,) = hillstrom.against_linear(values)
    assert difference.is_lost


DOSED = Shape(names=("a", "b", "c"), narrow=(0, 1, 2), n_arms=4, doses=((2, 0, 3),), n_members=3)


@EXAMPLES
@given(
    seed=st.integers(0, 50),
    size=st.floats(0.01, 50.0),
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3),
)
def test_a_larger_dose_never_adds_less_whatever_the_weights_and_features(
    seed: int, size: float, values: list[float]
) -> None:
    torch.manual_seed(seed)
    net = Uplift(DOSED)
    with torch.no_grad():
        for part in (net.direct, net.outer, net.level, net.constant, net.centre):
            part.copy_(torch.randn_like(part) * size)
        net.trust.copy_(torch.rand(4))
        effect, _ = net.effects(torch.tensor([values]))
    small, middle, large = effect[0, 2], effect[0, 0], effect[0, 3]
    assert 0.0 <= small <= middle <= large


def test_doses_are_learned_as_rising_where_noise_alone_would_turn_them() -> None:
    rng = np.random.default_rng(3)
    arm = rng.integers(0, 4, 6_000)
    # 5 % off works; 10 and 20 % off work no better: plain rates put them in any order.
    chance = 0.1 + 0.05 * (arm > 0)
    features = rng.normal(size=(arm.size, 2)).astype(np.float32)
    trial = Trial(("a", "b"), features, arm, rng.uniform(size=arm.size) < chance, np.full(4, 0.25))
    shape = shape_of(trial, doses=((0, 1, 2),), n_members=3)
    effect, _ = effects_of(learn(trial, shape), features)
    assert (np.diff(effect, axis=1) >= 0).all()
    # 1,500 rows an arm: a standard error of 0.013 on each difference.
    assert np.abs(effect.mean(axis=0) - 0.05).max() < 0.05


def test_constants_rise_with_the_dose_and_others_stay() -> None:
    assert rising(np.array([3.0, 1.0, -2.0, 5.0]), [(0, 1)]).tolist() == [2.0, 2.0, -2.0, 5.0]
    assert rising(np.array([-3.0, 1.0]), [(0, 1)]).tolist() == [0.0, 1.0]


def test_a_dose_must_be_an_arm_of_the_shop() -> None:
    assert dose_arms([("ten", "twenty")], ["twenty", "other", "ten"]) == ((2, 0),)
    with pytest.raises(InvalidInput, match=r"doses must name arms of the shop, 'ten', got \['fifty'\]"):
        dose_arms([("ten", "fifty")], ["ten"])
    with pytest.raises(InvalidInput, match="doses must name an arm once"):
        Shape(doses=((0, 1), (1, 2)))


def test_the_first_member_sees_every_shopper_once() -> None:
    weights = member_weights(np.array([0, 0, 1, 2]), 4, 0)
    assert weights[0].tolist() == [1.0] * 4
    assert (weights[1:, 0] == weights[1:, 1]).all()


def test_a_net_comes_back_from_its_state_alone(learned: Uplift) -> None:
    features = torch.rand(1, len(NAMES))
    for net, asked in ((learned, features), (Uplift(DOSED), features), (Uplift(), torch.rand(1, N_FEATURES))):
        again = Uplift.from_state(net.state_dict())
        effect, error = again.effects(asked)
        assert effect.shape == error.shape == (1, net.direct.shape[2])
        assert torch.equal(effect, net.effects(asked)[0])


def test_onnx_gives_the_same_effects_as_torch(learned: Uplift, tmp_path: Path) -> None:
    signature = Signature(
        (Tensor("features", "TYPE_FP32", len(NAMES), ", ".join(NAMES)),),
        (Tensor("visit_uplift", "TYPE_FP32", 2, "effect"), Tensor("visit_uplift_se", "TYPE_FP32", 2, "error")),
    )
    rows = {"features": planted(32, seed=2).features}
    expected = stage(tmp_path / "trial", Served(learned, signature), signature, rows, config_of("trial", signature))
    answered = onnxruntime_answers(tmp_path / "trial", signature, rows)
    for name, values in expected.items():
        np.testing.assert_allclose(answered[name], values, atol=1e-6)  # float32, effects near 0.1
    one = onnxruntime_answers(tmp_path / "trial", signature, {"features": rows["features"][:1]})
    assert one["visit_uplift"].shape == (1, 2)


def test_a_shop_with_doses_has_the_same_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Uplift(Shape(doses=((0, 1, 2),)))
    net.trust.fill_(1.0)
    rows = {"features": np.random.default_rng(0).uniform(0, 9, (4, N_FEATURES)).astype(np.float32)}
    expected = stage(tmp_path / "uplift", Served(net).eval(), SHOP_SIGNATURE, rows, "")
    answered = onnxruntime_answers(tmp_path / "uplift", SHOP_SIGNATURE, rows)
    np.testing.assert_allclose(answered["spend_uplift"], expected["spend_uplift"], rtol=1e-5)
    assert (np.diff(answered["spend_uplift"][:, :3], axis=1) >= 0).all()
    assert answered["spend_uplift"].shape == (4, N_ARMS)
    assert len(columns()) == N_FEATURES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": np.zeros(30, np.bool_)}, "outcome must have two classes, got one"),
        ({"arm": np.zeros(30, np.int64)}, r"every arm must have been given, got \[30, 0, 0\] rows per arm"),
        ({"features": np.full((30, 3), np.nan, np.float32)}, "features must be finite, got nan"),
        ({"propensity": np.full(3, 0.5)}, "propensity must sum to 1, got 1.5"),
    ],
)
def test_a_trial_that_teaches_nothing_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    good = planted(30, seed=0)
    columns_of = {name: getattr(good, name) for name in ("features", "arm", "outcome", "propensity")}
    with pytest.raises(InvalidInput, match=message):
        Trial(NAMES, **(columns_of | change)).check_teaches()


def test_a_feature_that_is_the_outcome_is_named() -> None:
    good = planted(30, seed=0)
    features = good.features.copy()
    features[:, 1] = good.outcome
    with pytest.raises(InvalidInput, match="noise must not equal the outcome, got 30 equal rows"):
        Trial(NAMES, features, good.arm, good.outcome, good.propensity).check_teaches()


def test_hillstrom_reads_as_its_authors_say() -> None:
    trial = hillstrom.trial(shared_data("hillstrom"))
    rates = [round(100 * float(trial.outcome[trial.arm == arm].mean()), 2) for arm in range(3)]
    assert rates == [10.62, 18.28, 15.14]
    learns, test = hillstrom.split(trial.arm.size, 0)
    assert np.array_equal(np.sort(np.concatenate([learns, test])), np.arange(64_000))
    assert test.size == 19_200


def test_a_budget_reaches_its_share_and_nobody_whom_it_would_harm() -> None:
    effects = np.array([[0.3, 0.1], [0.1, 0.4], [-0.1, -0.2], [0.05, 0.0]])
    assert hillstrom.chosen_arms(effects, 0.5).tolist() == [1, 2, 0, 0]
    assert hillstrom.chosen_arms(effects, 1.0).tolist() == [1, 2, 0, 1]
