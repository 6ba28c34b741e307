"""The shop that the gateway is measured on is what it says: events a shopper, ten actions, everybody fresh."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from kernels.ledger import Ledger
from server.repository import open_repository
from server.state.embedded import EmbeddedStates
from tests.load import workload
from tests.load.conftest import N_SHOPPERS, silent
from tests.load.ledgers import MEDIAN_EVENTS, P99_EVENTS, event_counts, made_up_ledger
from tests.load.ten_actions import N_OFFERS
from tests.load.workload import Workload, prepared_workload
from tests.tiny_repository import AS_OF_S


def states_of(made: Workload) -> EmbeddedStates:
    return EmbeddedStates(made.state, open_repository(made.repository).vocabulary, made.state_mib)


def test_shoppers_have_as_many_events_as_the_issue_says() -> None:
    counts = event_counts(200_000, np.random.default_rng(0))
    assert np.median(counts) == pytest.approx(MEDIAN_EVENTS, rel=0.01)  # 1/sqrt(n) of a median: some 0.2 %
    assert np.quantile(counts, 0.99) == pytest.approx(P99_EVENTS, rel=0.03)  # 2,000 shoppers lie beyond it


def test_every_event_is_before_the_moment_that_is_asked_for(made: Workload) -> None:
    items = open_repository(made.repository).catalogue.items
    ledger = made_up_ledger(50, items, AS_OF_S, np.random.default_rng(1))
    assert isinstance(ledger, Ledger)  # its own door checked types, ranges and order
    assert ledger.time_s.max() < AS_OF_S


def test_ten_actions_are_open_at_the_moment(made: Workload) -> None:
    catalogue = open_repository(made.repository).catalogue
    assert len(catalogue.offers_between(made.at_s, made.at_s + 3600).offers) == N_OFFERS


def test_the_copy_serves_the_exported_models_under_a_release_of_its_own(made: Workload, tiny_repository: Path) -> None:
    copied, exported = open_repository(made.repository), open_repository(tiny_repository)
    assert (copied.encoder, copied.vocabulary, copied.served) == (
        exported.encoder, exported.vocabulary, exported.served,
    )  # fmt: skip


def test_the_store_holds_what_loading_and_encoding_would_have_written(made: Workload, tmp_path: Path) -> None:
    vocabulary = open_repository(made.repository).vocabulary
    built, loaded = states_of(made), EmbeddedStates(tmp_path, vocabulary, made.state_mib)
    ids = [made.shopper_id(shopper) for shopper in range(N_SHOPPERS)]
    try:
        everybody = [(shopper_id, built.shopper(shopper_id)) for shopper_id in ids]
        snapshot = built.read(ids)
        loaded.load(everybody)
        loaded.keep(ids, snapshot.encodings).result()
        again = loaded.read(ids)
        assert list(built.shopper_ids(N_SHOPPERS)) == [ids]
        assert snapshot.is_known.all()
        for column in vars(snapshot):
            np.testing.assert_array_equal(getattr(snapshot, column), getattr(again, column))
    finally:
        built.close()
        loaded.close()


def test_every_vector_is_fresh(made: Workload) -> None:
    states, encoder = states_of(made), open_repository(made.repository).encoder
    ids = [made.shopper_id(shopper) for shopper in range(N_SHOPPERS)]
    try:
        encodings = states.read(ids).encodings
        n_events = [int(states.shopper(shopper_id).ring["clock"][0, 0]) for shopper_id in ids]
        assert encodings["n_events"].tolist() == n_events
        assert set(encodings["encoder"].tolist()) == {encoder.encode()}
        assert np.ptp(encodings["shopper_vector"], axis=0).any()
    finally:
        states.close()


def test_a_killed_run_continues_where_it_stood(
    made: Workload, tmp_path: Path, tiny_repository: Path, tiny_triton: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_URL", tiny_triton)
    monkeypatch.setattr(workload, "CHUNK", 50)

    def killed(words: str) -> None:
        if words.startswith("50 of"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared_workload(N_SHOPPERS, tiny_repository, killed, tmp_path / "killed")
    said: list[str] = []
    continued = prepared_workload(N_SHOPPERS, tiny_repository, said.append, tmp_path / "killed")
    whole = prepared_workload(N_SHOPPERS, tiny_repository, silent, tmp_path / "whole")
    assert [words for words in said if words.startswith("50 of")] == []
    ids = [made.shopper_id(shopper) for shopper in range(N_SHOPPERS)]
    stores = [states_of(continued), states_of(whole)]
    try:
        first, second = (store.read(ids) for store in stores)
        assert first.states.tobytes() == second.states.tobytes()
        assert first.encodings.tobytes() == second.encodings.tobytes()
    finally:
        for store in stores:
            store.close()


def test_a_store_of_other_code_is_made_anew(
    made: Workload, tmp_path: Path, tiny_repository: Path, tiny_triton: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_URL", tiny_triton)
    shutil.copytree(made.state, tmp_path / f"state-{N_SHOPPERS}")
    (tmp_path / f"state-{N_SHOPPERS}" / "made_by").write_text("other code")
    said: list[str] = []
    prepared_workload(N_SHOPPERS, tiny_repository, said.append, tmp_path)
    assert said[-1] == f"{N_SHOPPERS} of {N_SHOPPERS} shoppers stand in the store"
    said.clear()
    prepared_workload(N_SHOPPERS, tiny_repository, said.append, tmp_path)
    assert said == []
