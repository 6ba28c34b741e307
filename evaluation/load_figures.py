"""Load as plotly figures, and the curve once more as a picture that needs no script: each with one job.

In: parts of what `stratagem bench load` measured. Out: figures, and an SVG document. Called by load_page.py.
"""

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evaluation.figures import BLUE, GREEN, GREY, ORANGE

PERCENTILES = (("p50_ms", "median", GREEN), ("p99_ms", "99 of 100", BLUE), ("p999_ms", "999 of 1,000", ORANGE))
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 70, 20, 40, 50
# The 99th percentile that the gateway must keep to at half of its saturation.
BOUND_MS = 10.0

Scale = Callable[[float], float]


class Point(TypedDict):
    """One rate of the curve. A percentile is None where nothing was answered."""

    share: float
    asked_per_s: float
    answered_per_s: float
    n_calls: int
    n_failed: int
    n_answered_late: int
    stale_share: float
    events_per_s: float
    statuses: dict[str, int]
    rungs: dict[str, int]
    is_generator_bound: bool
    generator_late_p99_ms: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None


class Window(TypedDict):
    """A stretch of a soak or a spike."""

    at_s: float
    n_calls: int
    n_failed: int
    n_not_full: int
    p50_ms: float | None
    p99_ms: float | None


class Memory(TypedDict):
    """Memory of the gateway's processes at one moment."""

    at_s: float
    own_mib: float
    pss_mib: float


def not_full_share(point: Point) -> float:
    """Calls that failed or were answered from another rung than the full one."""
    return 1.0 - point["rungs"].get("full", 0) / max(point["n_calls"], 1)


def latency_against_load(points: Sequence[Point]) -> go.Figure:
    """Percentiles above, what was not fully answered below, both over the rate at which callers came."""
    measured = [point for point in points if not point["is_generator_bound"]]
    asked = [point["asked_per_s"] for point in measured]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.06)
    for name, words, colour in PERCENTILES:
        waited = [point[name] for point in measured]  # type: ignore[literal-required]  # PERCENTILES names columns
        figure.add_scatter(
            x=asked, y=waited, name=words, mode="lines+markers", line={"color": colour, "width": 2}, row=1, col=1
        )
    figure.add_scatter(
        x=[point["asked_per_s"] for point in points if point["share"] == 0.5], y=[BOUND_MS], mode="markers+text",
        name="bound at half of saturation", marker={"color": GREY, "symbol": "line-ew-open", "size": 22},
        text=[f"  {BOUND_MS:g} ms"], textposition="middle right", row=1, col=1,
    )  # fmt: skip
    figure.add_bar(
        x=asked, y=[100 * not_full_share(point) for point in measured],
        marker_color=GREY, name="failed, or not from the full rung", row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(type="log", title_text="milliseconds", row=1, col=1)
    figure.update_yaxes(title_text="% of calls", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="calls a second, as they come", row=2, col=1)
    return _styled(figure, 460)


def over_time(windows: Sequence[Window], spike: tuple[float, float] | None = None) -> go.Figure:
    """Percentiles of each stretch of time; the spike shaded."""
    figure = go.Figure()
    for name, words, colour in PERCENTILES[:2]:
        waited = [window[name] for window in windows]  # type: ignore[literal-required]
        figure.add_scatter(
            x=[window["at_s"] for window in windows], y=waited, name=words, mode="lines+markers", line={"color": colour}
        )
    if spike is not None:
        figure.add_vrect(x0=spike[0], x1=spike[1], fillcolor=ORANGE, opacity=0.12, line_width=0)
    figure.update_yaxes(type="log", title_text="milliseconds")
    figure.update_xaxes(title_text="seconds")
    return _styled(figure, 300)


def memory_over_time(samples: Sequence[Memory]) -> go.Figure:
    """What the gateway's processes hold: of their own, and with their share of common pages."""
    figure = go.Figure()
    for name, words, colour in (("own_mib", "own", BLUE), ("pss_mib", "with a share of common and file pages", GREY)):
        held = [sample[name] for sample in samples]  # type: ignore[literal-required]
        figure.add_scatter(x=[sample["at_s"] for sample in samples], y=held, name=words, line={"color": colour})
    figure.update_yaxes(title_text="MiB", rangemode="tozero")
    figure.update_xaxes(title_text="seconds")
    return _styled(figure, 280)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="simple_white",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#22252a"},
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        height=height,
    )
    figure.update_xaxes(showgrid=True, gridcolor="#eef0f2")
    figure.update_yaxes(showgrid=True, gridcolor="#eef0f2")
    return figure


def curve_svg(points: Sequence[Point]) -> str:
    """The percentiles over the rate, on a logarithmic axis, as an SVG document for pages without scripts.

    points  at least one with an answer; those of a late generator are left out
    """
    measured = [point for point in points if not point["is_generator_bound"] and point["p99_ms"]]
    values = [point[name] for point in measured for name, _, _ in PERCENTILES]  # type: ignore[literal-required]
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(*values, 1.01 * BOUND_MS)))
    most = max(point["asked_per_s"] for point in measured)

    def across(rate_per_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * rate_per_s / most

    def up(ms: float) -> float:
        return float(TOP + (HEIGHT - TOP - BOTTOM) * (high - np.log10(ms)) / max(high - low, 1.0))

    parts = [_grid(across, up, int(low), int(high), most)]
    for place, (name, words, colour) in enumerate(PERCENTILES):
        line = " ".join(f"{across(point['asked_per_s']):.1f},{up(point[name]):.1f}" for point in measured)  # type: ignore[literal-required]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = LEFT + 150 * place
        parts.append(f'<rect x="{x}" y="14" width="18" height="4" fill="{colour}"/>{_text(x + 24, 21, words)}')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 10, "calls a second, as they come", "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _grid(across: Scale, up: Scale, low: int, high: int, most: float) -> str:
    lines = []
    for power in range(low, high + 1):
        y = up(10.0**power)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eef0f2"/>')
        lines.append(_text(LEFT - 8, y + 4, f"{10.0**power:g} ms", "end"))
    # Round rates, four to nine of them.
    magnitude = 10.0 ** np.floor(np.log10(most))
    step = magnitude * next(part for part in (0.2, 0.5, 1.0) if most < 8 * part * magnitude or part == 1.0)
    for rate_per_s in np.arange(0.0, most, step).tolist():
        x = across(rate_per_s)
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eef0f2"/>')
        lines.append(_text(x, HEIGHT - BOTTOM + 18, f"{rate_per_s:,.0f}", "middle"))
    return "".join(lines)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#22252a">{words}</text>'
