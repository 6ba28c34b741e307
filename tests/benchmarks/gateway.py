"""The gateway under load beside its rivals: unary, stream, columns, Triton's own door, half load, a soak.

In: the workload of tests/load/workload.py. Out: requests a second and ratios, legs alternating in one run, medians.
Run by `python -m tests.benchmarks gateway`; docs/gateway.md is written from its record.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.load.arrivals import Phase
from server.load.calls import OpenLoop
from server.load.curve import Loaded, curve
from server.load.h2load import ClosedLoop, driven
from server.load.open_loop import put_on
from server.load.profiles import soak
from server.load.target import DECIDE, DECIDE_BATCH, DECIDE_STREAM, Target, batch_body, decide_bodies, stream_body
from server.telemetry.metrics import STAGES
from tests.benchmarks.gateway_profile import profiled
from tests.benchmarks.gateway_world import OTHERS, Asked, Served, asked_of, decided, gateway, guarded, triton_of, warmed
from tests.benchmarks.record import Measured
from tests.benchmarks.rivals.gateway import ray_environment
from tests.benchmarks.rivals.gateway.doors import Door
from tests.benchmarks.rivals.gateway.driver import Load, alternated_rates, cpu_s, medians_of, spreads_of
from tests.benchmarks.rivals.gateway.driver import driven as rival_driven
from tests.benchmarks.rivals.gateway.messages import decide_body
from tests.benchmarks.rivals.gateway.starting import echo, naive, pin, ray_serve
from tests.benchmarks.triton_door import World, figures_of
from tests.benchmarks.triton_door import measured as door_measured

UNARY_RIVALS, STREAM_RIVALS = (
    ("aio", "aio_uvloop", "threads_2", "threads_4", "wire"),
    ("aio_uvloop", "threads_2", "wire"),
)
# `wire` is our own server under an echo: told, and not what "a bare grpcio echo" means to somebody who has only grpcio.
OWN_ECHO = "wire"
ASKS_A_STREAM, ROWS_A_BATCH = 500, 10_000
CHANGED_SHARE = 0.05
ALL = frozenset({0, 1})

Rates = dict[str, NDArray[np.float64]]
Figures = dict[str, float]
Told = dict[str, object]


@dataclass(frozen=True)
class Lengths:
    """How long everything takes: rounds of alternating legs, their seconds, and those of the open loop and the soak."""

    n_rounds: int
    leg_s: float
    half_s: float
    soak_s: float
    point_s: float


QUICK = Lengths(n_rounds=3, leg_s=1.0, half_s=5.0, soak_s=0.0, point_s=0.0)
FULL = Lengths(n_rounds=5, leg_s=2.0, half_s=20.0, soak_s=600.0, point_s=5.0)


def measure(quick: bool, raw: Path | None) -> Measured:
    """Measure every leg.

    quick   fewer rounds; no soak, no curve, and Ray Serve only where it is installed
    raw     folder for every round's rate and every call of the open loop; None writes nothing
    raises  FileNotFoundError  if nothing was exported
    """
    lengths = QUICK if quick else FULL
    asked = asked_of()
    warmed(asked.workload.state)
    figures, rates, told = _guarded_legs(asked, lengths, raw)
    for more_figures, more_rates in (_clear_legs(asked, lengths, quick), _door_leg(asked, lengths)):
        figures |= more_figures
        rates |= more_rates
    if raw is not None:
        np.savez_compressed(raw / "gateway_rates.npz", **rates)
        (raw / "gateway_told.json").write_text(json.dumps(told))
    return Measured(figures, medians_of(rates), n=lengths.n_rounds, spread=spreads_of(rates), told=told)


def _guarded_legs(asked: Asked, lengths: Lengths, raw: Path | None) -> tuple[Figures, Rates, Told]:
    """Everything under TLS and a key, the gateway on one core."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="door-")))
        guard = stack.enter_context(guarded(folder))
        triton, triton_pid = stack.enter_context(triton_of(asked.workload))
        ours = stack.enter_context(gateway(asked.workload, triton, guard))
        rates = _unary(asked, ours, guard[0], lengths)
        figures = {"ready_s": ours.ready_s} | _ratios(rates, "unary") | _cpu(ours, asked, lengths)
        streams = _streams(asked, ours, guard[0], lengths)
        figures |= _ratios(streams, "stream")
        half, told = _half_load(asked, ours, float(np.median(rates["unary_ours"])), lengths, raw)
        figures |= half
        if lengths.soak_s:
            soaked, more = _long(asked, ours, float(np.median(rates["unary_ours"])), lengths)
            figures |= soaked
            told |= more
        pin(triton_pid, ALL)
        pin(ours.pid, ALL)
        batch = _batch(asked, ours, lengths)
        figures["batch_decisions_per_s"] = float(np.median(batch["batch_ours"]))
        told["cpu_us_a_row"] = profiled(asked, triton)
    return figures, rates | streams | batch, told


