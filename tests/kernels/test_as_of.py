"""Every per-event feature is as of its event: what comes later changes none of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels import behaviour, calendar_days, decays, moments, streams, velocity, visits
from kernels.ledger import COLUMNS, Ledger, ledger_of
from tests.kernels.ledgers import EXAMPLES, START_S, ledgers

BANDS = np.arange(5, dtype=np.int8)
NOTHING = np.zeros(0, np.int64)
CALENDAR = calendar_days.Calendar(NOTHING, np.array([3_600]), np.array([17_200]), np.array([1, 15]))


def owners(ledger: Ledger) -> np.ndarray:
    """The shopper of each event."""
    return np.repeat(np.arange(ledger.n_shoppers), np.diff(ledger.offsets))


def every_feature(ledger: Ledger, last_s: int) -> dict[str, np.ndarray]:
    """Every feature of every event, by name; the calendar reaches to a given time."""
    paid, time_s, shopper = ledger.paid_micros, ledger.time_s, owners(ledger)
    table = calendar_days.day_table(CALENDAR, START_S, last_s)
    keyed = velocity.KeyedEvents(ledger.offsets, time_s, ledger.order, paid)
    mean, std = moments.running_moments(ledger, paid)
    count, spend = decays.decayed_sums(ledger, paid, 86_400.0)
    return {
        "gap": streams.gaps_s(ledger),
        "counts": streams.kind_counts(ledger),
        "spend": streams.running_spend(ledger, paid),
        "band": streams.price_bands(ledger.item, BANDS),
        "mean": mean,
        "std": std,
        "decayed_count": count,
        "decayed_spend": spend,
        "visits": visits.session_columns(ledger),
        **vars(velocity.velocity(keyed)),
        **vars(calendar_days.calendar_days(table, time_s)),
        **{
            f"last_{name}": column
            for name, column in vars(behaviour.sequences_at(ledger, BANDS, shopper, time_s, 5)).items()
        },
    }


@EXAMPLES
@given(ledger=ledgers(), share=st.floats(0.0, 1.0))
def test_appending_later_events_changes_no_feature(ledger: Ledger, share: float) -> None:
    times = np.sort(ledger.time_s)
    until_s = int(times[int(share * (times.size - 1))]) if times.size else START_S
    # 200 years of days are the most that a table holds.
    last_s = START_S + 150 * 365 * 86_400
    known = (ledger.time_s <= until_s) & (ledger.time_s < last_s)
    near = ledger.time_s < last_s
    every = ledger_of(owners(ledger)[near], 2, {name: getattr(ledger, name)[near] for name in COLUMNS})
    past = ledger_of(owners(ledger)[known], 2, {name: getattr(ledger, name)[known] for name in COLUMNS})
    whole, alone = every_feature(every, last_s), every_feature(past, last_s)
    for name, column in alone.items():
        assert column.tobytes() == whole[name][known[near]].tobytes(), name
