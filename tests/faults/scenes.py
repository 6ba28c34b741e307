"""Every fault by name, for the tests at a hundredth of the counts and for the benchmark at all of them.

`python -m tests.faults.scenes [SHARE] [NAME ...]` runs them and writes docs/results/faults.json; sheet.py renders it.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.faults import (
    client_scenes,
    clock_scenes,
    message_scenes,
    overload_scenes,
    triton_scenes,
    worker_scenes,
)
from tests.faults.figures import Figures
from tests.faults.stage import Stage, staged
from tests.tiny_repository import write_tiny_repository

SCENES: Mapping[str, Callable[[Stage, float], Figures]] = {
    "Triton killed": triton_scenes.killed,
    "Triton stopped": triton_scenes.stopped,
    "Triton slow": triton_scenes.slow,
    "Triton answers nonsense": triton_scenes.garbage,
    "heads reloaded": triton_scenes.reloaded,
    "a worker killed": worker_scenes.worker_killed,
    "the clock steps": clock_scenes.clock_steps,
    "a client that never reads": client_scenes.never_reads,
    "a thousand streams vanish": client_scenes.vanishes,
    "half-open connections": client_scenes.half_open,
    "storms of cancellations": client_scenes.cancels,
    "callers with 1, 5, 20 ms": client_scenes.impatient,
    "three times the capacity": overload_scenes.overload,
    "a client past its rate": overload_scenes.rate_limited,
    "SIGTERM under load": overload_scenes.drains,
    "mutated messages": message_scenes.mutated_messages,
    "mutated frames": message_scenes.mutated_frames,
}


def run(
    folder: Path, share: float, names: Sequence[str] = (), say: Callable[[str], None] = print
) -> dict[str, Figures]:
    """The figures of all faults, or of some.

    folder  for stores, logs and the models in miniature
    share   of the full counts
    names   of SCENES; none: all
    """
    repository = folder / "model_repository"
    write_tiny_repository(repository)
    figures: dict[str, Figures] = {}
    with staged(repository, folder) as stage:
        for name in names or SCENES:
            figures[name] = SCENES[name](stage, share)
            say(f"{name}: {json.dumps(figures[name])}\n")
    return figures


if __name__ == "__main__":
    SHARE = float(sys.argv[1]) if sys.argv[1:] else 1.0
    with tempfile.TemporaryDirectory() as FOLDER:
        TOLD = run(Path(FOLDER), SHARE, sys.argv[2:])
    RECORD = Path(__file__).resolve().parents[2] / "docs" / "results" / "faults.json"
    RECORD.write_text(json.dumps({"share": SHARE, "faults": TOLD}, indent=2) + "\n")
