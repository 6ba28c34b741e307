"""What one benchmark run leaves behind: figures beside rivals, machine, commit, counts, spread."""

import datetime
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measured:
    """What a benchmark's `measure` returns.

    figures  contract name -> number
    rivals   name -> number, measured in the same run
    n        repetitions behind each figure
    spread   figure or rival -> interquartile range, in its own unit
    told     whatever else the record keeps, beside the figures
    """

    figures: dict[str, float]
    rivals: dict[str, float]
    n: int
    spread: dict[str, float] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def write_record(name: str, measured: Measured, file: Path | None) -> None:
    """Print `measured` as a table and, where `file` is given, write it as JSON.

    name      benchmark, as on the command line
    measured  figures and rivals
    file      JSON target; None prints only
    """
    table = Table("figure", "value", "interquartile range", title=f"{name} (n = {measured.n:,})")
    for label, number in {
        **measured.figures,
        **{f"rival: {key}": value for key, value in measured.rivals.items()},
    }.items():
        spread = measured.spread.get(label.removeprefix("rival: "))
        table.add_row(label, f"{number:,.4g}", "" if spread is None else f"{spread:,.3g}")
    Console(width=100).print(table)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        origin = {"machine": _machine(), "commit": _commit(), "date": datetime.date.today().isoformat()}
        record = asdict(measured)
        told = record.pop("told")
        file.write_text(json.dumps({"name": name, **record, **origin, **told}, indent=2) + "\n")


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores, {model}, {platform.system()}, Python {platform.python_version()}"


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
