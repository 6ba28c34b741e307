"""What is remembered of predictions equals a slow dictionary: bounded, the longest untold goes first, ages are told."""

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.remembered import NAMES, RememberedPredictions
from server.triton.client import Predictions

BATCHES = st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=30)


def predictions(marks: list[int]) -> Predictions:
    """Predictions whose every number says which row of which batch it is."""
    columns = {}
    for width, name in enumerate(NAMES, start=1):
        dtype = np.int32 if name == "item_index" else np.float32
        columns[name] = np.repeat(np.array(marks, dtype)[:, None], width, axis=1)
    return Predictions(**columns)


@given(most_rows=st.integers(0, 7), batches=BATCHES, asked=st.lists(st.integers(0, 9), max_size=10))
def test_remembered_predictions_equal_a_slow_dictionary(
    most_rows: int, batches: list[list[int]], asked: list[int]
) -> None:
    remembered = RememberedPredictions(most_rows)
    twin: OrderedDict[str, tuple[int, float]] = OrderedDict()
    n_rows = 0
    for moment, batch in enumerate(batches):
        names = [f"shopper-{number}" for number in batch]
        marks = list(range(n_rows, n_rows + len(names)))
        n_rows += len(names)
        remembered.keep(names, predictions(marks), float(moment))
        for name, mark in list(zip(names, marks, strict=True))[:most_rows]:
            twin[name] = (mark, float(moment))
            twin.move_to_end(name)
            if len(twin) > most_rows:
                twin.popitem(last=False)
    now_s = len(batches) + 0.5
    names = [f"shopper-{number}" for number in asked]
    places, found, ages_s = remembered.of(names, now_s)
    assert places.tolist() == [place for place, name in enumerate(names) if name in twin]
    assert ages_s.tolist() == [now_s - twin[names[place]][1] for place in places.tolist()]
    assert (found is None) == (not places.size)
    if found is not None:
        for name in NAMES:
            expected = np.array([twin[names[place]][0] for place in places.tolist()])
            assert (getattr(found, name) == expected[:, None]).all()


def test_who_was_decided_for_just_now_is_not_the_next_to_be_forgotten() -> None:
    remembered = RememberedPredictions(2)
    for moment, name in enumerate(["a", "b", "a", "c"]):
        remembered.keep([name], predictions([moment]), float(moment))
    places, _, ages_s = remembered.of(["a", "b", "c"], 4.0)
    assert (places.tolist(), ages_s.tolist()) == ([0, 2], [2.0, 1.0])
