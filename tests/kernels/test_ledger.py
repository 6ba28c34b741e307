"""The ledger sorts what comes in any order, and refuses what a kernel could not trust."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.checks import InvalidInput, is_ascending
from kernels.compiled import sources_digest
from kernels.ledger import (
    COLUMNS,
    EXPOSURE,
    ORDER,
    REDEMPTION,
    REFUND,
    VIEW,
    Ledger,
    empty_ledger,
    ledger_of,
)
from tests.kernels.ledgers import EXAMPLES, START_S, ledger_from, ledgers, order_line


@EXAMPLES
@given(ledger=ledgers(), seed=st.integers(0, 99))
def test_events_in_any_order_make_the_same_ledger_of_times(ledger: Ledger, seed: int) -> None:
    owner = np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))
    mixed = np.random.default_rng(seed).permutation(ledger.n_events)
    again = ledger_of(owner[mixed], ledger.n_shoppers, {name: getattr(ledger, name)[mixed] for name in COLUMNS})
    for name in ("offsets", "time_s", "kind", "order"):
        assert np.array_equal(getattr(ledger, name), getattr(again, name))


def test_an_order_stands_before_its_refund_of_the_same_second() -> None:
    ledger = ledger_from([order_line(START_S, kind=REFUND), order_line(START_S, kind=ORDER)])
    assert ledger.kind.tolist() == [ORDER, REFUND]


def test_a_ledger_of_no_events_keeps_its_shoppers() -> None:
    assert (empty_ledger(3).n_shoppers, empty_ledger(3).n_events) == (3, 0)


def test_the_ledger_has_the_documented_columns() -> None:
    assert [field.name for field in fields(Ledger)] == ["offsets", *COLUMNS]


def two_lines() -> Ledger:
    """A small ledger to break."""
    return ledger_from([order_line(START_S), order_line(START_S + 5)])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda: {"quantity": np.array([1.0, np.nan])}, r"quantity must be in .*, got nan \(at \[1\]\)"),
        (lambda: {"paid_micros": np.array([-3, 0])}, r"paid_micros must be in .*, got -3 \(at \[0\]\)"),
        (lambda: {"kind": np.array([3, 0], np.int8)}, "kind must be in .*, got 0"),
        (lambda: {"category": np.array([64, 0], np.int16)}, "category must be in .*, got 64"),
        (lambda: {"item": np.array([1, 2])}, "item must be int32, got int64"),
        (lambda: {"order": np.zeros(3, np.int64)}, "order must have n_events 2 values, got 3"),
        (lambda: {"time_s": np.array([5, 4])}, r"time_s must ascend within a shopper, got 4 after 5 \(at \[1\]\)"),
        (lambda: {"offsets": np.array([0, 1, 1])}, "offsets must end with n_events 2, got 1$"),
        (lambda: {"offsets": np.array([0, 3, 2])}, "offsets must ascend"),
    ],
)
def test_a_broken_column_is_refused_in_one_sentence(broken: Callable[[], dict[str, np.ndarray]], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        replace(two_lines(), **broken())


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"columns must be time_s, .*, got time_s$"):
        ledger_of(np.zeros(1, np.int64), 1, {"time_s": np.zeros(1, np.int64)})


def test_an_unknown_shopper_is_refused() -> None:
    columns = {name: np.ones(1, dtype) for name, dtype in COLUMNS.items()}
    with pytest.raises(InvalidInput, match=r"shopper must be in \[0, 4\), got 4"):
        ledger_of(np.full(1, 4), 4, columns)


def test_nan_does_not_ascend() -> None:
    assert is_ascending(np.array([1.0, 1.0, 2.0]))
    assert not is_ascending(np.array([1.0, np.nan, 2.0]))


def test_a_change_in_any_kernel_file_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    before = sources_digest(tmp_path)
    assert before == sources_digest(tmp_path)
    (tmp_path / "a.py").write_text("two")
    assert before != sources_digest(tmp_path)


def test_deeds_are_what_shoppers_did_and_keep_their_shoppers() -> None:
    kinds = [VIEW, EXPOSURE, ORDER, REDEMPTION, REFUND]
    ledger = ledger_from([order_line(START_S + at, item=at, kind=kind) for at, kind in enumerate(kinds)])
    assert ledger.deeds.item.tolist() == [0, 2, 4]
    assert ledger.deeds.offsets.tolist() == [0, 3, 3]
    assert ledger.n_events == 5