def _loop(lengths: Lengths, n_connections: int = 4, n_open: int = 32) -> ClosedLoop:
    return ClosedLoop(n_connections, n_open, lengths.leg_s, warm_s=lengths.leg_s / 2, cpus=OTHERS)


def _drive(target: Target, method: str, bodies: list[bytes], loop: ClosedLoop, n_answers: int = 1) -> float:
    return n_answers * driven(target, method, bodies, loop).rate_per_s


def _unary(asked: Asked, ours: Served, door: Door, lengths: Lengths) -> Rates:
    """Decisions a second beside bare echoes of the same messages behind the same door."""
    bodies, loop = decide_bodies(asked.shopper_ids, asked.at_s), _loop(lengths)
    answer = decided(ours.target, asked.shopper_ids[0], asked.at_s)
    with ExitStack() as stack:
        drives: dict[str, Callable[[], float]] = {"unary_ours": partial(_drive, ours.target, DECIDE, bodies, loop)}
        for kind in UNARY_RIVALS:
            rival = stack.enter_context(echo(kind, door, cores={0}, answer=answer))
            target = Target(rival.address, door.token, door.certificate)
            drives[f"unary_{kind}"] = partial(_drive, target, DECIDE, bodies, loop)
        return alternated_rates(drives, lengths.n_rounds)


def _streams(asked: Asked, ours: Served, door: Door, lengths: Lengths) -> Rates:
    """Decisions a second on streams, without reasons as bidders ask, beside bare echoes."""
    body, loop = [stream_body(asked.shopper_ids[:ASKS_A_STREAM], asked.at_s)], _loop(lengths, 4, 1)
    answer = decided(ours.target, asked.shopper_ids[0], asked.at_s, without_reasons=True)
    with ExitStack() as stack:
        drives: dict[str, Callable[[], float]] = {
            "stream_ours": partial(_drive, ours.target, DECIDE_STREAM, body, loop, ASKS_A_STREAM)
        }
        for kind in STREAM_RIVALS:
            rival = stack.enter_context(echo(kind, door, cores={0}, answer=answer))
            target = Target(rival.address, door.token, door.certificate)
            drives[f"stream_{kind}"] = partial(_drive, target, DECIDE_STREAM, body, loop, ASKS_A_STREAM)
        return alternated_rates(drives, lengths.n_rounds)


def _batch(asked: Asked, ours: Served, lengths: Lengths) -> Rates:
    """Decisions a second in columns, gateway, Triton and generator on both cores."""
    body = [batch_body(asked.shopper_ids[:ROWS_A_BATCH], asked.at_s)]
    loop = ClosedLoop(2, 2, 5 * lengths.leg_s, warm_s=lengths.leg_s)
    drive = partial(_drive, ours.target, DECIDE_BATCH, body, loop, ROWS_A_BATCH)
    return alternated_rates({"batch_ours": drive}, lengths.n_rounds)


def _ratios(rates: Mapping[str, NDArray[np.float64]], way: str) -> Figures:
    """Ours over the fastest public echo in each round, and over our own server's echo; medians."""
    public = np.stack([taken for name, taken in rates.items() if name not in (f"{way}_ours", f"{way}_{OWN_ECHO}")])
    ours = rates[f"{way}_ours"]
    return {
        f"{way}_ratio": float(np.median(ours / public.max(axis=0))),
        f"{way}_ratio_own_echo": float(np.median(ours / rates[f"{way}_{OWN_ECHO}"])),
        f"{way}_decisions_per_s": float(np.median(ours)),
    }


def _cpu(ours: Served, asked: Asked, lengths: Lengths) -> Figures:
    """What a unary decision costs the gateway's process at saturation, microseconds of CPU."""
    loop = _loop(lengths)
    before_s, counted = cpu_s(ours.pid), _decisions(ours)
    driven(ours.target, DECIDE, decide_bodies(asked.shopper_ids, asked.at_s), loop)
    return {"unary_cpu_us": 1e6 * (cpu_s(ours.pid) - before_s) / max(1.0, _decisions(ours) - counted)}


def _decisions(ours: Served) -> float:
    return sum(value for name, value in ours.counted().items() if name.startswith("stratagem_decisions_total"))


