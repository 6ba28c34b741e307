"""Random ledgers for Hypothesis: few shoppers, many ties, gaps from a second to decades."""

from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.ledger import COLUMNS, ORDER, Ledger, ledger_of

# No deadline: the first example compiles. Derandomised: a run says the same twice.
EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True)
N_SHOPPERS = 2
START_S = 1_480_000_000
_GAPS_S = st.one_of(
    st.sampled_from([0, 0, 0, 1, 1_799, 1_800, 1_801, 86_400]),
    st.integers(0, 40 * 86_400),
    st.integers(0, 20 * 365 * 86_400),
)
_LINE = st.tuples(
    st.integers(0, N_SHOPPERS - 1),
    _GAPS_S,
    st.sampled_from([1, 2, 3, 3, 3, 3, 4, 5, 6]),
    st.integers(0, 6),
    st.sampled_from([0, 0, 0, 31, 32, 63, -1]),
    st.sampled_from([1, 1, 1, 0, 2]),
    st.sampled_from([0.0, 1.0, 2.5, 12.0]),
    st.integers(0, 10**9),
    st.sampled_from([0, 0, 250_000, 1_990_000]),
    st.sampled_from([0, 0, 500_000]),
)


def ledger_from(lines: list[tuple[float, ...]]) -> Ledger:
    """A ledger of lines (shopper, time_s, then the other columns), in any order."""
    table = list(zip(*lines, strict=True)) if lines else [()] * (len(COLUMNS) + 1)
    columns = {name: np.array(values, dtype) for (name, dtype), values in zip(COLUMNS.items(), table[1:], strict=True)}
    return ledger_of(np.array(table[0], np.int64), N_SHOPPERS, columns)


def order_line(time_s: int, paid_micros: int = 1_000_000, order: int = 1, **others: float) -> tuple[float, ...]:
    """One order line of shopper 0."""
    line = {"kind": ORDER, "item": 1, "category": 0, "order": order, "quantity": 1.0} | others
    prices = (paid_micros, others.get("discount_micros", 0), others.get("coupon_micros", 0))
    return (0, time_s, *(line[name] for name in ("kind", "item", "category", "order", "quantity")), *prices)


@dataclass(frozen=True)
class Case:
    """A ledger and queries on it, as the kernels' doors want them."""

    ledger: Ledger
    shopper: NDArray[np.int64]
    at_s: NDArray[np.int64]


@st.composite
def ledgers(draw: st.DrawFn, max_events: int = 30) -> Ledger:
    """Ledgers whose events ascend by random gaps, often 0; half of them short, half long."""
    lines, now_s = [], START_S
    for shopper, gap_s, *others in draw(
        st.lists(_LINE, max_size=3) | st.lists(_LINE, min_size=max_events // 2, max_size=max_events)
    ):
        now_s += gap_s
        lines.append((shopper, now_s, *others))
    return ledger_from(lines)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Ledgers with queries before, at and between events and long after the last one."""
    ledger = draw(ledgers())
    times = [START_S - 1, START_S, *ledger.time_s.tolist()]
    after = st.sampled_from([0, 1, 1_800, 1_801, 86_400 * 10, 86_400 * 365 * 30])
    queries = draw(st.lists(st.tuples(st.integers(0, N_SHOPPERS - 1), st.sampled_from(times), after), max_size=5))
    everything = [(shopper, max(times), 0) for shopper in range(N_SHOPPERS)]
    asked = sorted((shopper, time_s + later_s) for shopper, time_s, later_s in queries + everything)
    return Case(
        ledger, np.array([shopper for shopper, _ in asked], np.int64), np.array([at for _, at in asked], np.int64)
    )
