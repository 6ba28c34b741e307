"""The store keeps a shopper as the kernels made one, counts an event once and never leases more than a budget."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.features import N_STATE, read_states, states_of
from kernels.ledger import COLUMNS, EXPOSURE, ORDER, ledger_of
from server.repository import open_repository
from server.state.embedded import EmbeddedStates
from server.state.loading import sent_of, shoppers_of
from server.state.shopper import N_LATEST, Shopper
from server.state.store import Happening
from server.strategy.catalogue import campaign_key, offer_key
from tests.tiny_repository import AS_OF_S, DAY_S


@contextmanager
def opened(folder: Path) -> Iterator[EmbeddedStates]:
    """A store, closed at the end."""
    states = EmbeddedStates(folder, "vocabulary", 64)
    try:
        yield states
    finally:
        states.close()


def line(event_id: str, shopper_id: str = "a", time_s: int = AS_OF_S, **fields: int) -> Happening:
    """One order line."""
    return Happening(event_id, shopper_id, time_s, ORDER, category=1, quantity=1.0, paid_micros=10**6, **fields)


def test_an_event_counts_once_also_in_another_process_life(tmp_path: Path) -> None:
    with opened(tmp_path) as states:
        assert states.apply([line("1"), line("1"), line("2")]).result() == [True, False, True]
        once = states.read(["a"]).states
    with opened(tmp_path) as states:
        assert states.seen(["1", "2", "3"]) == [True, True, False]
        assert states.apply([line("1")]).result() == [False]
        assert states.read(["a"]).states.tobytes() == once.tobytes()


def test_a_failed_event_leaves_nothing_of_its_batch(tmp_path: Path) -> None:
    with opened(tmp_path) as states:
        with pytest.raises(ValueError, match="category"):
            states.apply([line("1"), Happening("2", "a", AS_OF_S, ORDER, category=99)]).result()
        assert states.seen(["1", "2"]) == [False, False]
        assert not states.read(["a"]).is_known[0]


def test_a_batch_is_read_in_its_order_with_unknown_shoppers_marked(tmp_path: Path) -> None:
    sent = Happening("3", "b", AS_OF_S + 5, EXPOSURE, sent_key=campaign_key("c"))
    with opened(tmp_path) as states:
        states.apply([line("1", "a"), line("2", "b"), sent]).result()
        snapshot = states.read(["b", "nobody", "a"])
    assert snapshot.is_known.tolist() == [True, False, True]
    assert snapshot.last_event_s.tolist() == [AS_OF_S + 5, 0, AS_OF_S]
    assert (snapshot.sent_row.tolist(), snapshot.sent_key.tolist()) == ([0], [campaign_key("c")])
    assert not snapshot.states[1].any()


def test_a_late_event_stands_where_it_belongs_among_the_latest(tmp_path: Path) -> None:
    happenings = [line(str(day), time_s=AS_OF_S - day * DAY_S, item_row=day) for day in (3, 1, 20, 2, *range(4, 14))]
    with opened(tmp_path) as states:
        states.apply(happenings).result()
        shopper = states.shopper("a")
    assert shopper is not None
    assert shopper.latest["item"].tolist() == list(range(1, 1 + N_LATEST))
    assert shopper.last_event_s == AS_OF_S - DAY_S


@given(sent=st.lists(st.integers(1, 2**64 - 1), max_size=5), n_latest=st.integers(0, 12))
def test_a_shopper_comes_back_from_bytes(sent: list[int], n_latest: int) -> None:
    shopper = Shopper.new()
    shopper.state[:] = np.arange(N_STATE) / 7
    for key in sent:
        shopper.was_sent(key)
    for time_s in range(n_latest):
        shopper.did(time_s, ORDER, time_s, 5)
    again = Shopper.from_bytes(shopper.to_bytes())
    assert again.to_bytes() == shopper.to_bytes()
    assert again.sent.tolist() == list(dict.fromkeys(sent))


@settings(deadline=None)  # every step is a durable transaction
@given(wanted=st.lists(st.integers(0, 400), max_size=12), budget=st.integers(0, 1000))
def test_leases_never_exceed_the_budget(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[int], budget: int
) -> None:
    with opened(tmp_path_factory.mktemp("state")) as states:
        granted = [states.lease("plan", budget, micros).result() for micros in wanted]
        assert sum(granted) == min(budget, sum(wanted)) == states.spent_micros("plan")
        if granted:
            states.give_back("plan", granted[0]).result()
            assert states.spent_micros("plan") == sum(granted[1:])
        assert states.spent_micros("another plan") == 0


def test_a_loaded_ledger_reads_as_training_left_it(tmp_path: Path, tiny_repository: Path) -> None:
    items = open_repository(tiny_repository).catalogue.items
    rng = np.random.default_rng(3)
    n_events, n_shoppers = 300, 6
    table = {name: np.zeros(n_events, dtype) for name, dtype in COLUMNS.items()}
    table["time_s"] = AS_OF_S - rng.integers(0, 200 * DAY_S, n_events)
    table["kind"] = rng.choice([ORDER, EXPOSURE], n_events).astype(np.int8)
    table["item"] = rng.integers(0, 200, n_events).astype(np.int32)
    table["paid_micros"] = rng.integers(0, 10**7, n_events)
    ledger = ledger_of(rng.integers(0, n_shoppers - 1, n_events), n_shoppers, table)
    names = [f"shopper-{number}" for number in range(n_shoppers)]
    exposures = pl.DataFrame(
        {"shopper_id": names[:2], "campaign_id": ["c", "d"], "offer_id": [None, "d:milk"], "time_s": [1, 2]}
    )
    with opened(tmp_path) as states:
        states.apply([line("before", "somebody else")]).result()
        assert states.load(shoppers_of(ledger, names, sent_of(exposures), items)) == n_shoppers
        assert list(states.shopper_ids(4)) == [names[:4], names[4:]]
        snapshot = states.read(names)
        latest = states.shopper(names[0])
    assert snapshot.states.tobytes() == states_of(ledger).tobytes()
    assert snapshot.sent_key.tolist() == [campaign_key("c"), offer_key("d:milk")]
    assert latest is not None
    assert latest.latest["time_s"].tolist() == sorted(latest.latest["time_s"].tolist(), reverse=True)
    at_s = np.full(n_shoppers, AS_OF_S)
    assert np.isfinite(read_states(snapshot.states, at_s)[0]).all()
