"""The encoder runs for shoppers who did something new, and for nobody else; what it reads is what training reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stratagem.v1 import strategy_pb2

from kernels import ledger as ledgers
from kernels.event_history import COLUMNS, LENGTH, read_rings, rings_of
from kernels.ledger import EXPOSURE, ORDER, VIEW, ledger_of
from server.encoding import Encoder
from server.problems import TooLate
from server.repository import open_repository
from server.state.embedded import EmbeddedStates
from server.state.encodings import ENCODING, is_stale, no_encodings
from server.state.loading import shoppers_of
from server.state.store import Happening
from server.triton.client import PATIENT_S, Models
from tests.faults.stage import within
from tests.server.doors import Doors, fill, settings_in
from tests.tiny_repository import AS_OF_S, DAY_S, local_answers


@pytest.fixture
def encoder(tmp_path: Path, tiny_repository: Path, tiny_triton: str) -> Iterator[Encoder]:
    """The tiny encoder over a store of shoppers with five orders each."""
    own = settings_in(tmp_path, tiny_repository)
    fill(own)
    repository = open_repository(tiny_repository)
    states = EmbeddedStates(own.state, repository.vocabulary, own.state_mib)
    try:
        yield Encoder(Models(tiny_triton), states, repository.encoder)
    finally:
        states.close()


def viewed(shopper_id: str, event_id: str = "viewed") -> Happening:
    """One more event."""
    return Happening(event_id, shopper_id, AS_OF_S, VIEW, item=3)


def test_the_encoder_runs_once_until_the_shopper_does_something_new(encoder: Encoder, tiny_repository: Path) -> None:
    asked = ["shopper-1", "shopper-2", "shopper-3"]
    first = encoder.freshened(asked, encoder.states.read(asked), PATIENT_S)
    assert (encoder.rows["stale"], encoder.rows["fresh"]) == (3, 0)
    told = vars(read_rings(encoder.states.rings(asked)))
    expected = local_answers(tiny_repository, "encoder", {f"event_{name}": told[name] for name in COLUMNS})
    for name, array in expected.items():
        # The same graph in another process: a batch may be summed in another order.
        np.testing.assert_allclose(first.encodings[name], array, rtol=1e-6, atol=1e-6)
    encoder.states.apply([viewed("shopper-2")]).result()
    again = encoder.freshened(asked, encoder.states.read(asked), PATIENT_S)
    assert (encoder.rows["stale"], encoder.rows["fresh"]) == (4, 2)
    same = again.encodings["shopper_vector"] == first.encodings["shopper_vector"]
    assert same.all(axis=1).tolist() == [True, False, True]
    assert again.encodings["n_events"].tolist() == [5, 6, 5]


def test_what_another_encoder_made_is_stale(encoder: Encoder) -> None:
    encoder.freshened(["shopper-1"], encoder.states.read(["shopper-1"]), PATIENT_S)
    encoder.states.apply([viewed("shopper-2")]).result()  # one writer: what was to be kept is kept now
    other = Encoder(encoder.models, encoder.states, "another")
    other.freshened(["shopper-1"], encoder.states.read(["shopper-1"]), PATIENT_S)
    assert (other.rows["stale"], other.rows["fresh"]) == (1, 0)


def test_an_encoding_of_a_shopper_who_is_gone_is_not_kept(encoder: Encoder) -> None:
    made = np.zeros(1, ENCODING)
    encoder.states.keep(["nobody"], made).result()
    assert encoder.states.read(["nobody"]).encodings["n_events"].tolist() == [-1]
    assert not encoder.states.read(["nobody"]).is_known[0]


def test_rows_that_were_never_encoded_are_stale_for_every_encoder() -> None:
    assert is_stale(no_encodings(2), np.zeros(2, np.int64), "some encoder").all()


def test_a_decision_after_the_first_asks_the_heads_alone(doors: Doors) -> None:
    counted = doors.gateway.decider.encoder.rows
    for number in range(3):
        ask = strategy_pb2.DecideRequest(decision_id=f"d-{number}", shopper_id="shopper-4", time_s=AS_OF_S + number)
        doors.strategy.Decide(ask)
    assert (counted["stale"], counted["fresh"]) == (1, 2)


def test_a_loaded_shop_has_the_rings_of_its_ledger(tmp_path: Path, tiny_repository: Path) -> None:
    rng = np.random.default_rng(5)
    n_events, names = 900, [f"shopper-{number}" for number in range(4)]
    table = {name: np.zeros(n_events, dtype) for name, dtype in ledgers.COLUMNS.items()}
    table["time_s"] = AS_OF_S - rng.integers(0, 200 * DAY_S, n_events)
    table["kind"] = rng.choice([VIEW, ORDER, EXPOSURE], n_events).astype(np.int8)
    table["item"] = rng.integers(0, 200, n_events).astype(np.int32)
    # The last one has no events at all.
    ledger = ledger_of(rng.choice(3, n_events, p=[0.05, 0.2, 0.75]), 4, table)
    items = open_repository(tiny_repository).catalogue.items
    states = EmbeddedStates(tmp_path / "state", "vocabulary", 64)
    try:
        states.load(shoppers_of(ledger, names, {}, items))
        rings = states.rings(names)
    finally:
        states.close()
    assert rings.tobytes() == rings_of(ledger.deeds).tobytes()
    assert (rings["clock"][:, 0] > LENGTH).any()


def test_what_is_too_much_for_one_question_is_made_behind(encoder: Encoder) -> None:
    asked = [f"shopper-{number}" for number in range(20)]
    encoder.start()
    try:
        with pytest.raises(TooLate):
            encoder.freshened(asked, encoder.states.read(asked), within_s=0.0)
        assert within(PATIENT_S, lambda: not is_stale_now(encoder, asked).any())
    finally:
        encoder.close()
    assert encoder.rows["refreshed"] == 20


def is_stale_now(encoder: Encoder, shopper_ids: list[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whose encodings do not know every event."""
    snapshot = encoder.states.read(shopper_ids)
    return is_stale(snapshot.encodings, snapshot.n_events, encoder.name)


def test_the_background_outlives_a_refresh_that_fails(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = EmbeddedStates(tmp_path / "other", "vocabulary", 16)
    states.close()  # reading fails in a way that has no name
    own = Encoder(encoder.models, states, encoder.name)
    own.start()
    own.refresh_later(["shopper-1"])
    assert within(PATIENT_S, lambda: "a refresh of vectors failed" in caplog.text)
    own.states = encoder.states
    own.refresh_later(["shopper-2"])
    assert within(PATIENT_S, lambda: own.rows["refreshed"] == 1)
    own.close()


def test_an_encoding_made_of_fewer_events_does_not_replace_one_made_of_more(encoder: Encoder) -> None:
    asked = ["shopper-1"]
    older = encoder.freshened(asked, encoder.states.read(asked), PATIENT_S).encodings
    encoder.states.apply([viewed("shopper-1")]).result()
    newer = encoder.freshened(asked, encoder.states.read(asked), PATIENT_S).encodings
    encoder.states.keep(asked, older).result()  # its batch was overtaken
    assert encoder.states.read(asked).encodings.tobytes() == newer.tobytes()
    other = older.copy()
    other["encoder"] = b"another"
    encoder.states.keep(asked, other).result()  # another encoder begins anew
    assert encoder.states.read(asked).encodings.tobytes() == other.tobytes()
