"""docs/serving.md from docs/results/serving.json: how fast each graph answers by batch, and what smaller numbers cost.

`python -m tests.benchmarks.serving_sheet` writes it; a test compares the two.
"""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.serving import BATCHES

ROOT = Path(__file__).resolve().parents[2]
RECORD, SHEET = ROOT / "docs" / "results" / "serving.json", ROOT / "docs" / "serving.md"
QUALITY = ("size_mb", "max_difference", "rank_correlation", "top20_overlap", "category_auc", "item_ndcg_10")
PAGE = """# How fast the graphs answer

<!-- Written by `python -m tests.benchmarks.serving_sheet` from docs/results/serving.json. -->

`encoder` reads a shopper's last 200 events and runs when the shopper has changed; `predictions` are the heads and run
for every decision. Through a real Triton on this machine's CPU, one thread a graph; p99 of a call in milliseconds,
then rows a second. `int8` are weights quantised dynamically, `fp16` half floats with float32 at the door. What that
costs is told beside float32 on held-out shopper-weeks: the largest difference of an answer, the worst rank
correlation of a column, how many of the twenty best items stay, and areas and gains against what happened.

| graph | {batches} |
| --- | {rule} |
{speed}

| graph | size, MB | largest difference | rank correlation | top 20 kept | category AUC | item NDCG@10 |
| --- | --- | --- | --- | --- | --- | --- |
{quality}

`python -m tests.benchmarks serving`, {date}, {machine}, commit {commit}, n = {n:,}.
"""


def sheet(record: dict[str, Any]) -> str:
    """The page.

    record  docs/results/serving.json, parsed
    """
    figures = record["figures"]
    graphs = list(dict.fromkeys(name.split("_")[1] + " " + name.split("_")[2] for name in figures))
    return PAGE.format(
        batches=" | ".join(f"batch {batch}" for batch in BATCHES),
        rule=" | ".join("---" for _ in BATCHES),
        speed="\n".join(_row(graph, [_speed(figures, graph, batch) for batch in BATCHES]) for graph in graphs),
        quality="\n".join(_row(graph, [_number(figures, graph, name) for name in QUALITY]) for graph in graphs),
        **{name: record[name] for name in ("date", "machine", "commit", "n")},
    )


def _row(graph: str, cells: list[str]) -> str:
    return f"| {graph} | {' | '.join(cells)} |"


def _speed(figures: dict[str, float], graph: str, batch: int) -> str:
    prefix = f"serving_{graph.replace(' ', '_')}"
    p99, rows = figures.get(f"{prefix}_p99_ms_{batch}"), figures.get(f"{prefix}_rows_per_s_{batch}")
    return "" if p99 is None or rows is None else f"{p99:.1f} ms, {rows:,.0f}/s"


def _number(figures: dict[str, float], graph: str, name: str) -> str:
    found = figures.get(f"serving_{graph.replace(' ', '_')}_{name}")
    return "" if found is None else f"{found:.4g}"


if __name__ == "__main__":
    SHEET.write_text(sheet(json.loads(RECORD.read_text())))
