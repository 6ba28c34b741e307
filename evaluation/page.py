"""The files that training, export and planning leave behind become the tables and the page that people look at.

In: evaluation.json, plan.json and manifest.json as parsed JSON. Out: report.Table and report.Page. Called by cli.py.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import TypedDict

from evaluation.figures import MICROS, Decile, Frontier, Histogram, Reliability
from evaluation.report import Page, Strategy, Table

CAVEATS = {
    "complete_journey": (
        "This is a demonstration on the completejourney data set, whose own notes call it derived from real patterns "
        "and unfit for commercial conclusions. Campaigns and placements in it were not randomised; margins and contact "
        "costs are settings, not data."
    )
}
OWN_SHOP = "Effects are estimated from what happened, not from an experiment; margins and contact costs are settings."
# The figures a reader is shown, in this order; evaluation.json holds all.
SHOWN = (
    "new_ndcg_10", "new_recall_10", "new_hit_10", "ndcg_10", "recall_10", "hit_10", "ece",
    "macro_ap", "category_macro_ap", "tag_macro_ap", "micro_f1", "macro_f1", "accuracy", "category_ece", "tag_ece",
    "redeem_auc", "redeem_ap", "redeem_ece", "buy_auc", "buy_ece", "minus_spend_error",
    "minus_r_loss", "qini_A", "qini_B", "qini_C", "spearman", "calibration", "gini",
    "recall_20", "mrr_20", "next_item_ece", "fraud_auc", "fraud_ap", "fraud_ece", "review_accuracy", "review_auc",
)  # fmt: skip
CHANNELS = ("ads", "promotions", "content", "social")


class _Interval(TypedDict):
    value: float
    lower: float
    upper: float


class _Row(TypedDict):
    name: str
    figures: dict[str, _Interval]


class _Difference(TypedDict):
    rival: str
    figure: str
    difference: _Interval
    is_lost: bool


class Study(TypedDict):
    """One model's part of evaluation.json."""

    rows: list[_Row]
    against: list[_Difference]
    protocol: str
    n: dict[str, int]
    n_parameters: int
    seconds_in_all: float
    notes: list[str]


class _Bins(TypedDict):
    predicted: list[float]
    observed: list[float]
    n: list[int]


class _Counts(TypedDict):
    edges: list[float]
    counts: list[int]


class _Tenth(TypedDict):
    predicted: float
    observed: float
    lower: float
    upper: float


class _Overlap(TypedDict):
    sent: _Counts
    unsent: _Counts
    n_sent: int
    effective_n: list[float]
    trimmed_share: float
    sent_trimmed_share: float


class Evaluation(TypedDict):
    """evaluation.json, as far as it is shown."""

    shop: str
    models: dict[str, Study]
    deciles: dict[str, list[_Tenth]]
    overlap: dict[str, _Overlap]
    constants: dict[str, _Interval]
    reliability: dict[str, _Bins]
    features: dict[str, _Counts]


class _Channel(TypedDict):
    channel: str
    n_shoppers: int
    value_micros: int
    cost_micros: int


class _Point(TypedDict):
    spend_micros: int
    value_micros: int


class PlanFile(TypedDict):
    """plan.json, as far as it is shown."""

    plan_id: str
    release: str
    currency_code: str
    at_s: int
    n_shoppers: int
    budget_micros: int
    shadow_price: float
    spend_micros: int
    value_micros: int
    dual_bound_micros: float
    channels: list[_Channel]
    frontier: list[_Point]


def model_tables(evaluation: Evaluation) -> list[tuple[str, Table]]:
    """Every model beside its simple rivals, with 95 % intervals; ours stands first, a figure we lose says so.

    evaluation  parsed evaluation.json
    returns     title and table of each model
    """
    return [(f"{model}: {study['protocol']}", _table(study)) for model, study in evaluation["models"].items()]


def _table(study: Study) -> Table:
    """Figures down, models across: names of models break at spaces in a narrow terminal, names of figures would not."""
    if not study["rows"]:
        return Table(("note",), [(note,) for note in study["notes"]])
    known = study["rows"][0]["figures"]
    shown = [name for name in SHOWN if name in known] or list(known)
    rows = [[name, *(_cell(row["figures"].get(name)) for row in study["rows"])] for name in shown]
    return Table(("figure", *(row["name"] for row in study["rows"])), rows)


