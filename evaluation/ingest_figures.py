"""Columns before and after cleaning as plotly figures: the pictures of evaluation.ingest_page, each with one job.

In: distributions of cleaning.json. Out: <div> elements; their script is inlined once by the page.
"""

import datetime
from collections.abc import Sequence
from typing import Literal, TypedDict

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evaluation.figures import BLUE, GREY, MICROS, ORANGE

N_COLUMNS = 3
# A label longer than this would leave no room for its bar.
LONGEST_LABEL, LONGEST_REASON = 25, 60
PANEL_HEIGHT, BAR_HEIGHT = 245, 26


class Numbers(TypedDict):
    """All rows' values of one column; None where there is none."""

    n_rows: int
    n_missing: int
    least: float | None
    mean: float | None
    most: float | None


class Distribution(TypedDict):
    """One column before and after cleaning."""

    table: str
    column: str
    unit: str
    before: Numbers
    after: Numbers
    n_sampled: int
    edges: list[float]
    scale: Literal["linear", "log"]
    values: list[str]
    counts_before: list[int]
    counts_after: list[int]


def losses(reasons: Sequence[tuple[str, int]], most: int = 15) -> str:
    """Return why rows were removed, the commonest reason first; empty where none was.

    reasons  in words, and rows; descending
    most     reasons drawn; what is left goes into one bar
    """
    if not reasons:
        return ""
    shown = list(reasons[:most])
    if len(reasons) > most:
        shown.append((f"{len(reasons) - most} other reasons", sum(count for _, count in reasons[most:])))
    figure = go.Figure()
    figure.add_bar(
        y=[_label(reason, LONGEST_REASON) for reason, _ in shown],
        x=[count for _, count in shown],
        orientation="h",
        marker_color=ORANGE,
        text=[f"{count:,}" for _, count in shown],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        hovertemplate="%{y}: %{x:,}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    # Room on the right for the longest count, which stands outside its bar.
    figure.update_xaxes(range=[0, 1.15 * shown[0][1]], tickformat=",d", nticks=6, title_text="rows removed")
    return _div(_framed(figure, 95 + BAR_HEIGHT * len(shown)))


def spreads(distributions: Sequence[Distribution], currency_code: str) -> str:
    """Return histograms of all columns of numbers, before and after, a panel each; empty where there are none.

    currency_code  ISO 4217 code of the money
    """
    drawn = [each for each in distributions if each["edges"]]
    if not drawn:
        return ""
    n_rows = -(-len(drawn) // N_COLUMNS)
    figure = make_subplots(
        rows=n_rows,
        cols=N_COLUMNS,
        subplot_titles=[f"{each['table']}: {_titled(each, currency_code)}" for each in drawn],
        vertical_spacing=0.3 / n_rows,
        horizontal_spacing=0.07,
    )
    for place, each in enumerate(drawn):
        at = {"row": place // N_COLUMNS + 1, "col": place % N_COLUMNS + 1}
        edges = [_position(edge, each["unit"]) for edge in each["edges"]]
        for name, counts, colour in (("before", each["counts_before"], GREY), ("after", each["counts_after"], BLUE)):
            figure.add_scatter(
                x=edges,
                y=[*counts, counts[-1]],
                name=name,
                mode="lines",
                # A step from edge to edge, which unlike a bar keeps its width on a logarithmic axis.
                line={"shape": "hv", "color": colour, "width": 2 if name == "after" else 1},
                fill="tozeroy" if name == "before" else None,
                showlegend=place == 0,
                hovertemplate="%{y:,}",
                **at,
            )
        figure.update_xaxes(type="date" if each["unit"] == "s" else each["scale"], nticks=5, **at)
        if each["scale"] == "log":
            figure.update_xaxes(dtick=1, tickformat="~s", **at)
        figure.update_yaxes(rangemode="tozero", nticks=4, tickformat="~s", **at)
    figure.update_annotations(font_size=13)
    framed = _framed(figure, PANEL_HEIGHT * n_rows + 70)
    framed.update_layout(
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0}, margin_t=85
    )
    return _div(framed)


def texts(distributions: Sequence[Distribution]) -> str:
    """Return the most frequent texts of each column, before and after, a panel each; empty where there are none."""
    # A text that nobody shares, such as a key, or that all share, makes no picture.
    drawn = [each for each in distributions if len(each["values"]) > 1 and each["counts_before"][0] > 1]
    if not drawn:
        return ""
    n_columns = 2
    n_rows = -(-len(drawn) // n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        subplot_titles=[f"{each['table']}: {each['column']}" for each in drawn],
        vertical_spacing=0.22 / n_rows,
        horizontal_spacing=0.24,
    )
    for place, each in enumerate(drawn):
        at = {"row": place // n_columns + 1, "col": place % n_columns + 1}
        labels = [_label(value) for value in each["values"]]
        for name, counts, colour in (("before", each["counts_before"], GREY), ("after", each["counts_after"], BLUE)):
            figure.add_bar(
                y=labels,
                x=counts,
                name=name,
                orientation="h",
                marker_color=colour,
                showlegend=place == 0,
                hovertemplate="%{y}: %{x:,}",
                **at,
            )
        figure.update_yaxes(autorange="reversed", type="category", tickfont_size=11, dtick=1, **at)
        figure.update_xaxes(nticks=5, tickformat="~s", **at)
    figure.update_annotations(font_size=13)
    framed = _framed(figure, max(BAR_HEIGHT * 13, 260) * n_rows + 60)
    framed.update_layout(
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
        margin={"l": 215, "r": 25, "t": 85, "b": 40},
        bargap=0.25,
        bargroupgap=0.0,
    )
    return _div(framed)


def _titled(each: Distribution, currency_code: str) -> str:
    name = each["column"].removesuffix("_micros").removesuffix("_s").replace("_", " ")
    return f"{name}, {currency_code}" if each["unit"] == "micros" else name


def _position(edge: float, unit: str) -> float | str:
    if unit == "micros":
        return edge / MICROS
    if unit == "s":
        # The outermost edges of a broken export may lie beyond any calendar; the nearest day there is stands for them.
        bounded = min(max(edge, -62_135_596_800), 253_402_300_799)
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=bounded)).isoformat()
    return edge


def _label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text short enough to stand beside a bar."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _framed(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="simple_white",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#22252a"},
        margin={"l": 60, "r": 25, "t": 20, "b": 50},
        height=height,
    )
    figure.update_xaxes(showgrid=True, gridcolor="#eef0f2")
    figure.update_yaxes(showgrid=True, gridcolor="#eef0f2")
    return figure


def _div(figure: go.Figure) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    )
