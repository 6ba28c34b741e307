"""Arrays in, plotly figures out: the pictures of evaluation.report, each with one job.

Every figure has named axes with units, intervals where there is an estimate, and no colour that carries meaning alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

# Okabe and Ito's palette: distinguishable under the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8f98"
MICROS = 1_000_000


@dataclass(frozen=True)
class Frontier:
    """Value against spend for one audience.

    spend_micros   whole micros spent at each budget, ascending
    value_micros   expected incremental margin at that spend
    chosen         position of the plan among the points
    lambda_price   value of the next unit of budget at the plan
    """

    spend_micros: Sequence[int]
    value_micros: Sequence[int]
    chosen_spend_micros: int
    chosen_value_micros: int
    lambda_price: float
    currency_code: str


@dataclass(frozen=True)
class Decile:
    """One tenth of the audience in order of predicted effect.

    predicted  currency units per shopper, what the model said
    observed   currency units per shopper, doubly robust estimate on later campaigns
    lower      95 % interval of `observed`
    upper      95 % interval of `observed`
    """

    predicted: float
    observed: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Reliability:
    """Calibration bins of one family of probabilities.

    predicted  mean predicted probability per bin
    observed   share that happened per bin
    n          cases per bin
    """

    predicted: Sequence[float]
    observed: Sequence[float]
    n: Sequence[int]


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; len(edges) = len(counts) + 1."""

    edges: Sequence[float]
    counts: Sequence[int]


def value_against_spend(frontier: Frontier) -> go.Figure:
    """The frontier, the plan on it, and the tangent whose slope is the shadow price."""
    spend = np.asarray(frontier.spend_micros) / MICROS
    value = np.asarray(frontier.value_micros) / MICROS
    at_spend, at_value = frontier.chosen_spend_micros / MICROS, frontier.chosen_value_micros / MICROS
    reach = max(spend.max() * 0.25, 1e-9)
    tangent = np.array([max(0.0, at_spend - reach), at_spend + reach])
    figure = go.Figure()
    figure.add_scatter(
        x=spend, y=value, mode="lines", name="best value at each budget", line={"color": BLUE, "width": 3}
    )
    figure.add_scatter(
        x=tangent,
        y=at_value + frontier.lambda_price * (tangent - at_spend),
        mode="lines",
        name=f"slope λ = {frontier.lambda_price:.2f}",
        line={"color": GREY, "dash": "dot"},
    )
    figure.add_scatter(
        x=[at_spend],
        y=[at_value],
        mode="markers+text",
        name="this plan",
        marker={"color": ORANGE, "size": 13},
        text=[f"  this plan: {at_value:,.0f} for {at_spend:,.0f}"],
        textposition="bottom right",
    )
    return _framed(figure, f"spend ({frontier.currency_code})", f"expected extra margin ({frontier.currency_code})")


def channels(
    channel_names: Sequence[str], spend_micros: Sequence[int], value_micros: Sequence[int], currency_code: str
) -> go.Figure:
    """What each channel gets and is expected to bring, side by side."""
    figure = go.Figure()
    for name, micros, colour in (("spend", spend_micros, GREY), ("expected extra margin", value_micros, BLUE)):
        amounts = np.asarray(micros) / MICROS
        figure.add_bar(
            y=list(channel_names),
            x=amounts,
            name=name,
            orientation="h",
            marker_color=colour,
            text=[f"{amount:,.0f}" for amount in amounts],
            textposition="outside",
            cliponaxis=False,
        )
    figure.update_yaxes(autorange="reversed")
    return _framed(figure, currency_code, "")


def effect_by_decile(arms: Mapping[str, Sequence[Decile]], unit: str) -> go.Figure:
    """Predicted against observed effect of being sent a campaign, one panel per arm, best tenth first."""
    figure = make_subplots(
        rows=1, cols=len(arms), subplot_titles=[f"campaign type {arm}" for arm in arms], shared_yaxes=True
    )
    for column, deciles in enumerate(arms.values(), start=1):
        rank = list(range(1, len(deciles) + 1))
        observed = np.array([decile.observed for decile in deciles])
        figure.add_bar(
            x=rank,
            y=observed,
            name="observed (doubly robust, 95 % interval)",
            marker_color=GREY,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": np.array([decile.upper for decile in deciles]) - observed,
                "arrayminus": observed - np.array([decile.lower for decile in deciles]),
                "color": "#4c5057",
                "thickness": 1,
            },
            showlegend=column == 1,
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=rank,
            y=[decile.predicted for decile in deciles],
            name="predicted",
            mode="lines+markers",
            line={"color": ORANGE, "width": 2},
            showlegend=column == 1,
            row=1,
            col=column,
        )
    return _framed(figure, "tenth of households, largest predicted effect first", unit)


