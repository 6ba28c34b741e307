"""Fills the store from a shop's tables: what serving starts from is what training saw.

In: a ledger, its shoppers' ids, and what was sent to whom. Out: Shoppers, one by one. Called by cli.py after export.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from kernels.event_history import rings_of
from kernels.features import states_of
from kernels.ledger import EXPOSURE, Ledger
from server.state.shopper import LATEST, N_LATEST, N_SENT, Keys, Shopper
from server.strategy.catalogue import Items, campaign_key, offer_key


def sent_of(exposures: pl.DataFrame) -> dict[str, Keys]:
    """What each shopper was sent, oldest first.

    exposures  columns shopper_id, campaign_id, offer_id (null: the whole campaign), time_s
    """
    rows = exposures.sort("time_s").select("shopper_id", "campaign_id", "offer_id").unique(maintain_order=True)
    sent: dict[str, list[int]] = {}
    for shopper_id, campaign_id, offer_id in rows.iter_rows():
        key = campaign_key(campaign_id) if offer_id is None else offer_key(offer_id)
        sent.setdefault(shopper_id, []).append(key)
    return {shopper_id: np.array(keys[-N_SENT:], np.uint64) for shopper_id, keys in sent.items()}


def shoppers_of(
    ledger: Ledger, shopper_ids: Sequence[str], sent: Mapping[str, Keys], items: Items
) -> Iterator[tuple[str, Shopper]]:
    """Every shopper of a ledger as the store keeps one.

    shopper_ids  (n_shoppers,)  in the ledger's order
    sent         by shopper_id, from `sent_of`
    items        whose vocabulary the ledger's item column refers to
    """
    states, rings = states_of(ledger), rings_of(ledger.deeds)
    nothing = np.zeros(0, np.uint64)
    for shopper, shopper_id in enumerate(shopper_ids):
        first, last = int(ledger.offsets[shopper]), int(ledger.offsets[shopper + 1])
        own = np.flatnonzero(ledger.kind[first:last] < EXPOSURE)[::-1][:N_LATEST] + first
        latest = np.zeros(own.size, LATEST)
        latest["time_s"], latest["kind"] = ledger.time_s[own], ledger.kind[own]
        latest["paid_micros"], latest["item"] = ledger.paid_micros[own], items.rows_of(ledger.item[own])
        last_event_s = int(ledger.time_s[last - 1]) if last > first else 0
        ring = rings[shopper : shopper + 1]
        yield shopper_id, Shopper(states[shopper], ring, last_event_s, sent.get(shopper_id, nothing), latest)
