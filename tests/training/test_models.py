"""What the modules and their losses promise, on inputs small enough to check by hand."""

import torch

from kernels.features import N_ARMS, N_FEATURES
from training.models.standard import Standard
from training.models.uplift import N_MEMBERS, Uplift, residual_loss


def test_a_column_that_never_varied_stays_silent() -> None:
    standard = Standard(("kept", "silent"))
    standard.learn(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    assert standard(torch.tensor([[2.0, 1e6]]))[0, 1].item() == 0.0


def test_residual_loss_is_nought_for_the_true_effect_and_counts_weights() -> None:
    sent_residual, effect = torch.tensor([0.5, -0.2]), torch.full((N_MEMBERS, 2), 3.0)
    residual = 3.0 * sent_residual
    weights = torch.tensor([[1.0, 0.0]] * N_MEMBERS)
    assert residual_loss(effect, residual, sent_residual, weights).item() == 0.0
    # Only the first row counts: (1.5 + 1 - 1.5)² = 1.
    assert residual_loss(effect, residual + torch.tensor([1.0, 9.0]), sent_residual, weights).item() == 1.0


def test_an_effect_without_trust_is_the_constant_with_its_own_error() -> None:
    torch.manual_seed(0)
    model = Uplift()
    torch.nn.init.normal_(model.direct)
    model.constant.copy_(torch.tensor([1.0, 2.0, 0.0, 0.0]))
    model.constant_se.copy_(torch.tensor([0.5, 0.25, 0.0, 0.0]))
    effect, error = model.effects(torch.rand(3, N_FEATURES))
    assert effect.shape == (3, N_ARMS)
    assert (effect == model.constant).all()
    assert (error == model.constant_se).all()
    model.trust.fill_(1.0)
    assert model.effects(torch.rand(3, N_FEATURES))[1][:, 0].min() > 0.5