def calibration(families: Mapping[str, Reliability]) -> go.Figure:
    """Predicted against observed probability on logarithmic axes, with the line of perfect calibration."""
    figure = go.Figure()
    figure.add_scatter(x=[1e-4, 1], y=[1e-4, 1], mode="lines", name="perfect", line={"color": GREY, "dash": "dot"})
    for (name, bins), colour in zip(families.items(), (BLUE, ORANGE, GREEN), strict=False):
        figure.add_scatter(
            x=list(bins.predicted),
            y=[share if share > 0 else None for share in bins.observed],
            mode="lines+markers",
            name=name,
            line={"color": colour},
            customdata=list(bins.n),
            hovertemplate="said %{x:.3f}, happened %{y:.3f} (n = %{customdata:,})",
        )
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    return _framed(figure, "probability said", "share that happened")


def latency(milliseconds: Sequence[float]) -> go.Figure:
    """Distribution of the time one Decide takes over loopback, with its median and 99th percentile."""
    samples = np.asarray(milliseconds)
    figure = go.Figure()
    counts, edges = np.histogram(samples, bins=40, range=(0, float(np.quantile(samples, 0.995)) * 1.2))
    figure.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=counts, width=np.diff(edges), marker_color=BLUE, showlegend=False)
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        mark = float(np.quantile(samples, share))
        figure.add_vline(x=mark, line={"color": ORANGE, "dash": "dot"}, annotation_text=f"{label} {mark:.1f} ms")
    return _framed(figure, "milliseconds per Decide", "calls")


def overlap(arms: Mapping[str, tuple[Histogram, Histogram]]) -> go.Figure:
    """Propensity of those sent a campaign and of those not sent: where the two do not meet, nothing can be learned."""
    figure = make_subplots(rows=1, cols=len(arms), subplot_titles=[f"campaign type {arm}" for arm in arms])
    for column, (sent, unsent) in enumerate(arms.values(), start=1):
        for name, histogram, colour in (("sent", sent, ORANGE), ("not sent", unsent, GREY)):
            edges, counts = np.asarray(histogram.edges), np.asarray(histogram.counts)
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts / max(1, counts.sum()),
                width=np.diff(edges),
                name=name,
                marker_color=colour,
                opacity=0.65,
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_layout(barmode="overlay")
    return _framed(figure, "predicted probability of being sent", "share of households")


def feature_distributions(histograms: Mapping[str, Histogram]) -> go.Figure:
    """Small multiples: one histogram a feature, so that a broken one is seen at a glance."""
    columns = 4
    rows = max(1, -(-len(histograms) // columns))
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=list(histograms), vertical_spacing=0.28 / rows)
    for position, histogram in enumerate(histograms.values()):
        edges = np.asarray(histogram.edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=list(histogram.counts),
            width=np.diff(edges),
            marker_color=BLUE,
            showlegend=False,
            row=position // columns + 1,
            col=position % columns + 1,
        )
    figure.update_annotations(font_size=11)
    framed = _framed(figure, "", "")
    framed.update_layout(height=150 * rows + 60)
    return framed


def _framed(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    """One look for all: white ground, light grid, legend above, titles on the outer axes only."""
    figure.update_layout(
        template="simple_white",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#22252a"},
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.14, "x": 0},
        height=360,
    )
    figure.update_xaxes(showgrid=True, gridcolor="#eef0f2")
    figure.update_yaxes(showgrid=True, gridcolor="#eef0f2")
    panels = [name for name in figure.layout if name.startswith("xaxis")]
    if len(panels) > 1:  # side by side: room for the panels' own titles, and one title below the middle one
        figure.update_layout(legend_y=1.3, margin_t=90)
    if x_title:
        figure.update_layout({f"{sorted(panels)[len(panels) // 2]}_title_text": x_title})
    if y_title:
        figure.update_layout(yaxis_title=y_title)
    return figure
