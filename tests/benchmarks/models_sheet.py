"""docs/models.md from docs/results/models.json: every protocol as a table, with what is not like for like said.

`python -m tests.benchmarks.models_sheet` writes it; a test compares the two.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORD, SHEET = ROOT / "docs" / "results" / "models.json", ROOT / "docs" / "models.md"
PAGE = """# Models beside their rivals and the published numbers

<!-- Written by `python -m tests.benchmarks.models_sheet` from docs/results/models.json. -->

Each figure is that of the module as it is served, on a whole test set that nothing was fitted or calibrated on; where a
choice was made with test figures in sight, training/LOG.md says so. Brackets hold the 95 % interval, over seeds and
cases where there are several seeds. Rivals were fitted and judged on the same cases in the same run. A published number
is **like for like** only where data, split, filtering and metric are ours; what differs stands beside it. Parity is the
largest difference of an answer from torch's on held-out rows.

`python -m tests.benchmarks models` scores them again from kept weights (`make bench-inputs` trains what is missing);
`--full` trains every seed anew; `--raw FOLDER` writes the predictions and labels behind each figure.

{studies}
Measured {date}, {machine}, commit {commit}.
"""
STUDY = """## {title}

{protocol}

| figure | ours | must | rivals | published |
| --- | --- | --- | --- | --- |
{lines}

Trained in {train_s:,.0f} s a seed; {n_parameters:,} parameters; graph {mib:.1f} MiB; parity ONNX Runtime {ort:.1e},
Triton {triton:.1e}; n = {n:,}.
{notes}
"""


def sheet(record: dict[str, Any]) -> str:
    """The page.

    record  docs/results/models.json, parsed
    """
    studies = "\n".join(_study(study) for study in record["studies"])
    return PAGE.format(studies=studies, **{name: record[name] for name in ("date", "machine", "commit")})


def _study(study: dict[str, Any]) -> str:
    return STUDY.format(
        title=study["model"],
        protocol=study["protocol"],
        lines="\n".join(_line(line) for line in study["lines"]),
        mib=study["onnx_bytes"] / 2**20,
        ort=study["parity"]["onnxruntime"],
        triton=study["parity"]["triton"],
        notes="".join(f"\n- {note}" for note in study["notes"]) + ("\n" if study["notes"] else ""),
        **{name: study[name] for name in ("train_s", "n_parameters", "n")},
    )


def _line(line: dict[str, Any]) -> str:
    rivals = "<br>".join(f"{name} {figure(number)}" for name, number in line["rivals"].items())
    printed = "<br>".join(_published(number) for number in line["published"])
    least = "" if line["least"] is None else f"≥ {line['least']:g}"
    seeds = f", {line['n_seeds']} seeds" if line["n_seeds"] > 1 else ""
    return f"| `{line['name']}` | {figure(line['ours'])}{seeds} | {least} | {rivals} | {printed} |"


def _published(number: dict[str, Any]) -> str:
    told = "like for like" if number["like_for_like"] else "not like for like"
    return f"{number['value']:g} {number['source']} ({told}{': ' if number['remark'] else ''}{number['remark']})"


def figure(number: dict[str, float]) -> str:
    """A value with its interval, where it has one."""
    value, lower, upper = (number[name] for name in ("value", "lower", "upper"))
    return f"{value:.4g}" if lower == upper else f"{value:.4g} [{lower:.4g}, {upper:.4g}]"


if __name__ == "__main__":
    SHEET.write_text(sheet(json.loads(RECORD.read_text())))
