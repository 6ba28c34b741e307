"""docs/gateway.md from docs/results/gateway.json: the gateway beside its rivals, the curve, a profile.

`python -m tests.benchmarks.gateway_sheet` writes the page and the curve's picture; a test compares them.
"""

import json
from pathlib import Path
from typing import Any

from evaluation import load_figures

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
RECORD = RESULTS / "gateway.json"
SHEET, CURVE = ROOT / "docs" / "gateway.md", ROOT / "docs" / "gateway_curve.svg"
# The bars: figure, at least, aimed at.
BARS = {
    "unary_ratio": (0.5, 0.7), "stream_ratio": (0.5, None), "batch_decisions_per_s": (100_000, 300_000),
    "triton_door_ratio": (0.6, None), "peer_ratio": (10, None), "naive_ratio": (1.0, 1.3),
}  # fmt: skip
MOST = {"p99_ms_half_load": 10, "ready_s": 3, "soak_growth": 0.02}
WORDS = {
    "unary_ratio": "unary `Decide` over the fastest bare echo of grpcio's own servers, TLS and a key on both",
    "unary_ratio_own_echo": "the same over a bare echo on our own `server/wire`",
    "unary_decisions_per_s": "unary decisions a second, gateway on one core",
    "unary_cpu_us": "CPU of the gateway's process a unary decision, µs",
    "stream_ratio": "decisions on streams over the fastest bare stream echo of grpcio's own servers",
    "stream_ratio_own_echo": "the same over a stream echo on `server/wire`",
    "stream_decisions_per_s": "decisions on streams a second, gateway on one core",
    "batch_decisions_per_s": "decisions in columns a second, gateway, Triton and generator on two cores",
    "triton_door_ratio": "model `decide` behind Triton's front end over a bare ensemble with the same heads",
    "triton_door_decision_ratio": "the same when it answers whole decisions with reasons",
    "triton_door_per_s": "requests a second of that door",
    "peer_ratio": "unary over Ray Serve's gRPC proxy, same heads",
    "peer_ratio_direct": "unary over Ray Serve past its proxy",
    "naive_ratio": "unary over a hundred-line grpc.aio server with naive batching, no state, log or access",
    "p99_ms_half_load": "p99 at half of our saturation, callers who do not wait, ms",
    "p50_ms_half_load": "p50 there, ms",
    "encoder_refreshes_per_s": "vectors made anew a second there",
    "stale_share": "share of decisions there whose vector did not know the last event yet",
    "ready_s": "from the process's start to its first answer, Triton warm, s",
    "soak_growth": "growth of memory over the second half of the soak",
}


def sheet(record: dict[str, Any]) -> str:
    """The page.

    record  docs/results/gateway.json, parsed
    """
    parts = [
        "# The gateway under load",
        "<!-- Written by `python -m tests.benchmarks.gateway_sheet` from docs/results/gateway.json. -->",
        "One million shoppers in state, ledgers of median 100 and p99 500 events, ten actions, the log on disk, TLS\n"
        "and a key, one shopper in twenty changed; legs alternate in one run, medians are told. The machine is\n"
        "shared, and its two cores are two threads of one: rates of two runs differ by more than their spreads say.",
        _table(record),
        "## Where the time of one request goes",
        _profile(record),
        "## Latency against load",
        _curve(record),
        "## Faults",
        "Triton killed, stopped, slow, talking nonsense or reloading, workers killed, the clock stepping, clients\n"
        "who never read, hurry, cancel or send rubbish: [faults.md](faults.md).",
        f"`python -m tests.benchmarks gateway`, {record['date']}, {record['machine']}, commit {record['commit']}, "
        f"n = {record['n']:,}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(record: dict[str, Any]) -> str:
    figures, rivals, spread = record["figures"], record["rivals"], record["spread"]
    rows = ["| figure | what | ours | asked for |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{name}` | {WORDS.get(name, '')} | {_number(value)} | {_bar(name)} |" for name, value in figures.items()
    ]
    rows += ["", "| requests or decisions a second | median | interquartile range |", "| --- | --- | --- |"]
    rows += [f"| {name} | {_number(value)} | {_number(spread.get(name, 0.0))} |" for name, value in rivals.items()]
    return "\n".join(rows)


def _bar(name: str) -> str:
    if name in BARS:
        least, aim = BARS[name]
        return f"≥ {least:,g}" + (f", aim {aim:,g}" if aim else "")
    return f"≤ {MOST[name]:g}" if name in MOST else ""


def _profile(record: dict[str, Any]) -> str:
    half, cpu = record["half_load"], record["cpu_us_a_row"]
    told = (
        f"At half load a micro-batch holds {half['rows_a_batch']:.1f} rows; a row waits {half['queue_ms']:.2f} ms for "
        "it, and then the batch spends, in milliseconds:"
    )
    stages = " | ".join(half["stage_ms"]), " | ".join(f"{taken:.2f}" for taken in half["stage_ms"].values())
    rule = " | ".join("---" for _ in half["stage_ms"])
    steps = "\n".join(f"| {step} | {taken:.1f} |" for step, taken in cpu.items())
    return (
        f"{told}\n\n| {stages[0]} |\n| {rule} |\n| {stages[1]} |\n\nCPU of each step in a batch of 64, microseconds a "
        f"row (`features` includes reading the states; the wire itself is the rest of `unary_cpu_us`):\n\n"
        f"| step | µs |\n| --- | --- |\n{steps}"
    )


def _curve(record: dict[str, Any]) -> str:
    if "points" not in record:
        return "Not measured in this record: `python -m tests.benchmarks gateway --full`."
    rows = ["![latency against load](gateway_curve.svg)", ""]
    rows += ["| share of saturation | asked/s | answered/s | p50, ms | p99, ms | full | other rungs or statuses |"]
    rows += ["| --- | --- | --- | --- | --- | --- | --- |"]
    rows += [_point(point) for point in record["points"]]
    soak = record.get("soak")
    if soak:
        asked = f"{soak['rate_per_s']:,.0f} calls/s for {soak['seconds']:,.0f} s"
        grown = f"memory grew by {soak['growth_percent']:.2f} % in its second half"
        rows += ["", f"Soak: {asked}, p99 {soak['p99_ms']:.1f} ms; {grown}."]
    return "\n".join(rows)


def _point(point: dict[str, Any]) -> str:
    n_calls = max(1, sum(point["statuses"].values()))
    full = point["rungs"].get("full", 0) / n_calls
    others = [
        f"{n:,} {name}" for name, n in {**point["statuses"], **point["rungs"]}.items() if name not in ("OK", "full")
    ]
    late = " (the generator was late)" if point["is_generator_bound"] else ""
    cells = (f"{point['share']:.0%}{late}", f"{point['asked_per_s']:,.0f}", f"{point['answered_per_s']:,.0f}")
    times = (f"{point['p50_ms']:.1f}", f"{point['p99_ms']:.1f}", f"{full:.1%}", ", ".join(others))
    return "| " + " | ".join((*cells, *times)) + " |"


def _number(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.3g}"


def main() -> None:
    """Write the page, and the picture where there is a curve."""
    record = json.loads(RECORD.read_text())
    SHEET.write_text(sheet(record))
    if "points" in record:
        CURVE.write_text(load_figures.curve_svg(record["points"]))


if __name__ == "__main__":
    main()
