"""A block of the log gives back every row of its batch, bit for bit, as a slow reading of the batch tells it."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.features import N_FEATURES, N_STATE
from server.batch import Ask, Batch, Seen
from server.decision_block import block_of, rows_of, safe_block_of
from server.feedback import FeedbackLog, framed, framed_record, read_log
from server.state.encodings import ENCODING
from server.state.store import Snapshot
from server.strategy import policy
from server.strategy.actions import Menu, menu_of
from server.strategy.decision import Terms
from tests.server.markets import NOW_S, Market, markets

TERMS = Terms(shadow_price=0.1 + 0.2, explore_share=1 / 3, release="0123456789ab", plan_id="plan", currency_code="USD")
LONG_NAME = "s" * 100_000


def batch_from(market: Market, seed: int) -> Batch:
    """A whole market decided, its features and vectors drawn from all bit patterns."""
    rng = np.random.default_rng(seed)
    n_rows = market.asking.at_s.size
    table = market.catalogue.offers_between(int(market.asking.at_s.min()), int(market.asking.at_s.max()))
    asking = replace(market.asking, sent=market.asking.sent[:, : len(table.offers)])
    menu = menu_of(market.forecast, market.catalogue, table, asking, market.economics)
    asks = [Ask(f"d-{seed}/{row}é", f"shopper {row}", int(at_s)) for row, at_s in enumerate(asking.at_s)]
    draws = policy.draws_of([ask.decision_id for ask in asks], "key")
    choice = policy.choose(menu.value_micros, menu.cost_micros, menu.eligible, 1.5, 0.3, draws)
    encodings = np.frombuffer(rng.bytes(n_rows * ENCODING.itemsize), ENCODING)
    snapshot = Snapshot(
        np.zeros((n_rows, N_STATE)), np.zeros(n_rows, np.int64), encodings, np.zeros(n_rows, np.int64),
        NOW_S - rng.integers(-5, 10**6, n_rows), np.ones(n_rows, np.bool_),
        np.zeros(0, np.int64), np.zeros(0, np.uint64),
    )  # fmt: skip
    features = np.frombuffer(rng.bytes(n_rows * N_FEATURES * 4), np.float32).reshape(n_rows, N_FEATURES)
    seen = Seen(asks, snapshot, asking.at_s, features, rng.random(n_rows) * 5)
    return Batch(seen, market.forecast, menu, choice, TERMS, "cached", rng.random(n_rows) * 60)


def name_of(menu: Menu, row: int, column: int) -> str:
    """What a list of eligible actions calls one."""
    action = menu.action(row, column)
    return action.offer_id if action.kind == "offer" else action.kind


def told(batch: Batch, row: int) -> dict[str, object]:
    """One row, read the slow way."""
    menu, choice, ask, seen = batch.menu, batch.choice, batch.seen.asks[row], batch.seen
    chosen = int(choice.chosen[row])
    action = menu.action(row, chosen)
    open_columns = [column for column in range(menu.value_micros.shape[1]) if menu.eligible[row, column]]
    fields = action._asdict() | {"item_ids": list(action.item_ids)}
    del fields["title"]

    def text(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        return base64.b64encode(values.tobytes()).decode()

    return {
        "decision_id": ask.decision_id,
        "shopper_id": ask.shopper_id,
        "decided_at_s": ask.at_s,
        "shadow_price": TERMS.shadow_price,
        "explore_share": TERMS.explore_share,
        "release": TERMS.release,
        "plan_id": TERMS.plan_id,
        "rung": batch.rung,
        "action": {name: value for name, value in fields.items() if value},
        "value_micros": int(menu.value_micros[row, chosen]),
        "cost_micros": int(menu.cost_micros[row, chosen]),
        "score_micros": round(float(choice.score_micros[row, chosen])),
        "propensity": float(choice.propensity[row, chosen]),
        "is_exploration": bool(choice.is_exploration[row]),
        "state_age_s": int(seen.state_age_s[row]),
        "vector_age_s": float(seen.vector_age_s[row]),
        "predictions_age_s": float(batch.predictions_age_s[row]),
        "eligible": {
            "action": [name_of(menu, row, column) for column in open_columns],
            "value_micros": [int(menu.value_micros[row, column]) for column in open_columns],
            "cost_micros": [int(menu.cost_micros[row, column]) for column in open_columns],
            "propensity": [float(choice.propensity[row, column]) for column in open_columns],
        },
        "features": text(seen.features[row]),
        "encoding": {
            name: text(seen.snapshot.encodings[row][name]) for name in ("shopper_vector", "item_index", "item_prob")
        },
    }


@given(market=markets(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_rows_of_a_block_are_the_rows_of_its_batch(market: Market, seed: int, data: st.DataObject) -> None:
    batch = batch_from(market, seed)
    chosen = data.draw(st.lists(st.integers(0, market.asking.at_s.size - 1), min_size=1, unique=True).map(sorted))
    rows = list(rows_of(block_of(batch, np.array(chosen))))
    assert rows == [told(batch, row) for row in chosen]


@given(at_s=st.lists(st.integers(1, 2**40), min_size=1, max_size=5))
def test_rows_of_a_safe_block_do_nothing_and_cost_nothing(at_s: list[int]) -> None:
    asks = [Ask(f"d-{row}", f"shopper {row}", moment) for row, moment in enumerate(at_s)]
    rows = list(rows_of(safe_block_of(asks, TERMS)))
    assert [(row["decision_id"], row["shopper_id"], row["decided_at_s"]) for row in rows] == [ask[:3] for ask in asks]
    for row in rows:
        assert (row["action"], row["value_micros"], row["cost_micros"], row["propensity"]) == (
            {"kind": "nothing"}, 0, 0, 1.0,
        )  # fmt: skip
        assert (row["rung"], row["shadow_price"], row["plan_id"]) == ("safe_default", TERMS.shadow_price, "plan")


def test_a_block_of_any_size_is_kept_when_the_log_is_opened_again(tmp_path: Path) -> None:
    # A thousand rows over a few hundred offers: a block larger than 16 MiB, once taken for a torn tail.
    asks = [Ask(f"d-{row}", LONG_NAME, NOW_S) for row in range(170)]
    block = framed(safe_block_of(asks, TERMS))
    assert len(block) > 2**24
    log = FeedbackLog(tmp_path)
    log.append_block(block).result()
    log.close()
    log = FeedbackLog(tmp_path)
    log.append_block(framed_record("event", {"event_id": "after"})).result()
    log.close()
    names = [record.get("decision_id") or record["event_id"] for record in read_log(tmp_path)]
    assert names == [*(ask.decision_id for ask in asks), "after"]
