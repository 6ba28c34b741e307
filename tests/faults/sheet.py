"""docs/faults.md from the figures of every fault.

`python -m tests.faults.sheet` writes it from docs/results/faults.json.
"""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORD, SHEET = DOCS / "results" / "faults.json", DOCS / "faults.md"
COLUMNS = {
    "calls": "{:,.0f}", "failed": "{:,.0f}", "refused": "{:,.0f}", "late": "{:,.0f}", "full_share": "{:.1%}",
    "cached_share": "{:.1%}", "safe_default_share": "{:.1%}", "p99_ms": "{:,.0f} ms", "back_s": "{:.2f} s",
}  # fmt: skip
PAGE = """# Faults that the gateway survives

<!-- Written by `python -m tests.faults.sheet` from docs/results/faults.json. -->

Each row is a fault under load. A call fails if it gets no answer and is not told at once when to ask again; it is late
if its answer comes after its deadline; `full`, `cached` and `safe default` are the rungs of the answers; back is the
time from the end of the fault to the last decision that was not full. With a client's fault, the calls are the others'.

| fault | calls | failed | refused | late | full | cached | safe default | p99 | back after |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

`python -m tests.faults.scenes {share:g}`
"""


def sheet(record: dict[str, Any]) -> str:
    """The page.

    record  docs/results/faults.json, parsed
    """
    rows = [f"| {name} | {' | '.join(_cells(figures))} |" for name, figures in record["faults"].items()]
    return PAGE.format(rows="\n".join(rows), share=record["share"])


def _cells(figures: dict[str, float]) -> list[str]:
    return [form.format(figures[name]) if name in figures else "" for name, form in COLUMNS.items()]


if __name__ == "__main__":
    SHEET.write_text(sheet(json.loads(RECORD.read_text())))
