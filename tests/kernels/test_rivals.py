"""What the kernels are timed against computes the same: polars and pandas, column by column."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kernels.features import columns, features_at
from kernels.ledger import COLUMNS, Ledger, ledger_of
from tests.benchmarks.events import events_of
from tests.benchmarks.rivals import event_columns, in_pandas, in_polars

N_SHOPPERS = 60
KEYS = ["shopper", "time_s", "kind", "order"]
EVENTS = events_of(3_000, N_SHOPPERS, seed=5)
AT_S = int(EVENTS["time_s"].max()) + 3_600  # type: ignore[arg-type]
IN_ORDER = EVENTS.sort(KEYS, maintain_order=True)
IN_PANDAS = pd.DataFrame({name: EVENTS[name].to_numpy() for name in EVENTS.columns})


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return ledger_of(EVENTS["shopper"].to_numpy(), N_SHOPPERS, {name: EVENTS[name].to_numpy() for name in COLUMNS})


@pytest.fixture(scope="module")
def ours(ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    return features_at(ledger, np.arange(N_SHOPPERS), np.full(N_SHOPPERS, AT_S))


def assert_same(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.array_equal(ours[1], theirs[1])
    for place, name in enumerate(columns()):
        # Sums in another order: float64 keeps 1e-13 of the largest term, float32 6e-8 of the result.
        assert_allclose(ours[0][:, place], theirs[0][:, place], rtol=1e-6, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("is_sorted", [False, True])
def test_polars_computes_the_same_for_every_shopper(ours: tuple[np.ndarray, np.ndarray], is_sorted: bool) -> None:
    events = IN_ORDER if is_sorted else EVENTS
    theirs = in_polars.features(events.lazy(), AT_S, is_sorted)
    assert_same(ours, in_polars.as_arrays(theirs, N_SHOPPERS))


def test_pandas_computes_the_same_for_every_shopper(ours: tuple[np.ndarray, np.ndarray]) -> None:
    assert_same(ours, in_pandas.features(IN_PANDAS, AT_S, N_SHOPPERS))


@pytest.mark.parametrize("rival", ["polars", "pandas"])
def test_rivals_compute_the_same_for_every_event(ledger: Ledger, rival: str) -> None:
    if rival == "polars":
        told = event_columns.in_polars(IN_ORDER.lazy())
        theirs = {name: told[name].to_numpy() for name in told.columns}
    else:
        frame = event_columns.in_pandas(IN_PANDAS.sort_values(KEYS, kind="stable", ignore_index=True))
        theirs = {name: frame[name].to_numpy() for name in frame.columns}
    mine = event_columns.in_kernels(ledger)
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        # Spend is in micros, and squares of amounts cancel to within a few of them.
        assert_allclose(values.astype(np.float64), theirs[name].astype(np.float64), rtol=1e-5, atol=2.0, err_msg=name)


def test_the_made_up_shop_is_the_same_every_time() -> None:
    again = events_of(3_000, N_SHOPPERS, seed=5)
    assert again.equals(EVENTS)
    assert EVENTS["shopper"].n_unique() == N_SHOPPERS
    assert set(EVENTS["kind"].unique().to_list()) == {1, 2, 3, 4, 5, 6}
