"""The response module: shapes, its loss by hand, what is served, and that the exported graph says the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.features import N_FEATURES, N_OFFER_GROUPS
from training.configs import config_of
from training.models.response import (
    BOUGHT,
    CLICKED,
    N_CHANCES,
    N_MEMBERS,
    REDEEM,
    REDEEMED,
    Actions,
    Chances,
    Outcomes,
    Response,
    Served,
    response_loss,
)
from training.staging import onnxruntime_answers, stage
from training.tensors import VECTOR_WIDTH

GROUPS = Actions(np.tile(np.array([[0, 5, -1]]), (N_OFFER_GROUPS, 1)), np.arange(0, N_FEATURES, 7))


def shaken(actions: Actions = GROUPS, n_features: int = N_FEATURES) -> Response:
    """A module whose every part says something."""
    torch.manual_seed(0)
    model = Response(actions, n_features).eval()
    model.learn_inputs(torch.rand(64, n_features) * 9.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for member in model.members:
            member.wide.normal_(std=0.05)
            member.level[:, REDEEM] = -3.0
    return model


def test_a_batch_of_one_keeps_its_axis_and_every_chance_is_one() -> None:
    model = shaken()
    answers = Served(model)(torch.rand(1, N_FEATURES), torch.zeros(1, VECTOR_WIDTH))
    assert all(answer.shape == (1, N_OFFER_GROUPS) for answer in answers)
    redeem, buy, click, spend, error = answers
    assert all(((chance > 0) & (chance < 1)).all() for chance in (redeem, buy, click))
    assert (spend > 0).all()
    assert (error > 0).all()


def test_a_module_comes_back_from_its_state_alone() -> None:
    model = shaken(Actions(np.array([[1, -1], [2, 0]]), np.array([0, 3])), 5)
    again = Response.from_state(model.state_dict()).eval()
    rows = (torch.rand(3, 5), torch.rand(3, VECTOR_WIDTH))
    for left, right in zip(model.calibrated(model(*rows)), again.calibrated(again(*rows)), strict=True):
        assert torch.equal(left, right)


def test_what_no_feature_said_is_finite() -> None:
    model = shaken()
    for features in (torch.zeros(2, N_FEATURES), torch.full((2, N_FEATURES), 1e9)):
        assert all(torch.isfinite(answer).all() for answer in Served(model)(features, torch.zeros(2, VECTOR_WIDTH)))


def test_unused_actions_say_nothing_and_the_calibration_is_served() -> None:
    model = shaken()
    rows = (torch.rand(4, N_FEATURES), torch.rand(4, VECTOR_WIDTH))
    mean = model(*rows).probs()[REDEEMED].mean(dim=0)
    model.slope[REDEEMED], model.shift[REDEEMED] = 0.5, -1.0
    model.is_used[:, 3] = 0.0
    model.is_used[CLICKED] = 0.0
    redeem, buy, click, spend, _ = Served(model)(*rows)
    expected = torch.sigmoid(0.5 * torch.logit(mean) - 1.0)
    # float32: a logit and back
    torch.testing.assert_close(redeem[:, :3], expected[:, :3], rtol=1e-4, atol=1e-6)
    assert (redeem[:, 3] == 0).all()
    assert (buy[:, 3] == 0).all()
    assert (spend[:, 3] == 0).all()
    assert (click == 0).all()


def test_the_standard_error_is_how_far_members_disagree() -> None:
    model = shaken()
    rows = (torch.rand(4, N_FEATURES), torch.rand(4, VECTOR_WIDTH))
    each = model(*rows).probs()[REDEEMED]
    # float32: the logit and back of probabilities near .05
    torch.testing.assert_close(Served(model)(*rows)[4], each.std(dim=0), rtol=1e-3, atol=1e-6)
    for member in model.members[1:]:
        member.load_state_dict(model.members[0].state_dict())
    assert Served(model)(*rows)[4].max() < 1e-6


def test_buying_is_redeeming_and_buying_or_not_redeeming_and_buying() -> None:
    model = shaken()
    rows = (torch.rand(2, N_FEATURES), torch.rand(2, VECTOR_WIDTH))
    before = model(*rows)
    with torch.no_grad():
        for member in model.members:
            member.level[:, REDEEM] = 40.0
    certain = model(*rows)
    assert (certain.redeemed > 0.999).all()
    for member in model.members:
        member.level[:, REDEEM] = -40.0
    never = model(*rows)
    mixed = before.redeemed * certain.bought + (1.0 - before.redeemed) * never.bought
    torch.testing.assert_close(before.bought, mixed, rtol=1e-4, atol=1e-6)


def test_the_loss_equals_its_definition() -> None:
    draw = np.random.default_rng(0)
    n, n_actions = 3, 2
    said = draw.uniform(0.1, 0.9, (N_CHANCES, N_MEMBERS, n, n_actions))
    log_spend, sigma = draw.normal(size=(N_MEMBERS, n, n_actions)), np.array([0.5, 1.5])
    sent, happened = draw.random((n, n_actions)) < 0.7, draw.random((N_CHANCES, n, n_actions)) < 0.5
    spend = draw.uniform(0.0, 9.0, (n, n_actions)) * happened[BOUGHT]
    draws, worth = draw.integers(0, 3, (N_MEMBERS, n)).astype(float), (0.5, 1.0, 0.3, 0.1)
    total = 0.0
    for member in range(N_MEMBERS):
        for row in range(n):
            for action in range(n_actions):
                weight = draws[member, row] * sent[row, action]
                for chance in range(N_CHANCES):
                    p = said[chance, member, row, action]
                    total -= weight * worth[chance] * np.log(p if happened[chance, row, action] else 1.0 - p)
                if spend[row, action] > 0.0:
                    missed = (np.log(max(spend[row, action], 0.01)) - log_spend[member, row, action]) / sigma[action]
                    total += weight * worth[3] * (0.5 * missed**2 + np.log(sigma[action]))
    tensors = [torch.from_numpy(part).float() for part in (*said, log_spend, sigma)]
    outcomes = Outcomes(
        torch.from_numpy(sent).float(), torch.from_numpy(happened).float(), torch.from_numpy(spend).float(),
        torch.from_numpy(draws).float(),
    )  # fmt: skip
    found = response_loss(Chances(*tensors), outcomes, worth).item()
    # float32 sums of some dozens of terms
    assert found == pytest.approx(total / (draws[:, :, None] * sent).sum(), rel=1e-5)


def test_the_loss_of_nothing_sent_is_zero() -> None:
    model = shaken()
    chances = model(torch.rand(2, N_FEATURES), torch.zeros(2, VECTOR_WIDTH))
    nothing = Outcomes(
        torch.zeros(2, N_OFFER_GROUPS), torch.zeros(N_CHANCES, 2, N_OFFER_GROUPS), torch.zeros(2, N_OFFER_GROUPS),
        torch.ones(N_MEMBERS, 2),
    )  # fmt: skip
    assert response_loss(chances, nothing, (1.0, 1.0, 1.0, 1.0)).item() == 0.0


def test_the_exported_graph_answers_as_torch(tmp_path: Path) -> None:
    signature = Served.signature
    draw = np.random.default_rng(0)
    rows = {
        "features": draw.gamma(1.0, 5.0, (9, N_FEATURES)).astype(np.float32),
        "shopper_vector": draw.normal(size=(9, VECTOR_WIDTH)).astype(np.float32),
    }
    expected = stage(tmp_path / "response", Served(shaken()).eval(), signature, rows, config_of("response", signature))
    for some in (rows, {name: array[:1] for name, array in rows.items()}):
        for name, answer in onnxruntime_answers(tmp_path / "response", signature, some).items():
            # Two runtimes, float32; a squeeze, two crosses and a softmax between them.
            np.testing.assert_allclose(answer, expected[name][: len(answer)], rtol=1e-4, atol=1e-5)