def _cell(figure: _Interval | None) -> str:
    if figure is None:
        return ""
    value, lower, upper = map(_number, (figure["value"], figure["lower"], figure["upper"]))
    return f"{value} [{lower}, {upper}]" if figure["lower"] < figure["upper"] else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def losses(evaluation: Evaluation) -> list[str]:
    """A sentence for every figure in which ours loses to a simple rival beyond noise."""
    return [
        f"{model} loses to {lost['rival']} in {lost['figure']} by {-lost['difference']['value']:.3g}"
        for model, study in evaluation["models"].items()
        for lost in study["against"]
        if lost["is_lost"]
    ]


def page_of(
    plan: PlanFile, evaluation: Evaluation, strategies: Sequence[Strategy], latency_ms: Sequence[float]
) -> Page:
    """Compose the page of one plan.

    plan        parsed plan.json
    evaluation  parsed evaluation.json
    strategies  decisions in words
    latency_ms  milliseconds of single decisions
    """
    code = plan["currency_code"]
    treated = sum(channel["n_shoppers"] for channel in plan["channels"] if channel["channel"] in CHANNELS)
    frontier = sorted(plan["frontier"], key=lambda point: point["spend_micros"])
    return Page(
        title="A budget turned into a strategy",
        caveat=CAVEATS.get(evaluation["shop"], OWN_SHOP),
        tiles=[
            (f"budget, {code}", f"{plan['budget_micros'] / MICROS:,.0f}"),
            (f"planned spend, {code}", f"{plan['spend_micros'] / MICROS:,.2f}"),
            (f"expected extra margin, {code}", f"{plan['value_micros'] / MICROS:,.2f}"),
            ("λ, value of the next unit of budget", f"{plan['shadow_price']:.3g}"),
            (f"of {plan['n_shoppers']:,} shoppers reached", f"{treated:,}"),
        ],
        frontier=Frontier(
            [point["spend_micros"] for point in frontier],
            [point["value_micros"] for point in frontier],
            plan["spend_micros"],
            plan["value_micros"],
            plan["shadow_price"],
            code,
        ),
        channels=_channels(plan),
        channel_notes=_channel_notes(plan, evaluation),
        strategies=strategies,
        models=model_tables(evaluation),
        deciles={
            arm: [Decile(**tenth) for tenth in tenths]
            for arm, tenths in evaluation.get("deciles", {}).items()
            if tenths
        },
        overlap={
            arm: (Histogram(**both["sent"]), Histogram(**both["unsent"]))
            for arm, both in evaluation.get("overlap", {}).items()
        },
        reliability={name: Reliability(**bins) for name, bins in evaluation["reliability"].items()},
        latency_ms=latency_ms,
        features={name: Histogram(**counts) for name, counts in evaluation["features"].items()},
        made_by=(
            f"Plan {plan['plan_id']} by release {plan['release']}, for {_day(plan['at_s'])}. "
            "Every figure is made again by `stratagem demo`."
        ),
    )


def _channels(plan: PlanFile) -> tuple[list[str], list[int], list[int]]:
    totals: Mapping[str, _Channel] = {channel["channel"]: channel for channel in plan["channels"]}
    spend = [totals[name]["cost_micros"] if name in totals else 0 for name in CHANNELS]
    value = [totals[name]["value_micros"] if name in totals else 0 for name in CHANNELS]
    return list(CHANNELS), spend, value


def _channel_notes(plan: PlanFile, evaluation: Evaluation) -> list[str]:
    """What a reader must know about each channel's numbers."""
    notes = [f"{channel['channel']}: {channel['n_shoppers']:,} shoppers" for channel in plan["channels"]]
    for arm, effect in evaluation.get("constants", {}).items():
        overlap = evaluation["overlap"][arm]
        notes.append(
            f"Being sent a campaign of type {arm} added {effect['value']:.2f} of spend in 28 days on average "
            f"(95 % interval {effect['lower']:.2f} to {effect['upper']:.2f}; {overlap['n_sent']:,} sent, worth "
            f"{overlap['effective_n'][0]:,.0f} after weighting; {overlap['sent_trimmed_share']:.0%} of them left out "
            "for want of comparable households)."
        )
    notes.append("Ads and content are valued by how much a placement multiplied an item's sales in the same store.")
    notes.append("Social gets nothing: no data says what a post adds, so it counts as worth nothing.")
    return notes


def _day(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).date().isoformat()
