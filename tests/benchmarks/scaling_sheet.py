"""docs/scaling.md from docs/results/scaling.json: how the features' time grows, as a table, a picture and a projection.

`python -m tests.benchmarks.scaling_sheet` writes it; a test compares the two.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.scaling import TEN_BILLION

ROOT = Path(__file__).resolve().parents[2]
RECORD, SHEET = ROOT / "docs" / "results" / "scaling.json", ROOT / "docs" / "scaling.md"
ROW = re.compile(r"([\d,]+) events, ([\d,]+) shoppers, (\d+) threads: (\w+)_s")
LEDGER_BYTES_PER_EVENT = 51
PAGE = """# How features scale

<!-- Written by `python -m tests.benchmarks.scaling_sheet` from docs/results/scaling.json. -->

Three stages, timed apart: `ledger` sorts events that come in no order by shopper and time; `shoppers` computes every
column of `kernels.features.FEATURES` for each shopper; `events` computes what stood at every event (running, session,
day and velocity columns). Events are made up by `tests/benchmarks/events.py`.

| events | shoppers | threads | ledger, s | shoppers, s | events, s | in all, s | ns per event |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{lines}

```mermaid
xychart-beta
    title "Seconds in all, by million events (100 for each shopper)"
    x-axis [{millions}]
    y-axis "seconds"
    line [{seconds}]
```

- **Events**: time grows as the number of events to the power {power:.2f}.
- **Threads**: all threads together do it {speedup:.2f} times as fast as one.
- **Ten billion events** would take {hours:,.1f} core hours at the rate of {largest:,} events of 100 for each shopper. A
  ledger of them is {gigabytes:,.0f} GB ({bytes_per_event} bytes an event), which few single machines hold: hash
  partitions of shoppers (`partition_frames` in `training/features/assembly.py`) share nothing, so that as many workers
  as hold a partition each take their share of the hours. That is a projection; the most run here is {most:,} events.

`python -m tests.benchmarks scaling --full`, {date}, {machine}, commit {commit}.
"""


class Row(NamedTuple):
    """One size of the grid; seconds of each stage."""

    n_events: int
    n_shoppers: int
    n_threads: int
    seconds: dict[str, float]

    @property
    def in_all(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def sheet(record: dict[str, object]) -> str:
    """Return the page.

    record  docs/results/scaling.json, parsed
    """
    figures, rivals = record["figures"], record["rivals"]
    assert isinstance(figures, dict)
    assert isinstance(rivals, dict)
    rows = _rows(rivals)
    usual = [row for row in rows if 90 <= row.n_events / row.n_shoppers <= 110 and row.n_threads == rows[0].n_threads]
    return PAGE.format(
        lines="\n".join(_line(row) for row in rows),
        millions=", ".join(f"{row.n_events / 1e6:.2g}" for row in usual),
        seconds=", ".join(f"{row.in_all:.2f}" for row in usual),
        power=figures["exponent_of_events"],
        speedup=figures["threads_speedup"],
        hours=figures["ten_billion_events_core_hours"],
        gigabytes=TEN_BILLION * LEDGER_BYTES_PER_EVENT / 1e9,
        bytes_per_event=LEDGER_BYTES_PER_EVENT,
        largest=usual[-1].n_events,
        most=max(row.n_events for row in rows),
        date=record["date"], machine=record["machine"], commit=record["commit"],
    )  # fmt: skip


def _rows(rivals: dict[str, float]) -> list[Row]:
    rows: dict[tuple[int, int, int], Row] = {}
    for label, seconds in rivals.items():
        found = ROW.fullmatch(label)
        assert found, label
        n_events, n_shoppers, n_threads = (int(found[place].replace(",", "")) for place in (1, 2, 3))
        row = rows.setdefault((n_events, n_shoppers, n_threads), Row(n_events, n_shoppers, n_threads, {}))
        row.seconds[found[4]] = seconds
    return list(rows.values())


def _line(row: Row) -> str:
    stages = " | ".join(f"{row.seconds[stage]:.2f}" for stage in ("ledger", "shoppers", "events"))
    sizes = f"{row.n_events:,} | {row.n_shoppers:,} | {row.n_threads}"
    return f"| {sizes} | {stages} | {row.in_all:.2f} | {row.in_all / row.n_events * 1e9:.0f} |"


if __name__ == "__main__":
    SHEET.write_text(sheet(json.loads(RECORD.read_text())))
