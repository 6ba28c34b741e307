"""What is recommended and why: repeats, followers, cold items, probabilities; and the graph says what torch says."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import metrics, transitions
from kernels.features import N_TOP_ITEMS
from kernels.ledger import COLUMNS, ORDER, VIEW, ledger_of
from tests.requirements import shared_data
from training import baskets, behaviours
from training.configs import config_of
from training.dataset import DAY_S, Dataset
from training.evidence import Difference, Evidence, Figure
from training.loop import Recipe
from training.models.behaviour import N_PLACES, SILENT, Behaviour, Events
from training.models.recommendation import (
    BEFORE,
    COLD,
    DECAY,
    FOLLOWS,
    FOUND,
    HALF_LIVES_DAYS,
    Recommendation,
    Served,
    basket_loss,
)
from training.sources.tables import InvalidTable
from training.staging import onnxruntime_answers, stage

N_ITEMS = 60


def module(n_items: int = N_ITEMS, *, has_repeats: bool = True) -> Recommendation:
    torch.manual_seed(0)
    attributes = torch.zeros(n_items, 2, dtype=torch.int64)
    attributes[1:, 0] = torch.arange(1, n_items) % 3 + 1
    return Recommendation(Behaviour(attributes), has_repeats=has_repeats).eval()


def events_of(*items: int, kind: int = ORDER, gap_s: int = DAY_S, n_places: int = N_PLACES) -> Events:
    empty = n_places - len(items)
    happened = torch.tensor([[0] * empty + [1] * len(items)])
    return Events(torch.tensor([[0] * empty + list(items)]), happened * kind, happened * gap_s, happened)


def table_of(sequence: list[int], n_items: int = N_ITEMS) -> transitions.Transitions:
    return transitions.transitions(np.array(sequence, np.int32), np.array([0, len(sequence)]), n_items)


def served(model: Recommendation, events: Events) -> dict[str, torch.Tensor]:
    answers = Served(model)(*(column.to(torch.int32) for column in events))
    return {tensor.name: answer for tensor, answer in zip(Served.signature.outputs, answers, strict=True)}


def test_what_was_bought_most_comes_back_first_and_says_so() -> None:
    model = module()
    with torch.no_grad():
        model.repeats.level.fill_(20.0)  # type: ignore[union-attr]
    answer = served(model, events_of(5, 9, 5, 7, 5, 9))
    assert answer["item_index"][0, :2].tolist() == [5, 9]
    assert answer["item_reason"][0, :3].tolist() == [BEFORE] * 3
    assert (answer["item_prob"].diff() <= 0).all()


def test_a_view_is_no_purchase() -> None:
    model = module()
    answer = served(model, events_of(5, 9, kind=VIEW))
    assert BEFORE not in answer["item_reason"][0].tolist()


def test_purchases_halve_with_the_time_since_them() -> None:
    model = module()
    events = events_of(5, 9, 5, gap_s=10 * DAY_S)
    scored = model.found(events, model.behaviour.table())
    counts = model.repeats.counts(events, scored.groups(events.item), N_PLACES * 10)  # type: ignore[union-attr]
    of_five = counts[0, scored.groups(torch.tensor([[5]]))[0, 0]]
    expected = [1.0 + 0.5 ** (20.0 / days) for days in HALF_LIVES_DAYS]
    np.testing.assert_allclose(of_five.numpy(), expected, rtol=1e-5)  # float32


def test_the_table_gives_the_points_that_its_kernel_gives() -> None:
    model = module()
    table = table_of([1, 2, 3, 1, 2, 4])
    model.take_table(table)
    events = events_of(3, 1, 2)
    scored = model.found(events, model.behaviour.table())
    items = torch.arange(1, N_ITEMS).unsqueeze(0)
    points = scored.follows.gather(1, scored.groups(items))
    expected = transitions.scores(table, events.item.numpy().astype(np.int32), DECAY)
    # float32 sums of a handful of terms
    np.testing.assert_allclose(points.numpy()[0], expected[0, 1:], rtol=1e-5)


def test_a_follower_names_the_item_that_it_follows() -> None:
    model = module()
    model.take_table(table_of([3, 8] * 6))
    model.fusion.copy_(torch.tensor([0.01, 1.0, 1e-3, 1.0]))
    with torch.no_grad():
        model.repeats.level.fill_(-50.0)  # type: ignore[union-attr]
    answer = served(model, events_of(7, 3))
    assert answer["item_index"][0, 0] == 8
    assert answer["item_reason"][0, 0] == FOLLOWS
    assert answer["item_because"][0, 0] == 3
    found = answer["item_reason"][0] == FOUND
    assert (answer["item_because"][0][found] == 0).all()


def test_a_cold_item_is_recommended_by_its_content() -> None:
    model = module()
    model.behaviour.is_known[7] = 0.0
    table = model.behaviour.table()
    with torch.no_grad():
        shopper = model.behaviour.shopper(events_of(4), table)[0]
        model.behaviour.attribute.weight[model.behaviour.attributes[7, 0]] = shopper
    answer = served(model, events_of(4))
    place = answer["item_index"][0].tolist().index(7)
    assert answer["item_reason"][0, place] == COLD


def test_where_nothing_repeats_no_item_of_the_history_is_recommended() -> None:
    model = module(has_repeats=False)
    model.take_table(table_of([5, 9] * 4))
    answer = served(model, events_of(5, 9))
    assert not {5, 9} & set(answer["item_index"][0].tolist())


def test_an_empty_history_and_unknown_items_give_finite_probabilities_and_padding_is_no_item() -> None:
    model = module(N_TOP_ITEMS + 1)
    model.silence[15:] = SILENT
    for events in (events_of(), events_of(0, 0)):
        answer = served(model, events)
        assert all(torch.isfinite(values).all() for values in answer.values())
        assert set(answer["item_index"][0].tolist()) == set(range(15))
        assert (answer["item_prob"][answer["item_index"] == 0] == 0).all()
        assert answer["next_kind_prob"].sum().item() == pytest.approx(1.0, abs=1e-6)


def test_basket_loss_is_cross_entropy_among_the_candidates() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    bought, all_three = torch.tensor([[True, False, False]]), torch.tensor([[True, True, True]])
    expected = -torch.log_softmax(scores, dim=1)[0, 0].item()
    assert basket_loss(scores, bought, all_three).item() == pytest.approx(expected, rel=1e-6)
    shorter = -torch.log_softmax(scores[:, :2], dim=1)[0, 0].item()
    assert basket_loss(scores, bought, torch.tensor([[True, True, False]])).item() == pytest.approx(shorter, rel=1e-6)
    assert basket_loss(scores, torch.zeros_like(bought), all_three).item() == 0.0


@pytest.mark.parametrize("has_repeats", [True, False])
def test_a_module_comes_back_from_its_state_alone(*, has_repeats: bool) -> None:
    model = module(has_repeats=has_repeats)
    model.take_table(table_of([5, 9, 7]))
    again = Recommendation.from_state(model.state_dict()).eval()
    assert torch.equal(again(events_of(5, 9)), model(events_of(5, 9)))


def test_training_around_the_encoder_leaves_it_as_it_is_served() -> None:
    model = module().train()
    assert not model.behaviour.training
    assert not any(parameter.requires_grad for parameter in model.behaviour.parameters())


@pytest.mark.parametrize("has_repeats", [True, False])
def test_the_graph_says_what_torch_says(tmp_path: Path, *, has_repeats: bool) -> None:
    model = module(has_repeats=has_repeats)
    model.take_table(table_of([5, 9, 7, 12, 5]))
    model.fusion.copy_(torch.tensor([0.7, 0.5, 1e-2, 2.0]))
    histories = (events_of(), events_of(5, 9, 5, 7), events_of(0, 3), events_of(*range(1, 50)))
    names = [tensor.name for tensor in Served.signature.inputs]
    rows = {
        name: np.concatenate([history[place].numpy().astype(np.int32) for history in histories])
        for place, name in enumerate(names)
    }
    folder = tmp_path / "encoder"
    expected = stage(folder, Served(model), Served.signature, rows, config_of("encoder", Served.signature))
    for asked in (rows, {name: column[:1] for name, column in rows.items()}):
        for name, answer in onnxruntime_answers(folder, Served.signature, asked).items():
            # Float32 sums in another order.
            np.testing.assert_allclose(answer, expected[name][: len(answer)], rtol=1e-4, atol=1e-5)


def test_a_model_that_loses_beyond_noise_is_refused() -> None:
    assert Difference("own purchase frequency", "ndcg_10", Figure(-0.02, -0.03, -0.01)).is_lost
    assert not Difference("own purchase frequency", "ndcg_10", Figure(-0.001, -0.003, 0.001)).is_lost


@pytest.fixture(scope="module")
def studied(dataset: Dataset) -> tuple[Behaviour, Evidence, Recommendation, Evidence]:
    """Encoder and recommendation of the little shop, quickly trained."""
    behaviour, found = behaviours.study(dataset, Recipe(4, 32, 3e-3), lambda _: None, None)
    rows, _ = dataset.weekly()
    model, evidence = baskets.study(
        dataset, baskets.baskets_of(dataset, rows), behaviour, Recipe(3, 128, 1e-2), lambda _: None, None
    )
    return behaviour, found, model, evidence


def test_ours_beats_popularity_where_shoppers_have_habits(
    studied: tuple[Behaviour, Evidence, Recommendation, Evidence],
) -> None:
    *_, evidence = studied
    against = {row.rival: row for row in evidence.against if row.figure == "ndcg_10"}
    assert against["popularity"].difference.lower > 0
    assert not against["own purchase frequency, all history"].is_lost
    assert evidence.metrics()["ece"] < 0.1


def test_behaviour_is_judged_by_what_is_new_to_the_shopper(
    studied: tuple[Behaviour, Evidence, Recommendation, Evidence],
) -> None:
    _, found, *_ = studied
    assert [row.name for row in found.rows] == ["behaviour", "transition table", "popularity"]
    assert found.n["moments"] > 0


def test_the_encoder_stays_what_the_heads_were_trained_on(
    studied: tuple[Behaviour, Evidence, Recommendation, Evidence],
) -> None:
    behaviour, _, model, _ = studied
    again = Recommendation.from_state(model.state_dict()).eval()
    events = events_of(5, 9)
    expected = behaviour.shopper(events, behaviour.table())
    torch.testing.assert_close(again.scored(events, again.behaviour.table()).shopper, expected, rtol=0, atol=0)


def test_a_shop_of_one_shopper_is_refused(dataset: Dataset) -> None:
    ledger = dataset.ledger
    alone = np.arange(ledger.n_events) < ledger.offsets[1]
    columns = {name: getattr(ledger, name)[alone] for name in COLUMNS}
    one = replace(dataset, ledger=ledger_of(np.zeros(int(alone.sum()), np.int64), 1, columns))
    with pytest.raises(InvalidTable, match="events must be of at least 2 shoppers before training ends, got 1"):
        behaviours.study(one, Recipe(1, 32, 3e-3), lambda _: None, None)


def test_the_transition_table_of_beauty_is_as_good_as_algorithms_says() -> None:
    folder = shared_data("amazon_5core")
    with gzip.open(folder / "Beauty.txt.gz", "rt") as file:
        users = [np.array(line.split()[1:], np.int32) for line in file]
    train = [user[:-2] for user in users]
    offsets = np.concatenate([[0], np.cumsum([user.size for user in train])])
    table = transitions.transitions(np.concatenate(train), offsets, 1 + max(int(user.max()) for user in users))
    asked = users[::11]
    history = np.zeros((len(asked), 50), np.int32)
    for row, user in zip(history, asked, strict=True):
        row[50 - min(50, user.size - 1) :] = user[:-1][-50:]
    scored = torch.from_numpy(transitions.scores(table, history, DECAY)).scatter(
        1, torch.from_numpy(history).long(), -1
    )
    ranked = torch.topk(scored, 10, dim=1).indices.numpy().astype(np.int32)
    target = np.array([user[-1] for user in asked], np.int32)
    gains = metrics.ranking_gains(ranked, np.arange(len(asked) + 1), target)[:, 1]
    # 2,033 of the 22,363 users: 0.0526 of algorithms.md, table 1b, give or take three standard errors.
    assert abs(gains.mean() - 0.0526) < 3 * 0.0043
