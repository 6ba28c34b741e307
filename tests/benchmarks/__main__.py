"""`python -m tests.benchmarks NAME`: one entry for every figure this project claims."""

import argparse
import importlib
import sys
from pathlib import Path

from server.problems import Problem
from tests.benchmarks.record import write_record

NAMES = ("triton", "gateway", "models", "features", "scaling", "ingest", "sources", "text", "serving")


def main() -> None:
    """Run the benchmark named on the command line and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    counts = parser.add_mutually_exclusive_group()
    counts.add_argument("--quick", action="store_true", help="fewer timing repeats; ends within 60 s")
    counts.add_argument("--full", action="store_true", help="all repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument(
        "--raw", type=Path, metavar="FOLDER", help="write the samples and answers behind each figure here"
    )
    arguments = parser.parse_args()
    benchmark = importlib.import_module(f"tests.benchmarks.{arguments.name}")
    if arguments.raw is not None:
        arguments.raw.mkdir(parents=True, exist_ok=True)
    try:
        measured = benchmark.measure(quick=not arguments.full, raw=arguments.raw)
    except (FileNotFoundError, Problem) as missing:
        sys.exit(f"{missing}; build the inputs with `make bench-inputs`")
    write_record(arguments.name, measured, arguments.json)


if __name__ == "__main__":
    main()
