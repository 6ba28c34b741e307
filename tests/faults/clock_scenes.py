"""What becomes of deadlines and ages when the wall clock of the gateway steps back and forth under load.

In: a stage, and the share of the full counts. Out: figures. Run by test_clock_faults.py and the benchmark.
"""

import struct
import subprocess
import time
from pathlib import Path

import grpc
from stratagem.v1 import event_pb2, feedback_pb2, feedback_pb2_grpc, strategy_pb2, strategy_pb2_grpc

from tests.faults.figures import Figures, figures_of
from tests.faults.generator import even
from tests.faults.stage import Stage
from tests.servers.ports import free_port

STEPS_S = (-3_600, 3_600, -86_400 * 365, 0)
PER_S = 100.0


def clock_steps(stage: Stage, scale: float) -> Figures:
    """The clock an hour back, an hour ahead, a year back and right again, while calls and events come."""
    folder = stage.folder / f"clock-{free_port()}"
    folder.mkdir(parents=True)
    clock = Clock(folder)
    seconds = max(4.0, min(60.0, 400.0 * scale))
    with stage.opened("clock", stage.triton.address, clock.environment) as gateway:
        load = stage.generator.begin(gateway.address, stage.shopper_ids, stage.at_s, even(PER_S, seconds))
        ages: list[float] = []
        with grpc.insecure_channel(gateway.address) as channel:
            for place, step_s in enumerate(STEPS_S):
                load.until((place + 0.5) * seconds / len(STEPS_S))
                clock.step(step_s)
                ages += _ages_after_an_event(stage, channel, f"step-{place}", step_s)
        figures = figures_of(load.ended())
    return figures | {"oldest_s": max(ages), "youngest_s": min(ages), "steps": float(len(STEPS_S))}


class Clock:
    """A wall clock for one process, told by how much it is wrong."""

    def __init__(self, folder: Path) -> None:
        """Compile what is preloaded.

        folder  that of a test
        """
        self._file, library = folder / "step", folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Be wrong by so much from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))


def _ages_after_an_event(stage: Stage, channel: grpc.Channel, name: str, step_s: int) -> list[float]:
    """Ages that answers tell right after an event, by the gateway's own clock and by the caller's."""
    feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
    strategy = strategy_pb2_grpc.StrategyServiceStub(channel)
    ages = []
    for shopper_id in stage.shopper_ids[:5]:
        event = event_pb2.Event(
            event_id=f"{name}-{shopper_id}", shopper_id=shopper_id, time_s=stage.at_s,
            kind=event_pb2.EVENT_KIND_VIEW, item_id="item-5",
        )  # fmt: skip
        feedback.Record(feedback_pb2.RecordRequest(events=[event]), timeout=10.0)
        for at_s in (stage.at_s, None):
            request = strategy_pb2.DecideRequest(shopper_id=shopper_id, time_s=at_s)
            decision = strategy.Decide(request, timeout=10.0).decision
            ages += [decision.vector_age_s, decision.predictions_age_s]
            if at_s is None:
                wrong_s = decision.decided_at_s - time.time()
                assert abs(wrong_s - step_s) < 60, "the gateway's own clock is as wrong as it was told to be"
    return ages
