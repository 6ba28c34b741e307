"""Writes the README's tables from the committed results: `python -m tests.benchmarks.readme`.

In: docs/results/*.json, as `python -m tests.benchmarks NAME --json docs/results/NAME.json` writes them, and the demo's
first decision in docs/results/decision.txt. Out: README.md between its markers. A test compares the two.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
# Written into pages of their own, by scaling_sheet.py, serving_sheet.py and gateway_sheet.py beside this.
ELSEWHERE = ("scaling", "serving", "faults")
# The figures of models that the README shows; docs/models.md has all, with protocols and intervals.
CONTRACT = (
    "beauty_behaviour_ndcg10", "beauty_ndcg10", "beauty_hr10", "toys_ndcg10", "toys_hr10", "diginetica_r20",
    "diginetica_mrr20", "hillstrom_qini_women", "hillstrom_qini_men", "hillstrom_policy30", "tags_macro_ap_lower",
    "tags_macro_ap", "response_auc_lower", "response_redeem_auc", "response_ece", "response_bandit_auc_lower",
    "fraud_auc", "fraud_auc_rival", "fraud_attack_ap", "review_accuracy", "lifetime_cdnow_spearman",
    "lifetime_cdnow_calibration", "lifetime_retail_spearman", "lifetime_retail_calibration",
    "shop_recommendation_ndcg_10", "shop_recommendation_hit_10", "shop_uplift_minus_r_loss", "shop_lifetime_spearman",
)  # fmt: skip


def rendered(readme: str) -> str:
    """The README with every generated part as the committed results say.

    readme  its text, with the markers
    """
    parts = {"decision": f"```text\n{(RESULTS / 'decision.txt').read_text().rstrip()}\n```"}
    parts |= {
        file.stem: table_of(json.loads(file.read_text()))
        for file in sorted(RESULTS.glob("*.json"))
        if file.stem not in ELSEWHERE
    }
    for name, content in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        readme, n_found = re.subn(
            pattern, lambda found, text=content: f"{found[1]}{text}\n{found[2]}", readme, flags=re.S
        )
        if n_found != 1:
            raise ValueError(f"README.md must have the markers of {name} once, got {n_found}")
    return readme


def table_of(record: dict[str, object]) -> str:
    """One benchmark's figures and rivals as Markdown, with where and when they were measured."""
    figures, rivals = record["figures"], record["rivals"]
    assert isinstance(figures, dict)
    assert isinstance(rivals, dict)
    if record["name"] == "models":
        figures = {name: figures[name] for name in CONTRACT if name in figures}
        rivals = {label: number for label, number in rivals.items() if label.split(": ")[0] in figures}
    rows = [f"| `{name}` | {_number(number)} | {_beside(name, rivals)} |" for name, number in figures.items()]
    named = {label for name in figures for label in rivals if label.startswith(f"{name}: ")}
    loose = [f"| {name} | {_number(number)} | |" for name, number in rivals.items() if name not in named]
    told = (
        f"`python -m tests.benchmarks {record['name']}`, {record['date']}, {record['machine']}, "
        f"commit {record['commit']}, n = {record['n']:,}"
    )
    return "\n".join(["| figure | ours | beside it |", "| --- | --- | --- |", *rows, *loose, "", told + "."])


def _beside(name: str, rivals: dict[str, float]) -> str:
    return ", ".join(
        f"{label.split(': ', 1)[1]} {_number(number)}"
        for label, number in rivals.items()
        if label.startswith(f"{name}: ")
    )


def _number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.3g}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(rendered(file.read_text()))
