"""What `stratagem bench load` measured becomes one page: the curve, the soak, the spike, and the numbers behind them.

In: load.json as parsed JSON. Out: a self-contained HTML document, and the curve as SVG. Called by cli.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import orjson
from plotly.offline import get_plotlyjs

from evaluation import load_figures
from evaluation.load_figures import Memory, Point, Window
from evaluation.templates import template

HALF = 0.5


class Step(TypedDict):
    """One step of the climb to saturation."""

    open_calls: int
    rate_per_s: float
    n_failed: int
    p50_ms: float | None
    p99_ms: float | None


class Soak(TypedDict):
    """A constant rate for long."""

    rate_per_s: float
    seconds: float
    statuses: dict[str, int]
    rungs: dict[str, int]
    windows: list[Window]
    memory: list[Memory]
    growth_percent: float | None


class Spike(TypedDict):
    """Many times the callers for a while."""

    rate_per_s: float
    times: float
    begins_s: float
    ends_s: float
    statuses: dict[str, int]
    rungs: dict[str, int]
    windows: list[Window]
    recovery_s: float | None


class Made(TypedDict):
    """Where and with what it was measured."""

    date: str
    machine: str
    generators: str
    is_tls: bool
    has_token: bool
    n_shoppers: int
    changed_share: float
    deadline_s: float


class Load(TypedDict):
    """load.json."""

    made: Made
    saturated_per_s: float
    steps: list[Step]
    points: list[Point]
    soak: Soak | None
    spike: Spike | None


def html(load: Load) -> str:
    """The page.

    load  parsed load.json
    """
    soak, spike = load["soak"], load["spike"]
    return template("load.html.j2", {"ms": _ms, "counts": _counts}).render(
        plotly_script=get_plotlyjs(),
        made_by=_made(load["made"]),
        tiles=_tiles(load),
        notes=_notes(load["points"]),
        curve=_div(load_figures.latency_against_load(load["points"])),
        points=load["points"],
        steps=load["steps"],
        soak=soak,
        soak_figure=_div(load_figures.over_time(soak["windows"])) if soak else "",
        memory=_div(load_figures.memory_over_time(soak["memory"])) if soak and soak["memory"] else "",
        spike=spike,
        spike_figure=_div(load_figures.over_time(spike["windows"], (spike["begins_s"], spike["ends_s"])))
        if spike
        else "",
        not_full_share=load_figures.not_full_share,
    )


def write(told: Mapping[str, object], folder: Path) -> Path:
    """Write load.json, load.html and load.svg; returns the page.

    told  as `stratagem bench load` measured it
    """
    text = orjson.dumps(told, option=orjson.OPT_INDENT_2)  # what is not a number becomes null
    load = orjson.loads(text)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("load.json", text.decode()), ("load.html", html(load)), ("load.svg", svg(load))):
        (folder / name).write_text(content)
    return folder / "load.html"


def svg(load: Load) -> str:
    """The curve alone, for pages without scripts.

    load  parsed load.json
    """
    return load_figures.curve_svg(load["points"])


def _div(figure: object) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False}))  # type: ignore[attr-defined]


def _made(made: Made) -> str:
    parts = ["TLS" if made["is_tls"] else "no TLS", "a token" if made["has_token"] else "no token"]
    return (
        f"{made['date']}, {made['machine']}. Load by {made['generators']}. {made['n_shoppers']:,} shoppers, "
        f"{100 * made['changed_share']:.0f} % of them changed since their last decision; {', '.join(parts)}; every "
        f"call gives the gateway {1000 * made['deadline_s']:.0f} ms. Latency counts from the moment a caller meant to "
        "ask."
    )


def _tiles(load: Load) -> list[tuple[str, str]]:
    tiles = [("decisions a second at saturation", f"{load['saturated_per_s']:,.0f}")]
    half = [point["p99_ms"] for point in load["points"] if point["share"] == HALF]
    tiles += [("99 of 100 answers at half of that within", _ms(p99_ms)) for p99_ms in half]
    if soak := load["soak"]:
        growth = soak["growth_percent"]
        words = "not watched" if growth is None else f"{growth:+.1f} %"
        tiles.append((f"memory over the last half of {soak['seconds']:,.0f} s", words))
    if spike := load["spike"]:
        recovery = spike["recovery_s"]
        words = "not reached" if recovery is None else f"{recovery:.1f} s"
        tiles.append((f"until all is as before after {spike['times']:g} times the load", words))
    return tiles


def _notes(points: Sequence[Point]) -> list[str]:
    """What would otherwise be read as the gateway's doing."""
    late = [point for point in points if point["is_generator_bound"]]
    return [
        f"At {100 * point['share']:.0f} % the generator itself was {point['generator_late_p99_ms']:.0f} ms late in the "
        "99th percentile: that point is in the table, but no measurement of the gateway."
        for point in late
    ]


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.1f} ms"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name.lower().replace('_', ' ')}" for name, n in counts.items())
