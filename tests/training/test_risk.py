"""Velocity columns are as of their event, whatever comes later and however the keys are divided."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.requirements import missing
from training.risk import KEYS, key_velocity, risk_columns, since_sign_up
from training.sources.tables import EVENTS, SHOPPERS, whole

FRAUD = Path(__file__).resolve().parents[3] / "shared/data/fraud/fraud_first_20k.csv.gz"
HOUR_S = 3_600
START_S = 1_480_000_000


def events_of(**columns: list[object]) -> pl.DataFrame:
    """Canonical events; what is left out is unset, orders of 1 micro by default."""
    n_events = len(columns["time_s"])
    defaults = {"shopper_id": ["ann"] * n_events, "kind": ["order"] * n_events, "paid_micros": [1] * n_events}
    frame = pl.DataFrame(defaults | columns)
    return whole(EVENTS, frame).cast(dict(EVENTS.schema))


def shoppers_of(**signed_up_s: int | None) -> pl.DataFrame:
    """Canonical shoppers by when they signed up."""
    frame = pl.DataFrame({"shopper_id": list(signed_up_s), "signed_up_s": list(signed_up_s.values())})
    return whole(SHOPPERS, frame).cast(dict(SHOPPERS.schema))


def random_events(n_events: int, seed: int = 0) -> pl.DataFrame:
    """Events on few keys with many ties, in no order; one key in five is unknown."""
    rng = np.random.default_rng(seed)

    def keys(name: str, n_keys: int) -> list[str | None]:
        return [None if key == 0 else f"{name}{key}" for key in rng.integers(0, n_keys, n_events)]

    return events_of(
        time_s=(START_S + rng.integers(0, 60, n_events) * 30 * 60).tolist(),
        shopper_id=[f"shopper{key}" for key in rng.integers(0, 6, n_events)],
        kind=rng.choice(["view", "order", "refund"], n_events).tolist(),
        paid_micros=rng.integers(0, 10**9, n_events).tolist(),
        device_id=keys("device", 5),
        address_id=keys("address", 5),
        card_id=keys("card", 5),
    )


def test_a_device_shared_by_two_shoppers_is_told_before_the_third_order() -> None:
    events = events_of(
        time_s=[START_S, START_S + 10, START_S + 2 * HOUR_S],
        shopper_id=["ann", "bob", "ann"],
        paid_micros=[5, 7, 9],
        device_id=["phone", "phone", "phone"],
    )
    told = key_velocity(events, "device_id")
    assert told["n_device_shoppers"].to_list() == [0, 1, 2]
    assert told["n_device_events_1h"].to_list() == [0, 1, 0]
    assert told["n_device_events_24h"].to_list() == [0, 1, 2]
    assert told["device_spend_24h_micros"].to_list() == [0, 5, 12]
    assert np.array_equal(told["device_idle_s"], [np.nan, 10, 2 * HOUR_S - 10], equal_nan=True)


def test_an_unknown_key_is_no_number_and_joins_nobody() -> None:
    told = key_velocity(events_of(time_s=[START_S, START_S], card_id=[None, None]), "card_id")
    assert all(np.isnan(column.to_numpy()).all() for column in told)


def test_only_orders_are_spend() -> None:
    events = events_of(time_s=[START_S] * 4, kind=["order", "refund", "view", "order"], paid_micros=[5, 3, 2, 1])
    assert key_velocity(events, "shopper_id")["shopper_spend_1h_micros"].to_list() == [0, 5, 5, 5]


def test_rows_within_a_second_count_in_their_order() -> None:
    told = key_velocity(events_of(time_s=[START_S + 1, START_S, START_S]), "shopper_id")
    assert told["n_shopper_events_1h"].to_list() == [2, 0, 1]


def test_time_since_sign_up_is_unknown_before_it_and_without_it() -> None:
    events = events_of(time_s=[START_S] * 4, shopper_id=["ann", "bob", "cid", "dan"])
    told = since_sign_up(events, shoppers_of(ann=START_S - 60, bob=START_S + 1, cid=None))
    assert np.array_equal(told["since_sign_up_s"], [60, np.nan, np.nan, np.nan], equal_nan=True)


@pytest.mark.parametrize("seed", range(5))
def test_appending_later_events_changes_nothing(seed: int) -> None:
    events = random_events(300, seed)
    shoppers = shoppers_of(shopper1=START_S + 900, shopper2=START_S - 900)
    past = events.filter(pl.col("time_s") < START_S + 10 * HOUR_S)
    later = events.filter(pl.col("time_s") >= START_S + 10 * HOUR_S)
    known = risk_columns(past, shoppers)
    assert_frame_equal(risk_columns(pl.concat([past, later]), shoppers).head(past.height), known, check_exact=True)


@pytest.mark.parametrize("key", KEYS)
def test_keys_divided_among_workers_have_the_same_velocity(key: str) -> None:
    events = random_events(300)
    whole_shop = key_velocity(events, key)
    shares = pl.col(key).hash() % 3
    for share in range(3):
        rows = events.select((shares == share).arg_true()).to_series()
        alone = key_velocity(events[rows], key)
        assert_frame_equal(alone, whole_shop[rows], check_exact=True)


def test_no_events_have_no_rows() -> None:
    told = risk_columns(EVENTS.empty(), SHOPPERS.empty())
    assert told.height == 0
    assert set(told.dtypes) == {pl.Float64()}


def fraud() -> tuple[pl.DataFrame, pl.DataFrame, pl.Series]:
    """Orders of the fraud data set with device and network address, its shoppers, and which orders were fraud."""
    if not FRAUD.exists():
        missing("the fraud data set is not here")
    told = pl.read_csv(FRAUD, schema_overrides={"ip_address": pl.String, "user_id": pl.String})
    told = told.with_columns(pl.col("signup_time", "purchase_time").str.to_datetime("%m/%d/%Y %H:%M").dt.epoch("s"))
    told = told.sort("purchase_time", maintain_order=True)
    events = events_of(
        time_s=told["purchase_time"].to_list(),
        shopper_id=told["user_id"].to_list(),
        paid_micros=(told["purchase_value"] * 1e6).cast(pl.Int64).to_list(),
        device_id=told["device_id"].to_list(),
        address_id=told["ip_address"].to_list(),
    )
    shoppers = told.select("user_id", "signup_time").rename({"user_id": "shopper_id", "signup_time": "signed_up_s"})
    return events, whole(SHOPPERS, shoppers).cast(dict(SHOPPERS.schema)), told["class"]


def test_fraud_orders_in_time_order_see_nothing_of_later_ones() -> None:
    events, shoppers, _ = fraud()
    told = risk_columns(events, shoppers)
    for n_known in (events.height // 4, events.height // 2):
        assert_frame_equal(risk_columns(events.head(n_known), shoppers), told.head(n_known), check_exact=True)


def test_fraud_orders_are_counted_as_a_plain_loop_counts_them() -> None:
    events, shoppers, _ = fraud()
    told = risk_columns(events, shoppers)
    seen: dict[str, list[tuple[int, str]]] = {}
    for row, (device, time_s, shopper) in enumerate(events.select("device_id", "time_s", "shopper_id").iter_rows()):
        before = seen.setdefault(device, [])
        assert told["n_device_events_24h"][row] == sum(time_s - then_s < 24 * HOUR_S for then_s, _ in before)
        assert told["n_device_shoppers"][row] == len({who for _, who in before})
        before.append((time_s, shopper))


def test_fraud_comes_from_devices_that_are_used_fast() -> None:
    events, shoppers, is_fraud = fraud()
    told = risk_columns(events, shoppers)
    shared = told["n_device_shoppers"] > 0
    # Nobody is told which orders were fraud; that they stand out says that the columns carry what they are meant to.
    assert is_fraud.filter(shared).mean() > 3 * is_fraud.filter(~shared).mean()