def _half_load(
    asked: Asked, ours: Served, saturated_per_s: float, lengths: Lengths, raw: Path | None
) -> tuple[Figures, Told]:
    """Callers who come at half the saturated rate whatever happens, with events of one shopper in twenty."""
    before = ours.counted()
    load = OpenLoop((Phase(saturated_per_s / 2, lengths.half_s),), 0.25, changed_share=CHANGED_SHARE, cpus=OTHERS)
    calls = put_on(ours.target, asked.shopper_ids, asked.at_s, load)
    after = ours.counted()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    vectors = [grown[f'stratagem_vectors_total{{state="{state}"}}'] for state in ("fresh", "stale")]
    if raw is not None:
        part = calls.part
        np.savez_compressed(
            raw / "gateway_half_load.npz",
            **vars(part.timeline), status=part.status, rung=part.rung, vector_age_s=part.vector_age_s,
        )  # fmt: skip
    figures = {
        "p99_ms_half_load": calls.figures["p99_ms"],
        "p50_ms_half_load": calls.figures["p50_ms"],
        "encoder_refreshes_per_s": grown["stratagem_encoder_refreshes_total"] / lengths.half_s,
        "stale_share": vectors[1] / max(1.0, sum(vectors)),
    }
    told = {
        "half_load": {"rate_per_s": saturated_per_s / 2, "statuses": calls.statuses, "rungs": calls.rungs}
        | _stages(grown)
    }
    return figures, told


def _stages(grown: Mapping[str, float]) -> dict[str, object]:
    """What a micro-batch took in each stage, and a row before it, from the Prometheus page's growth; milliseconds."""
    n_batches, n_rows = grown["stratagem_batch_rows_count"], grown["stratagem_batch_rows_sum"]
    taken = {stage: grown[f'stratagem_stage_seconds_sum{{stage="{stage}"}}'] for stage in STAGES}
    return {
        "rows_a_batch": n_rows / max(1.0, n_batches),
        "queue_ms": 1e3 * grown["stratagem_queue_wait_seconds_sum"] / max(1.0, n_rows),
        "stage_ms": {stage: 1e3 * seconds / max(1.0, n_batches) for stage, seconds in taken.items()},
    }


def _long(
    asked: Asked, ours: Served, saturated_per_s: float, lengths: Lengths
) -> tuple[dict[str, float], dict[str, object]]:
    """The curve, and ten minutes at half load with an eye on memory."""
    loaded = Loaded(ours.target, asked.shopper_ids, asked.at_s, CHANGED_SHARE, pid=ours.pid, cpus=OTHERS)
    points = curve(loaded, saturated_per_s, lengths.point_s, print)
    kept = soak(loaded, saturated_per_s / 2, lengths.soak_s, print)
    return {"soak_growth": float(kept["growth_percent"]) / 100}, {"points": points, "soak": kept}


def _clear_legs(asked: Asked, lengths: Lengths, quick: bool) -> tuple[dict[str, float], Rates]:
    """Rivals that have neither TLS nor tokens: ours without them too."""
    bodies, loop = decide_bodies(asked.shopper_ids, asked.at_s), _loop(lengths)
    with ExitStack() as stack:
        triton, _ = stack.enter_context(triton_of(asked.workload))
        ours = stack.enter_context(gateway(asked.workload, triton, None))
        plain = stack.enter_context(naive(triton, asked.workload.repository, cores={0}))
        drives: dict[str, Callable[[], float]] = {
            "clear_ours": partial(_drive, ours.target, DECIDE, bodies, loop),
            "clear_naive": partial(_drive, Target(plain.address), DECIDE, bodies, loop),
        }
        rates = alternated_rates(drives, lengths.n_rounds)
        figures = {"naive_ratio": float(np.median(rates["clear_ours"] / rates["clear_naive"]))}
        if quick and not (ray_environment.DEFAULT_FOLDER / "bin").exists():
            return figures, rates
        for name, is_direct in (("peer_ratio", False), ("peer_ratio_direct", True)):
            peer = _peer(asked, drives["clear_ours"], lengths, is_direct)
            figures[name] = float(np.median(peer["ours"] / peer["ray_serve"]))
            rates[f"clear_ray_serve{'_direct' if is_direct else ''}"] = peer["ray_serve"]
    return figures, rates


def _peer(asked: Asked, ours: Callable[[], float], lengths: Lengths, is_direct: bool) -> Rates:
    """Ours beside Ray Serve on all cores, through its proxy or past it."""
    load = Load(DECIDE, decide_body(asked.shopper_ids[0]), lengths.leg_s)
    with ray_serve(asked.workload.repository, is_direct) as rival:
        drives = {"ours": ours, "ray_serve": lambda: rival_driven(rival, load).requests_per_s}
        return alternated_rates(drives, min(3, lengths.n_rounds))


def _door_leg(asked: Asked, lengths: Lengths) -> tuple[dict[str, float], Rates]:
    """The model `decide` behind Triton's own front end beside a bare ensemble."""
    with tempfile.TemporaryDirectory(prefix="door-", dir="build") as name:
        settings = asked.workload.settings(Path(name) / "log")
        rates, _ = door_measured(World(settings, asked.shopper_ids, asked.at_s), lengths.n_rounds)
    return figures_of(rates), {f"triton_{name}": taken for name, taken in rates.items()}
