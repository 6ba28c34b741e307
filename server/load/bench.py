"""The whole load test of a running gateway, `stratagem bench load`: saturation, curve, soak and spike.

In: whom to load, and for how long. Out: one dictionary, which evaluation/load_page.py shows. Called by cli.py.
"""

import datetime
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from server.load.curve import Loaded, Show, Told, curve, saturation
from server.load.profiles import soak, spike
from server.load.target import LoadFailed, Target
from server.repository import open_repository
from server.settings import Settings
from server.state.embedded import EmbeddedStates

SOAK_SHARE, SPIKE_SHARE = 0.5, 0.3
MOST_SHOPPERS = 1_000_000


@dataclass(frozen=True)
class Lengths:
    """Seconds of each part; 0 leaves a soak or a spike out."""

    step_s: float = 5.0
    point_s: float = 10.0
    soak_s: float = 600.0
    spike_s: float = 5.0


QUICK = Lengths(step_s=1.0, point_s=2.0, soak_s=10.0, spike_s=1.0)


def bench_load(loaded: Loaded, lengths: Lengths, show: Show) -> Told:
    """Find saturation, then measure latency below and above it, for long, and under a spike.

    show    called with a line for people after each step
    raises  LoadFailed  if a program is missing or the gateway refuses
    """
    saturated_per_s, steps = saturation(loaded, lengths.step_s, show)
    told: Told = {
        "saturated_per_s": saturated_per_s,
        "steps": steps,
        "points": curve(loaded, saturated_per_s, lengths.point_s, show),
        "soak": soak(loaded, SOAK_SHARE * saturated_per_s, lengths.soak_s, show) if lengths.soak_s else None,
        "spike": spike(loaded, SPIKE_SHARE * saturated_per_s, lengths.spike_s, show) if lengths.spike_s else None,
    }
    return {"made": _made(loaded)} | told


def shop_loaded(settings: Settings, target: Target, pid: int | None) -> Loaded:
    """Whom to load where the gateway serves the settings' own shop: shoppers of its store, at its last moment.

    raises  LoadFailed  if the store is empty
    """
    repository = open_repository(settings.repository)
    states = EmbeddedStates(settings.state, repository.vocabulary, settings.state_mib)
    try:
        shopper_ids = next(states.shopper_ids(MOST_SHOPPERS), [])
    finally:
        states.close()
    if not shopper_ids:
        raise LoadFailed(f"{settings.state} must hold shoppers to ask about, got none; `stratagem serve` loads them")
    return Loaded(target, shopper_ids, repository.catalogue.as_of_s, pid=pid)


def _made(loaded: Loaded) -> Told:
    """Where and with what it was measured."""
    version = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()}, Python {platform.python_version()}",
        "generators": f"{version}; Poisson arrivals over HTTP/2 from Python",
        "address": loaded.target.address,
        "is_tls": loaded.target.root is not None,
        "has_token": bool(loaded.target.token),
        "n_shoppers": len(loaded.shopper_ids),
        "changed_share": loaded.changed_share,
        "deadline_s": loaded.deadline_s,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
