"""One self-contained HTML page from a plan, its models' evidence and a few strategies; `stratagem demo` writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evaluation import figures
from evaluation.templates import template


@dataclass(frozen=True)
class Strategy:
    """One shopper's decision as a marketer reads it.

    shopper_id  whose
    action      what is done, in words
    economics   label and formatted amount, in the order shown
    reasons     sentences, strongest first
    """

    shopper_id: str
    action: str
    economics: Sequence[tuple[str, str]]
    reasons: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Column titles, then rows of formatted cells; a cell that starts with `*` is set in bold."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """All that the page shows; a part that is None is left out with its heading.

    caveat  the sentence a reader must see before any number
    tiles   label and formatted figure for the first screen
    """

    title: str
    caveat: str
    tiles: Sequence[tuple[str, str]]
    frontier: figures.Frontier
    channels: tuple[Sequence[str], Sequence[int], Sequence[int]]
    channel_notes: Sequence[str]
    strategies: Sequence[Strategy]
    models: Sequence[tuple[str, Table]]
    deciles: Mapping[str, Sequence[figures.Decile]]
    overlap: Mapping[str, tuple[figures.Histogram, figures.Histogram]]
    reliability: Mapping[str, figures.Reliability]
    latency_ms: Sequence[float]
    features: Mapping[str, figures.Histogram]
    made_by: str


def html(page: Page) -> str:
    """Render `page` with its figures and their script inlined: the file opens without a network.

    page     what to show
    returns  a complete HTML document
    """
    drawn = {
        "frontier": figures.value_against_spend(page.frontier),
        "channels": figures.channels(*page.channels, page.frontier.currency_code),
        "deciles": figures.effect_by_decile(page.deciles, f"{page.frontier.currency_code} over 28 days"),
        "overlap": figures.overlap(page.overlap),
        "reliability": figures.calibration(page.reliability),
        "latency": figures.latency(page.latency_ms),
        "features": figures.feature_distributions(page.features),
    }
    divs = {name: _div(figure) for name, figure in drawn.items()}
    return template("report.html.j2").render(page=page, figure=divs, plotly_script=get_plotlyjs())


def _div(figure: go.Figure) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    )
