"""The encoder reads any history without looking ahead, knows items by their attributes, and learns what follows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.behaviours import NextEvent, vectors_of
from training.dataset import TEST, TRAIN, VALID, Dataset
from training.histories import Sequences, sequences_of, windows_of
from training.loop import Recipe, fit
from training.models.behaviour import N_KINDS, SILENT, WIDTH, Behaviour, Events, next_event_loss

N_ITEMS, N_PLACES = 30, 12
# Float32 sums of 64 terms in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def module(n_items: int = N_ITEMS) -> Behaviour:
    torch.manual_seed(0)
    attributes = torch.zeros(n_items, 2, dtype=torch.int64)
    attributes[1:, 0] = torch.arange(1, n_items) % 3 + 1
    return Behaviour(attributes).eval()


def events_of(*items: int, n_places: int = N_PLACES, kind: int = 3) -> Events:
    row = torch.tensor([[0] * (n_places - len(items)) + list(items)])
    happened = torch.tensor([[0] * (n_places - len(items)) + [kind] * len(items)])
    return Events(row, happened, happened * 3_600, happened)


def circles(n_shoppers: int = 120, n_events: int = 12, n_items: int = N_ITEMS) -> Sequences:
    """Shoppers who walk round the items in steps of one; the last event is for the test, the one before to validate."""
    rng = np.random.default_rng(0)
    item = (rng.integers(0, n_items - 1, (n_shoppers, 1)) + np.arange(n_events)) % (n_items - 1) + 1
    part = np.full((n_shoppers, n_events), TRAIN, np.int8)
    part[:, -2], part[:, -1] = VALID, TEST
    zeros = np.zeros(item.size, np.int64)
    offsets = np.arange(n_shoppers + 1) * n_events
    return Sequences(item.ravel(), zeros + 3, zeros, zeros, np.arange(item.size), part.ravel(), offsets)


def test_a_batch_of_one_keeps_its_axis_and_an_empty_history_is_finite() -> None:
    model = module()
    for events in (events_of(), events_of(0, 0), events_of(5)):
        scores, kinds = model(events)
        assert scores.shape == (1, N_ITEMS)
        assert kinds.shape == (1, N_KINDS)
        assert torch.isfinite(scores).all()
        assert torch.isfinite(kinds).all()
    assert not torch.equal(model(events_of())[0], model(events_of(5))[0])


def test_no_place_reads_what_came_after_it() -> None:
    model = module()
    table = model.table()
    whole, shorter = events_of(3, 4, 5, 6), events_of(3, 4, 5)
    read = model.read(whole, table[whole.item])
    torch.testing.assert_close(read[:, -2], model.shopper(shorter, table), **CLOSE)


def test_empty_places_change_nothing() -> None:
    model = module()
    table = model.table()
    short = model.shopper(events_of(3, 4, 5, n_places=4), table)
    torch.testing.assert_close(model.shopper(events_of(3, 4, 5, n_places=60), table), short, **CLOSE)


def test_an_item_that_training_never_saw_is_what_its_attributes_say() -> None:
    model = module()
    model.is_known[7] = 0.0
    table = model.table()
    torch.testing.assert_close(table[7], model.attribute.weight[model.attributes[7]].sum(dim=0))
    assert torch.equal(model.table()[0], torch.zeros(WIDTH))
    assert not torch.equal(table[7], table[10])  # of the same attributes, and known


def test_loss_equals_its_definition_and_drops_what_must_not_count() -> None:
    scores, kinds = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    expected = np.log(np.exp(1.0) + np.exp(0.0 - 0.5)) - 1.0 + np.log(3 + np.e) - 1.0
    log_counts = torch.tensor([[0.0, 0.5, -SILENT]])
    assert next_event_loss(scores, log_counts, kinds, torch.tensor([3])).item() == pytest.approx(expected, rel=1e-6)


def test_windows_cover_every_event_once_and_the_first_has_an_empty_place_before_it() -> None:
    for n_events in range(1, 12):
        windows = windows_of(np.array([5]), np.array([5 + n_events]), 4)
        covered = np.concatenate([np.arange(a, b) for a, b in zip(windows.begin, windows.end, strict=True)])
        assert sorted(covered.tolist()) == list(range(5, 5 + n_events))
        assert int(windows.length.sum()) == n_events + 1
        assert windows.length.max() <= 4


def test_the_next_moment_skips_what_happened_at_once() -> None:
    whole = circles(2, 4)
    at_once = replace(whole, moment=np.array([0, 0, 1, 1, 0, 1, 2, 2]))
    begin, end = at_once.next_moments()
    assert begin.tolist() == [2, 2, 4, 4, 5, 6, 8, 8]
    assert end.tolist() == [4, 4, 4, 4, 6, 8, 8, 8]


def test_it_learns_what_follows_better_than_popularity() -> None:
    sequences = circles()
    task = NextEvent(sequences, N_ITEMS, N_PLACES, N_ITEMS)
    model = module()
    fitted = fit(model, task, Recipe(15, 32, 1e-2, patience=15), lambda _: None)
    asked = task.asked_of(TEST, 1_000)
    with torch.no_grad():
        scores, _ = model(task.histories(asked))
    right = scores[:, 1:].argmax(dim=1).numpy() + 1 == sequences.item[asked + 1]
    assert min(fitted.validation_losses) < 0.2
    assert task.ndcg(lambda events: torch.from_numpy(task.counts).expand(len(events.item), -1), asked) < 0.6
    assert right.mean() > 0.9


def test_sampled_negatives_learn_it_too() -> None:
    task = NextEvent(circles(), N_ITEMS, N_PLACES, 20)
    model = module()
    fitted = fit(model, task, Recipe(25, 32, 1e-2, patience=25), lambda _: None)
    assert min(fitted.validation_losses) < 0.2


def test_vectors_are_those_of_the_rows_in_order(dataset: Dataset) -> None:
    model = module(len(dataset.vocabulary.item_ids) + 1)
    shopper, at_s = np.array([0, 0, 3]), np.array([dataset.splits.first_s, dataset.splits.train_until_s] * 2)[:3]
    at_s[2] = dataset.splits.valid_until_s
    vectors = vectors_of(model, dataset.rows(shopper, at_s))
    sequences = sequences_of(dataset.ledger, dataset.splits)
    before = sequences.moment[sequences.shopper == 3] < at_s[2]
    end = sequences.offsets[3] + before.sum()
    table = model.table()
    expected = torch.cat(
        [model.shopper(events_of(), table), model.shopper(sequences.before(np.array([3]), np.array([end]), 200), table)]
    )
    np.testing.assert_allclose(vectors[[0, 2]], expected.detach().numpy(), **CLOSE)
    assert vectors.dtype == np.float32


def test_a_module_comes_back_from_its_state_alone() -> None:
    model = module()
    model.is_known[7] = 0.0
    again = Behaviour.from_state(model.state_dict()).eval()
    assert torch.equal(again(events_of(1, 2))[0], model(events_of(1, 2))[0])


def test_items_that_a_shopper_never_saw_are_ranked_too() -> None:
    task = NextEvent(circles(), N_ITEMS + 5, N_PLACES, 10)
    assert task.chance[0] == 0.0
    assert (task.chance[1:] > 0).all()
