"""What the modules and their losses promise, on inputs small enough to check by hand."""

import numpy as np
import pytest
import torch

from kernels import transitions
from kernels.features import HISTORY, N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, N_TOP_ITEMS
from training.baskets import candidate_scores
from training.models.recommendation import SILENT, Recommendation, basket_loss
from training.models.response import N_LABELS, Response, response_loss
from training.models.standard import Standard
from training.models.uplift import N_MEMBERS, Uplift, residual_loss


def history_of(*items: int) -> torch.Tensor:
    return torch.tensor([[0] * (HISTORY - len(items)) + list(items)])


def test_response_loss_has_both_terms_and_skips_what_was_not_observed() -> None:
    logits = torch.tensor([[2.0, -1.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0]])
    observed = torch.tensor([[1.0, 1.0, 0.0]])
    expected = (-np.log(1 / (1 + np.exp(-2.0))) - np.log(1 - 1 / (1 + np.exp(1.0)))) / 2
    assert response_loss(logits, labels, observed).item() == pytest.approx(expected, rel=1e-6)  # float32


def test_response_loss_of_nothing_observed_is_zero() -> None:
    assert response_loss(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 3)).item() == 0.0


def test_a_column_that_never_varied_stays_silent() -> None:
    standard = Standard(("kept", "silent"))
    standard.learn(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    assert standard(torch.tensor([[2.0, 1e6]]))[0, 1].item() == 0.0


def test_calibration_and_unused_slots_are_part_of_what_is_served() -> None:
    torch.manual_seed(0)
    model = Response().eval()
    features = torch.rand(2, N_FEATURES)
    logits = model(features)
    model.take_calibration(np.full(N_LABELS, 0.5), np.full(N_LABELS, -1.0))
    model.is_used[3] = 0.0
    category, redeem = model.probabilities(features)
    assert category.shape == (2, N_CATEGORIES)
    assert redeem.shape == (2, N_OFFER_GROUPS)
    assert category[0, 0].item() == pytest.approx(torch.sigmoid(0.5 * logits[0, 0] - 1.0).item(), rel=1e-6)
    assert (category[:, 3] == 0).all()


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


def test_recommendation_brings_back_what_was_bought_most() -> None:
    torch.manual_seed(0)
    model = Recommendation(40).eval()
    torch.nn.init.zeros_(model.item.weight)
    items, probs = model.top(history_of(5, 9, 5, 7, 5, 9))
    assert items[0, :3].tolist() == [5, 9, 7]
    assert items.shape == probs.shape == (1, N_TOP_ITEMS)
    assert (probs.diff() <= 0).all()


def test_recommendation_follows_the_transition_table() -> None:
    model = Recommendation(6)
    table = transitions.transitions(np.array([1, 2, 3, 1, 2], np.int32), np.array([0, 5]), 6, n_kept=32)
    row = np.repeat(np.arange(6), np.diff(table.offsets))
    place = np.arange(row.size) - table.offsets[row]
    total = np.bincount(row, table.weight, minlength=6)
    model.successor[row, place] = torch.from_numpy(table.successor)
    model.worth[row, place] = torch.from_numpy(table.weight / np.sqrt(total[row])).float()
    history = history_of(3, 1, 2)
    expected = transitions.scores(table, history.numpy().astype(np.int32))
    successors, scores = model.after(history)
    found = torch.zeros(1, 6).scatter_add(1, successors, scores)
    # float32 sums of a handful of terms
    np.testing.assert_allclose(found.detach().numpy()[:, 1:], expected[:, 1:], rtol=1e-5)


def test_candidates_score_as_they_do_among_all_items() -> None:
    torch.manual_seed(0)
    model = Recommendation(60).eval()
    with torch.no_grad():
        torch.nn.init.normal_(model.repeat_item)
        model.worth[1:, :3], model.successor[1:, :3] = torch.rand(59, 3), torch.randint(1, 60, (59, 3)).int()
    history, own, others = history_of(5, 9, 5, 7, 5, 9), torch.tensor([[5, 7, 9, 11]]), torch.tensor([12, 40])
    expected = model(history)[:, torch.cat([own[0], others])]
    # The same terms in another order, float32.
    torch.testing.assert_close(candidate_scores(model, history, own, others), expected, rtol=1e-5, atol=1e-5)


def test_an_empty_history_gives_finite_probabilities_and_padding_is_never_recommended() -> None:
    torch.manual_seed(0)
    model = Recommendation(N_TOP_ITEMS + 1).eval()
    with torch.no_grad():
        model.base[0] = model.base[15:] = SILENT
    items, probs = model.top(torch.zeros(2, HISTORY, dtype=torch.int64))
    assert torch.isfinite(probs).all()
    assert set(items[0].tolist()) == set(range(15))
    assert (probs[items == 0] == 0).all()


def test_basket_loss_is_cross_entropy_where_nothing_was_sampled() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    bought = torch.tensor([[True, False, False]])
    expected = -torch.log_softmax(scores, dim=1)[0, 0].item()
    assert basket_loss(scores, bought, torch.zeros(1, 3)).item() == pytest.approx(expected, rel=1e-6)
    dropped = torch.tensor([[0.0, 0.0, -SILENT]])
    shorter = -torch.log_softmax(scores[:, :2], dim=1)[0, 0].item()
    assert basket_loss(scores, bought, dropped).item() == pytest.approx(shorter, rel=1e-6)


def test_a_module_comes_back_from_its_state_alone() -> None:
    torch.manual_seed(0)
    model = Recommendation(30)
    again = Recommendation.from_state(model.state_dict())
    assert torch.equal(again.item.weight, model.item.weight)
